"""The files of a folder that may be DICOM."""

from __future__ import annotations

import os
from pathlib import Path

from hcc_tace_data.system.files import OUTPUT_MARK

__all__ = ["Failure", "scan_files"]


_SKIPPED_FOLDERS = frozenset({"truth", "annotations", ".hcc-tace", "__MACOSX", ".git"})

_SKIPPED_SUFFIXES = (".part", ".csv", ".xlsx", ".json", ".md5", ".sha256", ".txt", ".html", ".md", ".parquet", ".nii",
                     ".nii.gz", ".png", ".tcia", ".s5cmd", ".pdf", ".log", ".yaml", ".yml")  # fmt: skip

#: Files by which a folder inside the root is known to hold what this package made: trainings and predictions, exports,
#: fused labels. A SEG among them is no annotation of the collection.
_OUTPUT_SIGNS = (OUTPUT_MARK, ".hcc-tace/parameters.json")

_SKIPPED_NAMES = frozenset({"DICOMDIR", "LICENSE", ".DS_Store", "Thumbs.db"})

Failure = tuple[str, str]


def scan_files(root: Path) -> tuple[dict[str, tuple[int, int]], list[Failure]]:
    """List the files that may be DICOM, by name only.

    Symbolic links to folders are not followed (they may loop); links to files are. Folders below `root` that hold what
    this package made are left out.

    Returns
    -------
    files : dict of str to (int, int)
        Posix path relative to `root` -> size in bytes and time of change in ns.
    failures : list of (str, str)
        Folders and files that cannot be reached, and why.
    """
    files: dict[str, tuple[int, int]] = {}
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
                        if entry.is_dir(follow_symlinks=False):
                            if entry.name not in _SKIPPED_FOLDERS:
                                stack.append(name + "/")
                        elif not _ignored(entry.name):
                            if entry.is_dir():
                                failures.append((name, "link to a folder: not followed"))
                                continue
                            status = entry.stat()
                            if entry.is_file():
                                files[name] = status.st_size, status.st_mtime_ns
                    except OSError as error:
                        failures.append((name, f"cannot be reached: {error.strerror}"))
        except OSError as error:
            failures.append((prefix.rstrip("/") or ".", f"folder cannot be read: {error.strerror}"))
    return files, failures


def _ignored(name: str) -> bool:
    lower = name.lower()
    return name in _SKIPPED_NAMES or lower.endswith(_SKIPPED_SUFFIXES) or ".part." in lower or lower.startswith("._")
