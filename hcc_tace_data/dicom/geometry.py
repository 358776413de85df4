"""Where the slices of a series lie: normal, order, spacing, tilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import NotAVolumeError, TiltError

__all__ = ["POSITION_TOLERANCE", "SHEAR_TOLERANCE", "check_shear", "drift", "even_step", "make_affine", "slice_axes"]

#: Two slices closer than this (mm) lie at one position.
POSITION_TOLERANCE = 0.01
#: In-plane drift (mm over the whole series) above which slices are sheared.
SHEAR_TOLERANCE = 0.1

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
    if np.abs(orientation - orientation[0]).max() > 1e-4:
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


def check_shear(position: Array, normal: Array) -> None:
    """Refuse slices whose corners drift sideways.

    Raises
    ------
    TiltError
        They drift evenly, as under a tilted gantry.
    NotAVolumeError
        They jump: different fields of view.
    """
    off = drift(position, normal)
    if np.linalg.norm(off, axis=1).max() <= SHEAR_TOLERANCE:
        return
    along = (position - position[0]) @ normal
    slope = (along @ off) / (along @ along)
    if np.abs(off - np.outer(along, slope)).max() > SHEAR_TOLERANCE:
        raise NotAVolumeError("The slices' corners jump sideways: different fields of view are mixed.", positions=along)
    angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    raise TiltError(
        f"The gantry was tilted by {angle:.2f} degrees: the slices are sheared. on_tilt='resample' straightens them.",
        positions=position @ normal,
    )


def even_step(along: Array) -> float | None:
    """Return the spacing (mm) of sorted positions, or None where it is uneven."""
    if len(along) < 2:
        return None
    mean = float((along[-1] - along[0]) / (len(along) - 1))
    regular = along[0] + mean * np.arange(len(along))
    return mean if np.abs(along - regular).max() <= max(0.02 * mean, POSITION_TOLERANCE) else None


def make_affine(origin: Array, axes: tuple[Array, Array, Array], spacing: tuple[float, float, float]) -> Array:
    """Return the (4, 4) affine index (d, h, w) -> LPS mm; `axes` and `spacing` in that order."""
    affine = np.eye(4)
    for column, (axis, step) in enumerate(zip(axes, spacing, strict=True)):
        affine[:3, column] = axis * step
    affine[:3, 3] = origin
    return affine
