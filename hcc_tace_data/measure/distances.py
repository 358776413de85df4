"""Distances from a lesion to the surface of the liver and to its vessels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["distance_to", "distance_to_surface"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def distance_to(lesion: Mask, other: Mask, spacing: Sequence[float] | Floats) -> float:
    """Return the shortest distance between the centres of a voxel of the lesion and one of another structure, in mm.

    0 where they overlap; NaN where one of them is empty.
    """
    if not lesion.any() or not other.any():
        return float("nan")
    box = _around(lesion | other)
    away = ndimage.distance_transform_edt(~other[box], sampling=spacing)
    return float(away[lesion[box]].min())


def distance_to_surface(lesion: Mask, liver: Mask, spacing: Sequence[float] | Floats) -> float:
    """Return how deep under the surface of the liver a lesion is, in mm.

    Parameters
    ----------
    lesion : ndarray of bool, shape (D, H, W)
    liver : ndarray of bool, shape (D, H, W)
        The whole liver, lesions and the vessels within it included.
    spacing : sequence of float
        mm along (D, H, W).

    Returns
    -------
    float
        From the centre of the lesion's outermost voxel to the nearest voxel outside the liver, less half a voxel's
        shortest side; about 0 for a lesion at the surface. NaN where one of the masks is empty.
    """
    if not lesion.any() or not liver.any():
        return float("nan")
    box = _around(liver | lesion)
    inside = np.pad((liver | lesion)[box], 1)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing)
    nearest = float(depth[np.pad(lesion[box], 1)].min())
    return max(0.0, nearest - min(float(step) for step in spacing) / 2)


def _around(mask: Mask) -> tuple[slice, ...]:
    found: tuple[slice, ...] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return found
