"""The boundary to other libraries: whatever they raise on bad data becomes an error of ours that names the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hcc_tace_data.errors import HccTaceError

__all__ = ["foreign_errors"]

_LONGEST = 200
#: What the system says of an offset or a size that makes no sense: a damaged file claims it.
_CLAIMED = frozenset({errno.EINVAL, errno.EOVERFLOW, errno.EFBIG})


@contextmanager
def foreign_errors(
    path: str | os.PathLike[str], error: type[HccTaceError], what: str, *, hint: str = "Fetch or save it again."
) -> Iterator[None]:
    """Turn what a library raises on bad data into `error`.

    Parsers, decompressors and decoders document few of the errors that damaged bytes make them raise. Errors of this
    package pass unchanged, and so do those of the operating system: a file that cannot be opened is not damaged. One
    that makes a library seek to where no file can reach is.

    Parameters
    ----------
    path : path-like
        The file that is read.
    error : type
        What to raise.
    what : str
        What is wrong, as "is not a readable workbook".
    hint : str
        What to do.

    Examples
    --------
    >>> with foreign_errors("a.xlsx", HccTaceError, "is not a workbook"):
    ...     raise KeyError("styles.xml")
    Traceback (most recent call last):
    hcc_tace_data.errors.HccTaceError: a.xlsx is not a workbook (KeyError: 'styles.xml'). Fetch or save it again.
    """
    try:
        yield
    except HccTaceError:
        raise
    except Exception as foreign:
        # zlib, gzip and zipfile raise OSError at bad data, without a number
        if isinstance(foreign, OSError) and foreign.errno is not None and foreign.errno not in _CLAIMED:
            raise
        lines = str(foreign).strip().splitlines()
        said = f": {lines[-1].strip()[:_LONGEST].rstrip('.')}" if lines else ""
        raise error(f"{os.fspath(path)} {what} ({type(foreign).__name__}{said}). {hint}") from foreign
