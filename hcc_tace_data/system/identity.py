"""Whether a file is still the one that was read: its size, times and place on the disk, compared without reading it."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["Identity", "identity_of"]


class Identity(NamedTuple):
    """What the system records of a file. Any change of its bytes changes one of these.

    Programs that copy files can set size and time of modification back (``rsync -t``, ``cp -p``, ``tar``); the time of
    the change itself and the inode they cannot.

    Attributes
    ----------
    size : int
        Bytes.
    mtime_ns, ctime_ns : int
        Times of modification and of any change, ns.
    inode : int
        Number of the file on its disk.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity in a file's status."""
    # on Windows an inode may have 128 bits; the low 63 fit an int64 column
    return Identity(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & (2**63 - 1))
