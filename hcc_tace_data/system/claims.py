"""How much memory a file may claim: one bound for everything that is small on disk and large in memory."""

from __future__ import annotations

import os

from hcc_tace_data.errors import HccTaceError

__all__ = ["MOST_PER_BYTE", "SURELY_FINE", "refuse_claim"]

#: Memory (bytes) that any file may take.
SURELY_FINE = 512 << 20
#: Above that, bytes of memory per byte of file. Compressed CT takes some 3, label maps some 30.
MOST_PER_BYTE = 100


def refuse_claim(
    place: str | os.PathLike[str],
    claimed: int,
    size: int,
    error: type[HccTaceError],
    *,
    free: int = SURELY_FINE,
) -> None:
    """Refuse a file whose header claims more memory than a file of its size can need.

    To be called before the memory is taken.

    Parameters
    ----------
    place : path-like
        The file or folder, for the message.
    claimed : int
        Bytes of memory that reading it takes.
    size : int
        Bytes it has on disk.
    error : type
        What is raised.
    free : int
        Bytes that a file of any size may take.

    Examples
    --------
    >>> refuse_claim("a.dcm", 840 << 20, 300 << 20, HccTaceError)
    >>> try:
    ...     refuse_claim("a.dcm", 8 << 30, 7000, HccTaceError)
    ... except HccTaceError as error:
    ...     print(str(error)[:67])
    a.dcm claims 8,589,934,592 bytes of memory but has 7,000 on disk, t
    """
    if claimed > max(free, MOST_PER_BYTE * size):
        raise error(
            f"{os.fspath(place)} claims {claimed:,} bytes of memory but has {size:,} on disk, too few for what it "
            "claims: it is damaged or hostile. Fetch it again."
        )
