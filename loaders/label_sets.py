"""From the segments of a SEG to the class numbers that training uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.catalog import load_catalog

__all__ = ["resolve_label_set", "to_classes"]


def resolve_label_set(labels: str | Mapping[str, int], keys: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    """Return class number -> segment keys, in the order in which they are painted.

    Parameters
    ----------
    labels : str or mapping
        The name of a set of ``catalog.yaml``, or segment key -> class number (1 to 255; 0 is
        background). Of a mapping, higher numbers are painted over lower ones.
    keys : tuple of str
        The segment keys there are.

    Raises
    ------
    UsageError
        No such set, no such segment, or a class number out of range.
    """
    if isinstance(labels, str):
        catalog = load_catalog()
        if labels not in catalog.label_sets:
            raise UsageError(f"labels is {labels!r}; use {', '.join(map(repr, catalog.label_sets))} or a mapping.")
        return catalog.classes(labels)
    result: dict[int, list[str]] = {}
    for key, number in labels.items():
        if key not in keys:
            raise UsageError(f"labels names the segment {key!r}; the collection has {', '.join(keys)}.")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 255:
            raise UsageError(f"labels gives {key!r} the class {number!r}; use a whole number from 0 to 255.")
        if number:
            result.setdefault(number, []).append(key)
    return {number: tuple(result[number]) for number in sorted(result)}


def to_classes(
    masks: Mapping[str, npt.NDArray[Any]], classes: Mapping[int, tuple[str, ...]], shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Paint segment masks into one map of class numbers.

    Parameters
    ----------
    masks : mapping of str to array, shape `shape`
        Segment key -> mask (non-zero is inside).
    classes : mapping of int to tuple of str
        From :func:`resolve_label_set`.
    shape : tuple of int
        (D, H, W).

    Returns
    -------
    ndarray of uint8, shape `shape`
        0 is background.
    """
    result = np.zeros(shape, dtype=np.uint8)
    for number, keys in classes.items():
        for key in keys:
            if key in masks:
                result[masks[key] != 0] = number
    return result
