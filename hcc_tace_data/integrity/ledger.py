"""The ledger of a folder: the size and digest of every file, as they were when they were known to be right.

A SQLite database in the folder. A series is ``moving`` while its files get their final names, ``whole`` once they have
them and the system has confirmed it, ``failed`` when it could not be fetched. Only a whole series is a claim about the
disk: nothing else is ever read as one.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal

from hcc_tace_data.errors import StoreError

__all__ = ["Entry", "Ledger", "SeriesRecord", "ledger_path", "md5_of", "read_ledger", "read_series"]

_VERSION = 2
_BLOCK = 1 << 20
_TABLES = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, sop_uid TEXT NOT NULL, series_uid TEXT NOT NULL,
    size INTEGER NOT NULL, md5 TEXT NOT NULL, source TEXT NOT NULL DEFAULT 'adopted', time TEXT NOT NULL DEFAULT '')
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (series_uid TEXT PRIMARY KEY, state TEXT NOT NULL, source TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '', time TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of_series ON files (series_uid);
"""

State = Literal["moving", "whole", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file: posix path relative to the root, UIDs, size in bytes, MD5 in hexadecimal, where it came from, when."""

    path: str
    sop_uid: str
    series_uid: str
    size: int
    md5: str
    source: str = "adopted"
    time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRecord:
    """What the ledger says of a series; `reason` says why it failed."""

    series_uid: str
    state: State
    source: str
    reason: str
    time: str


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


def _now() -> str:
    """Return the time in UTC, for people to read: nothing is decided by it, as clocks jump."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Ledger:
    """The ledger of a folder, open for writing, for all threads of a process, which holds the folder's lock.

    Parameters
    ----------
    root : pathlib.Path
        The folder, which exists.

    Raises
    ------
    StoreError
        The file is no ledger, or of a later version.
    OSError
        It cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.path = ledger_path(root)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = _connect(self.path)
        self._lock = threading.Lock()  # one connection: its transactions are the threads' in common

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was recorded stays, whether this is called or not."""
        self._connection.close()

    def moving(self, series_uid: str, source: str, entries: Iterable[Entry]) -> None:
        """Record what a series will hold, before any of its files gets its final name."""
        now = _now()
        rows = [(e.path, e.sop_uid, e.series_uid, e.size, e.md5, source, e.time or now) for e in entries]
        with self._transaction() as connection:
            connection.execute("DELETE FROM files WHERE series_uid = ?", (series_uid,))
            # a path belongs to one file: another series that claims it no longer has it
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._state(connection, series_uid, "moving", source, "")

    def whole(self, series_uid: str, source: str) -> None:
        """Record that a series lies under its final names, and on disk."""
        with self._transaction() as connection:
            self._state(connection, series_uid, "whole", source, "")

    def failed(self, series_uid: str, source: str, reason: str) -> None:
        """Record that a series could not be fetched; digests recorded before stay, to compare what comes with."""
        with self._transaction() as connection:
            self._state(connection, series_uid, "failed", source, reason)

    def forget(self, series_uid: str) -> None:
        """Take back the claim that a series is whole; its digests stay, to compare what comes with."""
        with self._transaction() as connection:
            connection.execute("UPDATE series SET state = 'moving' WHERE series_uid = ?", (series_uid,))

    def replace(self, entries: Iterable[Entry], series: frozenset[str] | None = None) -> int:
        """Record complete series again, or only `series`, all or nothing; return how many files were recorded."""
        count = 0
        now = _now()
        with self._transaction() as connection:
            if series is None:
                connection.execute("DELETE FROM files")
                connection.execute("DELETE FROM series WHERE state != 'failed'")
            for uid in series or ():
                connection.execute("DELETE FROM files WHERE series_uid = ?", (uid,))
            seen: set[str] = set()
            for e in entries:
                row = (e.path, e.sop_uid, e.series_uid, e.size, e.md5, e.source, e.time or now)
                connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                count += 1
                if e.series_uid not in seen:
                    seen.add(e.series_uid)
                    self._state(connection, e.series_uid, "whole", e.source, "")
        return count

    def files(self, series_uid: str | None = None) -> list[Entry]:
        """Return the files on record, of whole series and of those that were being moved."""
        query = "SELECT path, sop_uid, series_uid, size, md5, source, time FROM files"
        where, values = ("", ()) if series_uid is None else (" WHERE series_uid = ?", (series_uid,))
        with self._lock:
            rows = self._connection.execute(query + where, values).fetchall()
        return [_entry(row) for row in rows]

    def series(self) -> dict[str, SeriesRecord]:
        """Return what is on record of each series."""
        with self._lock:
            return _series(self._connection)

    def note(self, name: str) -> str | None:
        """Return a note, or None."""
        with self._lock:
            row = self._connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_note(self, name: str, value: str) -> None:
        """Keep a note."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
        except sqlite3.OperationalError as error:
            raise _not_written(self.path, error) from error

    @staticmethod
    def _state(connection: sqlite3.Connection, series_uid: str, state: State, source: str, reason: str) -> None:
        row = (series_uid, state, source, reason, _now())
        connection.execute("INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?, ?)", row)


def _connect(path: Path) -> sqlite3.Connection:
    """Open a ledger for writing; make it, or bring it to this version."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=60, check_same_thread=False)
    except sqlite3.Error as error:
        raise _not_written(path, error) from error
    try:
        # Each commit reaches the disk before it returns (the default of write-ahead logging is that it may not).
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 100")  # pages: the log stays small
        _check_version(connection, path)
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";"):
            if statement.strip():
                connection.execute(statement)
        columns = {row[1] for row in connection.execute("PRAGMA table_info(files)")}
        if "source" not in columns:  # version 1 knew whole files alone
            connection.execute("ALTER TABLE files ADD COLUMN source TEXT NOT NULL DEFAULT 'adopted'")
            connection.execute("ALTER TABLE files ADD COLUMN time TEXT NOT NULL DEFAULT ''")
            connection.execute("INSERT INTO series SELECT DISTINCT series_uid, 'whole', 'adopted', '', '' FROM files")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError):  # locked, full, read-only: the disk's fault, not the content's
            raise _not_written(path, error) from error
        raise _no_ledger(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > _VERSION:
        raise StoreError(f"{path} is a ledger of version {version}; this release knows versions up to {_VERSION}.")
    return version


def _not_written(path: Path, error: sqlite3.Error) -> OSError:
    """Return the error of the disk behind SQLite's: one whose write fails is full, or at a limit."""
    full = (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
    )
    code = errno.ENOSPC if getattr(error, "sqlite_errorcode", 0) in full else errno.EIO
    return OSError(code, f"the ledger cannot be written ({error})", str(path))


def _no_ledger(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path} is not a ledger ({error}); remove it, and adopt the folder again ('hcc-tace verify --adopt')."
    )


def _entry(row: tuple[str, str, str, int, str, str, str]) -> Entry:
    path, sop_uid, series_uid, size, md5, source, time = row
    return Entry(path=path, sop_uid=sop_uid, series_uid=series_uid, size=int(size), md5=md5, source=source, time=time)


def _series(connection: sqlite3.Connection) -> dict[str, SeriesRecord]:
    rows = connection.execute("SELECT series_uid, state, source, reason, time FROM series")
    return {
        row[0]: SeriesRecord(series_uid=row[0], state=row[1], source=row[2], reason=row[3], time=row[4]) for row in rows
    }


def read_ledger(root: Path) -> dict[str, Entry]:
    """Return the entries of whole series by path; empty where there is no ledger.

    Raises
    ------
    StoreError
        The file is no ledger, or of a later version.
    """
    with _reading(root) as connection:
        if connection is None:
            return {}
        if _check_version(connection, ledger_path(root)) < _VERSION:
            rows = connection.execute("SELECT path, sop_uid, series_uid, size, md5, 'adopted', '' FROM files")
        else:
            rows = connection.execute(
                "SELECT path, sop_uid, series_uid, size, md5, files.source, files.time FROM files "
                "JOIN series USING (series_uid) WHERE state = 'whole'"
            )
        return {row[0]: _entry(row) for row in rows}


def read_series(root: Path) -> dict[str, SeriesRecord]:
    """Return what is on record of each series; empty where there is no ledger.

    Raises
    ------
    StoreError
        The file is no ledger, or of a later version.
    """
    with _reading(root) as connection:
        if connection is None or _check_version(connection, ledger_path(root)) < _VERSION:
            return {}
        return _series(connection)


@contextmanager
def _reading(root: Path) -> Iterator[sqlite3.Connection | None]:
    """Yield the ledger open for reading, also in a folder that cannot be written; None if missing."""
    path = ledger_path(root)
    if not path.is_file():
        yield None
        return
    try:
        with tempfile.TemporaryDirectory() as folder, closing(_open_to_read(path, folder)) as connection:
            made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            yield connection if made else None  # none: the process that was about to make it was killed
    except sqlite3.Error as error:
        raise _no_ledger(path, error) from error


def _open_to_read(path: Path, spare: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=60)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
        return connection
    except sqlite3.DatabaseError as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError):
            raise
    # a log that was left behind needs a file beside it to be read: a copy has room for that
    for name in (path.name, f"{path.name}-wal"):
        if (path.parent / name).is_file():
            shutil.copy(path.parent / name, spare)
    return sqlite3.connect(f"{spare}/{path.name}")
