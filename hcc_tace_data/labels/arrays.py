"""Readers' masks as arrays of labels: checked, counted, and the type that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import FusionError, UsageError

__all__ = ["as_arrays", "checked_arrays", "count_votes", "kind_of", "labels_in", "wanted_labels"]

Readers = Sequence[npt.NDArray[Any]]


def as_arrays(readers: Sequence[Any]) -> list[npt.NDArray[Any]]:
    """Return arrays of labels; refuse anything else: ragged lists, fractions, negative numbers."""
    arrays = []
    for number, reader in enumerate(readers, start=1):
        try:
            array = np.asarray(reader)
        except (ValueError, TypeError) as error:
            raise FusionError(f"reader {number} is not an array of labels: {error}.") from error
        if array.dtype.kind not in "biu":
            raise FusionError(f"reader {number} has values of type {array.dtype}; labels are whole numbers.")
        if array.dtype.kind == "i" and array.size and array.min() < 0:
            raise FusionError(f"reader {number} holds the value {array.min()}; labels are 0 and above.")
        arrays.append(array)
    return arrays


def kind_of(labels: Sequence[int]) -> type[np.integer[Any]]:
    """Return the type of a label map that holds these labels."""
    highest = max(labels, default=0)
    if highest > np.iinfo(np.uint64).max:
        raise UsageError(f"the label {highest} is too large for an array.")
    for kind in (np.uint8, np.int32, np.int64):
        if highest <= np.iinfo(kind).max:
            return kind
    return np.uint64


def wanted_labels(labels: Sequence[int]) -> list[int]:
    """Return labels as given; refuse the background, and one named twice."""
    wanted = [int(label) for label in labels]
    if len(set(wanted)) != len(wanted) or any(label <= 0 for label in wanted):
        raise UsageError(f"labels is {wanted}; name each label once, and not 0, which is the background.")
    return wanted


def checked_arrays(readers: Sequence[npt.ArrayLike]) -> list[npt.NDArray[Any]]:
    arrays = as_arrays(readers)
    if not arrays:
        raise FusionError("no readers.")
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise FusionError(f"reader {number + 1} has shape {array.shape}, the first {arrays[0].shape}.")
    return arrays


def labels_in(arrays: Readers) -> list[int]:
    found: set[int] = set()
    for array in arrays:
        if array.dtype == np.uint8:  # counting bytes is much faster than sorting them
            found.update(np.flatnonzero(np.bincount(array.ravel(), minlength=256)).tolist())
        else:
            found.update(map(int, np.unique(array).tolist()))
    return sorted(label for label in found if label > 0)


def count_votes(arrays: Readers, label: Any) -> npt.NDArray[np.int32]:
    votes = np.zeros(arrays[0].shape, dtype=np.int32)
    for array in arrays:
        votes += array == label
    return votes
