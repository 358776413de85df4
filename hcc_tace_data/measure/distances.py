"""Distances from each lesion to the surface of the liver and to its vessels.

The voxels of two structures that are nearest to each other are the outermost ones of both, so only those are looked
at: a transform of distances of a whole abdomen takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

__all__ = ["distances_to", "distances_to_surface"]

# One in so many of a lesion's voxels is looked at first.
_EVERY = 64

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def distances_to(lesions: npt.NDArray[Any], other: Mask, spacing: Sequence[float] | Floats) -> Floats:
    """Return the shortest distance between the centres of a voxel of each lesion and one of another structure, in mm.

    Parameters
    ----------
    lesions : ndarray of int or bool, shape (D, H, W)
        Number of each voxel's lesion, 0 outside; a mask is one lesion.
    other : ndarray of bool, shape (D, H, W)
    spacing : sequence of float
        mm along (D, H, W).

    Returns
    -------
    ndarray of float64, shape (N,)
        Of the lesions 1 to N; 0 where they overlap, NaN where one of the two is empty.
    """
    found = _shortest(lesions, _rim(other), spacing)
    found[np.unique(lesions[other & (lesions > 0)]).astype(int) - 1] = 0
    return found


def distances_to_surface(lesions: npt.NDArray[Any], liver: Mask, spacing: Sequence[float] | Floats) -> Floats:
    """Return how deep under the surface of the liver each lesion is, in mm.

    Parameters
    ----------
    lesions : ndarray of int or bool, shape (D, H, W)
        As for :func:`distances_to`.
    liver : ndarray of bool, shape (D, H, W)
        The whole liver, the vessels within it included; lesions count as part of it.
    spacing : sequence of float
        mm along (D, H, W).

    Returns
    -------
    ndarray of float64, shape (N,)
        From the centre of the lesion's outermost voxel to the nearest voxel outside the liver, less half a voxel's
        shortest side; about 0 for a lesion at the surface. NaN where there is no liver.
    """
    if not liver.any():
        return np.full(int(lesions.max(initial=0)), np.nan)
    nearest = _shortest(lesions, _rim(liver | (lesions > 0), outside=True), spacing)
    return np.asarray(np.maximum(0.0, nearest - min(float(step) for step in spacing) / 2))


def _rim(numbers: npt.NDArray[Any], *, outside: bool = False) -> npt.NDArray[np.int64]:
    """Return the places of voxels beside one of another number: of those that are not 0, or of those `outside`."""
    boxes = ndimage.find_objects((numbers > 0).astype(np.uint8))
    if not boxes:
        return np.empty((0, numbers.ndim), dtype=np.int64)
    near = np.pad(numbers[boxes[0]], 1)
    at_rim = np.zeros(near.shape, dtype=bool)
    for axis in range(near.ndim):
        this, all_of = np.moveaxis(at_rim, axis, 0), np.moveaxis(near, axis, 0)
        differs = all_of[1:] != all_of[:-1]
        this[1:] |= differs
        this[:-1] |= differs
    return np.asarray(np.argwhere(at_rim & ((near == 0) == outside)) + [part.start - 1 for part in boxes[0]])


def _shortest(lesions: npt.NDArray[Any], others: npt.NDArray[np.int64], spacing: Sequence[float] | Floats) -> Floats:
    """Return how near each lesion comes to one of some places, mm; NaN where there is nothing."""
    found = np.full(int(lesions.max(initial=0)), np.nan)
    own = _rim(lesions)
    if not len(others):
        return found
    steps, numbers = np.asarray(spacing, dtype=np.float64), lesions[tuple(own.T)].astype(int)
    tree = KDTree(others * steps)
    for number in np.unique(numbers):
        places = own[numbers == number]
        reached, _ = tree.query(places[::_EVERY] * steps)
        # the others need not look farther than these came
        _, nearest = tree.query(places * steps, distance_upper_bound=reached.min() * (1 + 1e-9) + 1e-9)
        near = nearest < len(others)
        away = (places[near] - others[nearest[near]]) * steps
        found[number - 1] = np.sqrt((away**2).sum(axis=1)).min()
    return found
