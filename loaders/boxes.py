"""Copying boxes out of volumes: patches, and slices cut or padded to another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["OUTSIDE_HU", "cut", "middle_corner", "place_box"]

#: What lies outside the volume, HU: air.
OUTSIDE_HU = -1024

Array = npt.NDArray[Any]

# Bytes of a box that are moved before they are converted: less than a cache of today holds, and a whole patch of 96^3,
# since threads that come back to the interpreter often wait for each other there.
_CACHED = 1_800_000


def middle_corner(extent: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Return where a box of `size` begins that lies in the middle of an array of `extent`; negative if it is larger.

    Examples
    --------
    >>> middle_corner((10, 4), (6, 8))
    (2, -2)
    """
    return tuple((full - part) // 2 for full, part in zip(extent, size, strict=True))


def place_box(
    array: Array | None,
    corner: Sequence[int],
    out: Array,
    outside: int,
    *,
    extent: Sequence[int] | None = None,
) -> None:
    """Copy the box that begins at `corner`, as large as `out`, out of the last axes of `array` into `out`.

    Leading axes, which `corner` does not name, are taken whole. Voxels outside `array` get the value `outside`. It
    converts as it copies.

    Parameters
    ----------
    array : ndarray or None
        What to copy from; None for an array of ones, of which `extent` gives the last axes.
    corner : sequence of int
        First voxel; may be negative.
    out : ndarray
        Is filled.
    outside : int
        Value of what lies outside.
    extent : sequence of int, optional
        Size of the last axes if `array` is None.
    """
    axes = len(corner)
    inside: list[Any] = []
    into: list[Any] = []
    whole = True
    full = array.shape[-axes:] if array is not None else extent or ()
    for start, length, size in zip(corner, out.shape[-axes:], full, strict=True):
        first, last = max(start, 0), min(start + length, size)
        inside.append(slice(first, max(first, last)))
        into.append(slice(first - start, max(first, last) - start))
        whole = whole and last - first == length
    if not whole:
        out[...] = outside
        out = out[(Ellipsis, *into)]
    if array is None:
        out[...] = 1
    elif out.size:
        _copy(array[(Ellipsis, *inside)], out)


def _copy(box: Array, out: Array) -> None:
    """Copy and convert. Short rows that lie apart are moved whole, not value by value: that halves the time."""
    if box.flags.c_contiguous or not (_has_rows(box) and _has_rows(out)):
        np.copyto(out, box)
    elif box.dtype == out.dtype:
        np.copyto(_rows(out), _rows(box))
    elif box.ndim > 3:
        for part, target in zip(box, out, strict=True):
            _copy(part, target)
    else:
        # rows on their way to another type wait where the processor's cache holds them
        step = max(1, _CACHED // (math.prod(box.shape[1:]) * box.itemsize))
        packed = np.empty((min(step, len(box)), *box.shape[1:]), dtype=box.dtype)
        for first in range(0, len(box), step):
            source = box[first : first + step]
            np.copyto(_rows(packed[: len(source)]), _rows(source))
            np.copyto(out[first : first + step], packed[: len(source)])


def _has_rows(array: Array) -> bool:
    return array.ndim > 1 and array.strides[-1] == array.itemsize


def _rows(array: Array) -> Array:
    """Return `array` with each row along its last axis as one value without a type."""
    return array.view(f"V{array.shape[-1] * array.itemsize}")[..., 0]


def cut(
    array: npt.NDArray[np.generic], corner: Sequence[int], size: Sequence[int], *, outside: int
) -> npt.NDArray[np.generic]:
    """Copy a patch out of the last three axes of `array`; voxels outside it get the value `outside`.

    Examples
    --------
    >>> cut(np.arange(8).reshape(2, 2, 2), (1, 0, 0), (2, 1, 1), outside=-1).ravel().tolist()
    [4, -1]
    """
    patch = np.empty((*array.shape[: array.ndim - 3], *size), dtype=array.dtype)
    place_box(array, corner, patch, outside)
    return patch
