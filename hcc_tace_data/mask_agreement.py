"""Combining readers' masks by counting votes, and how far readers agree with each other.

Votes are counted voxel by voxel and know no reader better than another; :func:`hcc_tace_data.fuse_staple` weighs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import FusionError, UsageError
from hcc_tace_data.fusion import as_arrays, kind_of, wanted_labels

__all__ = ["Agreement", "agreement", "fleiss_kappa", "summary", "vote"]

Readers = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far readers agree on one label.

    Attributes
    ----------
    dice : ndarray, shape (R, R)
        Overlap of each pair, 0 to 1; 1 where both are empty.
    hd95_mm : ndarray, shape (R, R)
        95th percentile of the pooled distances between the surfaces of each pair; 0 where both are empty, the diagonal
        of the image where one is.
    kappa : float
        Fleiss' kappa over the voxels that at least one reader gave the label. NaN where it is undefined.
    union_voxels : int
        How many voxels those are.
    """

    dice: npt.NDArray[np.float64]
    hd95_mm: npt.NDArray[np.float64]
    kappa: float
    union_voxels: int


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
    arrays = _checked(readers)
    needed = {"majority": len(arrays) // 2 + 1, "union": 1, "intersection": len(arrays)}
    if method not in needed:
        raise UsageError(f"method is {method!r}; use {', '.join(needed)}.")
    wanted = wanted_labels(labels) if labels is not None else _labels_in(arrays)
    result = np.zeros(arrays[0].shape, dtype=kind_of(wanted))
    best = np.zeros(arrays[0].shape, dtype=np.int32)
    for label in wanted:
        votes = _votes(arrays, label)
        wins = (votes >= needed[method]) & (votes > best)
        result[wins] = label
        best[wins] = votes[wins]
    return result


def agreement(readers: Sequence[npt.ArrayLike], spacing: Sequence[float], label: int = 1) -> Agreement:
    """Measure how far readers agree on one label.

    Parameters
    ----------
    readers : sequence of array-like of integer or bool, shape (D, H, W)
        At least two, of one grid.
    spacing : sequence of float
        mm along (D, H, W).
    label : int
        Which label.

    Returns
    -------
    Agreement
    """
    from hcc_tace_data.baseline.scores import score_masks

    arrays = _checked(readers)
    if len(arrays) < 2:
        raise FusionError("one reader agrees with nobody; give two or more.")
    masks = [array == label for array in arrays]
    count = len(masks)
    dice, hd95 = np.eye(count), np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            scores = score_masks(masks[one], masks[other], spacing)
            dice[one, other] = dice[other, one] = scores.dice
            hd95[one, other] = hd95[other, one] = scores.hd95_mm
    votes = _votes(masks, True)
    inside = votes[votes > 0]
    return Agreement(dice=dice, hd95_mm=hd95, kappa=fleiss_kappa(inside, count), union_voxels=int(inside.size))


def fleiss_kappa(votes: npt.ArrayLike, readers: int) -> float:
    """Return Fleiss' kappa of yes-or-no ratings (Fleiss 1971, 10.1037/h0031619).

    Parameters
    ----------
    votes : array-like of int
        How many of the readers said yes, item by item.
    readers : int
        How many readers there are, at least two.

    Returns
    -------
    float
        NaN where it is undefined: no items, or all readers gave one and the same answer everywhere.

    Notes
    -----
    Within the union of readers' masks no voxel has only noes, so chance agreement is high and kappa low or below zero
    also for good readers: compare it between readers and labels, not with the usual verbal scale.

    Examples
    --------
    >>> round(fleiss_kappa([3, 3, 0, 0, 2], readers=3), 3)
    0.732
    """
    counts = np.asarray(votes, dtype=float).ravel()
    if readers < 2 or not counts.size:
        return float("nan")
    same = (counts * (counts - 1) + (readers - counts) * (readers - counts - 1)) / (readers * (readers - 1))
    yes = counts.sum() / (counts.size * readers)
    chance = yes**2 + (1 - yes) ** 2
    return float((same.mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def summary(found: Agreement, readers: Sequence[str]) -> dict[str, Any]:
    """Return agreement as plain values for JSON, pair by pair of the readers' names; NaN becomes None."""
    pairs = [(i, j) for i in range(len(readers)) for j in range(i + 1, len(readers))]
    return {
        "dice": {f"{readers[i]}/{readers[j]}": _plain(found.dice[i, j]) for i, j in pairs},
        "hd95_mm": {f"{readers[i]}/{readers[j]}": _plain(found.hd95_mm[i, j]) for i, j in pairs},
        "fleiss_kappa": _plain(found.kappa),
        "union_voxels": found.union_voxels,
    }


def _plain(value: float) -> float | None:
    return None if value != value else round(float(value), 6)


def _checked(readers: Sequence[npt.ArrayLike]) -> list[npt.NDArray[Any]]:
    arrays = as_arrays(readers)
    if not arrays:
        raise FusionError("no readers.")
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise FusionError(f"reader {number + 1} has shape {array.shape}, the first {arrays[0].shape}.")
    return arrays


def _labels_in(arrays: Readers) -> list[int]:
    return sorted({int(value) for array in arrays for value in np.unique(array) if value > 0})


def _votes(arrays: Readers, label: Any) -> npt.NDArray[np.int32]:
    votes = np.zeros(arrays[0].shape, dtype=np.int32)
    for array in arrays:
        votes += array == label
    return votes
