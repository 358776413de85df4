"""Concordance of a risk with times that may be censored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["comparable_pairs", "concordance", "harrell_c", "right_order"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def comparable_pairs(weeks: Floats, event: Bools) -> Bools:
    """Return the pairs (i, j) in which patient i is known to have had the event before patient j.

    Parameters
    ----------
    weeks : ndarray of float64, shape (N,)
        Time of the event or of censoring.
    event : ndarray of bool, shape (N,)
        Whether the event was seen.

    Returns
    -------
    ndarray of bool, shape (N, N)
    """
    later = (weeks[None, :] > weeks[:, None]) | ((weeks[None, :] == weeks[:, None]) & ~event[None, :])
    pairs: Bools = event[:, None] & later
    np.fill_diagonal(pairs, False)
    return pairs


def right_order(risk: Floats) -> Floats:
    """Return for each pair (i, j) 1 where i has the higher risk, 0.5 where both are equal, else 0; shape (N, N)."""
    result: Floats = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return result


def concordance(weeks: Floats, event: Bools, risk: Floats, weight: Floats) -> float:
    """Return the share of comparable pairs in the right order, each pair weighted by its first patient."""
    pairs = comparable_pairs(weeks, event) * weight[:, None]
    total = pairs.sum()
    return float((pairs * right_order(risk)).sum() / total) if total > 0 else float("nan")


def harrell_c(weeks: Floats, event: Bools, risk: Floats) -> float:
    """Return Harrell's concordance index.

    Of the pairs in which one patient is known to have had the event first, the share in which that patient has the
    higher risk; equal risks count one half. NaN where no pair can be compared.

    Parameters
    ----------
    weeks : ndarray of float64, shape (N,)
        Time of the event or of censoring.
    event : ndarray of bool, shape (N,)
        Whether the event was seen.
    risk : ndarray of float64, shape (N,)
        Higher means an earlier event.
    """
    return concordance(weeks, event, risk, np.ones(len(weeks)))
