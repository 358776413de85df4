"""Diameters of a mask in mm, measured between points of its outline.

The outline runs half-way between a voxel of the mask and its neighbour outside, as the surface of marching cubes
does: a single voxel of 1 mm is 1 mm long along its axes. Diameters are exact for this outline; no angle is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

__all__ = ["AxialDiameters", "axial_diameters", "longest_3d", "outline_points"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxialDiameters:
    """The longest axial diameter of a mask and the diameter perpendicular to it.

    Attributes
    ----------
    slice : int
        Index of the slice that has the longest diameter; -1 for an empty mask.
    longest_mm : float
        RECIST's diameter; 0 for an empty mask.
    perpendicular_mm : float
        Longest extent at right angles to it, in the same slice (WHO's second diameter).
    ends_mm : ndarray of float64, shape (2, 2)
        Ends of the longest diameter in the slice, (row, column) in mm from the centre of the first voxel.
    """

    slice: int
    longest_mm: float
    perpendicular_mm: float
    ends_mm: Points


def outline_points(mask: Mask, spacing: Sequence[float] | Floats) -> Points:
    """Return the points half-way between neighbouring voxels inside and outside a mask.

    Parameters
    ----------
    mask : ndarray of bool, N axes
    spacing : sequence of float
        mm along each axis.

    Returns
    -------
    ndarray of float64, shape (P, N)
        mm from the centre of the first voxel.
    """
    padded = np.pad(mask, 1)
    found = []
    for axis in range(mask.ndim):
        # voxel i and i + 1 differ: the outline crosses between them
        low = np.moveaxis(padded, axis, 0)
        places = np.argwhere(low[1:] != low[:-1]).astype(np.float64)
        places[:, 0] += 0.5
        order = [axis, *(other for other in range(mask.ndim) if other != axis)]
        points = np.empty_like(places)
        points[:, order] = places
        found.append(points)
    return (np.concatenate(found) - 1) * np.asarray(spacing, dtype=np.float64)


def axial_diameters(mask: Mask, spacing: Sequence[float] | Floats) -> AxialDiameters:
    """Measure a mask in the axial slice where it is longest.

    Parameters
    ----------
    mask : ndarray of bool, shape (D, H, W)
        One lesion, or several: parts are not separated.
    spacing : sequence of float
        mm along (D, H, W); only the last two count.
    """
    best = AxialDiameters(slice=-1, longest_mm=0.0, perpendicular_mm=0.0, ends_mm=np.zeros((2, 2)))
    plane = (float(spacing[1]), float(spacing[2]))
    for number in np.flatnonzero(mask.any(axis=(1, 2))):
        outline = outline_points(mask[number], plane)
        first, second, length = _farthest(outline)
        if length > best.longest_mm:
            ends = np.stack([first, second])
            best = AxialDiameters(slice=int(number), longest_mm=length, perpendicular_mm=0.0, ends_mm=ends)
    if best.slice < 0:
        return best
    wide = _across(mask[best.slice], plane, best.ends_mm[1] - best.ends_mm[0])
    return AxialDiameters(
        slice=best.slice, longest_mm=best.longest_mm, perpendicular_mm=wide, ends_mm=best.ends_mm
    )  # fmt: skip


def longest_3d(mask: Mask, spacing: Sequence[float] | Floats) -> float:
    """Return the longest distance between two points of a mask's surface, in mm; 0 for an empty mask."""
    outline = outline_points(mask, spacing)
    return _farthest(outline)[2] if len(outline) else 0.0


def _corners(points: Points) -> Points:
    """Return the points of the convex hull, among which the farthest two are; all points where they are flat."""
    if len(points) <= points.shape[1] + 1:
        return points
    try:
        return np.asarray(points[ConvexHull(points).vertices], dtype=np.float64)
    except QhullError:
        return points


def _farthest(points: Points) -> tuple[Points, Points, float]:
    corners = _corners(points)
    apart = cdist(corners, corners)
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    return corners[first], corners[second], float(apart[first, second])


def _across(mask: npt.NDArray[np.bool_], plane: tuple[float, float], along: Points) -> float:
    """Return the longest extent of a slice's hull at right angles to `along`.

    The extent of a convex outline across an axis changes linearly between its corners, so it is longest at one of them.
    """
    corners = _corners(outline_points(mask, plane))
    length = float(np.hypot(*along))
    if length == 0 or len(corners) < 3:
        return 0.0
    axis = along / length
    u = corners @ axis
    v = corners @ np.array([-axis[1], axis[0]])
    follows = np.roll(np.arange(len(corners)), -1)
    longest = 0.0
    for place in u:
        low, high = np.inf, -np.inf
        for here, there in zip(range(len(corners)), follows, strict=True):
            ends = sorted((u[here], u[there]))
            if not ends[0] - 1e-9 <= place <= ends[1] + 1e-9:
                continue
            if ends[1] - ends[0] < 1e-9:
                crossings = (v[here], v[there])
            else:
                share = (place - u[here]) / (u[there] - u[here])
                crossings = (v[here] + share * (v[there] - v[here]),) * 2
            low, high = min(low, *crossings), max(high, *crossings)
        longest = max(longest, float(high - low))
    return longest
