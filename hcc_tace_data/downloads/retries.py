"""When to try again, and how long to wait before."""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hcc_tace_data.errors import DiskFullError, DownloadError

__all__ = ["RetryPolicy", "is_passing", "local_fault", "no_room"]

#: Answers that stay the same however often one asks; all else may pass.
_LASTING = re.compile(r"NoSuch|status(?: code)?:? 4(?:0[01345679]|1\d)\b|AccessDenied|no object found", re.IGNORECASE)
_ROOM = re.compile(
    r"no space left|disk quota|file too large|file size limit|not enough space|disk is full", re.IGNORECASE
)
_LOCAL = re.compile(
    r"permission denied|read-only file system|file name too long|too many open files|not a directory|"
    r"input/output error|operation not permitted",
    re.IGNORECASE,
)
_ROOM_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try, and how to wait: twice as long after each failure, by chance up to half of it less.

    Attributes
    ----------
    attempts : int
        Tries for a series, the first included.
    base_s, cap_s : float
        First and longest wait, in seconds.
    sleep : callable
        Called with seconds.
    chance : callable
        Returns a number from 0 to 1.

    Examples
    --------
    >>> policy = RetryPolicy(base_s=1, cap_s=5, chance=lambda: 0.0)
    >>> [policy.delay_s(failures) for failures in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """

    attempts: int = 5
    base_s: float = 1.0
    cap_s: float = 60.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    chance: Callable[[], float] = field(default=random.random, repr=False)

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row (1 or more)."""
        whole = float(min(self.cap_s, self.base_s * 2 ** min(failures - 1, 30)))
        return whole * (1 - 0.5 * self.chance())

    def wait(self, failures: int) -> None:
        """Wait so long."""
        self.sleep(self.delay_s(failures))


def is_passing(message: str) -> bool:
    """Return whether an error may be gone when it is tried again."""
    return not _LASTING.search(message)


def no_room(error: BaseException | str) -> bool:
    """Return whether an error says that the disk, a quota or a size limit is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _ROOM_ERRORS
    return bool(_ROOM.search(str(error)))


def local_fault(message: str) -> DownloadError | None:
    """Return the error to raise if it is this machine that fails, not the source: trying again is in vain."""
    if no_room(message):
        return DiskFullError(message)
    if _LOCAL.search(message):
        return DownloadError(f"a file could not be written: {message}")
    return None
