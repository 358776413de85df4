"""Writing files so that a final name always means a whole file."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from hcc_tace_data.errors import HccTaceError, OutputError

__all__ = ["OUTPUT_MARK", "atomic_path", "atomic_write_bytes", "atomic_write_text", "drop_leftovers", "mark_output",
           "sync_folder", "write_json", "writing_to"]  # fmt: skip

#: A file that says of its folder: made from a collection, and no part of it. The index passes such folders by.
OUTPUT_MARK = ".hcc-tace-output"

_LEFTOVER = re.compile(r"\.[0-9a-f]{12}\.part(\.|$)")
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


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


def mark_output(folder: Path) -> None:
    """Make a folder for results, which no index takes for a part of the collection it lies in.

    A folder that holds anything already is left as it is: it may be a collection.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        atomic_write_text(folder / OUTPUT_MARK, "Made by hcc-tace-data from a collection, and no part of it.\n")


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


def drop_leftovers(folder: Path) -> None:
    """Remove the temporary files below `folder` that a killed process left; no other may be writing there."""
    for place, _, names in os.walk(folder):
        for name in names:
            if _LEFTOVER.match(name):
                with suppress(FileNotFoundError):
                    Path(place, name).unlink()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn errors of the system while results are written into one that says where and what to do.

    Raises
    ------
    OutputError
        No room, no right to write, a file where a folder should be.
    """
    try:
        yield
    except HccTaceError:
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutputError(
                f"the disk of {folder} is full, or a limit on the size of files is reached ({error}). What is there is "
                "whole; make room, then run the same command again."
            ) from error
        raise OutputError(
            f"{folder} cannot be written: {error}. Choose another folder, or get the right to write there."
        ) from error


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all."""
    atomic_write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
