"""The files of a folder that may be DICOM."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from hcc_tace_data.system.files import OUTPUT_MARK
from hcc_tace_data.system.identity import Identity, identity_of

__all__ = ["Failure", "scan_files"]


_SKIPPED_FOLDERS = frozenset({"truth", "annotations", ".hcc-tace", "__MACOSX", ".git"})

_SKIPPED_SUFFIXES = (".part", ".csv", ".xlsx", ".json", ".md5", ".sha256", ".txt", ".html", ".md", ".parquet", ".nii",
                     ".nii.gz", ".png", ".tcia", ".s5cmd", ".pdf", ".log", ".yaml", ".yml")  # fmt: skip

#: Files by which a folder inside the root is known to hold what this package made: trainings and predictions, exports,
#: fused labels. A SEG among them is no annotation of the collection.
_OUTPUT_SIGNS = (OUTPUT_MARK, ".hcc-tace/parameters.json")

_SKIPPED_NAMES = frozenset({"DICOMDIR", "LICENSE", ".DS_Store", "Thumbs.db"})

#: A folder that a process was writing when it was killed.
_UNFINISHED = re.compile(r"\..*\.part")

Failure = tuple[str, str]


def scan_files(root: Path) -> tuple[dict[str, Identity], list[Failure]]:
    """List the files that may be DICOM, by name only.

    Symbolic links to folders are not followed (they may loop); links to files are. Folders below `root` that hold what
    this package made, or was making when it was stopped, are left out.

    Returns
    -------
    files : dict of str to Identity
        Posix path relative to `root` -> size, times and inode.
    failures : list of (str, str)
        Folders and files that cannot be reached or named, and why. A name that is not UTF-8 is shown with escapes.
    """
    files: dict[str, Identity] = {}
    failures: list[Failure] = []
    stack = [""]
    while stack:
        prefix = stack.pop()
        if prefix and any((root / prefix / sign).is_file() for sign in _OUTPUT_SIGNS):
            continue
        try:
            with os.scandir(root / prefix) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    try:
                        folder = entry.is_dir(follow_symlinks=False)
                        if _left_out(entry.name) if folder else _ignored(entry.name):
                            continue
                        if not _is_utf8(entry.name):
                            failures.append((_shown(name), "its name is not UTF-8: rename it"))
                        elif folder:
                            stack.append(name + "/")
                        else:
                            if entry.is_dir():
                                failures.append((name, "link to a folder: not followed"))
                                continue
                            # not of the entry: on Windows that has neither inode nor time of change
                            status = os.stat(entry.path)  # noqa: PTH116 - 52,000 times
                            if stat.S_ISREG(status.st_mode):
                                files[name] = identity_of(status)
                            else:
                                failures.append((name, "a pipe or a device: not read"))
                    except OSError as error:
                        failures.append((_shown(name), f"cannot be reached: {error.strerror}"))
        except OSError as error:
            failures.append((_shown(prefix.rstrip("/")) or ".", f"folder cannot be read: {error.strerror}"))
    return files, failures


def _left_out(name: str) -> bool:
    return name in _SKIPPED_FOLDERS or _UNFINISHED.fullmatch(name) is not None


def _ignored(name: str) -> bool:
    lower = name.lower()
    return name in _SKIPPED_NAMES or lower.endswith(_SKIPPED_SUFFIXES) or ".part." in lower or lower.startswith("._")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")
