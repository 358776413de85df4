"""Reading a DICOM segmentation onto the grid of a CT, by patient coordinates."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.seg_bits import PackedFrames, Patch
from hcc_tace_data.dicom.seg_file import SegFile, SegmentInfo, open_seg
from hcc_tace_data.dicom.seg_grid import GRID_TOLERANCE, Placement, place_frames
from hcc_tace_data.dicom.tolerance import base_step, position_bound
from hcc_tace_data.errors import FrameOfReferenceError, SegmentationError, UsageError
from hcc_tace_data.system.claims import SURELY_FINE, refuse_claim
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import highdicom as hd

__all__ = ["SegmentInfo", "SegmentationOnGrid", "read_seg"]

logger = logging.getLogger(__name__)

_MAX_VOXELS = 4_000_000_000
#: On a CT that is in memory, so many segments may be, too, whatever the size of their file.
_USUAL_SEGMENTS = 16

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Painting:
    """What one frame shows: where on the grid (a plane's axes, slice, rectangle), and the pixels, already turned."""

    segment: int
    axes: tuple[int, int, int]
    place: int
    rectangle: tuple[slice, slice]
    pixels: npt.NDArray[Any]

    def view(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the part of a volume on the grid that it covers."""
        turned = volume if self.axes == (0, 1, 2) else volume.transpose(self.axes)
        part: npt.NDArray[Any] = turned[self.place][self.rectangle]
        return part


@dataclass(frozen=True, kw_only=True)
class SegmentationOnGrid:
    """The segments of a SEG on one grid.

    Attributes
    ----------
    segments : tuple of SegmentInfo
        In the order of the first axis of :attr:`array`.
    shape : tuple of int
        (D, H, W).
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    fractional : bool
        Whether values lie between 0 and 1.
    dropped : tuple of int
        Empty frames (from 0) that lay off the grid.
    lost : tuple of int
        Frames (from 0) with voxels set that lay off the grid; only with ``on_off_grid="drop"``.
    """

    segments: tuple[SegmentInfo, ...]
    shape: tuple[int, int, int]
    affine: Affine
    fractional: bool
    dropped: tuple[int, ...] = field(default=())
    lost: tuple[int, ...] = field(default=())
    # frames stay patches until somebody asks for voxels: most of the grid is empty
    paintings: tuple[_Painting, ...] = field(default=(), repr=False)

    @cached_property
    def array(self) -> npt.NDArray[Any]:
        """One mask a segment, shape (S, D, H, W): uint8 0 or 1; of a FRACTIONAL SEG float32 0 to 1."""
        result = np.zeros((len(self.segments), *self.shape), dtype=np.float32 if self.fractional else np.uint8)
        for painting in self.paintings:
            view = painting.view(result[painting.segment])
            np.maximum(view, painting.pixels, out=view)
        return result

    def label_map(self, priority: Sequence[int] | None = None) -> npt.NDArray[np.uint8]:
        """Return segment numbers uint8 (D, H, W), 0 otherwise.

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
        if min(numbers, default=1) < 1:
            raise UsageError("segment number 0 cannot be distinguished from the background of a label map; use .array.")
        if max(numbers, default=0) > 255:
            raise UsageError(f"segment number {max(numbers)} does not fit a label map of bytes; use .array.")
        rank = {number: place for place, number in enumerate(order)}
        result = np.zeros(self.shape, dtype=np.uint8)
        ascending = order == sorted(order)
        for painting in sorted(self.paintings, key=lambda painting: rank[numbers[painting.segment]]):
            shown = (painting.pixels >= 0.5).view(np.uint8) if self.fractional else painting.pixels
            view, number = painting.view(result), np.uint8(numbers[painting.segment])
            if ascending:  # the highest number wins: a maximum, several times faster than a choice
                np.maximum(view, shown * number, out=view)
            else:
                np.copyto(view, number, where=shown.view(np.bool_))
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
        Whose grid to use, as from :func:`~hcc_tace_data.dicom.ct.read_ct`. Default: the grid the frames make.
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
    seg = open_seg(file)
    if like is None:
        affine, shape = _own_grid(seg)
    else:
        own, other = seg.frame_of_reference_uid, like.frame_of_reference_uid
        if own and other and own != str(other):
            raise FrameOfReferenceError(
                f"{seg.path}: the segmentation is in frame of reference {own}, the volume in {other}; "
                "it was not drawn on it."
            )
        affine, (depth, height, width) = np.asarray(like.affine, dtype=np.float64), like.spatial_shape
        shape = int(depth), int(height), int(width)
    width = 4 if seg.kind == "FRACTIONAL" else 1
    refuse_claim(
        seg.path,
        len(seg.segments) * math.prod(shape) * width,
        seg.path.stat().st_size,
        SegmentationError,
        free=SURELY_FINE if like is None else max(SURELY_FINE, _USUAL_SEGMENTS * math.prod(shape) * width),
    )
    return _paint(seg, affine, shape, on_off_grid)


def _own_grid(seg: SegFile) -> tuple[Affine, tuple[int, int, int]]:
    """Return the grid that the frames make: the first one's plane, and even steps along its normal."""
    along_columns = seg.frames.orientations[0, :3] * seg.frames.spacings[0, 1]
    down_rows = seg.frames.orientations[0, 3:] * seg.frames.spacings[0, 0]
    normal = np.cross(along_columns, down_rows)
    normal = normal / np.linalg.norm(normal)
    places = seg.frames.positions @ normal
    order = np.argsort(places, kind="stable")
    apart = np.diff(places[order]) > position_bound(float(seg.frames.spacings[0].min()))
    along = places[order][np.concatenate([[True], apart])]
    step = _slice_step(along, seg.frames.slice_spacing, seg.frames.slice_thickness)
    counts = (along - along[0]) / step
    count = round(float(counts[-1])) + 1
    if np.abs(counts - np.rint(counts)).max() > GRID_TOLERANCE:
        raise SegmentationError(f"{seg.path}: the frames make no even grid; pass the CT volume as `like`.")
    if count * seg.rows * seg.columns > _MAX_VOXELS:
        raise SegmentationError(f"{seg.path}: the frames span {count} slices; refused.")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * step, down_rows, along_columns
    affine[:3, 3] = seg.frames.positions[int(np.argmin(places))]
    return affine, (count, seg.rows, seg.columns)


def _slice_step(along: npt.NDArray[np.float64], stated: float, thickness: float) -> float:
    """Return the distance (mm) of slices: what SpacingBetweenSlices says where the frames agree, else what they show.

    Empty frames are left out by most writers, so frames alone may show two or more times the true distance.
    """
    if len(along) == 1:
        return next((one for one in (stated, thickness) if one > 0), 1.0)
    counts = np.rint((along - along[0]) / stated) if stated > 0 else np.zeros(0)
    if len(counts) and counts[-1] >= 1:
        refined = float((along[-1] - along[0]) / counts[-1])
        if np.abs((along - along[0]) / refined - counts).max() <= GRID_TOLERANCE:
            return refined
    return base_step(along)


def _paint(seg: SegFile, affine: Affine, shape: tuple[int, int, int], on_off_grid: str) -> SegmentationOnGrid:
    """Put every frame's patch where it belongs."""
    places = place_frames(seg.frames, affine, shape, (seg.rows, seg.columns))
    row_of = {segment.number: row for row, segment in enumerate(seg.segments)}
    paintings: list[_Painting] = []
    dropped: list[int] = []
    lost: list[int] = []
    for number, place in enumerate(places):
        patch = seg.pixels.patch(number) if seg.pixels is not None else None
        if patch is None:
            if place is None:
                dropped.append(number)
            continue
        turned = None if place is None else _turn(patch, place, shape, seg.background)
        if place is None or turned is None:
            if on_off_grid == "raise":
                raise SegmentationError(
                    f"{seg.path}: frame {number + 1} at {np.round(seg.frames.positions[number], 3).tolist()} mm does "
                    "not lie on the grid; was it drawn on another series? on_off_grid='drop' leaves such frames out."
                )
            lost.append(number)
            continue
        rectangle, pixels = turned
        for row, shown in _by_segment(seg, int(seg.frames.segments[number]), pixels, row_of):
            paintings.append(_Painting(row, place.axes, place.slice, rectangle, shown))
    if lost:
        logger.info("%s: left out, as off the grid: %s with voxels set", seg.path, count(len(lost), "frame"))
    return SegmentationOnGrid(
        segments=seg.segments,
        shape=shape,
        affine=affine,
        fractional=seg.kind == "FRACTIONAL",
        dropped=tuple(dropped),
        lost=tuple(lost),
        paintings=tuple(paintings),
    )


def _turn(
    patch: Patch, place: Placement, shape: tuple[int, int, int], background: frozenset[int]
) -> tuple[tuple[slice, slice], npt.NDArray[Any]] | None:
    """Return what a patch covers of the grid's plane, and its pixels as the plane runs; None if it leaves it."""
    pixels = patch.pixels
    if place.flips != (False, False):
        pixels = pixels[:: -1 if place.flips[0] else 1, :: -1 if place.flips[1] else 1]
    parts, insides = [], []
    for axis, (begin, length) in enumerate(zip((patch.row, patch.column), patch.pixels.shape, strict=True)):
        start = place.origin[axis] - (begin + length - 1) if place.flips[axis] else place.origin[axis] + begin
        first, last = max(start, 0), min(start + length, shape[place.axes[axis + 1]])
        if first >= last:
            return None
        parts.append(slice(first, last))
        insides.append(slice(first - start, last - start))
    inside = pixels[insides[0], insides[1]]
    if inside.shape != pixels.shape:
        shown = [~np.isin(part, list(background)) if background != {0} else part for part in (inside, pixels)]
        if np.count_nonzero(shown[0]) != np.count_nonzero(shown[1]):
            return None
    return (parts[0], parts[1]), inside


def _by_segment(
    seg: SegFile, number: int, pixels: npt.NDArray[Any], row_of: dict[int, int]
) -> list[tuple[int, npt.NDArray[Any]]]:
    """Return (row of the array, values) of each segment that a frame shows."""
    if seg.kind == "LABELMAP":
        values = set(np.unique(pixels).tolist()) - seg.background
        if not values <= set(row_of):
            raise SegmentationError(
                f"{seg.path}: pixels have the value {min(values - set(row_of))}, which no segment describes."
            )
        return [(row_of[value], (pixels == value).astype(np.uint8)) for value in sorted(values)]
    if seg.kind == "FRACTIONAL":
        if pixels.max() > seg.full:
            raise SegmentationError(
                f"{seg.path}: pixels have the value {pixels.max()}, more than MaximumFractionalValue, {seg.full:g}."
            )
        return [(row_of[number], pixels.astype(np.float32) / np.float32(seg.full))]
    # packed frames hold 0 and 1; of what a decoder made of a compressed file everything but 0 is set
    return [(row_of[number], pixels if isinstance(seg.pixels, PackedFrames) else (pixels != 0).view(np.uint8))]
