"""Frames of a SEG as patches: the part of a frame in which something is set, unpacked only there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DenseFrames", "PackedFrames", "Patch"]


@dataclass(frozen=True, slots=True)
class Patch:
    """A rectangle of a frame outside which everything is 0.

    Attributes
    ----------
    row, column : int
        Where in the frame it begins.
    pixels : ndarray, shape (h, w)
        uint8 0 or 1 of packed frames, else the stored values.
    """

    row: int
    column: int
    pixels: npt.NDArray[Any]


class PackedFrames:
    """One bit a pixel, the lowest bit first, frames without padding between them (PS3.5 section 8.1.1).

    Parameters
    ----------
    data : bytes-like
        At least ``frames * rows * columns`` bits.
    frames, rows, columns : int
    """

    __slots__ = ("_extent", "columns", "data", "rows")

    def __init__(self, data: bytes | memoryview, frames: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.data = np.frombuffer(data, dtype=np.uint8, count=-(-frames * rows * columns // 8))
        self._extent = self._rows_set(frames) if columns % 64 == 0 else None

    def _rows_set(self, frames: int) -> tuple[list[bool], list[int], list[int]]:
        """Return for every frame whether anything is set, and its first and its last row with something set."""
        words = (self.data.view("<u8") != 0).reshape(frames * self.rows, self.columns // 64)
        # a row of 512 pixels is eight words, whose eight truth values are one word again
        filled = words.view("<u8") != 0 if words.shape[1] == 8 else words.any(axis=1)
        filled = filled.reshape(frames, self.rows)
        last = self.rows - 1 - filled[:, ::-1].argmax(axis=1)
        return filled.any(axis=1).tolist(), filled.argmax(axis=1).tolist(), last.tolist()

    def patch(self, frame: int) -> Patch | None:
        """Return what is set in `frame`, or None where nothing is."""
        size = self.rows * self.columns
        if self._extent is None:
            return self._unaligned(frame * size, size)
        filled, first, last = self._extent
        if not filled[frame]:
            return None
        top, bottom = first[frame], last[frame] + 1
        width = self.columns // 8
        rows = self.data[frame * size // 8 :][top * width : bottom * width]
        used = np.flatnonzero(np.bitwise_or.reduce(rows.view("<u8").reshape(-1, width // 8), axis=0).view(np.uint8))
        left, right = int(used[0]), int(used[-1]) + 1
        bits = np.unpackbits(rows.reshape(-1, width)[:, left:right], axis=1, bitorder="little")
        return Patch(top, 8 * left, bits)

    def _unaligned(self, first: int, size: int) -> Patch | None:
        """Return the patch of a frame whose rows are no whole words."""
        bits = np.unpackbits(self.data[first // 8 : -(-(first + size) // 8)], bitorder="little")
        return _cropped(bits[first % 8 : first % 8 + size].reshape(self.rows, self.columns))


class DenseFrames:
    """Frames of whole numbers: FRACTIONAL, LABELMAP, or what was decompressed.

    Parameters
    ----------
    array : ndarray, shape (F, rows, columns)
    """

    __slots__ = ("array",)

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array

    def patch(self, frame: int) -> Patch | None:
        """Return what is set in `frame`, or None where nothing is."""
        return _cropped(self.array[frame])


def _cropped(plane: npt.NDArray[Any]) -> Patch | None:
    rows = np.flatnonzero(plane.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    used = np.flatnonzero(plane[top:bottom].any(axis=0))
    left, right = int(used[0]), int(used[-1]) + 1
    return Patch(top, left, plane[top:bottom, left:right])
