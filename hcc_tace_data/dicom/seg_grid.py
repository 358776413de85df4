"""Where the frames of a SEG lie on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.seg_frames import FrameTable
from hcc_tace_data.dicom.tolerance import SHARE

__all__ = ["GRID_TOLERANCE", "Placement", "place_frames"]

#: A frame is on the grid if its corners are no farther from voxel centres than this share of a voxel.
GRID_TOLERANCE = SHARE
#: Indices beyond this are off any grid.
_FAR = 1 << 40


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a frame lies on a grid.

    Attributes
    ----------
    axes : tuple of int
        Axes of the grid that the frame's normal, its rows' order and its columns' order run along.
    slice : int
        Index on the first of them.
    flips : tuple of bool
        Whether row numbers, column numbers run against the grid's.
    origin : tuple of int
        Indices on the other two axes of the frame's first pixel; they may lie outside the grid.
    """

    axes: tuple[int, int, int]
    slice: int
    flips: tuple[bool, bool]
    origin: tuple[int, int]


def place_frames(
    frames: FrameTable,
    affine: npt.NDArray[np.float64],
    shape: tuple[int, int, int],
    size: tuple[int, int],
) -> list[Placement | None]:
    """Find each frame's place.

    Parameters
    ----------
    frames : FrameTable
    affine : ndarray, shape (4, 4)
        The grid's, index -> LPS mm.
    shape : tuple of int
        The grid's.
    size : tuple of int
        Rows and columns of a frame.

    Returns
    -------
    list of Placement or None
        None for a frame that lies on no plane of the grid.
    """
    inverse = np.asarray(np.linalg.inv(affine), dtype=np.float64)
    origins = frames.positions @ inverse[:3, :3].T + inverse[:3, 3]
    nearest = np.rint(origins)
    on_grid = np.abs(origins - nearest).max(axis=1) <= GRID_TOLERANCE
    directions: dict[bytes, tuple[tuple[int, int, int], tuple[bool, bool]] | None] = {}
    result: list[Placement | None] = []
    turns: list[npt.NDArray[np.float64]] = list(np.concatenate([frames.orientations, frames.spacings], axis=1))
    whole = np.clip(nearest, -_FAR, _FAR).astype(np.int64).tolist()
    for turn, index, fits in zip(turns, whole, on_grid.tolist(), strict=True):
        key = turn.tobytes()
        if key not in directions:
            directions[key] = _direction(turn, inverse[:3, :3], size)
        direction = directions[key]
        if direction is None or not fits:
            result.append(None)
            continue
        axes, flips = direction
        if not 0 <= index[axes[0]] < shape[axes[0]]:
            result.append(None)
            continue
        result.append(Placement(axes, index[axes[0]], flips, (index[axes[1]], index[axes[2]])))
    return result


def _direction(
    turn: npt.NDArray[np.float64], inverse: npt.NDArray[np.float64], size: tuple[int, int]
) -> tuple[tuple[int, int, int], tuple[bool, bool]] | None:
    """Return the grid's axes that a frame runs along, and which way; None if it runs along none."""
    steps = (inverse @ (turn[3:6] * turn[6]), inverse @ (turn[:3] * turn[7]))  # from row to row, column to column
    axes, flips = [], []
    for step, length in zip(steps, size, strict=True):
        axis = int(np.abs(step).argmax())
        unit = np.zeros(3)
        unit[axis] = np.sign(step[axis])
        # the error that counts is the one at the far end of the frame
        if np.abs(step - unit).max() * max(1, length - 1) > 2 * GRID_TOLERANCE:
            return None
        axes.append(axis)
        flips.append(bool(step[axis] < 0))
    if axes[0] == axes[1]:
        return None
    return (3 - axes[0] - axes[1], axes[0], axes[1]), (flips[0], flips[1])
