"""Scores of predicted risks, with bootstrap intervals.

A score is a function of how often each patient is in a sample: of ones for the cohort itself, of counts for a bootstrap
sample. All samples are scored at once, and two models on the same samples are paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.concordance import comparable_pairs, harrell_c, right_order

__all__ = [
    "Interval",
    "Score",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "bootstrap",
    "brier_losses",
    "censoring_survival",
    "concordance_score",
    "harrell_c",
    "integrated_brier",
    "mean_score",
    "uno_c",
    "uno_weights",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: Takes how often each sample holds each patient, (samples, patients), and returns the score of each sample.
Score = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Interval:
    """A score with its 95 % percentile bootstrap interval over patients."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 is outside the interval; of use for differences only."""
        return self.lower > 0 or self.upper < 0


def bootstrap(score: Score, patients: int, *, rounds: int = 1000, seed: int = 0) -> Interval:
    """Return a score and its interval over resampled patients.

    Parameters
    ----------
    score : callable
        See :data:`Score`.
    patients : int
        How many there are.
    rounds : int
        How many resamples. Those without a score (NaN) are left out.
    seed : int
        The same seed draws the same patients: differences of two models are then paired.
    """
    shares = np.full(patients, 1 / patients)
    samples = np.random.default_rng(seed).multinomial(patients, shares, size=rounds).astype(np.float64)
    whole = float(score(np.ones((1, patients)))[0])
    drawn = score(samples)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(whole, float("nan"), float("nan"))
    lower, upper = np.percentile(drawn, [2.5, 97.5])
    return Interval(whole, float(lower), float(upper))


def _ratio(above: Floats, below: Floats) -> Floats:
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def concordance_score(pairs: Floats, risk: Floats) -> Score:
    """Return the concordance of a risk over weighted pairs: (i, j) weighs what it weighs if i had the event before j.

    Parameters
    ----------
    pairs : ndarray of float64, shape (N, N)
        Weights of the pairs, 0 for those that cannot be compared.
    risk : ndarray of float64, shape (N,)
        Higher means an earlier event.
    """
    right = pairs * right_order(risk)

    def score(counts: Floats) -> Floats:
        return _ratio(((counts @ right) * counts).sum(axis=1), ((counts @ pairs) * counts).sum(axis=1))

    return score


def uno_weights(weeks: Floats, event: Bools) -> Floats:
    """Return the inverse of the squared probability of not being censored before each patient's event, 0 without one.

    For a bootstrap they are those of the whole cohort.
    """
    alive = censoring_survival(weeks, event, weeks, before=True)
    weight = np.zeros(len(weeks))
    np.divide(1.0, alive**2, out=weight, where=event & (alive > 0))
    return weight


def uno_c(weeks: Floats, event: Bools, risk: Floats) -> float:
    """Return Uno's concordance index: Harrell's with pairs weighted by the inverse probability of censoring."""
    pairs = comparable_pairs(weeks, event) * uno_weights(weeks, event)[:, None]
    return float(concordance_score(pairs, risk)(np.ones((1, len(weeks))))[0])


def censoring_survival(weeks: Floats, event: Bools, at: Floats, *, before: bool = False) -> Floats:
    """Return the Kaplan-Meier probability of not being censored up to each time (just before it if `before`)."""
    steps = np.unique(weeks)
    alive, value = [], 1.0
    for time in steps:
        # an event at the same time comes before the censoring
        lost = int(((weeks == time) & ~event).sum())
        at_risk = int((weeks > time).sum()) + lost
        if lost and at_risk:
            value *= 1 - lost / at_risk
        alive.append(value)
    place = np.searchsorted(steps, at, side="left" if before else "right")
    return np.concatenate([[1.0], np.asarray(alive)])[place]


def brier_losses(weeks: Floats, event: Bools, chance: Floats, times: Floats) -> Floats:
    """Return the part of each patient in the integrated Brier score; their mean is the score.

    Parameters
    ----------
    weeks, event : ndarray, shape (N,)
    chance : ndarray of float64, shape (N, T)
        Predicted probability of the event up to each time.
    times : ndarray of float64, shape (T,)
        Ascending.

    Returns
    -------
    ndarray of float64, shape (N,)
    """
    own = np.maximum(censoring_survival(weeks, event, weeks, before=True), 1e-12)[:, None]
    still = np.maximum(censoring_survival(weeks, event, times), 1e-12)[None, :]
    had = (weeks[:, None] <= times[None, :]) & event[:, None]
    has_not = weeks[:, None] > times[None, :]
    loss = had * (1 - chance) ** 2 / own + has_not * chance**2 / still
    result: Floats = ((loss[:, 1:] + loss[:, :-1]) / 2 * np.diff(times)).sum(axis=1) / (times[-1] - times[0])
    return result


def integrated_brier(weeks: Floats, event: Bools, chance: Floats, times: Floats) -> float:
    """Return the Brier score integrated over `times`, weighted for censoring (Graf et al. 1999).

    Parameters as for :func:`brier_losses`.
    """
    return float(brier_losses(weeks, event, chance, times).mean())


def mean_score(values: Floats) -> Score:
    """Return the mean over patients of one value each, such as their losses."""
    return lambda counts: counts @ values / counts.sum(axis=1)


def auc(truth: Bools, risk: Floats) -> Score:
    """Return the area under the receiver operating characteristic; NaN for samples of one class."""
    return concordance_score((truth[:, None] & ~truth[None, :]).astype(np.float64), risk)


def average_precision(truth: Bools, risk: Floats) -> Score:
    """Return average precision: precision at each threshold, weighted by the rise in recall."""
    order = np.argsort(-risk, kind="stable")
    # equal risks share a threshold
    ends = np.flatnonzero(np.append(np.diff(risk[order]) != 0, True))

    def score(counts: Floats) -> Floats:
        taken = np.cumsum(counts[:, order], axis=1)[:, ends]
        found = np.cumsum(counts[:, order] * truth[order], axis=1)[:, ends]
        rise = np.diff(found, axis=1, prepend=0)
        return _ratio((rise * found / np.maximum(taken, 1)).sum(axis=1), found[:, -1])

    return score


def balanced_accuracy(truth: Bools, predicted: Bools) -> Score:
    """Return the mean of sensitivity and specificity; NaN for samples of one class."""

    def score(counts: Floats) -> Floats:
        sensitivity = _ratio(counts @ (truth & predicted).astype(float), counts @ truth.astype(float))
        specificity = _ratio(counts @ (~truth & ~predicted).astype(float), counts @ (~truth).astype(float))
        return (sensitivity + specificity) / 2

    return score
