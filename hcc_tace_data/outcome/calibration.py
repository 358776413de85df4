"""Calibration: predicted probabilities against what happened, in groups of patients by predicted risk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.outcome.ridge import fit_cox, fit_logistic

__all__ = ["Calibration", "CalibrationGroup", "calibrate_class", "calibrate_survival"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_GROUPS = 4
#: Standard deviation of the predictors below which predictions are as good as equal, and a slope says nothing.
_LEAST_SPREAD = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationGroup:
    """A group of patients by predicted risk.

    Attributes
    ----------
    patients : int
    predicted : float
        Mean predicted probability of the event.
    observed, lower, upper : float
        Share with the event and its 95 % interval; Kaplan-Meier where times are censored.
    """

    patients: int
    predicted: float
    observed: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How predicted probabilities agree with what happened.

    Attributes
    ----------
    weeks : float
        Horizon of the probabilities; NaN if undefined.
    expected, observed : float
        Mean predicted probability, and the share with the event: calibration in the large.
    slope : float
        1 for a calibrated model; below 1 predictions are too extreme, at 0 they say nothing. NaN where all are nearly
        equal.
    groups : tuple of CalibrationGroup
        Quarters by predicted risk, fewer where many patients are predicted alike.
    """

    weeks: float
    expected: float
    observed: float
    slope: float
    groups: tuple[CalibrationGroup, ...]

    def plain(self) -> dict[str, Any]:
        """Return the calibration as JSON-ready values; NaN is null."""
        document = {**asdict(self), "groups": [asdict(group) for group in self.groups]}
        return {name: None if value != value else value for name, value in document.items()}


def calibrate_survival(weeks: Floats, event: Bools, chance: Floats, horizon: float) -> Calibration:
    """Return the calibration of the probabilities of an event up to `horizon` weeks.

    The slope is the weight of log(-log(1 - probability)) in a Cox model of the patients.
    """
    bounded = np.clip(chance, 1e-6, 1 - 1e-6)
    eta = np.log(-np.log1p(-bounded))
    slope = float("nan")
    if eta.std() > _LEAST_SPREAD:
        slope = float(fit_cox((eta - eta.mean())[:, None], weeks, event, 0.0)[0])
    groups = tuple(
        CalibrationGroup(
            patients=int(group.sum()),
            predicted=float(chance[group].mean()),
            **_observed(weeks[group], event[group], horizon),
        )
        for group in _quarters(chance)
    )
    whole = _observed(weeks, event, horizon)["observed"]
    return Calibration(weeks=horizon, expected=float(chance.mean()), observed=whole, slope=slope, groups=groups)


def calibrate_class(truth: Bools, chance: Floats) -> Calibration:
    """Return the calibration of the probabilities of a class; the slope is that of a logistic model."""
    bounded = np.clip(chance, 1e-6, 1 - 1e-6)
    eta = np.log(bounded / (1 - bounded))
    slope = float("nan")
    if eta.std() > _LEAST_SPREAD and truth.any() and not truth.all():
        slope = float(fit_logistic((eta - eta.mean())[:, None], truth, 0.0)[0][0])
    groups = []
    for group in _quarters(chance):
        number = int(group.sum())
        lower, upper = _wilson(int(truth[group].sum()), number)
        groups.append(
            CalibrationGroup(
                patients=number,
                predicted=float(chance[group].mean()),
                observed=float(truth[group].mean()),
                lower=lower,
                upper=upper,
            )
        )
    return Calibration(
        weeks=float("nan"),
        expected=float(chance.mean()),
        observed=float(truth.mean()),
        slope=slope,
        groups=tuple(groups),
    )


def _quarters(chance: Floats) -> list[Bools]:
    """Return masks of the quarters by predicted risk, without empty ones; equal predictions stay together."""
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, _GROUPS + 1)[1:-1]))
    number = np.searchsorted(edges, chance, side="left")
    return [number == one for one in np.unique(number)]


def _observed(weeks: Floats, event: Bools, horizon: float) -> dict[str, float]:
    """Return the Kaplan-Meier share with the event up to `horizon`, and its interval (log-log, Greenwood)."""
    alive, variance = 1.0, 0.0
    for time in np.unique(weeks[event & (weeks <= horizon)]):
        at_risk, events = int((weeks >= time).sum()), int((event & (weeks == time)).sum())
        alive *= 1 - events / at_risk
        variance += events / (at_risk * (at_risk - events)) if at_risk > events else np.inf
    if not 0 < alive < 1 or not np.isfinite(variance):
        return {"observed": 1 - alive, "lower": 1 - alive, "upper": 1 - alive}
    spread = 1.96 * float(np.sqrt(variance)) / abs(float(np.log(alive)))
    low, high = alive ** np.exp(spread), alive ** np.exp(-spread)
    return {"observed": 1 - alive, "lower": float(1 - high), "upper": float(1 - low)}


def _wilson(events: int, number: int) -> tuple[float, float]:
    share, z = events / number, 1.96
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    spread = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return float(max(0, middle - spread)), float(min(1, middle + spread))
