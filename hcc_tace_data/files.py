"""Writing files so that a final name always means a whole file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

__all__ = ["atomic_path", "atomic_write_bytes", "atomic_write_text", "sync_folder"]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the system can (not on Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    The temporary name keeps the suffixes of `path` (libraries choose a format by them). On any error, Ctrl-C
    included, the temporary file is removed and `path` is untouched.

    Parameters
    ----------
    path : path-like
        The final name of a *file*. Its folder is made if it is missing.

    Yields
    ------
    pathlib.Path
        Where to write.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(final.suffixes[-2:]) if final.name.endswith(".gz") else final.suffix
    temporary = final.parent / f".{uuid4().hex[:12]}.part{suffix}"
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(final)
        sync_folder(final.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    atomic_write_bytes(path, text.encode("utf-8"))
