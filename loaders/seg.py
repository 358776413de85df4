"""Reading a DICOM segmentation onto the grid of a CT, by patient coordinates."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import DicomReadError, FrameOfReferenceError, SegmentationError, UsageError

if TYPE_CHECKING:
    import highdicom as hd
    from pydicom import Dataset

__all__ = ["SegmentInfo", "SegmentationOnGrid", "read_seg"]

logger = logging.getLogger(__name__)

_SOP_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
# A frame is on the grid if its corners are no farther from voxel centres than this share of a voxel. Positions in
# the collection differ in the second decimal (0.02 mm); half a millimetre is another acquisition.
_TOLERANCE = 0.1
_MAX_VOXELS = 4_000_000_000

Affine = npt.NDArray[np.float64]


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
class SegmentationOnGrid:
    """The segments of a SEG on one grid.

    Attributes
    ----------
    array : ndarray, shape (S, D, H, W)
        One mask a segment: uint8 0 or 1 for BINARY and LABELMAP, float32 0 to 1 for FRACTIONAL.
    segments : tuple of SegmentInfo
        In the order of the first axis.
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    dropped : tuple of int
        Empty frames (from 0) that lay off the grid.
    lost : tuple of int
        Frames (from 0) with voxels set that lay off the grid; only with ``on_off_grid="drop"``.
    """

    array: npt.NDArray[Any]
    segments: tuple[SegmentInfo, ...]
    affine: Affine
    dropped: tuple[int, ...] = field(default=())
    lost: tuple[int, ...] = field(default=())

    def label_map(self, priority: Sequence[int] | None = None) -> npt.NDArray[np.uint8]:
        """Return segment numbers uint8 (D, H, W), 0 where there is none.

        Parameters
        ----------
        priority : sequence of int, optional
            Segment numbers from the least to the most important; where segments overlap the most important one wins.
            Default: ascending numbers. A fractional segment counts from one half.

        Raises
        ------
        UsageError
            `priority` is not a permutation of the segment numbers.
        """
        numbers = [segment.number for segment in self.segments]
        order = sorted(numbers) if priority is None else list(priority)
        if sorted(order) != sorted(numbers):
            raise UsageError(f"priority is {order}; it must name the segments {sorted(numbers)}, each once.")
        if max(numbers, default=0) > 255:
            raise UsageError(f"segment number {max(numbers)} does not fit a label map of bytes; use .array.")
        result = np.zeros(self.array.shape[1:], dtype=np.uint8)
        for number in order:
            mask = self.array[numbers.index(number)]
            result[mask != 0 if mask.dtype == np.uint8 else mask >= 0.5] = number
        return result


def read_seg(
    file: str | os.PathLike[str], like: hd.Volume | None = None, *, on_off_grid: Literal["raise", "drop"] = "raise"
) -> SegmentationOnGrid:
    """Read a SEG onto the grid of a volume.

    Frames are placed by their position and orientation in the patient, never by their order; rows and columns may run
    against the grid's, or along other axes of it.

    Parameters
    ----------
    file : path-like
        The SEG: BINARY, FRACTIONAL or LABELMAP, in any transfer syntax pydicom decodes.
    like : highdicom.Volume, optional
        Whose grid to use, as from :func:`~hcc_tace_data.loaders.ct.read_ct`. Default: the grid the frames make.
    on_off_grid : {"raise", "drop"}
        What to do with a frame that has voxels set and does not lie on the grid. Empty ones are always dropped.

    Raises
    ------
    DicomReadError
        Not a SEG, or cut short.
    FrameOfReferenceError
        The SEG lives in another coordinate system than `like`.
    SegmentationError
        Frames without position, segment or orientation, or off the grid.
    """
    if on_off_grid not in {"raise", "drop"}:
        raise UsageError(f"on_off_grid is {on_off_grid!r}; use 'raise' or 'drop'.")
    path = Path(file)
    header = _read(path)
    frames = _frames(header, path)
    pixels = _pixels(header, path, len(frames))
    if like is None:
        affine, shape = _own_grid(header, frames, path)
    else:
        own, other = str(header.get("FrameOfReferenceUID", "")), like.frame_of_reference_uid
        if own and other and own != str(other):
            raise FrameOfReferenceError(
                f"{path}: the segmentation is in frame of reference {own}, the volume in {other}; "
                "it was not drawn on it."
            )
        affine, shape = np.asarray(like.affine, dtype=np.float64), tuple(like.spatial_shape)
    return _place(header, frames, pixels, affine, (shape[0], shape[1], shape[2]), on_off_grid, path)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a frame lies: position of its first pixel, steps in mm along columns and down rows; its segment."""

    position: npt.NDArray[np.float64]
    along_columns: npt.NDArray[np.float64]
    down_rows: npt.NDArray[np.float64]
    segment: int


def _read(path: Path) -> Dataset:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(path)
    except InvalidDicomError as error:
        raise DicomReadError(f"{path} is not a DICOM file.") from error
    except (EOFError, ValueError, KeyError, NotImplementedError) as error:
        raise DicomReadError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if str(header.get("SOPClassUID", "")) not in _SOP_CLASSES:
        raise DicomReadError(f"{path} is not a segmentation (its SOP class is {header.get('SOPClassUID', 'missing')}).")
    return header


def _first(groups: Sequence[Dataset | None], name: str) -> Dataset | None:
    """Return the first item of a functional group, of the frame's own or the shared ones."""
    for group in groups:
        items = group.get(name) if group is not None else None
        if items:
            item: Dataset = items[0]
            return item
    return None


def _frames(header: Dataset, path: Path) -> list[_Frame]:
    shared = header.get("SharedFunctionalGroupsSequence") or [None]
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    count = int(header.get("NumberOfFrames", 1))
    if len(per_frame) != count:
        raise SegmentationError(f"{path}: {count} frames, but functional groups of {len(per_frame)}.")
    labelmap = str(header.get("SegmentationType", "")) == "LABELMAP"
    frames = []
    for number, group in enumerate(per_frame):
        both = (group, shared[0])
        plane, turn = _first(both, "PlanePositionSequence"), _first(both, "PlaneOrientationSequence")
        measures = _first(both, "PixelMeasuresSequence")
        segment = _first(both, "SegmentIdentificationSequence")
        if plane is None or turn is None or measures is None or (segment is None and not labelmap):
            raise SegmentationError(f"{path}: frame {number + 1} lacks position, orientation, spacing or segment.")
        try:
            position = np.array(plane.ImagePositionPatient, dtype=float)
            orientation = np.array(turn.ImageOrientationPatient, dtype=float)
            spacing = np.array(measures.PixelSpacing, dtype=float)
            which = 0 if segment is None else int(segment.ReferencedSegmentNumber)
        except (AttributeError, TypeError, ValueError) as error:
            raise SegmentationError(f"{path}: frame {number + 1}: {error}.") from error
        if position.shape != (3,) or orientation.shape != (6,) or spacing.shape != (2,) or not (spacing > 0).all():
            raise SegmentationError(f"{path}: frame {number + 1} has a position, orientation or spacing that is none.")
        frames.append(_Frame(position, orientation[:3] * spacing[1], orientation[3:] * spacing[0], which))
    return frames


def _pixels(header: Dataset, path: Path, count: int) -> npt.NDArray[Any]:
    """Return the frames as stored, (N, rows, columns)."""
    rows, columns = int(header.Rows), int(header.Columns)
    if not 0 < rows * columns * count <= _MAX_VOXELS:
        raise SegmentationError(f"{path} claims {count} frames of {rows} x {columns}; refused.")
    bits = int(header.BitsAllocated)
    data = header.get("PixelData")
    if data is None:
        raise DicomReadError(f"{path} has no pixel data.")
    if header.file_meta.TransferSyntaxUID.is_compressed and header.file_meta.TransferSyntaxUID.is_encapsulated:
        try:
            return np.asarray(header.pixel_array).reshape(count, rows, columns)
        except Exception as error:  # decoders raise what they like
            raise DicomReadError(f"{path}: the frames cannot be decoded ({type(error).__name__}: {error}).") from error
    needed = -(-rows * columns * count * bits // 8)
    if len(data) < needed:
        raise DicomReadError(
            f"{path} is cut short: {len(data)} bytes of pixels where {needed} are needed. Fetch it again."
        )
    if bits == 1:
        flat = np.unpackbits(np.frombuffer(data, np.uint8, needed), bitorder="little", count=rows * columns * count)
        return flat.reshape(count, rows, columns)
    if bits not in (8, 16):
        raise DicomReadError(f"{path} has {bits} bits a pixel; segmentations have 1, 8 or 16.")
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16).newbyteorder(
        "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
    )
    return np.frombuffer(data, kind, rows * columns * count).reshape(count, rows, columns)


def _own_grid(header: Dataset, frames: list[_Frame], path: Path) -> tuple[Affine, tuple[int, int, int]]:
    """Return the grid that the frames make: their plane, and even steps along its normal."""
    first = frames[0]
    normal = np.cross(first.along_columns, first.down_rows)
    normal = normal / np.linalg.norm(normal)
    along = np.unique(np.round([frame.position @ normal for frame in frames], 3))
    steps = np.diff(along)
    step = float(steps.min()) if len(steps) else 1.0
    count = round((along[-1] - along[0]) / step) + 1
    if len(steps) and not np.allclose(steps / step, np.round(steps / step), atol=_TOLERANCE):
        raise SegmentationError(f"{path}: the frames make no even grid; pass the CT volume as `like`.")
    if count * int(header.Rows) * int(header.Columns) > _MAX_VOXELS:
        raise SegmentationError(f"{path}: the frames span {count} slices; refused.")
    lowest = min(frames, key=lambda frame: float(frame.position @ normal))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * step, first.down_rows, first.along_columns
    affine[:3, 3] = lowest.position
    return affine, (int(count), int(header.Rows), int(header.Columns))


def _place(
    header: Dataset,
    frames: list[_Frame],
    pixels: npt.NDArray[Any],
    affine: Affine,
    shape: tuple[int, int, int],
    on_off_grid: str,
    path: Path,
) -> SegmentationOnGrid:
    segments = tuple(_info(item) for item in header.get("SegmentSequence", []))
    kind = str(header.get("SegmentationType", "BINARY"))
    labelmap = kind == "LABELMAP"
    if labelmap:
        background = int(header.get("PixelPaddingValue", 0))
        segments = tuple(segment for segment in segments if segment.number != background)
    row_of = {segment.number: row for row, segment in enumerate(segments)}
    if len(segments) * int(np.prod(shape)) > _MAX_VOXELS:
        raise SegmentationError(f"{path}: {len(segments)} segments on a grid of {shape}; refused.")
    fractional = kind == "FRACTIONAL"
    array = np.zeros((len(segments), *shape), dtype=np.float32 if fractional else np.uint8)
    full = float(header.get("MaximumFractionalValue", 255)) if fractional else 1.0
    inverse = np.linalg.inv(affine)
    dropped: list[int] = []
    lost: list[int] = []
    for number, frame in enumerate(frames):
        plane = pixels[number]
        if not labelmap and frame.segment not in row_of:
            raise SegmentationError(
                f"{path}: frame {number + 1} is of segment {frame.segment}, which is not described."
            )
        target = _window(frame, inverse, shape, plane.shape)
        if target is None or not _fits(plane, target):
            if plane.any() and on_off_grid == "raise":
                raise SegmentationError(
                    f"{path}: frame {number + 1} at {np.round(frame.position, 3).tolist()} mm does not lie on the "
                    "grid; was it drawn on another series? on_off_grid='drop' leaves such frames out."
                )
            (lost if plane.any() else dropped).append(number)
            continue
        if labelmap:
            for value in np.unique(plane):
                if int(value) in row_of:
                    _paint(array[row_of[int(value)]], (plane == value).astype(np.uint8), target)
        else:
            _paint(array[row_of[frame.segment]], plane / full if fractional else plane, target)
    if lost:
        logger.warning("%s: %d frames with voxels set lie off the grid and were left out", path, len(lost))
    return SegmentationOnGrid(array=array, segments=segments, affine=affine, dropped=tuple(dropped), lost=tuple(lost))


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a frame goes: grid axes of its normal, rows and columns; the slice; signed starts; what fits."""

    axes: tuple[int, int, int]
    slice: int
    flips: tuple[bool, bool]
    grid: tuple[slice, slice]
    plane: tuple[slice, slice]


def _window(frame: _Frame, inverse: Affine, shape: tuple[int, int, int], plane: tuple[int, ...]) -> _Target | None:
    """Return where a frame lies on the grid, or None if it lies on none of its planes."""
    steps = [inverse[:3, :3] @ frame.down_rows, inverse[:3, :3] @ frame.along_columns]
    origin = inverse[:3, :3] @ frame.position + inverse[:3, 3]
    axes, signs = [], []
    for step, length in zip(steps, plane, strict=True):
        axis = int(np.abs(step).argmax())
        unit = np.zeros(3)
        unit[axis] = np.sign(step[axis])
        # the error that counts is the one at the far end of the frame
        if np.abs(step - unit).max() * max(1, length - 1) > 2 * _TOLERANCE:
            return None
        axes.append(axis)
        signs.append(step[axis] < 0)
    if axes[0] == axes[1]:
        return None
    normal = 3 - axes[0] - axes[1]
    nearest = np.round(origin)
    if np.abs(origin - nearest).max() > _TOLERANCE or not 0 <= nearest[normal] < shape[normal]:
        return None
    grid, inside = [], []
    for axis, flipped, length in zip(axes, signs, plane, strict=True):
        start = int(nearest[axis]) - (length - 1 if flipped else 0)
        first, last = max(start, 0), min(start + length, shape[axis])
        if first >= last:
            return None
        grid.append(slice(first, last))
        inside.append(slice(first - start, last - start))
    return _Target(
        (normal, axes[0], axes[1]),
        int(nearest[normal]),
        (signs[0], signs[1]),
        (grid[0], grid[1]),
        (inside[0], inside[1]),
    )


def _turned(plane: npt.NDArray[Any], target: _Target) -> npt.NDArray[Any]:
    return plane[:: -1 if target.flips[0] else 1, :: -1 if target.flips[1] else 1]


def _fits(plane: npt.NDArray[Any], target: _Target) -> bool:
    """Whether all that is set in the frame lies inside the grid."""
    inside = _turned(plane, target)[target.plane]
    return inside.shape == plane.shape or np.count_nonzero(inside) == np.count_nonzero(plane)


def _paint(volume: npt.NDArray[Any], plane: npt.NDArray[Any], target: _Target) -> None:
    view = np.moveaxis(volume, target.axes, (0, 1, 2))[target.slice][target.grid]
    np.maximum(view, _turned(plane, target)[target.plane].astype(view.dtype, copy=False), out=view)


def _info(item: Dataset) -> SegmentInfo:
    def code(name: str) -> tuple[str, str, str]:
        codes = item.get(name)
        if not codes:
            return "", "", ""
        entry = codes[0]
        return tuple(str(entry.get(part, "")) for part in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))  # type: ignore[return-value]  # three parts

    return SegmentInfo(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=code("SegmentedPropertyCategoryCodeSequence"),
        type=code("SegmentedPropertyTypeCodeSequence"),
        algorithm=str(item.get("SegmentAlgorithmType", "")),
    )
