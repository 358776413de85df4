"""Writing files so that a final name always means a whole file."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from hcc_tace_data.errors import HccTaceError, OutputError

__all__ = ["LEFTOVER", "OUTPUT_MARK", "atomic_path", "atomic_write_bytes", "atomic_write_text", "drop_leftovers",
           "is_no_room", "mark_output", "read_regular", "require_regular", "sync_folder", "write_json",
           "writing_to"]  # fmt: skip

#: A file that says of its folder: made from a collection, and no part of it. The index passes such folders by.
OUTPUT_MARK = ".hcc-tace-output"

#: How temporary names begin: what a killed process leaves is recognised by it.
LEFTOVER = re.compile(r"\.[0-9a-f]{12}\.part(\.|$)")
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

    Raises
    ------
    OutputError
        The disk is full, or the place cannot be written.

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
    suffix = "".join(final.suffixes[-2:]) if final.name.endswith(".gz") else final.suffix
    temporary = final.parent / f".{uuid4().hex[:12]}.part{suffix}"
    try:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(final)
            sync_folder(final.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except HccTaceError:
        raise
    except OSError as error:
        # the block may read other files, too: only what concerns this one, or a full disk, is an error of the output
        if not is_no_room(error) and error.filename not in {*map(str, (temporary, final, *final.parents))}:
            raise
        raise _as_output_error(error, final) from error


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all; bytes of a file name that are not UTF-8 are escaped."""
    atomic_write_bytes(path, text.encode("utf-8", "backslashreplace"))


def drop_leftovers(folder: Path) -> None:
    """Remove the temporary files below `folder` that a killed process left; no other may be writing there."""
    for place, _, names in os.walk(folder):
        for name in names:
            if LEFTOVER.match(name):
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
    except OutputError as error:
        if isinstance(error.__cause__, OSError) and is_no_room(error):  # raised for one file of the folder
            raise _as_output_error(error.__cause__, folder) from error.__cause__
        raise
    except HccTaceError:
        raise
    except OSError as error:
        raise _as_output_error(error, folder) from error


def is_no_room(error: BaseException) -> bool:
    """Return whether an error says that a disk, a quota or a limit on the size of files is full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def _as_output_error(error: OSError, place: Path) -> OutputError:
    if is_no_room(error):
        message = (
            f"the disk of {place} is full, or a limit on the size of files is reached ({error}). Files that are there "
            "are complete; make room, then run the same command again."
        )
    else:
        message = f"{place} cannot be written: {error}. Choose another folder, or get the right to write there."
    raised = OutputError(message)
    raised.errno = error.errno
    return raised


def require_regular(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the status of a regular file; refuse pipes, devices and folders, which may block for ever.

    Raises
    ------
    OSError
        There is no such file, or it is of another kind.
    """
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return status


def read_regular(path: str | os.PathLike[str], *, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    Raises
    ------
    OSError
        It cannot be read, is not a regular file, or is larger.
    """
    size = require_regular(path).st_size
    if size > limit:
        raise OSError(errno.EINVAL, f"larger than {limit:,} bytes", str(path))
    with open(path, "rb") as handle:
        return handle.read(limit)


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all."""
    atomic_write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
