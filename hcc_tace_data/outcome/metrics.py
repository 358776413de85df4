"""Scores of predicted risks: concordance, Brier score, AUC and more, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.concordance import concordance, harrell_c

__all__ = ["Interval", "bootstrap", "censoring_survival", "harrell_c", "integrated_brier", "uno_c"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Score = Callable[[npt.NDArray[np.int64]], float]


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


def uno_c(weeks: Floats, event: Bools, risk: Floats) -> float:
    """Return Uno's concordance index: Harrell's with pairs weighted by the inverse probability of censoring."""
    alive = censoring_survival(weeks, event, weeks, before=True)
    weight = np.zeros(len(weeks))
    np.divide(1.0, alive**2, out=weight, where=event & (alive > 0))
    return concordance(weeks, event, risk, weight)


def censoring_survival(weeks: Floats, event: Bools, at: Floats, *, before: bool = False) -> Floats:
    """Return the Kaplan-Meier probability of not being censored up to each time (just before it if `before`)."""
    order = np.argsort(weeks, kind="stable")
    times, censored = weeks[order], ~event[order]
    steps, alive, value = [], [], 1.0
    for time in np.unique(times):
        # an event at the same time comes before the censoring
        at_risk = int((times > time).sum() + ((times == time) & censored).sum())
        lost = int(((times == time) & censored).sum())
        if lost and at_risk:
            value *= 1 - lost / at_risk
        steps.append(time)
        alive.append(value)
    place = np.searchsorted(np.asarray(steps), at, side="left" if before else "right")
    return np.concatenate([[1.0], np.asarray(alive)])[place]


def integrated_brier(weeks: Floats, event: Bools, survival: Floats, times: Floats) -> float:
    """Return the Brier score integrated over `times`, weighted for censoring (Graf et al. 1999).

    Parameters
    ----------
    weeks, event : ndarray, shape (N,)
    survival : ndarray of float64, shape (N, T)
        Predicted probability of no event up to each time.
    times : ndarray of float64, shape (T,)
        Ascending.
    """
    own = censoring_survival(weeks, event, weeks, before=True)
    scores = []
    for place, time in enumerate(times):
        still = float(censoring_survival(weeks, event, np.asarray([time]))[0])
        had = (weeks <= time) & event
        has_not = weeks > time
        loss = np.zeros(len(weeks))
        loss[had] = survival[had, place] ** 2 / np.maximum(own[had], 1e-12)
        if still > 0:
            loss[has_not] = (1 - survival[has_not, place]) ** 2 / still
        scores.append(loss.mean())
    return float(np.trapezoid(scores, times) / (times[-1] - times[0]))


def bootstrap(score: Score, patients: int, *, rounds: int = 1000, seed: int = 0) -> Interval:
    """Return a score and its interval over resampled patients.

    Parameters
    ----------
    score : callable
        Takes indices of patients and returns the score of those.
    patients : int
        How many there are.
    rounds : int
        How many resamples. Those without a score (NaN) are left out.
    seed : int
        The same seed draws the same patients: differences of two models are then paired.
    """
    rng = np.random.default_rng(seed)
    whole = score(np.arange(patients))
    drawn = np.array([score(rng.integers(0, patients, patients)) for _ in range(rounds)])
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(whole, float("nan"), float("nan"))
    lower, upper = np.percentile(drawn, [2.5, 97.5])
    return Interval(whole, float(lower), float(upper))
