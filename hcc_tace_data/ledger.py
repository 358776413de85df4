"""The ledger of a folder: the size and digest of every file, as they were when they were known to be right."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hcc_tace_data.errors import StoreError
from hcc_tace_data.files import atomic_path

__all__ = ["Entry", "ledger_path", "md5_of", "read_ledger", "write_ledger"]

_VERSION = 1
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file: posix path relative to the root, UIDs, size in bytes, MD5 in hexadecimal."""

    path: str
    sop_uid: str
    series_uid: str
    size: int
    md5: str


def ledger_path(root: Path) -> Path:
    """Return where the ledger of `root` lies."""
    return root / ".hcc-tace" / "ledger.sqlite"


def md5_of(path: Path) -> str:
    """Return the MD5 of a file; it guards against accidents, not against forgery."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_ledger(root: Path, entries: Iterable[Entry]) -> int:
    """Write the ledger anew, whole or not at all; return how many files it names."""
    count = 0
    with atomic_path(ledger_path(root)) as temporary, closing(sqlite3.connect(temporary)) as connection:
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute(
            "CREATE TABLE files (path TEXT PRIMARY KEY, sop_uid TEXT NOT NULL, series_uid TEXT NOT NULL, "
            "size INTEGER NOT NULL, md5 TEXT NOT NULL) WITHOUT ROWID"
        )
        for entry in entries:
            row = (entry.path, entry.sop_uid, entry.series_uid, entry.size, entry.md5)
            connection.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?)", row)
            count += 1
        connection.commit()
    return count


def read_ledger(root: Path) -> dict[str, Entry]:
    """Return the entries by path; empty where there is no ledger.

    Raises
    ------
    StoreError
        The file is no ledger, or of another version.
    """
    path = ledger_path(root)
    if not path.is_file():
        return {}
    try:
        return {entry.path: entry for entry in _entries(path)}
    except sqlite3.Error as error:
        raise StoreError(f"{path} is no ledger ({error}); remove it, and adopt the folder again.") from error


def _entries(path: Path) -> Iterator[Entry]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != _VERSION:
            raise StoreError(f"{path} is a ledger of version {version}; this release reads version {_VERSION}.")
        for name, sop_uid, series_uid, size, md5 in connection.execute(
            "SELECT path, sop_uid, series_uid, size, md5 FROM files"
        ):
            yield Entry(path=str(name), sop_uid=str(sop_uid), series_uid=str(series_uid), size=int(size), md5=str(md5))
