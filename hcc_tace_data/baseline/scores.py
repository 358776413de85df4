"""Overlap scores of label maps."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from hcc_tace_data.errors import UsageError

__all__ = ["dice"]


def dice(predicted: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    """Dice coefficient of two masks of one shape; 1 where both are empty.

    Examples
    --------
    >>> import numpy as np
    >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]))
    0.6666666666666666
    """
    if predicted.shape != true.shape:
        raise UsageError(f"masks of shapes {predicted.shape} and {true.shape} cannot be compared.")
    a, b = predicted.astype(bool), true.astype(bool)
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total
