"""Combining readers' masks by counting votes.

Votes are counted voxel by voxel and know no reader better than another; :func:`hcc_tace_data.fuse_staple` weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.labels.arrays import (
    checked_arrays,
    count_votes,
    kind_of,
    labels_in,
    wanted_labels,
)

__all__ = ["vote"]


def vote(
    readers: Sequence[npt.ArrayLike],
    *,
    method: Literal["majority", "union", "intersection"] = "majority",
    labels: Sequence[int] | None = None,
) -> npt.NDArray[Any]:
    """Combine readers' label maps by counting votes.

    Parameters
    ----------
    readers : sequence of array-like of integer or bool
        One array a reader, all of one shape and grid; 0 is background.
    method : {"majority", "union", "intersection"}
        A voxel gets a label that more than half of the readers, at least one, or all of them gave it.
    labels : sequence of int, optional
        Which labels; default all that any reader used, ascending.

    Returns
    -------
    ndarray, shape of the readers' arrays
        Where several labels pass, the one with more votes; the first of `labels` on a tie.

    Examples
    --------
    >>> vote([[0, 1, 1, 2], [0, 1, 0, 2], [0, 0, 0, 1]]).tolist()
    [0, 1, 0, 2]
    """
    arrays = checked_arrays(readers)
    needed = {"majority": len(arrays) // 2 + 1, "union": 1, "intersection": len(arrays)}
    if method not in needed:
        raise UsageError(f"method is {method!r}; use {', '.join(needed)}.")
    wanted = wanted_labels(labels) if labels is not None else labels_in(arrays)
    result = np.zeros(arrays[0].shape, dtype=kind_of(wanted))
    best = np.zeros(arrays[0].shape, dtype=np.int32)
    for label in wanted:
        votes = count_votes(arrays, label)
        wins = (votes >= needed[method]) & (votes > best)
        result[wins] = label
        best[wins] = votes[wins]
    return result
