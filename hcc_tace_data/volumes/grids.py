"""Masks from one grid onto another: exactly where the grids agree, else through a transform, never by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Alignment", "align", "move_mask", "same_grid", "through"]

# Voxel centres of two grids that agree are no farther apart than this share of a voxel.
_TOLERANCE = 0.1

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a grid's axes run along another's: for each axis of the target, the source's axis, direction and start."""

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    start: tuple[int, int, int]
    source: tuple[int, int, int]
    target: tuple[int, int, int]

    def overlap(self) -> float:
        """Return the share of the target grid that the source covers."""
        share = 1.0
        for axis, (first, last) in enumerate(self._ranges()):
            share *= max(0, last - first) / self.target[axis]
        return share

    def _ranges(self) -> list[tuple[int, int]]:
        """Return the first and last index (exclusive) of the target that lies in the source, axis by axis."""
        ranges = []
        for axis in range(3):
            length, start = self.source[self.axes[axis]], self.start[axis]
            first, last = (-start, length - start) if self.signs[axis] > 0 else (start - length + 1, start + 1)
            ranges.append((max(first, 0), min(last, self.target[axis])))
        return ranges


def align(affine: Affine, shape: tuple[int, int, int], onto: Affine, target: tuple[int, int, int]) -> Alignment | None:
    """Return how a grid lies on another whose voxel centres it shares, however its axes run; None if they differ.

    Parameters
    ----------
    affine, onto : ndarray, shape (4, 4)
        Index -> LPS mm of the source and of the target.
    shape, target : tuple of int
        Their shapes.
    """
    steps = np.linalg.inv(affine) @ onto  # index of the target -> index of the source
    axes, signs = [], []
    for axis in range(3):
        column = steps[:3, axis]
        main = int(np.abs(column).argmax())
        unit = np.zeros(3)
        unit[main] = np.sign(column[main])
        # the error that counts is the one at the far end
        if np.abs(column - unit).max() * max(1, target[axis] - 1) > _TOLERANCE:
            return None
        axes.append(main)
        signs.append(int(unit[main]))
    start = steps[:3, 3]
    if len(set(axes)) != 3 or np.abs(start - np.rint(start)).max() > _TOLERANCE:
        return None
    begin = [round(float(start[axis])) for axis in axes]
    return Alignment(
        (axes[0], axes[1], axes[2]), (signs[0], signs[1], signs[2]), (begin[0], begin[1], begin[2]), shape, target
    )


def same_grid(affine: Affine, other: Affine, shape: tuple[int, ...]) -> bool:
    """Return whether two grids of one shape have each voxel at the same place, to a tenth of a voxel.

    Parameters
    ----------
    affine, other : ndarray, shape (4, 4)
        Index -> mm.
    shape : tuple of int
        (D, H, W).
    """
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)], dtype=np.float64).T
    corners[:3] *= np.array(shape, dtype=np.float64)[:, None] - 1
    apart = np.linalg.norm(((affine - other) @ corners)[:3], axis=0).max()
    return bool(apart <= _TOLERANCE * np.linalg.norm(affine[:3, :3], axis=0).min())


def move_mask(mask: npt.NDArray[Any], how: Alignment) -> tuple[npt.NDArray[Any], int]:
    """Return a mask on the target's grid, voxel by voxel, and how many slices with voxels set lie outside it."""
    turned = mask.transpose(how.axes)
    result = np.zeros(how.target, dtype=mask.dtype)
    inside, into = [], []
    for axis, (first, last) in enumerate(how._ranges()):
        if last <= first:
            return result, int(np.count_nonzero(turned.any(axis=(1, 2))))
        into.append(slice(first, last))
        at = how.start[axis] + how.signs[axis] * first
        end = how.start[axis] + how.signs[axis] * last
        inside.append(slice(at, end if end >= 0 else None, how.signs[axis]))
    part = turned[tuple(inside)]
    result[tuple(into)] = part
    lost = 0
    if np.count_nonzero(part) != np.count_nonzero(mask):
        rest = turned.copy()
        rest[tuple(inside)] = 0
        lost = int(np.count_nonzero(rest.any(axis=(1, 2))))
    return result, lost


def through(
    mask: npt.NDArray[Any], affine: Affine, onto: Affine, target: tuple[int, int, int], transform: Affine | None = None
) -> npt.NDArray[np.bool_]:
    """Return a mask resampled onto another grid (linearly, then cut at one half).

    Parameters
    ----------
    mask : ndarray, shape (D, H, W)
    affine, onto : ndarray, shape (4, 4)
        Index -> LPS mm of the mask and of the target.
    target : tuple of int
        Shape of the target.
    transform : ndarray, shape (4, 4), optional
        Point of the target -> point of the mask, LPS mm; as a registration with the target fixed gives.
    """
    from scipy.ndimage import affine_transform

    used = np.argwhere(mask)
    result = np.zeros(target, dtype=bool)
    if not len(used):
        return result
    moved = np.linalg.inv(affine) @ (np.eye(4) if transform is None else transform) @ onto
    # only the box of the target that the mask's box can reach
    low, high = used.min(axis=0) - 1, used.max(axis=0) + 1
    corners = np.array([[(low, high)[bit >> axis & 1][axis] for axis in range(3)] for bit in range(8)], dtype=float)
    reached = np.c_[corners, np.ones(8)] @ np.linalg.inv(moved).T
    first = np.clip(np.floor(reached[:, :3].min(axis=0)).astype(int) - 1, 0, target)
    last = np.clip(np.ceil(reached[:, :3].max(axis=0)).astype(int) + 2, 0, target)
    if (last <= first).any():
        return result
    part = affine_transform(
        mask.astype(np.float32),
        moved[:3, :3],
        moved[:3, 3] + moved[:3, :3] @ first,
        output_shape=tuple(int(n) for n in last - first),
        order=1,
        mode="constant",
    )
    result[tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))] = part >= 0.5
    return result
