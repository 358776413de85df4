"""How far the readers of the response measurements agree.

Categories: Cohen's weighted kappa by pairs (Cohen 1968), Fleiss' kappa (1971) and Gwet's AC1 (2008) over all
readers, on patients whom all of them read. Diameters: Bland and Altman (1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.columns import CRITERIA, READERS, RESPONSES
from hcc_tace_data.errors import ClinicalError, UsageError
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BlandAltman",
    "ReaderAgreement",
    "bland_altman",
    "fleiss_kappa",
    "fleiss_kappa_of_counts",
    "gwet_ac1",
    "reader_agreement",
    "weighted_kappa",
]

Ratings = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlandAltman:
    """Agreement of two readers' measurements: first minus second, in the unit of the input.

    Attributes
    ----------
    cases : int
        Pairs of measurements.
    bias, sd : float
        Mean and standard deviation (n - 1) of the differences.
    lower, upper : float
        95 % limits of agreement, bias -/+ 1.96 sd.
    """

    cases: int
    bias: float
    sd: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderAgreement:
    """Agreement on one criterion.

    Attributes
    ----------
    criterion : str
        "recist" or "mrecist".
    cases : int
        Patients whom all readers read.
    identical : int
        Of those, patients given the same category by all.
    fleiss_kappa, gwet_ac1 : float
        Over all readers, unweighted.
    weighted_kappa : dict of (int, int) to float
        By pair of readers, quadratic weights.
    diameters : dict of (int, int, str) to BlandAltman
        By pair of readers and visit ("bl", "fu"), mm.
    """

    criterion: str
    cases: int
    identical: int
    fleiss_kappa: float
    gwet_ac1: float
    weighted_kappa: dict[tuple[int, int], float]
    diameters: dict[tuple[int, int, str], BlandAltman]


def reader_agreement(table: pd.DataFrame, criterion: str) -> ReaderAgreement:
    """Agreement of the three readers on one criterion.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`hcc_tace_data.load_clinical`.
    criterion : {"recist", "mrecist"}
        Which response criterion.

    Raises
    ------
    ClinicalError
        Fewer than two patients whom all readers read.
    """
    if criterion not in CRITERIA:
        raise UsageError(f"criterion is {criterion!r}; use {' or '.join(map(repr, CRITERIA))}.")
    codes = np.stack([table[f"reader{reader}_{criterion}"].cat.codes.to_numpy() for reader in READERS], axis=1)
    complete = codes[(codes >= 0).all(axis=1)]
    if len(complete) < 2:
        raise ClinicalError(
            f"All readers' {criterion} category is known for {count(len(complete), 'patient')} only; no agreement."
        )
    kappas, limits = {}, {}
    for first, second in combinations(range(len(READERS)), 2):
        pair = READERS[first], READERS[second]
        kappas[pair] = weighted_kappa(complete[:, first], complete[:, second], categories=len(RESPONSES))
        for visit in ("bl", "fu"):
            a, b = (table[f"reader{reader}_{criterion}_{visit}_mm"].to_numpy(float, na_value=np.nan) for reader in pair)
            limits[(*pair, visit)] = bland_altman(a, b)
    return ReaderAgreement(
        criterion=criterion,
        cases=len(complete),
        identical=int((complete == complete[:, :1]).all(axis=1).sum()),
        fleiss_kappa=fleiss_kappa(complete, categories=len(RESPONSES)),
        gwet_ac1=gwet_ac1(complete, categories=len(RESPONSES)),
        weighted_kappa=kappas,
        diameters=limits,
    )


def _counts(ratings: Ratings, categories: int) -> npt.NDArray[np.float64]:
    """Return how many raters chose each category: (cases, categories)."""
    ratings = np.asarray(ratings)
    if ratings.ndim != 2 or ratings.shape[1] < 2 or not len(ratings):
        raise UsageError(f"ratings have shape {ratings.shape}; agreement needs (cases >= 1, raters >= 2).")
    if ratings.min() < 0 or ratings.max() >= categories:
        raise UsageError(f"ratings lie in {ratings.min()} to {ratings.max()}, outside 0 to {categories - 1}.")
    counts: npt.NDArray[np.float64] = (ratings[:, :, None] == np.arange(categories)).sum(axis=1).astype(float)
    return counts


def fleiss_kappa(ratings: Ratings, *, categories: int) -> float:
    """Fleiss' kappa of ``ratings`` (cases, raters), integers from 0; NaN where all chose one category.

    Examples
    --------
    >>> fleiss_kappa(np.array([[0, 0], [1, 1]]), categories=2)
    1.0
    """
    return fleiss_kappa_of_counts(_counts(ratings, categories))


def fleiss_kappa_of_counts(counts: npt.ArrayLike, times: npt.ArrayLike | None = None) -> float:
    """Fleiss' kappa (1971, 10.1037/h0031619) from how many raters chose each category.

    Parameters
    ----------
    counts : array-like of int, shape (cases, categories)
        Each row adds up to the number of raters, at least two.
    times : array-like of int, shape (cases,), optional
        How often each row occurs; default once.

    Returns
    -------
    float
        NaN where it is undefined: no cases, or every rating is the same category.

    Examples
    --------
    >>> round(fleiss_kappa_of_counts([[3, 0], [0, 3], [2, 1]], times=[2, 2, 1]), 3)
    0.732
    """
    table = np.asarray(counts, dtype=float)
    often = np.ones(len(table)) if times is None else np.asarray(times, dtype=float)
    if not often.sum():
        return float("nan")
    raters = table[0].sum()
    observed = often @ ((table**2).sum(axis=1) - raters) / (often.sum() * raters * (raters - 1))
    expected = ((often @ table / (often.sum() * raters)) ** 2).sum()
    return _chance_corrected(float(observed), float(expected))


def gwet_ac1(ratings: Ratings, *, categories: int) -> float:
    """Gwet's AC1 of ``ratings`` (cases, raters): like kappa, but stable where one category prevails.

    Examples
    --------
    >>> round(gwet_ac1(np.array([[0, 0], [0, 0], [0, 1]]), categories=2), 3)
    0.538
    """
    counts = _counts(ratings, categories)
    raters = counts[0].sum()
    observed = ((counts**2).sum(axis=1) - raters).mean() / (raters * (raters - 1))
    share = counts.sum(axis=0) / counts.sum()
    expected = (share * (1 - share)).sum() / (categories - 1)
    return _chance_corrected(float(observed), float(expected))


def _chance_corrected(observed: float, expected: float) -> float:
    return float("nan") if expected >= 1 else (observed - expected) / (1 - expected)


def weighted_kappa(
    first: Ratings | Sequence[int],
    second: Ratings | Sequence[int],
    *,
    categories: int,
    weights: Literal["linear", "quadratic"] = "quadratic",
) -> float:
    """Cohen's weighted kappa of two raters over ordered categories; NaN where neither varies.

    Examples
    --------
    >>> weighted_kappa([0, 1, 2], [0, 1, 2], categories=3)
    1.0
    """
    a, b = np.asarray(first), np.asarray(second)
    _counts(np.stack([a, b], axis=1), categories)
    joint = np.zeros((categories, categories))
    np.add.at(joint, (a, b), 1 / len(a))
    distance = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories)))
    if weights == "quadratic":
        distance = distance**2
    elif weights != "linear":
        raise UsageError(f"weights is {weights!r}; use 'linear' or 'quadratic'.")
    by_chance = (distance * np.outer(joint.sum(axis=1), joint.sum(axis=0))).sum()
    return float("nan") if by_chance == 0 else float(1 - (distance * joint).sum() / by_chance)


def bland_altman(first: npt.ArrayLike, second: npt.ArrayLike) -> BlandAltman:
    """Bland-Altman limits of two readers' measurements; pairs with a missing one are left out.

    Examples
    --------
    >>> bland_altman([10, 12, 14], [9, 12, 15]).bias
    0.0
    """
    difference = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    difference = difference[~np.isnan(difference)]
    if len(difference) < 2:
        raise ClinicalError(f"Only {count(len(difference), 'pair')} of measurements; limits of agreement need two.")
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    return BlandAltman(cases=len(difference), bias=bias, sd=sd, lower=bias - 1.96 * sd, upper=bias + 1.96 * sd)
