"""Copies that are put down first and then done in one go, without the interpreter's lock."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from hcc_tace_data.loaders.supply._copies import copy_all as _copy_all
except ImportError:  # no compiler was there when the package was installed
    _copy_all = None  # type: ignore[assignment]

__all__ = ["Copies", "compiled"]

Array = npt.NDArray[Any]

# Bytes of a box that are moved before they are converted: less than a cache of today holds, and a whole patch of 96^3,
# since threads that come back to the interpreter often wait for each other there.
_CACHED = 1_800_000


def compiled() -> bool:
    """Return whether compiled code does the copies; else NumPy does, and batches come at two thirds of the rate."""
    return _copy_all is not None


class Copies:
    """Copies between arrays, done in order when all are known.

    Examples
    --------
    >>> image, label = np.empty(2, dtype=np.float32), np.empty(2, dtype=np.uint8)
    >>> copies = Copies()
    >>> copies.add(image, np.array([-1024, 40], dtype=np.int16))
    >>> copies.fill(label, 0)
    >>> copies.run()
    >>> image.tolist(), label.tolist()
    ([-1024.0, 40.0], [0, 0])
    """

    def __init__(self) -> None:
        self._targets: list[Array] = []
        self._sources: list[Array] = []

    def add(self, target: Array, source: Array) -> None:
        """Put down that `source` is copied to `target`, of the same shape; it converts as it copies.

        Types and layouts are whatever NumPy copies; from int16 to float32, and within a type, is fastest.
        """
        self._targets.append(target)
        self._sources.append(source)

    def fill(self, target: Array, value: int) -> None:
        """Put down that all of `target` becomes `value`."""
        self._targets.append(target)
        self._sources.append(np.array(value, dtype=target.dtype))

    def run(self) -> None:
        """Do what was put down, and forget it.

        Raises
        ------
        ValueError
            A source and its target have different shapes; nothing was copied, or what stood before it.
        """
        targets, sources = tuple(self._targets), tuple(self._sources)
        self._targets.clear()
        self._sources.clear()
        if _copy_all is not None and _copy_all(targets, sources):
            return
        for target, source in zip(targets, sources, strict=True):
            if source.ndim and source.shape != target.shape:
                raise ValueError("a copy has another shape than its source")
            _copy(source, target)


def _copy(box: Array, out: Array) -> None:
    """Copy and convert. Short rows that lie apart are moved whole, not value by value: that halves the time."""
    if not box.ndim or box.flags.c_contiguous or not (_has_rows(box) and _has_rows(out)):
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
