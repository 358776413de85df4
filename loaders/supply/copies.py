"""Many copies between arrays, done in one go without the interpreter's lock.

Compiled code does them where the package was installed with a compiler, NumPy elsewhere; the result is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from hcc_tace_data.loaders.supply._copies import copy_all as _compiled
except ImportError:  # there was no compiler when the package was installed
    _compiled = None  # type: ignore[assignment]

__all__ = ["Copy", "compiled", "copy_all", "fill"]

Array = npt.NDArray[Any]
#: Target and source, of the same shape (or a source of a single value). Values are converted as they are copied; any
#: types and layouts that NumPy copies will do, int16 to float32 and within a type are fastest.
Copy = tuple[Array, Array]

# Bytes of a box that are moved before they are converted: less than the cache of a current processor holds, and a whole
# patch of 96^3, since threads that come back to the interpreter often wait for each other there.
_CACHED = 1_800_000


def compiled() -> bool:
    """Return whether compiled code does the copies; with NumPy, batches come at two thirds of the rate."""
    return _compiled is not None


def fill(target: Array, value: int) -> Copy:
    """Return the copy that sets all of `target` to `value`."""
    return target, np.array(value, dtype=target.dtype)


def copy_all(copies: Iterable[Copy]) -> None:
    """Make `copies`, in order.

    Raises
    ------
    ValueError
        A source and its target have different shapes; the copies before it may have been made.

    Examples
    --------
    >>> image, label = np.empty(2, dtype=np.float32), np.empty(2, dtype=np.uint8)
    >>> copy_all([(image, np.array([-1024, 40], dtype=np.int16)), fill(label, 0)])
    >>> image.tolist(), label.tolist()
    ([-1024.0, 40.0], [0, 0])
    """
    listed = list(copies)
    if not listed:
        return
    if _compiled is not None and _compiled(*zip(*listed, strict=True)):
        return
    for target, source in listed:
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
