"""Where the slices of a series lie: normal, order, spacing, tilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.tolerance import (
    SHARE,
    base_step,
    cluster_rows,
    direction_bound,
    even_step,
    position_bound,
    spacing_bound,
)
from hcc_tace_data.errors import GapError, NotAVolumeError, TiltError

__all__ = [
    "SHEAR_TOLERANCE", "base_step", "check_shear", "drift", "even_step", "filled_places", "make_affine",
    "pixel_spacing", "place_bound", "size_groups", "slice_axes",
]  # fmt: skip

#: In-plane drift (mm over the whole series) above which slices are sheared, where the pixel size is not known.
SHEAR_TOLERANCE = 0.1
#: Filling gaps may multiply the number of slices by this.
_MAX_FILL = 8
#: Pixels along a side, where the size is not known.
_SIDE = 512

Array = npt.NDArray[np.float64]


def slice_axes(rows: Sequence[dict[str, Any]]) -> tuple[Array, Array, Array, Array]:
    """Return row direction, column direction, unit normal (3,) and positions (N, 3) in LPS mm.

    Raises
    ------
    NotAVolumeError
        No or impossible orientation or position, or several orientations.
    """
    orientation = np.array([[row[f"orientation_{i}"] for i in range(6)] for row in rows], dtype=np.float64)
    position = np.array([[row[f"position_{axis}"] for axis in "xyz"] for row in rows], dtype=np.float64)
    if not (np.isfinite(orientation).all() and np.isfinite(position).all()):
        raise NotAVolumeError("A slice has no ImagePositionPatient or ImageOrientationPatient; leave it out.")
    along, down = orientation[0, :3], orientation[0, 3:]
    lengths = np.array([np.linalg.norm(along), np.linalg.norm(down)])
    if np.abs(lengths - 1).max() > 1e-3 or abs(along @ down) > 1e-3:
        raise NotAVolumeError("ImageOrientationPatient is not a pair of perpendicular unit vectors.")
    normal = np.cross(along, down)
    normal /= np.linalg.norm(normal)
    if np.abs(orientation - orientation[0]).max() > direction_bound(_longer_side(rows[0])):
        raise NotAVolumeError(
            "The slices have several orientations (a scout or a reformat among them); read each orientation alone.",
            positions=position @ normal,
        )
    along = along / lengths[0]
    return along, np.cross(normal, along), normal, position


def drift(position: Array, normal: Array) -> Array:
    """Return how far each slice's corner (N, 3) lies off the normal through the first slice's corner, in mm."""
    offset = position - position[0]
    shifted: Array = offset - np.outer(offset @ normal, normal)
    return shifted


def check_shear(position: Array, normal: Array, bound: float = SHEAR_TOLERANCE) -> None:
    """Refuse slices whose corners drift sideways.

    Parameters
    ----------
    position : ndarray, shape (N, 3)
        Corners, mm.
    normal : ndarray, shape (3,)
    bound : float
        mm. How far corners may drift from the first slice to the last, and scatter about that drift;
        twice :func:`place_bound` where the pixel size is known.

    Raises
    ------
    TiltError
        They drift evenly, as under a tilted gantry.
    NotAVolumeError
        They jump: different fields of view.
    """
    off = drift(position, normal)
    if np.linalg.norm(off, axis=1).max() <= bound:
        return
    along = (position - position[0]) @ normal
    centred = along - along.mean()
    spread = float(centred @ centred)
    slope = (centred @ off) / spread if spread > 0 else np.zeros(3)
    scatter = off - off.mean(axis=0) - np.outer(centred, slope)
    if np.linalg.norm(scatter, axis=1).max() > bound:
        raise NotAVolumeError("The slices' corners jump sideways: different fields of view are mixed.", positions=along)
    if float(np.linalg.norm(slope)) * float(np.ptp(along)) <= bound:
        return
    angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    raise TiltError(
        f"The gantry was tilted by {angle:.2f} degrees: the slices are sheared. on_tilt='resample' straightens them.",
        positions=position @ normal,
    )


def _longer_side(row: dict[str, Any]) -> int:
    sides = [int(row[name]) for name in ("rows", "columns") if isinstance(row.get(name), (int, float, np.number))]
    return max(sides, default=_SIDE)


def place_bound(rows: Sequence[dict[str, Any]]) -> float:
    """Return how close (mm) two positions of these slices are that are the same."""
    return position_bound(min(pixel_spacing(rows)))


def pixel_spacing(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the distance (mm) of rows and of columns that most of these slices have."""
    pairs = {(row["spacing_row"], row["spacing_column"]) for row in rows}
    if len(pairs) == 1:  # nearly always; a median costs more than all the rest here
        ((between_rows, between_columns),) = pairs
        return float(between_rows), float(between_columns)
    return (
        float(np.median([row["spacing_row"] for row in rows])),
        float(np.median([row["spacing_column"] for row in rows])),
    )


def size_groups(rows: Sequence[dict[str, Any]]) -> npt.NDArray[np.int64]:
    """Number groups of slices of one size: equal rows and columns, and the same pixel spacing.

    Parameters
    ----------
    rows : sequence of dict
        With `rows`, `columns` (int or None), `spacing_row` and `spacing_column` (mm or NaN).

    Returns
    -------
    ndarray of int64, shape (N,)
        0, 1 ...
    """
    names = ("rows", "columns", "spacing_row", "spacing_column")
    if len({tuple(row[name] for name in names) for row in rows}) <= 1:
        return np.zeros(len(rows), dtype=np.int64)
    columns = [[np.nan if row[name] is None else float(row[name]) for row in rows] for name in names]
    bounds = [0.0, 0.0]
    for sizes, spacings in zip(columns[:2], columns[2:], strict=True):
        known = [one for one in spacings if one > 0]
        largest = max((one for one in sizes if one == one), default=1.0)
        bounds.append(spacing_bound(min(known), int(largest)) if known else 0.0)
    return cluster_rows(columns, bounds)


def filled_places(along: Array, step: float) -> Array:
    """Return even places (mm), `step` apart, from the first of the sorted positions `along` to the last.

    Raises
    ------
    GapError
        Far more places than slices: they are not one volume.
    """
    count = (along[-1] - along[0]) / step
    if not count < _MAX_FILL * len(along):
        raise GapError(
            f"Filling would make {round(count):,} slices of {len(along)}; they are not one volume.", positions=along
        )
    return np.asarray(along[0] + step * np.arange(int(count + SHARE) + 1))


def make_affine(origin: Array, axes: tuple[Array, Array, Array], spacing: tuple[float, float, float]) -> Array:
    """Return the (4, 4) affine index (d, h, w) -> LPS mm; `axes` and `spacing` in that order."""
    affine = np.eye(4)
    for column, (axis, step) in enumerate(zip(axes, spacing, strict=True)):
        affine[:3, column] = axis * step
    affine[:3, 3] = origin
    return affine
