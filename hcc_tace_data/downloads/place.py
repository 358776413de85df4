"""From the staging folder to the final names, so that a crash at any point loses and claims nothing.

    files synced under staging names -> ledger: moving -> rename -> folders synced -> ledger: whole

A series that is not here yet arrives by one rename of its folder.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from hcc_tace_data.downloads.check import Checked
from hcc_tace_data.downloads.selection import Wanted
from hcc_tace_data.integrity.ledger import Entry, Ledger, md5_of
from hcc_tace_data.system.files import sync_folder

__all__ = ["Stage", "place_series", "recover"]

logger = logging.getLogger(__name__)


class Stage:
    """The staging folder of one run: ``ROOT/.hcc-tace/stage/<run>``.

    Each run has its own: a fetching process that outlived a killed run cannot write into that of the next. What
    earlier runs left is looked through for whole files, and then removed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._all = root / ".hcc-tace" / "stage"
        self.folder = self._all / uuid4().hex[:12]

    def open(self) -> None:
        """Make it."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def of(self, series_uid: str) -> Path:
        """Return the folder for the files of a series."""
        return self.folder / series_uid

    def leftovers(self, series_uid: str) -> Iterator[Path]:
        """Yield what earlier runs left of a series: files of its folders, and archives."""
        with suppress(FileNotFoundError):
            for run in sorted(self._all.iterdir()):
                if run == self.folder:
                    continue
                if (run / f"{series_uid}.zip").is_file():
                    yield run / f"{series_uid}.zip"
                for folder in (run / series_uid, run / f"{series_uid}.ready"):
                    if folder.is_dir():
                        yield from sorted(path for path in folder.iterdir() if path.is_file())

    def drop_leftovers(self) -> None:
        """Remove what earlier runs left."""
        with suppress(FileNotFoundError):
            for run in list(self._all.iterdir()):
                if run != self.folder:
                    shutil.rmtree(run, ignore_errors=True)

    def close(self) -> None:
        """Remove it, unless it holds files that another run can use."""
        with suppress(OSError):
            for folder in self.folder.iterdir():
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            self.folder.rmdir()
            self._all.rmdir()


def place_series(
    root: Path, wanted: Wanted, checked: Sequence[Checked], ledger: Ledger, source: str, stage: Stage
) -> None:
    """Give the files of a series their final names, and record them.

    Parameters
    ----------
    checked : sequence of Checked
        All files of the series, synced. Those outside the staging folder stay where they are.
    """
    staged, final = stage.of(wanted.series_uid), root / wanted.folder
    moved: list[tuple[Path, str]] = []
    entries = []
    for one in checked:
        if one.path.parent == staged:
            name = f"{one.sop_uid}.dcm"
            moved.append((one.path, name))
            path = f"{wanted.folder}/{name}"
        else:
            path = one.path.relative_to(root).as_posix()
        entries.append(
            Entry(
                path=path, sop_uid=one.sop_uid, series_uid=wanted.series_uid, size=one.size, md5=one.md5, source=source
            )
        )
    ledger.moving(wanted.series_uid, source, entries)
    if moved:
        _move(root, staged, final, moved, stage)
    ledger.whole(wanted.series_uid, source)


def _move(root: Path, staged: Path, final: Path, moved: list[tuple[Path, str]], stage: Stage) -> None:
    made = []
    folder = final.parent
    while not folder.is_dir():
        made.append(folder)
        folder = folder.parent
    final.parent.mkdir(parents=True, exist_ok=True)
    whole = not final.exists()
    if whole:
        arriving = staged.with_name(f"{staged.name}.ready")
        arriving.mkdir(exist_ok=True)
        for path, name in moved:
            path.rename(arriving / name)
        sync_folder(arriving)
        arriving.rename(final)
    else:
        for path, name in moved:
            target = final / name
            if target.exists() and md5_of(target) != md5_of(path):  # kept, but not under this name
                _set_aside(root, target)
            path.replace(target)
        sync_folder(final)
    for folder in [final.parent, *(one.parent for one in made)]:
        sync_folder(folder)
    shutil.rmtree(staged, ignore_errors=True)  # what is left there belongs to nothing


def _set_aside(root: Path, path: Path) -> None:
    place = root / ".hcc-tace" / "replaced" / path.relative_to(root).parent
    place.mkdir(parents=True, exist_ok=True)
    number = 0
    while (place / f"{number}-{path.name}").exists():
        number += 1
    path.rename(place / f"{number}-{path.name}")
    logger.warning("%s is not as the source has it; it was moved to %s", path, place)


def recover(root: Path, ledger: Ledger) -> None:
    """Settle what an earlier run did not: series that were being moved, entries that do not match the disk."""
    records = ledger.series()
    open_ones = {uid for uid, record in records.items() if record.state == "moving"}
    files: dict[str, list[Entry]] = {}
    for entry in ledger.files():
        files.setdefault(entry.series_uid, []).append(entry)
    for uid in open_ones:
        entries = files.get(uid, [])
        if entries and all(_is_here(root, entry) for entry in entries):
            for folder in {(root / entry.path).parent for entry in entries}:
                sync_folder(folder)
                sync_folder(folder.parent)
            ledger.whole(uid, records[uid].source)
    for uid, record in records.items():
        if record.state == "whole" and not all(_has_size(root, entry) for entry in files.get(uid, [])):
            logger.warning("series %s is on record, but not as a whole on disk", uid)
            ledger.forget(uid)


def _has_size(root: Path, entry: Entry) -> bool:
    try:
        return os.stat(root / entry.path).st_size == entry.size  # noqa: PTH116 - 52,000 times
    except OSError:
        return False


def _is_here(root: Path, entry: Entry) -> bool:
    try:
        return _has_size(root, entry) and md5_of(root / entry.path) == entry.md5
    except OSError:
        return False
