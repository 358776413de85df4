"""All header values of a collection, each distinct one once, with how often it occurs and where first.

Files of a series differ in few values. A header whose bytes equal those of one that was taken apart, save inside
values, is built the same way: only the values that differ are looked at again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.dicom.elements import Damaged, Leaf
from hcc_tace_data.dicom.header_values import (
    Key,
    header_values,
    leaf_values,
    parse_header,
    read_header_bytes,
)
from hcc_tace_data.validators.context import Context, chunks_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WATCHED", "HeaderScan", "Marks", "Seen", "header_scan", "scan_headers", "sifted_headers"]

logger = logging.getLogger(__name__)

_CHUNK = 2000
_KIND = Kind("header scan", ("validators",), private=True)
_SIFTED = Kind("sifted headers", ("validators",), private=True)
_KEPT = 8
_MAX_TAIL = 1 << 24
_MAX_BINARY = 4096
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})

#: Paths whose values are kept for every file: what a file says of its own de-identification, and its dates.
WATCHED = (
    "00120062", "00120063", "00120064/00080100", "00280303", "00280301", "00080020", "00080021", "00080022", "00080023",
    "0008002A", "00080012", "00400244", "00400250", "00080016", "0013[CTP]10",
)  # fmt: skip
_WATCHED = frozenset(WATCHED)

#: Values of :data:`WATCHED` in one file; an absent element is None, several values are joined by a backslash.
Marks = tuple[bytes | None, ...]
#: Path below the root, offset and length of native pixel data (-1 if missing).
_Item = tuple[str, int, int]
_Job = tuple[str, list[_Item]]
#: Each distinct value with its count and first row, problems by row, and marks.
_Part = tuple[dict[Key, tuple[int, int]], list[tuple[int, str]], list[Marks]]


class Seen:
    """How often a header value occurs, and the first file that holds it."""

    __slots__ = ("count", "row")

    def __init__(self, row: int, count: int = 0) -> None:
        self.count = count
        self.row = row


@dataclass(slots=True)
class HeaderScan:
    """What the headers of a collection hold.

    Attributes
    ----------
    elements : dict of (str, str) to dict of bytes to Seen
        By tag path and VR, then by raw value.
    problems : list of (int, str)
        Row of each header that could not be read whole, and why.
    marks : list of Marks
        Values of :data:`WATCHED`, a row of the instance table each.
    """

    elements: dict[tuple[str, str], dict[bytes, Seen]] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    marks: list[Marks] = field(default_factory=list)

    def items(self) -> Iterator[tuple[Key, Seen]]:
        """Yield every distinct value and where it was seen."""
        for (path, vr), values in self.elements.items():
            for raw, seen in values.items():
                yield (path, vr, raw), seen


@dataclass(slots=True)
class _Template:
    """A header that was taken apart, to read others built alike."""

    expected: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    leaves: list[Leaf]
    keys: list[tuple[Key, ...]]
    fixed: frozenset[int]
    watched: frozenset[int]
    marks: Marks
    hits: int = 0


def header_scan(context: Context) -> HeaderScan:
    """Return every distinct value of every header element at any depth, private and unknown ones included."""
    return scan_headers(context.root, context.instances, lambda jobs: _parts(context, jobs))


def _parts(context: Context, jobs: list[_Job]) -> list[_Part]:
    paths = [[path for path, *_ in items] for _, items in jobs]
    return context.kept_map(_KIND, scan_files, jobs, paths, encode=_plain, decode=_from_plain)


def sifted_headers(context: Context, wanted: Callable[[Key], bool]) -> HeaderScan:
    """Return the values of :func:`header_scan` that are wanted, with problems and marks of all files.

    What is wanted is kept: files that did not change cost no more than their share of it.

    Parameters
    ----------
    context : Context
    wanted : callable
        Whether a value is; a top-level matter of the source code and the catalogue, nothing else may decide it.
    """
    chunks, jobs = _jobs(context.root, context.instances)
    judged: dict[Key, bool] = {}

    def sift(part: _Part) -> _Part:
        found, problems, marks = part
        for key in found:
            if key not in judged:
                judged[key] = wanted(key)
        return {key: seen for key, seen in found.items() if judged[key]}, problems, marks

    def run(_: object, missing: list[_Job]) -> list[_Part]:
        parts = _parts(context, missing)
        if len(missing) == len(jobs):  # at hand, should all values be asked for
            context.know(header_scan, _together(chunks, parts))
        return [sift(part) for part in parts]

    paths = [[path for path, *_ in items] for _, items in jobs]
    parts = context.kept_map(_SIFTED, scan_files, jobs, paths, encode=_plain, decode=_from_plain, run=run)
    return _together(chunks, parts)


def _plain(part: _Part) -> Any:
    """Return JSON-ready values; None where some header could not be read whole."""
    found, problems, marks = part
    if problems:
        return None
    # the same in most files of a series
    distinct = {own: number for number, own in enumerate(dict.fromkeys(marks))}
    return [
        [[path, vr, raw.decode("latin-1"), count, row] for (path, vr, raw), (count, row) in found.items()],
        [[None if mark is None else mark.decode("latin-1") for mark in own] for own in distinct],
        [distinct[own] for own in marks],
    ]


def _from_plain(value: Any) -> _Part:
    """Return what :func:`_plain` was given.

    Raises
    ------
    ValueError, TypeError, AttributeError, IndexError
        It is something else.
    """
    found, distinct, numbers = value
    read = {(path, vr, raw.encode("latin-1")): (count, row) for path, vr, raw, count, row in found}
    if any(len(own) != len(WATCHED) for own in distinct):
        raise ValueError("other marks")
    marks = [tuple(None if mark is None else mark.encode("latin-1") for mark in own) for own in distinct]
    return read, [], [marks[number] for number in numbers]


def scan_headers(root: Path, table: pd.DataFrame, run: Callable[[list[_Job]], list[_Part]] | None = None) -> HeaderScan:
    """Read the headers of all files of an instance table.

    Parameters
    ----------
    root : Path
        Folder of the collection.
    table : pandas.DataFrame
        Instance table with ``path``, ``pixel_offset`` and ``pixel_length``.
    run : callable, optional
        Returns the results of :func:`scan_files` for some jobs, in order; it may use other processes.
    """
    chunks, jobs = _jobs(root, table)
    return _together(chunks, run(jobs) if run is not None else [scan_files(job) for job in jobs])


def _jobs(root: Path, table: pd.DataFrame) -> tuple[list[tuple[int, int]], list[_Job]]:
    """Return the rows of each chunk, and what is to be read of them."""
    columns = ("path", "pixel_offset", "pixel_length")
    rows: list[_Item] = list(zip(*(table[name].tolist() for name in columns), strict=True))
    chunks = chunks_of([path for path, *_ in rows], _CHUNK)
    return chunks, [(os.fspath(root), rows[first:last]) for first, last in chunks]


def _together(chunks: list[tuple[int, int]], parts: list[_Part]) -> HeaderScan:
    """Return the values of all chunks."""
    scan = HeaderScan()
    for (first, _), (found, problems, marks) in zip(chunks, parts, strict=True):
        for (path, vr, raw), (count, row) in found.items():
            values = scan.elements.setdefault((path, vr), {})
            seen = values.get(raw)
            if seen is None:
                values[raw] = Seen(first + row, count)
            else:
                seen.count += count
        scan.problems += [(first + row, why) for row, why in problems]
        scan.marks += marks
    return scan


def scan_files(job: _Job) -> _Part:
    """Read some headers: each distinct value with its count and first row, problems by row, and marks."""
    scanner = _Scanner()
    root, rows = job
    for row, (path, offset, length) in enumerate(rows):
        scanner.read(row, f"{root}/{path}", offset, length)
    return scanner.finish(), scanner.problems, scanner.marks


class _Scanner:
    def __init__(self) -> None:
        self._count: dict[Key, int] = {}
        self._row: dict[Key, int] = {}
        self._templates: list[_Template] = []
        self.problems: list[tuple[int, str]] = []
        self.marks: list[Marks] = []

    def read(self, row: int, path: str, offset: int, length: int) -> None:
        """Read one file; whatever goes wrong is a problem of that row, and of no other."""
        before = len(self.marks)
        try:
            self._read(row, path, offset, length)
        except OSError as error:
            self.problems.append((row, f"cannot be opened: {error.strerror}"))
        except Exception as error:  # a file that breaks the scan must not leave the others unchecked
            logger.debug("header of row %d", row, exc_info=True)
            self.problems.append((row, type(error).__name__))
        if len(self.marks) == before:
            self.marks.append((None,) * len(WATCHED))

    def _read(self, row: int, path: str, offset: int, length: int) -> None:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            if offset > 0 and size >= offset:
                data = stream.read(offset)
                if self._like_another(row, data):
                    self._tail(row, stream, offset + length, size)
                    return
                header, data = read_header_bytes(_Reader(data, stream).read, size, first=offset)
            else:
                header, data = read_header_bytes(stream.read, size)
            if header is not None and not header.problem:
                self._take(row, header.leaves, data, template=offset if 0 < offset <= len(data) else 0)
                if offset > 0:
                    self._tail(row, stream, offset + length, size)
                return
        keys, problem = header_values(Path(path))
        if problem:
            self.problems.append((row, problem))
        marks: dict[str, bytes] = {}
        for key in keys:
            self._add(row, key)
            self._mark(marks, key)
        self.marks.append(tuple(marks.get(name) for name in WATCHED))

    def _tail(self, row: int, stream: Any, end: int, size: int) -> None:
        """Read what follows the pixels."""
        if size <= end:
            return
        stream.seek(end)
        data = stream.read(_MAX_TAIL)
        if not data.strip(b"\0"):
            return
        tail = parse_header(data, 0, whole=True)
        if tail.problem:
            tail = parse_header(data, 0, explicit=False, whole=True)
        if tail.problem:
            self.problems.append((row, "bytes after the pixel data that are not elements"))
        for leaf in tail.leaves:
            for key in self._values(row, leaf.path, leaf.vr, data[leaf.start : leaf.end]):
                self._add(row, key)

    def _like_another(self, row: int, data: bytes) -> bool:
        """Count the values of a header that is built like one before; False if it is not."""
        array = np.frombuffer(data, np.uint8)
        for place, one in enumerate(self._templates):
            if len(one.expected) != len(array):
                continue
            differs = np.flatnonzero(one.expected != array)
            leaf = np.searchsorted(one.starts, differs, side="right") - 1
            if len(differs) and (leaf[0] < 0 or (differs >= one.ends[leaf]).any()):
                continue
            changed = np.unique(leaf).tolist()
            if not one.fixed.isdisjoint(changed):
                continue
            one.hits += 1
            for k in changed:
                path, vr, start, end = one.leaves[k]
                for key in one.keys[k]:
                    self._count[key] -= 1
                for key in self._values(row, path, vr, data[start:end]):
                    self._add(row, key)
            self.marks.append(one.marks if one.watched.isdisjoint(changed) else self._marks(one.leaves, data))
            if place:
                self._templates.insert(0, self._templates.pop(place))
            return True
        return False

    def _take(self, row: int, leaves: list[Leaf], data: bytes, template: int) -> None:
        """Count all values of a header, and keep it as a template if it ends where its pixels begin."""
        problems = len(self.problems)
        keys = [self._values(row, path, vr, data[start:end]) for path, vr, start, end in leaves]
        for some in keys:
            for key in some:
                self._add(row, key)
        marks = self._marks(leaves, data)
        self.marks.append(marks)
        if not template or len(self.problems) > problems:
            return
        filled = [k for k, leaf in enumerate(leaves) if leaf.end > leaf.start]
        kept = [leaves[k] for k in filled]
        self._templates.insert(
            0,
            _Template(
                expected=np.frombuffer(data, np.uint8, template),
                starts=np.array([leaf.start for leaf in kept], dtype=np.int64),
                ends=np.array([leaf.end for leaf in kept], dtype=np.int64),
                leaves=kept,
                keys=[keys[k] for k in filled],
                fixed=frozenset(k for k, leaf in enumerate(kept) if _decides(leaf.path)),
                watched=frozenset(k for k, leaf in enumerate(kept) if leaf.path in _WATCHED),
                marks=marks,
            ),
        )
        # Empty elements count with every hit as well.
        empty = tuple(key for k, leaf in enumerate(leaves) if leaf.end == leaf.start for key in keys[k])
        if empty:
            first = self._templates[0]
            first.leaves.append(Leaf("", "", len(data), len(data)))
            first.keys.append(empty)
            first.starts = np.append(first.starts, template)
            first.ends = np.append(first.ends, template)
        for old in self._templates[_KEPT:]:
            self._settle(old)
        del self._templates[_KEPT:]

    def _settle(self, one: _Template) -> None:
        """Count what a template stood for: its values, once for every header that was like it."""
        for some in one.keys:
            for key in some:
                self._count[key] += one.hits

    def finish(self) -> dict[Key, tuple[int, int]]:
        """Return count and first row of every value."""
        for one in self._templates:
            self._settle(one)
        self._templates.clear()
        return {key: (count, self._row[key]) for key, count in self._count.items()}

    def _values(self, row: int, path: str, vr: str, raw: bytes) -> tuple[Key, ...]:
        """Return the values of a leaf; long binary ones by their size and digest."""
        if vr in _BINARY and len(raw) > _MAX_BINARY:
            return ((path, vr, f"<{len(raw)} bytes, {blake2b(raw, digest_size=8).hexdigest()}>".encode()),)
        try:
            return leaf_values(path, vr, raw)
        except Damaged as error:
            self.problems.append((row, str(error)))
            return ((path, vr, raw),)

    def _add(self, row: int, key: Key) -> None:
        if key in self._count:
            self._count[key] += 1
        else:
            self._count[key], self._row[key] = 1, row

    def _marks(self, leaves: list[Leaf], data: bytes) -> Marks:
        marks: dict[str, bytes] = {}
        for path, vr, start, end in leaves:
            if path in _WATCHED:
                self._mark(marks, (path, vr, data[start:end]))
        return tuple(marks.get(name) for name in WATCHED)

    def _mark(self, marks: dict[str, bytes], key: Key) -> None:
        path, _, raw = key
        if path in _WATCHED:
            marks[path] = marks[path] + b"\\" + raw.strip(b" \0") if path in marks else raw.strip(b" \0")


def _decides(path: str) -> bool:
    """Return whether a value decides how others are named or read: a private creator, the transfer syntax."""
    tag = path[-8:]
    if tag == "00020010":
        return True
    return "[" not in tag and len(tag) == 8 and tag[3] in "13579BDF" and tag[4:6] == "00" and tag[6:] >= "10"


class _Reader:
    """Gives bytes that were read already, then those of a stream."""

    def __init__(self, data: bytes, stream: Any) -> None:
        self._data = data
        self._stream = stream

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end."""
        head, self._data = self._data[:count], self._data[count:]
        rest: bytes = self._stream.read(count - len(head)) if len(head) < count else b""
        return head + rest
