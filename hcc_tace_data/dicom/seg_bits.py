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

    __slots__ = ("_rectangles", "columns", "data", "rows")

    def __init__(self, data: bytes | memoryview, frames: int, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.data = np.frombuffer(data, dtype=np.uint8, count=-(-frames * rows * columns // 8))
        self._rectangles = self._find_rectangles(frames) if columns % 64 == 0 else None

    def _find_rectangles(self, frames: int) -> list[tuple[int, int, int, int] | None]:
        """Return for every frame the rows and the bytes of a row outside which nothing is set, in one pass."""
        wide = self.columns // 64
        words = (self.data.view("<u8") != 0).reshape(frames * self.rows, wide)
        if wide == 8:  # a row of 512 pixels is eight words, whose eight truth values are one word again
            packed = words.view("<u8").reshape(frames, self.rows)
            filled = packed != 0
            used = np.bitwise_or.reduce(packed, axis=1).view(np.bool_).reshape(frames, wide)
        else:
            filled = words.any(axis=1).reshape(frames, self.rows)
            used = words.reshape(frames, self.rows, wide).any(axis=1)
        top, bottom = filled.argmax(axis=1), self.rows - filled[:, ::-1].argmax(axis=1)
        left, right = 8 * used.argmax(axis=1), 8 * (wide - used[:, ::-1].argmax(axis=1))
        found = zip(top.tolist(), bottom.tolist(), left.tolist(), right.tolist(), strict=True)
        return [place if any_set else None for place, any_set in zip(found, filled.any(axis=1).tolist(), strict=True)]

    def patch(self, frame: int) -> Patch | None:
        """Return what is set in `frame`, or None where nothing is."""
        size = self.rows * self.columns
        if self._rectangles is None:
            return self._unaligned(frame * size, size)
        place = self._rectangles[frame]
        if place is None:
            return None
        top, bottom, left, right = place
        rows = self.data[frame * size // 8 : (frame + 1) * size // 8].reshape(self.rows, -1)
        return Patch(top, 8 * left, np.unpackbits(rows[top:bottom, left:right], axis=1, bitorder="little"))

    def _unaligned(self, first: int, size: int) -> Patch | None:
        """Return the patch of a frame whose rows are no whole words."""
        bits = np.unpackbits(self.data[first // 8 : -(-(first + size) // 8)], bitorder="little")
        return _cropped(bits[first % 8 : first % 8 + size].reshape(self.rows, self.columns))


class DenseFrames:
    """Frames of whole numbers: FRACTIONAL, LABELMAP, or what was decompressed.

    Parameters
    ----------
    array : ndarray, shape (F, rows, columns)
    background : frozenset of int
        Values that show nothing.
    """

    __slots__ = ("array", "background")

    def __init__(self, array: npt.NDArray[Any], background: frozenset[int] = frozenset({0})) -> None:
        self.array, self.background = array, background

    def patch(self, frame: int) -> Patch | None:
        """Return what is set in `frame`, or None where nothing is."""
        plane = self.array[frame]
        if self.background == {0}:
            return _cropped(plane)
        return _cropped(plane, ~np.isin(plane, list(self.background)))


def _cropped(plane: npt.NDArray[Any], shown: npt.NDArray[Any] | None = None) -> Patch | None:
    """Return the part of `plane` in which something is shown: by default, what is not 0."""
    shown = plane if shown is None else shown
    rows = np.flatnonzero(shown.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    used = np.flatnonzero(shown[top:bottom].any(axis=0))
    left, right = int(used[0]), int(used[-1]) + 1
    return Patch(top, left, plane[top:bottom, left:right])
