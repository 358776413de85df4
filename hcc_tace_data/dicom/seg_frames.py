"""What each frame of a SEG says of itself: position, orientation, spacing, segment, the images it was drawn on.

The per-frame groups of a SEG are thousands of small nested elements; an object for each costs more than all the rest
of reading. :func:`scan_frames` looks only for the few that place a frame, and raises
:class:`~hcc_tace_data.dicom.elements.UnusualFile` at anything it does not vouch for: the caller then takes
:func:`frames_from_groups`, which asks pydicom.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.elements import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    SequenceEnds,
    UnusualFile,
    element_at,
    end_of_sequence,
)
from hcc_tace_data.system import words

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["FrameTable", "frames_from_groups", "scan_frames"]

_DERIVATION, _SOURCE, _SOP_UID = 0x00089124, 0x00082112, 0x00081155
_POSITION, _ORIENTATION, _SPACING, _SEGMENT = 0x00209113, 0x00209116, 0x00289110, 0x0062000A
#: Sequence of the frame -> the element in its first item that is read, and its VR.
_INNER = {
    _POSITION: (0x00200032, b"DS"),
    _ORIENTATION: (0x00200037, b"DS"),
    _SPACING: (0x00280030, b"DS"),
    _SEGMENT: (0x0062000B, b"US"),
}

Raw = dict[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTable:
    """One row a frame, in the order of the pixel data; NaN and 0 where neither frame nor shared groups say it.

    Attributes
    ----------
    positions : ndarray, float64 (F, 3)
        Centre of the first pixel, LPS mm.
    orientations : ndarray, float64 (F, 6)
        Direction along a row, then down a column.
    spacings : ndarray, float64 (F, 2)
        Distance of rows, then of columns, mm.
    segments : ndarray, int64 (F,)
        Segment number.
    cited : Counter of str
        SOP Instance UIDs the frames were derived from -> how many frames; empty if not asked for.
    sources : tuple of tuple of str
        The same UIDs frame by frame, every one that a frame names; empty if not asked for.
    slice_spacing : float
        SpacingBetweenSlices of the shared groups, else of the first frame, mm; NaN where neither has it.
    slice_thickness : float
        SliceThickness, likewise.
    """

    positions: npt.NDArray[np.float64]
    orientations: npt.NDArray[np.float64]
    spacings: npt.NDArray[np.float64]
    segments: npt.NDArray[np.int64]
    cited: Counter[str]
    sources: tuple[tuple[str, ...], ...] = ()
    slice_spacing: float = math.nan
    slice_thickness: float = math.nan

    def __len__(self) -> int:
        return len(self.segments)


def scan_frames(
    data: bytes, start: int, end: int, *, explicit: bool, shared: Dataset | None, cited: bool
) -> tuple[FrameTable, int]:
    """Read the items of PerFrameFunctionalGroupsSequence from bytes.

    Parameters
    ----------
    data : bytes
        The whole file, little endian.
    start, end : int
        Where the value of the sequence begins and ends; -1 if a delimiter ends it.
    explicit : bool
        Whether elements carry their VR.
    shared : pydicom.Dataset, optional
        The item of SharedFunctionalGroupsSequence.
    cited : bool
        Whether to collect what the frames cite; it costs as much as all the rest.

    Returns
    -------
    table : FrameTable
    end : int
        The first byte after the sequence.

    Raises
    ------
    UnusualFile
        Anything out of the ordinary; nothing is returned then.
    """
    frames: list[Raw] = []
    sources: list[tuple[str, ...]] = []
    depths: tuple[float, float] | None = None
    ends = SequenceEnds(data, explicit)
    at, limit = start, len(data) if end < 0 else end
    while at < limit:
        tag, _, length, value = element_at(data, at, explicit)
        if tag == SEQUENCE_END and end < 0 and not length:
            return _table(frames, shared, sources, depths), value
        if tag != ITEM:
            raise UnusualFile("not an item")
        uids: list[str] | None = [] if cited else None
        at, found = _frame(data, value, length, limit, explicit, uids, ends)
        if depths is None:
            depths = _depths(shared, partial(_parsed, data[value:at], explicit))
        frames.append(found)
        if uids is not None:
            sources.append(tuple(uids))
    if at != end:
        raise UnusualFile("per-frame groups without their end")
    return _table(frames, shared, sources, depths), at


def _parsed(item: bytes, explicit: bool) -> Dataset:
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(item), not explicit, True)


def _depths(shared: Dataset | None, first: Callable[[], Dataset]) -> tuple[float, float]:
    """Return SpacingBetweenSlices and SliceThickness of the shared groups, else of the first frame; NaN for neither."""
    found = [math.nan, math.nan]
    groups: tuple[Callable[[], Dataset | None], ...] = (lambda: shared, first)
    for group in groups:
        if found[0] == found[0]:
            break
        measures = None
        with contextlib.suppress(Exception):  # what nobody needs must not cost the file
            item = group()
            measures = item["PixelMeasuresSequence"].value[0] if item is not None else None
        for place, name in enumerate(("SpacingBetweenSlices", "SliceThickness")):
            with contextlib.suppress(Exception):
                value = math.nan if measures is None or name not in measures else abs(float(measures[name].value))
                if 0 < value < math.inf:
                    found[place] = value
    return found[0], found[1]


def _frame(
    data: bytes, at: int, length: int, limit: int, explicit: bool, uids: list[str] | None, ends: SequenceEnds
) -> tuple[int, Raw]:
    """Read one frame's item; return where the next begins, and what was found."""
    end = limit if length == UNDEFINED else at + length
    if end > limit:
        raise UnusualFile("an item reaches past its sequence")
    found: Raw = {}
    last = 0
    while at < end:
        tag, vr, size, value = element_at(data, at, explicit)
        if tag == ITEM_END and length == UNDEFINED:
            return value, found
        if tag <= last or tag >> 16 == 0xFFFE:
            raise UnusualFile("elements out of order")
        last = tag
        at = value + size if size != UNDEFINED else ends.end(tag, value)
        if at > end:
            raise UnusualFile("an element reaches past its item")
        inner = _INNER.get(tag)
        if inner is not None:
            _check_vr(vr, b"SQ")
            found[tag] = _first_value(data, value, at, inner, explicit)
        elif tag == _DERIVATION and uids is not None:
            _check_vr(vr, b"SQ")
            _cite(data, value, at, explicit, uids, inside_source=False)
    if length == UNDEFINED or at != end:
        raise UnusualFile("an item without its end")
    return at, found


def _check_vr(found: bytes, expected: bytes) -> None:
    if found not in (b"", expected):
        raise UnusualFile("another VR than the dictionary's")


def _first_value(data: bytes, at: int, end: int, wanted: tuple[int, bytes], explicit: bool) -> bytes:
    """Return the value of the `wanted` tag and VR in the first item between `at` and `end`."""
    tag, _, length, at = element_at(data, at, explicit)
    if tag != ITEM or (length != UNDEFINED and at + length > end):
        raise UnusualFile("a sequence without item")
    end = end if length == UNDEFINED else at + length
    while at < end:
        tag, vr, size, value = element_at(data, at, explicit)
        if tag > wanted[0]:  # also the delimiters, whose group is the highest there is
            break
        if size == UNDEFINED:
            if tag == wanted[0]:
                break
            at = end_of_sequence(data, value, explicit)
            continue
        at = value + size
        if tag == wanted[0]:
            if at > end:
                break
            _check_vr(vr, wanted[1])
            return data[value:at]
    raise UnusualFile("a functional group without its element")


def _cite(data: bytes, at: int, end: int, explicit: bool, uids: list[str], *, inside_source: bool) -> None:
    """Count the SOP Instance UIDs in DerivationImageSequence > SourceImageSequence, whose items begin at `at`."""
    while at < end:
        tag, _, length, at = element_at(data, at, explicit)
        if tag == SEQUENCE_END and not length:
            break
        if tag != ITEM:
            raise UnusualFile("not an item")
        at = _cite_item(data, at, length, end, explicit, uids, inside_source=inside_source)
    if at != end:
        raise UnusualFile("a derivation that does not end where it says")


def _cite_item(
    data: bytes, at: int, length: int, limit: int, explicit: bool, uids: list[str], *, inside_source: bool
) -> int:
    end, last = limit if length == UNDEFINED else at + length, 0
    while at < end:
        tag, vr, size, value = element_at(data, at, explicit)
        if tag == ITEM_END and length == UNDEFINED:
            return value
        if tag <= last or tag >> 16 == 0xFFFE:
            raise UnusualFile("elements out of order")
        last = tag
        at = end_of_sequence(data, value, explicit) if size == UNDEFINED else value + size
        if at > end:
            raise UnusualFile("an element reaches past its item")
        if tag == _SOURCE and not inside_source:
            _check_vr(vr, b"SQ")
            _cite(data, value, at, explicit, uids, inside_source=True)
        elif tag == _SOP_UID and inside_source:
            _check_vr(vr, b"UI")
            raw = data[value:at].rstrip(b"\0 ")
            if not raw.replace(b".", b"").isdigit():
                raise UnusualFile("an invalid UID")
            uids.append(raw.decode())
    if length == UNDEFINED or at != end:
        raise UnusualFile("an item without its end")
    return at


def _table(
    frames: list[Raw], shared: Dataset | None, sources: list[tuple[str, ...]], depths: tuple[float, float] | None
) -> FrameTable:
    """Turn raw values into columns, the shared group's where the frames have none."""
    try:
        defaults = _of_group(shared)
    except (TypeError, ValueError) as error:
        raise UnusualFile("invalid shared functional groups") from error
    columns = {}
    for tag, default in zip((_POSITION, _ORIENTATION, _SPACING), defaults[:3], strict=True):
        known: dict[bytes | None, tuple[float, ...]] = {None: default}
        rows = []
        for frame in frames:
            raw = frame.get(tag)
            row = known.get(raw)
            if row is None:
                row = known[raw] = _decimals(raw or b"", len(default))
            rows.append(row)
        columns[tag] = np.array(rows, dtype=np.float64).reshape(len(frames), len(default))
    segments = []
    for frame in frames:
        raw = frame.get(_SEGMENT)
        if raw is not None and len(raw) != 2:
            raise UnusualFile("an invalid segment number")
        segments.append(defaults[3] if raw is None else int.from_bytes(raw, "little"))
    return FrameTable(
        positions=columns[_POSITION],
        orientations=columns[_ORIENTATION],
        spacings=columns[_SPACING],
        segments=np.array(segments, dtype=np.int64),
        cited=Counter(uid for own in sources for uid in own),
        sources=tuple(sources),
        slice_spacing=depths[0] if depths else math.nan,
        slice_thickness=depths[1] if depths else math.nan,
    )


def _decimals(raw: bytes, count: int) -> tuple[float, ...]:
    text = raw.rstrip(b"\0 ")
    try:
        numbers = tuple(map(float, text.split(b"\\")))
    except ValueError as error:
        raise UnusualFile("a decimal string that is not a number") from error
    if len(numbers) != count or b"_" in text or not all(map(math.isfinite, numbers)):
        raise UnusualFile("a decimal string that is not a number")
    return numbers


def _of_group(
    group: Dataset | None,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], int]:
    """Return position, orientation, spacing and segment of a functional group, as pydicom reads them."""

    def numbers(sequence: str, element: str, count: int) -> tuple[float, ...]:
        items = group.get(sequence) if group is not None else None
        values = items[0].get(element) if items else None
        if values is None:
            return (math.nan,) * count
        found = tuple(float(value) for value in values)
        if len(found) != count:
            raise ValueError(f"{element} has {words.count(len(found), 'value')}")
        return found

    named = group.get("SegmentIdentificationSequence") if group is not None else None
    return (
        numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        numbers("PixelMeasuresSequence", "PixelSpacing", 2),
        int(named[0].get("ReferencedSegmentNumber", 0)) if named else 0,
    )


def frames_from_groups(groups: Sequence[Dataset], shared: Dataset | None, *, cited: bool) -> FrameTable:
    """Read the same from what pydicom made of the per-frame groups: slower, and forgiving.

    Raises
    ------
    ValueError, TypeError
        A value that is not what it must be.
    """
    rows = [_of_group(group) for group in groups]
    common = _of_group(shared)
    columns = []
    for column, count in enumerate((3, 6, 2)):
        own = np.array([row[column] for row in rows], dtype=np.float64).reshape(len(rows), count)
        columns.append(np.where(np.isnan(own), np.array(common[column]), own))
    depths = _depths(shared, lambda: groups[0])
    sources = tuple(
        tuple(
            str(source.ReferencedSOPInstanceUID)
            for derivation in group.get("DerivationImageSequence") or ()
            for source in derivation.get("SourceImageSequence") or ()
            if "ReferencedSOPInstanceUID" in source
        )
        for group in (groups if cited else ())
    )
    return FrameTable(
        positions=columns[0],
        orientations=columns[1],
        spacings=columns[2],
        segments=np.array([row[3] or common[3] for row in rows], dtype=np.int64),
        cited=Counter(uid for own in sources for uid in own),
        sources=sources,
        slice_spacing=depths[0],
        slice_thickness=depths[1],
    )
