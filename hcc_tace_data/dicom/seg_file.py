"""A SEG file, opened: what its frames and segments are, and their bits, before anything is placed on a grid."""

from __future__ import annotations

import logging
import mmap
import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hcc_tace_data.dicom.elements import CutShort, NeedMore, UnusualFile, spans
from hcc_tace_data.dicom.headers import starts_like_data_set
from hcc_tace_data.dicom.inflate import inflated
from hcc_tace_data.dicom.seg_bits import DenseFrames, PackedFrames
from hcc_tace_data.dicom.seg_decode import decode_frames, transfer_syntax_of
from hcc_tace_data.dicom.seg_frames import FrameTable, frames_from_groups, scan_frames
from hcc_tace_data.errors import DicomReadError, NotDicomError, SegmentationError
from hcc_tace_data.system import words
from hcc_tace_data.system.boundary import foreign_errors

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SegFile", "SegmentInfo", "open_seg"]

logger = logging.getLogger(__name__)

_SOP_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
_SEGMENTS, _SHARED, _PER_FRAME, _REFERENCED, _PIXELS = 0x00620002, 0x52009229, 0x52009230, 0x00081115, 0x7FE00010
#: What is kept of the header: character set, SOP class, frame of reference, frames, size, bits, padding, type, scale.
_HEADER = frozenset(
    {0x00080005, 0x00080016, 0x00200052, 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280103,
     0x00280120, 0x00620001, 0x0062000E, _SEGMENTS, _SHARED}
)  # fmt: skip
_MAX_VOXELS = 4_000_000_000
_SKEWED = 2e-3
_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
_BACKGROUND = ("125040", "DCM")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """One segment of a SEG.

    Attributes
    ----------
    number : int
        SegmentNumber.
    label : str
        SegmentLabel.
    category, type : tuple of str
        Coded concepts (value, scheme, meaning).
    algorithm : str
        SegmentAlgorithmType: MANUAL, SEMIAUTOMATIC or AUTOMATIC.
    """

    number: int
    label: str
    category: tuple[str, str, str]
    type: tuple[str, str, str]
    algorithm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegFile:
    """What a SEG holds.

    Attributes
    ----------
    path : pathlib.Path
    kind : str
        BINARY, FRACTIONAL or LABELMAP.
    rows, columns : int
        Size of a frame.
    frame_of_reference_uid : str
        Empty if absent.
    segments : tuple of SegmentInfo
        The background of a label map is left out: the value that PixelPaddingValue names; without one, a segment whose
        type is Background (125040, DCM).
    frames : FrameTable
        Complete: every frame has position, orientation and spacing, and a segment unless it is a label map.
    full : float
        What a stored value means 1.0 (MaximumFractionalValue); 1 unless FRACTIONAL.
    pixels : PackedFrames, DenseFrames or None
        None if they were not asked for.
    referenced : tuple of str
        SOP Instance UIDs of ReferencedSeriesSequence; empty if not asked for.
    background : frozenset of int
        Stored values of a label map that are not a segment.
    """

    path: Path
    kind: str
    rows: int
    columns: int
    frame_of_reference_uid: str
    segments: tuple[SegmentInfo, ...]
    frames: FrameTable
    full: float
    pixels: PackedFrames | DenseFrames | None
    referenced: tuple[str, ...]
    background: frozenset[int] = frozenset({0})


def open_seg(file: str | os.PathLike[str], *, pixels: bool = True, cited: bool = False) -> SegFile:
    """Open a SEG.

    Parameters
    ----------
    file : path-like
        BINARY, FRACTIONAL or LABELMAP, in any transfer syntax pydicom decodes.
    pixels : bool
        Whether to read the pixel data too.
    cited : bool
        Whether to collect the SOP Instance UIDs it cites.

    Raises
    ------
    DicomReadError
        Not a SEG, or cut short.
    SegmentationError
        Frames without position, orientation, spacing or segment; other groups than frames.
    OSError
        The file cannot be opened.
    """
    path = Path(file)
    data = path.read_bytes() if pixels else _header_bytes(path)
    if data[128:132] != b"DICM" and not starts_like_data_set(data, len(data)):
        raise NotDicomError(f"{path} is not a DICOM file.")
    with foreign_errors(path, DicomReadError, "is not a readable segmentation"):
        try:
            return _scanned(path, data, pixels, cited)
        except (UnusualFile, NeedMore) as unusual:
            logger.debug("%s is read by pydicom: %s", path, unusual)
        except CutShort:
            raise DicomReadError(f"{path} is cut short: an element reaches past its end. Fetch it again.") from None
        return _by_pydicom(path, data, pixels, cited)


def _header_bytes(path: Path) -> Any:
    """Return the file as mapped memory: pixel bytes are only read when used."""
    with path.open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (ValueError, OSError):  # an empty file, or a file system without mapping
            return stream.read()


def _scanned(path: Path, data: bytes, pixels: bool, cited: bool) -> SegFile:
    """Read by walking the bytes; :class:`UnusualFile` where the walk does not vouch for them."""
    explicit, found = spans(data, until=_PER_FRAME)
    if _PER_FRAME not in found:
        raise UnusualFile("no per-frame groups")
    wanted = _HEADER | {_REFERENCED} if cited else _HEADER
    header = _parse([data[span.begin : span.end] for tag, span in found.items() if tag in wanted], explicit)
    _check(header, path)
    span = found[_PER_FRAME]
    frames, end = scan_frames(data, span.value, span.end, explicit=explicit, shared=_shared(header), cited=cited)
    if not pixels:
        return _seg_file(path, header, frames, None)
    place = spans(data, begin=end)[1].get(_PIXELS)
    if place is None:
        raise DicomReadError(f"{path} has no pixel data.")
    return _seg_file(path, header, frames, _native(path, header, memoryview(data)[place.value : place.end], "<"))


def _parse(parts: list[bytes], explicit: bool) -> Dataset:
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(b"".join(parts)), not explicit, True)


def _by_pydicom(path: Path, data: bytes, pixels: bool, cited: bool) -> SegFile:
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(BytesIO(inflated(path, bytes(data))), force=True)
        _check(header, path)
        groups = header.get("PerFrameFunctionalGroupsSequence") or []
        try:
            if not groups and _size(path, header)[0] == 1:  # a single frame may say everything in the shared groups
                groups = [pydicom.Dataset()]
            frames = frames_from_groups(groups, _shared(header), cited=cited)
        except (TypeError, ValueError) as error:
            if isinstance(error, SegmentationError):
                raise
            raise SegmentationError(f"{path}: its functional groups cannot be read: {error}.") from error
        syntax = transfer_syntax_of(header, path)  # also where no pixels are asked for: who opens it means to read them
        if not pixels:
            return _seg_file(path, header, frames, None)
        if header.get("PixelData") is None:
            raise DicomReadError(f"{path} has no pixel data.")
        element = header["PixelData"]
        if not (element.is_undefined_length or syntax.is_compressed):
            order: Literal["<", ">"] = ">" if syntax == ExplicitVRBigEndian else "<"
            return _seg_file(path, header, frames, _native(path, header, memoryview(element.value), order))
        count, rows, columns = _size(path, header)
        return _seg_file(path, header, frames, DenseFrames(decode_frames(header, path, (count, rows, columns))))


def _check(header: Dataset, path: Path) -> None:
    found = str(header.get("SOPClassUID", ""))
    if found not in _SOP_CLASSES:
        raise DicomReadError(f"{path} is not a segmentation (its SOP class is {found or 'missing'}).")


def _shared(header: Dataset) -> Any:
    items = header.get("SharedFunctionalGroupsSequence")
    return items[0] if items else None


def _size(path: Path, header: Dataset) -> tuple[int, int, int]:
    """Return frames, rows and columns, within bounds."""
    try:
        count, rows, columns = int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)
    except (AttributeError, TypeError, ValueError) as error:
        raise SegmentationError(f"{path} does not say how many frames it has, or how large: {error}.") from error
    if not 0 < rows * columns * count <= _MAX_VOXELS or min(rows, columns, count) < 1:
        raise SegmentationError(f"{path} claims {words.count(count, 'frame')} of {rows} x {columns}; refused.")
    return count, rows, columns


def _native(path: Path, header: Dataset, data: memoryview, order: Literal["<", ">"]) -> PackedFrames | DenseFrames:
    count, rows, columns = _size(path, header)
    bits = int(header.get("BitsAllocated") or 0)
    if bits not in (1, 8, 16):
        raise DicomReadError(f"{path} has {words.count(bits, 'bit')} per pixel; segmentations have 1, 8 or 16.")
    needed = -(-rows * columns * count * bits // 8)
    if len(data) < needed:
        raise DicomReadError(
            f"{path} is cut short: {len(data)} bytes of pixels where {needed} are needed. Fetch it again."
        )
    if bits == 1:
        return PackedFrames(data, count, rows, columns)
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16).newbyteorder(order)
    return DenseFrames(np.frombuffer(data, kind, rows * columns * count).reshape(count, rows, columns))


def _seg_file(path: Path, header: Dataset, frames: FrameTable, pixels: PackedFrames | DenseFrames | None) -> SegFile:
    count, rows, columns = _size(path, header)
    if len(frames) != count:
        raise SegmentationError(f"{path}: {words.count(count, 'frame')}, but functional groups of {len(frames)}.")
    kind = str(header.get("SegmentationType") or "BINARY").strip().upper()
    if kind not in _KINDS:
        raise SegmentationError(f"{path}: SegmentationType is {kind[:16]!r}; it is one of {', '.join(_KINDS)}.")
    segments = tuple(_info(item, path) for item in header.get("SegmentSequence") or ())
    background = _background(path, header, segments) if kind == "LABELMAP" else frozenset({0})
    if kind == "LABELMAP":
        segments = tuple(segment for segment in segments if segment.number not in background)
        if isinstance(pixels, DenseFrames):
            pixels = DenseFrames(pixels.array, background)
    _check_frames(path, frames, {segment.number for segment in segments}, named=kind != "LABELMAP")
    if len({segment.number for segment in segments}) != len(segments):
        raise SegmentationError(f"{path}: segment numbers {[s.number for s in segments]} are not unique.")
    referenced = (
        str(item.get("ReferencedSOPInstanceUID", ""))
        for series in header.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    )
    full = _full(path, header) if kind == "FRACTIONAL" else 1.0
    return SegFile(
        path=path,
        kind=kind,
        rows=rows,
        columns=columns,
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID", "")),
        segments=segments,
        frames=frames,
        full=full,
        pixels=pixels,
        referenced=tuple(referenced),
        background=background,
    )


def _full(path: Path, header: Dataset) -> float:
    """Return the stored value that means 1."""
    value = header.get("MaximumFractionalValue")
    if value is None:
        return 255.0
    full = float(value)
    if not 0 < full <= 65535:
        raise SegmentationError(f"{path}: MaximumFractionalValue is {full:g}; the fractions mean nothing.")
    return full


def _background(path: Path, header: Dataset, segments: tuple[SegmentInfo, ...]) -> frozenset[int]:
    """Return the values of a label map that are not a segment.

    PixelPaddingValue names the background. Without one every described segment is a part of the body, but for one whose
    type is Background; a value that no segment describes is background if it is 0.
    """
    padding = header.get("PixelPaddingValue")
    if padding is not None:
        return frozenset({int(padding)})
    typed = {segment.number for segment in segments if segment.type[:2] == _BACKGROUND}
    described = {segment.number for segment in segments}
    return frozenset(typed | ({0} - described))


def _check_frames(path: Path, frames: FrameTable, numbers: set[int], *, named: bool) -> None:
    """Refuse frames that do not say where they are and what they show."""
    placed = np.isfinite(frames.positions).all(axis=1) & np.isfinite(frames.orientations).all(axis=1)
    placed &= ((frames.spacings > 0) & np.isfinite(frames.spacings)).all(axis=1)
    if named:
        placed &= frames.segments > 0
    if not placed.all():
        frame = int(np.argmin(placed)) + 1
        raise SegmentationError(f"{path}: frame {frame} lacks position, orientation, spacing or segment.")
    turns = frames.orientations.reshape(-1, 2, 3)
    skewed = np.abs(np.linalg.norm(turns, axis=2) - 1).max(axis=1) + np.abs((turns[:, 0] * turns[:, 1]).sum(axis=1))
    if not (skewed <= _SKEWED).all():
        raise SegmentationError(
            f"{path}: ImageOrientationPatient of frame {int(skewed.argmax()) + 1} is not a pair of perpendicular unit "
            "vectors."
        )
    if named:
        described = np.isin(frames.segments, list(numbers))
        if not described.all():
            frame = int(np.argmin(described))
            raise SegmentationError(
                f"{path}: frame {frame + 1} is of segment {frames.segments[frame]}, which is not described."
            )


def _info(item: Dataset, path: Path) -> SegmentInfo:
    def code(name: str) -> tuple[str, str, str]:
        codes = item.get(name)
        entry = codes[0] if codes else {}
        value = entry.get("CodeValue") or entry.get("LongCodeValue") or entry.get("URNCodeValue") or ""
        return str(value), str(entry.get("CodingSchemeDesignator", "")), str(entry.get("CodeMeaning", ""))

    if item.get("SegmentNumber") is None:
        raise SegmentationError(f"{path}: a segment has no number.")
    return SegmentInfo(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=code("SegmentedPropertyCategoryCodeSequence"),
        type=code("SegmentedPropertyTypeCodeSequence"),
        algorithm=str(item.get("SegmentAlgorithmType", "")),
    )
