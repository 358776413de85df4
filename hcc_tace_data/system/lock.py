"""One writer per folder: a lock that the system releases when its holder ends, however it ends."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from hcc_tace_data.errors import FolderLockedError
from hcc_tace_data.system.documents import read_json_object

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

    The lock belongs to the open file, not to its name or age: the system drops it when the process dies, and a clock
    that jumps does not age it. Who holds it is written beside it, for display only.

    Parameters
    ----------
    root : pathlib.Path
        The folder; ``.hcc-tace`` is made in it.
    wait : bool
        Wait for another holder to end; else raise.
    notice : callable, optional
        Called once with the lock holder's name.
    sleep : callable
        How to wait.

    Raises
    ------
    FolderLockedError
        Another process holds it and `wait` is false.
    OSError
        The folder cannot be written, or its file system has no locks.
    """
    folder = root / ".hcc-tace"
    folder.mkdir(parents=True, exist_ok=True)
    # A soft lock (a file that marks the folder as taken) would stay when its holder is killed: never fall back to one.
    lock = FileLock(folder / "lock", thread_local=False, fallback_to_soft=False)
    named = False
    while not _acquired(lock):
        holder = f"Another process works on {root}: {_holder(folder)}."
        if not wait:
            raise FolderLockedError(f"{holder} Wait for it to end, or stop it.")
        if not named and notice is not None:
            notice(f"{holder} Waiting for it to end.")
        named = True
        sleep(_POLL_S)
    try:
        _sign(folder)
        yield
    finally:
        with suppress(OSError):
            _note(folder).unlink()
        lock.release()


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _note(folder: Path) -> Path:
    return folder / "lock-holder.json"


def _sign(folder: Path) -> None:
    who = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    with suppress(OSError):  # on a full disk the lock holds all the same
        _note(folder).write_text(json.dumps(who), encoding="utf-8")


def _holder(folder: Path) -> str:
    try:
        who = read_json_object(_note(folder))
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it left no name"
