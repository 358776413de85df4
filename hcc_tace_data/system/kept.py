"""A file of values that can be computed again: small, checked on every read, and never in the way.

One SQLite file holds entries of a kind, a key and a JSON value. The key names all that a value was made from, so an
entry is either right or never asked for; each also carries a digest of its kind, key and value. A file that is
damaged, or of another version, is made again; one that is locked or cannot be written is passed by.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.files import require_regular
from hcc_tace_data.system.words import count

__all__ = ["KeptFile"]

logger = logging.getLogger(__name__)

#: Changes with the table or the meaning of its columns.
_VERSION = 1
_LIMIT = 256 << 20
#: What one value may take when it is unpacked: a damaged length must not fill the memory.
_MOST_BYTES = 64 << 20
_WAIT_S = 2.0
_AT_ONCE = 500
_TABLE = """CREATE TABLE kept (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL,
    bytes INTEGER NOT NULL, value BLOB NOT NULL, UNIQUE (kind, key))"""
#: Errors after which the file is made again; all others mean that it cannot be used at the moment.
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_BESIDE = ("", "-journal", "-wal", "-shm")


class _Unusable(Exception):
    """The file is not one of ours, or of another version."""


class KeptFile:
    """Values by kind and key, in a file that any number of processes may use at once.

    Parameters
    ----------
    places : sequence of pathlib.Path
        Where the file may lie; the first that can be written is written, all are read. Nothing is opened yet.
    limit : int
        Bytes of all entries; beyond it the oldest ones go.

    Notes
    -----
    No method raises for what is wrong with the file: one line of the log says it, and the values are missing.
    """

    def __init__(self, places: Sequence[Path], *, limit: int = _LIMIT) -> None:
        self.places = tuple(places)
        self.limit = limit
        self._passed: set[Path] = set()

    def get(self, kind: str, keys: Iterable[str], *, first_only: bool = False) -> dict[str, Any]:
        """Return the values of those keys that are kept.

        Parameters
        ----------
        kind : str
        keys : iterable of str
        first_only : bool
            Look only in the first place.
        """
        missing = list(dict.fromkeys(keys))
        found: dict[str, Any] = {}
        for place in self.places[:1] if first_only else self.places:
            if missing and place not in self._passed and place.exists():
                found |= self._read(place, kind, missing)
                missing = [key for key in missing if key not in found]
        return found

    def put(self, kind: str, values: Mapping[str, Any], *, first_only: bool = False) -> None:
        """Keep values, in place of what was kept under the same keys.

        Parameters
        ----------
        kind : str
        values : mapping of str to JSON-ready value
        first_only : bool
            Write only to the first place.
        """
        rows = []
        for key, value in values.items():
            packed = zlib.compress(json.dumps(value, separators=(",", ":")).encode("ascii"), 1)
            rows.append((kind, key, _digest(kind, key, packed), len(packed), packed))
        for place in self.places[:1] if first_only else self.places:
            if rows and place not in self._passed and self._write(place, rows):
                return

    def clear(self) -> None:
        """Forget everything."""
        for place in self.places:
            _remove(place)

    def _read(self, place: Path, kind: str, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        damaged = 0
        with self._safely(place), closing(_open(place, "rw")) as base:
            _check(base)
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, digest, value FROM kept WHERE kind = ? AND key IN ({marks})"
                for key, digest, packed in base.execute(query, (kind, *some)):
                    try:
                        found[str(key)] = _unpacked(kind, key, digest, packed)
                    except (ValueError, TypeError, zlib.error, RecursionError):
                        damaged += 1
        if damaged:
            logger.warning("%s: %s damaged, made again", place, count(damaged, "entry"))
        return found

    def _write(self, place: Path, rows: Sequence[tuple[Any, ...]]) -> bool:
        done = False
        with self._safely(place):
            # a root that was removed meanwhile is not made again
            place.parent.mkdir(parents=place != self.places[0], exist_ok=True)
            with closing(_open(place, "rwc")) as base:
                # power that fails may cost the file, which is then made again: cheaper than to wait for the disk
                base.execute("PRAGMA synchronous = OFF")
                base.execute("BEGIN IMMEDIATE")
                if base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    _check(base)
                else:
                    base.execute(_TABLE)
                    base.execute(f"PRAGMA user_version = {_VERSION}")
                base.executemany(
                    "INSERT OR REPLACE INTO kept (kind, key, digest, bytes, value) VALUES (?, ?, ?, ?, ?)", rows
                )
                self._evict(base)
                base.execute("COMMIT")
            done = True
        return done

    def _evict(self, base: sqlite3.Connection) -> None:
        """Drop the oldest entries where they take more than the limit, down to three quarters of it."""
        pages, free, size = (
            int(base.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size <= self.limit:
            return
        kept, last = 0, None
        for number, length in base.execute("SELECT number, bytes FROM kept ORDER BY number DESC"):
            kept += int(length)
            if kept > self.limit * 3 // 4:
                last = number
                break
        if last is not None:
            base.execute("DELETE FROM kept WHERE number <= ?", (last,))

    @contextmanager
    def _safely(self, place: Path) -> Iterator[None]:
        """Turn whatever is wrong with the file into a line of the log."""
        try:
            yield
        except (sqlite3.Error, _Unusable, OSError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if isinstance(error, _Unusable) or code in _DAMAGED or "no such table" in str(error):
                logger.warning("%s is not usable and is made again: %s", place, _why(error))
                _remove(place)
            else:
                logger.info("%s is not used: %s", place, _why(error))
                self._passed.add(place)


def _check(base: sqlite3.Connection) -> None:
    """Refuse a file that is not exactly as this version makes it: a view or trigger would run what others wrote.

    Raises
    ------
    _Unusable
        It is not.
    """
    if base.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
        raise _Unusable("another version")
    for name, made in base.execute("SELECT name, sql FROM sqlite_master"):
        if (name == "kept" and made != _TABLE) or (name != "kept" and not str(name).startswith("sqlite_")):
            raise _Unusable("another layout")


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, sqlite3.Error | _Unusable) else reason_of(error)


def _open(place: Path, mode: str) -> sqlite3.Connection:
    # a pipe would block for ever; a file of two names, as linked copies have, has two journals
    # opened for writing even to read: what a killed process left half written has to be undone first
    if (mode == "rw" or place.exists()) and require_regular(place).st_nlink > 1:
        raise _Unusable("it is linked to another name")
    base = sqlite3.connect(f"{place.absolute().as_uri()}?mode={mode}", uri=True, timeout=_WAIT_S, isolation_level=None)
    base.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return base


def _digest(kind: str, key: str, packed: bytes) -> bytes:
    return hashlib.sha256(f"{kind}\0{key}\0".encode() + packed).digest()


def _unpacked(kind: str, key: str, digest: bytes, packed: bytes) -> Any:
    if not isinstance(packed, bytes) or _digest(kind, key, packed) != digest:
        raise ValueError("damaged")
    data = zlib.decompressobj()
    text = data.decompress(packed, _MOST_BYTES)
    if data.unconsumed_tail:
        raise ValueError("too large")
    return json.loads(text)


def _remove(place: Path) -> None:
    for end in _BESIDE:
        with suppress(OSError):
            place.with_name(place.name + end).unlink(missing_ok=True)
