"""How far readers agree with each other: overlap, surface distance and Fleiss' kappa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.agreement import fleiss_kappa_of_counts
from hcc_tace_data.errors import FusionError
from hcc_tace_data.labels.arrays import (
    checked_arrays,
    count_votes,
)
from hcc_tace_data.labels.scores import score_masks

__all__ = ["Agreement", "agreement", "fleiss_kappa", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far readers agree on one label.

    Attributes
    ----------
    dice : ndarray, shape (R, R)
        Overlap of each pair, 0 to 1; 1 where both are empty.
    hd95_mm : ndarray, shape (R, R)
        95th percentile of the distances between the surfaces of each pair, the larger of both directions; 0 where both
        are empty, the diagonal of the image where one is.
    kappa : float
        Fleiss' kappa over the voxels that at least one reader gave the label. NaN where it is undefined.
    union_voxels : int
        How many voxels those are.
    """

    dice: npt.NDArray[np.float64]
    hd95_mm: npt.NDArray[np.float64]
    kappa: float
    union_voxels: int


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
    arrays = checked_arrays(readers)
    if len(arrays) < 2:
        raise FusionError("agreement needs two or more readers.")
    masks = [array == label for array in arrays]
    count = len(masks)
    dice, hd95 = np.eye(count), np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            scores = score_masks(masks[one], masks[other], spacing)
            dice[one, other] = dice[other, one] = scores.dice
            hd95[one, other] = hd95[other, one] = scores.hd95_mm
    votes = count_votes(masks, True)
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
        NaN where it is undefined: no items, or every reader gave the same answer everywhere.

    Notes
    -----
    Within the union of readers' masks no voxel has only noes, so chance agreement is high and kappa low or below zero
    also for good readers: compare it between readers and labels, not with the usual verbal scale.

    Examples
    --------
    >>> round(fleiss_kappa([3, 3, 0, 0, 2], readers=3), 3)
    0.732
    """
    if readers < 2:
        return float("nan")
    yes = np.arange(readers + 1)
    often = np.bincount(np.asarray(votes, dtype=np.intp).ravel(), minlength=readers + 1)
    return fleiss_kappa_of_counts(np.stack([yes, readers - yes], axis=1), often)


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
