"""When two numbers of a header are the same number: bounds that follow from the size of a voxel.

Scanners and archives write decimals with different numbers of digits: 0.7421875 and 0.742188, -100.5 and -100.500001.
Comparing such numbers with ``==``, or rounding them into bins, splits what belongs together as soon as two of them fall
on different sides of a boundary. Here two numbers are the same if taking one for the other moves no voxel of the image
by more than :data:`SHARE` of a voxel.

- Two pixel spacings, or two direction cosines, are compared over the whole image: an error of one step adds up to the
  far edge (:func:`spacing_bound`, :func:`same_spacing`, :func:`direction_bound`).
- Two positions are compared directly (:func:`position_bound`).
- Many numbers are grouped where neighbours in sorted order are within the bound (:func:`cluster`,
  :func:`cluster_rows`).
- The spacing of slices follows from the ends of the stack (:func:`even_step`, :func:`base_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "SHARE", "base_step", "cluster", "cluster_rows", "direction_bound", "even_step", "position_bound", "same_spacing",
    "spacing_bound",
]  # fmt: skip

#: The part of a voxel by which a voxel may be misplaced. Positions in the collection differ in the second decimal
#: (0.02 mm, some hundredths of a pixel); another acquisition differs by whole pixels.
SHARE = 0.1

Floats = npt.NDArray[np.float64]


def spacing_bound(spacing: float, count: int) -> float:
    """Return by how much two spacings of `count` voxels may differ and still be the same.

    Parameters
    ----------
    spacing : float
        One of the two, mm.
    count : int
        Voxels along the axis.

    Returns
    -------
    float
        mm. The error adds up to :data:`SHARE` of a voxel at the far end.

    Examples
    --------
    >>> abs(0.7421875 - 0.742188) < spacing_bound(0.742188, 512) < abs(0.742 - 0.744)
    True
    """
    return SHARE * abs(spacing) / max(int(count) - 1, 1)


def same_spacing(one: float, other: float, count: int) -> bool:
    """Return whether two spacings of `count` voxels are the same; two that are not numbers are, too.

    Parameters
    ----------
    one, other : float
        mm.
    count : int
        Voxels along the axis.
    """
    if one != one or other != other:
        return one != one and other != other
    return abs(one - other) <= spacing_bound(min(abs(one), abs(other)), count)


def direction_bound(count: int) -> float:
    """Return by how much two direction cosines may differ for an image of `count` pixels along its longer side."""
    return SHARE / max(int(count) - 1, 1)


def position_bound(spacing: float) -> float:
    """Return how close two positions (mm) are that are the same, for pixels of `spacing` mm.

    Also the distance up to which two slices are at one place: CT slices are never that thin.
    """
    return SHARE * abs(spacing)


def cluster(values: Any, bound: float) -> npt.NDArray[np.int64]:
    """Number groups of equal values.

    Sorted neighbours no farther apart than `bound` share a group, so a group has no boundary that jitter could cross.

    Parameters
    ----------
    values : array-like, shape (N,)
        NaN is a group of its own.
    bound : float
        In the unit of `values`.

    Returns
    -------
    ndarray of int64, shape (N,)
        0, 1 ... by ascending value; -1 for NaN.

    Examples
    --------
    >>> cluster([-100.5, 3.0, -100.500001], 0.07).tolist()
    [0, 1, 0]
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    result = np.full(len(array), -1, dtype=np.int64)
    known = np.flatnonzero(~np.isnan(array))
    if len(known):
        order = known[np.argsort(array[known], kind="stable")]
        with np.errstate(invalid="ignore"):  # inf - inf
            result[order] = np.concatenate([[0], np.cumsum(np.diff(array[order]) > bound)])
    return result


def cluster_rows(columns: Sequence[Any], bounds: Sequence[float]) -> npt.NDArray[np.int64]:
    """Number groups of rows that are equal in every column, each within its own bound.

    Parameters
    ----------
    columns : sequence of array-like, each of shape (N,)
    bounds : sequence of float
        One per column; 0 for numbers that must be equal, such as Rows.

    Returns
    -------
    ndarray of int64, shape (N,)
        0, 1 ...
    """
    numbers = np.column_stack([cluster(values, bound) for values, bound in zip(columns, bounds, strict=True)])
    _, groups = np.unique(numbers, axis=0, return_inverse=True)
    return np.asarray(groups, dtype=np.int64).reshape(-1)


def even_step(along: Any) -> float | None:
    """Return the spacing (mm) of a stack of slices, or None where it is uneven.

    The spacing is the distance of the ends over the number of steps: single steps carry the rounding of two positions
    (1.2 and 1.3 mm in turn are 1.25 mm).

    Parameters
    ----------
    along : array-like, shape (N,)
        Positions along the normal, ascending, mm.

    Returns
    -------
    float or None
        None if some slice is more than :data:`SHARE` of the spacing from its place, or there are fewer than two.

    Examples
    --------
    >>> even_step([0, 1.2, 2.5, 3.8, 5.0]), even_step([0, 2.5, 7.5, 10])
    (1.25, None)
    """
    places = np.asarray(along, dtype=np.float64)
    if len(places) < 2:
        return None
    mean = float((places[-1] - places[0]) / (len(places) - 1))
    off = np.abs(places - (places[0] + mean * np.arange(len(places)))).max()
    # NaN fails the comparison
    return mean if mean > 0 and off <= SHARE * mean else None


def base_step(along: Any) -> float:
    """Return the spacing (mm) of the grid on which the slices of a stack with gaps lie.

    It is the smallest step of which all others are multiples, taken from the ends. If no step divides the
    others, the slices lie on several grids, as two regions do that were scanned one after the other; it is then the
    step that most of them have. For an even stack this is :func:`even_step`.

    Parameters
    ----------
    along : array-like, shape (N,)
        Positions along the normal, ascending and distinct, mm; N > 1.

    Examples
    --------
    >>> base_step([0, 2.5, 7.5, 10]), base_step([0, 1.2, 2.5, 3.8, 6.3]), base_step([0, 2.5, 5, 6.75, 9.25, 11.75])
    (2.5, 1.26, 2.5)
    """
    places = np.asarray(along, dtype=np.float64)
    even = even_step(places)
    if even is not None:
        return even
    steps = np.diff(places)
    ascending = np.sort(steps)
    alike = []
    first = 0
    for place, one in enumerate(ascending):  # a step is off by the rounding of its two ends
        if one > ascending[first] * (1 + 2 * SHARE):
            alike.append(ascending[first:place])
            first = place
    alike.append(ascending[first:])
    step = float(alike[0].mean())
    counts = np.rint(steps / step)
    if counts.min() >= 1 and (np.abs(steps - counts * step) <= 2 * SHARE * step).all():
        return float((places[-1] - places[0]) / counts.sum())
    return float(max(alike, key=len).mean())
