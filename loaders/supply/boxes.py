"""Copying boxes out of volumes: patches, and slices cut or padded to another size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.loaders.supply.copies import Copy, copy_all, fill

__all__ = ["OUTSIDE_HU", "Box", "Cropped", "bounds", "box_copies", "cut", "middle_corner", "place_box"]

#: What lies outside the volume, HU: air.
OUTSIDE_HU = -1024

#: Bounds (first, one after the last) along each axis; None where there is nothing.
Box = tuple[tuple[int, int], ...] | None

Array = npt.NDArray[Any]


def middle_corner(extent: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Return where a box of `size` begins that lies in the middle of an array of `extent`; negative if it is larger.

    Examples
    --------
    >>> middle_corner((10, 4), (6, 8))
    (2, -2)
    """
    return tuple((full - part) // 2 for full, part in zip(extent, size, strict=True))


def box_copies(
    array: Array | None, corner: Sequence[int], out: Array, outside: int, *, extent: Sequence[int] | None = None
) -> list[Copy]:
    """Return the copies that fill `out` with the box of its size that begins at `corner` of the last axes of `array`.

    Leading axes, which `corner` does not name, are taken whole. Voxels outside `array` get the value `outside`.

    Parameters
    ----------
    array : ndarray or None
        What to copy from; None for an array of ones, of which `extent` gives the last axes.
    corner : sequence of int
        First voxel; may be negative.
    out : ndarray
        Is filled.
    outside : int
        Value of voxels outside `array`.
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
    copies: list[Copy] = []
    if not whole:
        copies.append(fill(out, outside))
        out = out[(Ellipsis, *into)]
    if array is None:
        copies.append(fill(out, 1))
    elif out.size:
        copies.append((out, array[(Ellipsis, *inside)]))
    return copies


def place_box(
    array: Array | None, corner: Sequence[int], out: Array, outside: int, *, extent: Sequence[int] | None = None
) -> None:
    """Fill `out` at once; see :func:`box_copies`."""
    copy_all(box_copies(array, corner, out, outside, extent=extent))


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


def bounds(mask: npt.NDArray[Any]) -> Box:
    """Return (first, one after the last) along each axis of what is not 0, or None for an empty mask."""
    rows = np.flatnonzero(np.asarray(mask.any(axis=(1, 2))))
    if not len(rows):
        return None
    first, last = int(rows[0]), int(rows[-1]) + 1
    flat = np.asarray(mask[first:last].any(axis=0))
    down, across = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return (first, last), (int(down[0]), int(down[-1]) + 1), (int(across[0]), int(across[-1]) + 1)


@dataclass(frozen=True, slots=True)
class Cropped:
    """A label map of which only a box is kept, because it is 0 outside.

    Attributes
    ----------
    shape : tuple of int
        Of the whole.
    corner : tuple of int
        First voxel of the box.
    array : ndarray of uint8
        The box.
    """

    shape: tuple[int, ...]
    corner: tuple[int, ...]
    array: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, label: npt.NDArray[np.uint8], box: Box) -> Cropped:
        """Return a view of what lies in `box`, the bounds of `label` or more."""
        box = box or ((0, 0),) * label.ndim
        return cls(label.shape, tuple(first for first, _ in box), label[tuple(slice(*ends) for ends in box)])

    def copy(self) -> Cropped:
        """Return one that does not hold on to the whole label map."""
        return replace(self, array=self.array.copy())

    def box_copies(self, corner: Sequence[int], out: npt.NDArray[np.uint8]) -> list[Copy]:
        """Return the copies that fill `out` with the box of its size that begins at voxel `corner` of the whole."""
        inside = [c - first for c, first in zip(corner, self.corner, strict=True)]
        return box_copies(self.array, inside, out, 0)

    def slice_copies(self, d: int, out: npt.NDArray[np.uint8]) -> list[Copy]:
        """Return the copies of what is labelled on slice `d` into `out`, a whole slice that is 0 by then."""
        row = d - self.corner[0]
        if not 0 <= row < len(self.array):
            return []
        _, h, w = self.corner
        _, height, width = self.array.shape
        return [(out[h : h + height, w : w + width], self.array[row])]

    def place(self, corner: Sequence[int], out: npt.NDArray[np.uint8]) -> None:
        """Copy the box that begins at voxel `corner` of the whole, as large as `out`, into `out`."""
        copy_all(self.box_copies(corner, out))

    def plane(self, d: int) -> npt.NDArray[np.uint8]:
        """Return slice `d`, whole."""
        result = np.zeros(self.shape[1:], dtype=np.uint8)
        copy_all(self.slice_copies(d, result))
        return result
