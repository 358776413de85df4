"""One writer a folder: a lock that the system releases when its holder ends, however it ends."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from hcc_tace_data.errors import FolderLockedError

__all__ = ["lock_folder"]

_POLL_S = 0.2


@contextmanager
def lock_folder(
    root: Path,
    *,
    wait: bool = True,
    notice: Callable[[str], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock of `root` while the block runs.

    The lock belongs to the open file, not to a name or a time: the system drops it when the process dies, and a clock
    that jumps does not age it.

    Parameters
    ----------
    root : pathlib.Path
        The folder; ``.hcc-tace`` is made in it.
    wait : bool
        Wait for another holder to end; else raise.
    notice : callable, optional
        Told once who is waited for.
    sleep : callable
        How to wait.

    Raises
    ------
    FolderLockedError
        Another process holds it and `wait` is false.
    OSError
        The folder cannot be written.
    """
    folder = root / ".hcc-tace"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    held = False
    try:
        told = False
        while not _try_lock(handle):
            holder = f"Another process works on {root}: {_holder(handle)}."
            if not wait:
                raise FolderLockedError(f"{holder} Wait for it to end, or stop it.")
            if not told and notice is not None:
                notice(f"{holder} Waiting for it to end.")
            told = True
            sleep(_POLL_S)
        held = True
        _sign(handle)
        yield
    finally:
        if held:
            with suppress(OSError):
                os.ftruncate(handle, 0)
        os.close(handle)  # and with it the lock


def _sign(handle: int) -> None:
    who = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(OSError):  # on a full disk the lock holds all the same
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(who).encode())


def _holder(handle: int) -> str:
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        who = json.loads(os.read(handle, 4096))
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it did not say who it is"


try:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

except ImportError:  # Windows
    import msvcrt

    def _try_lock(handle: int) -> bool:
        os.lseek(handle, 1 << 20, os.SEEK_SET)  # a byte far behind the text, which stays readable
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
