"""Folders that are written under a temporary name and renamed when complete, and what killed processes left of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from hcc_tace_data.system.files import LEFTOVER

__all__ = ["drop_abandoned", "partial_folder"]

_LOCK = ".lock"
#: Temporary files carry no lock: they are taken as abandoned when nothing was written for so many seconds.
_FILE_AGE_S = 3600


@contextmanager
def partial_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent` under a temporary name; what is not renamed is removed at the end.

    While the block runs, a lock marks the folder as in use, so that :func:`drop_abandoned` in another process leaves
    it alone. The system drops the lock when this process dies.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f".{uuid4().hex[:12]}.part"
    lock = _lock(folder)
    lock.acquire(blocking=False)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _give_up(lock)


def drop_abandoned(parent: Path) -> list[Path]:
    """Remove temporary folders and files directly below `parent` whose process has ended, and return them.

    Those of processes that still run stay. What cannot be removed stays, too.
    """
    dropped = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in sorted(parent.iterdir()):
            if not LEFTOVER.match(path.name) or path.name.endswith(_LOCK):
                continue
            with suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    if _drop_folder(path):
                        dropped.append(path)
                elif time.time() - path.lstat().st_mtime > _FILE_AGE_S:
                    path.unlink()
                    dropped.append(path)
        for path in parent.glob(f".*.part{_LOCK}"):
            if not path.with_name(path.name.removesuffix(_LOCK)).exists():
                with suppress(OSError, Timeout):
                    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
                    lock.acquire(blocking=False)
                    _give_up(lock)
    return dropped


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(folder.name + _LOCK), thread_local=False, fallback_to_soft=False)


def _give_up(lock: FileLock) -> None:
    with suppress(OSError):
        Path(lock.lock_file).unlink()  # while it is held: nobody else can have locked this file
    lock.release()


def _drop_folder(folder: Path) -> bool:
    lock = _lock(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    try:
        shutil.rmtree(folder)
    finally:
        _give_up(lock)
    return True
