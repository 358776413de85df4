"""Survival analysis of the cohort, by lifelines: Kaplan-Meier, log-rank, Cox.

Times are weeks. Two endpoints: ``"os"`` (overall survival, event: death) and ``"ttp"`` (time to progression,
event: progression).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.concordance import comparable_pairs, harrell_c, right_order
from hcc_tace_data.errors import ClinicalError, UsageError
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ENDPOINTS",
    "STAGING_SYSTEMS",
    "CoxResult",
    "KaplanMeier",
    "cox_by_stage",
    "endpoint_frame",
    "kaplan_meier",
    "log_rank",
    "structured_endpoint",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Endpoint -> (column of time in weeks, column of the event).
ENDPOINTS = {"os": ("os_weeks", "died"), "ttp": ("ttp_weeks", "progressed")}
#: Staging systems that the sheet records, all ordered categories.
STAGING_SYSTEMS = ("clip_score", "okuda", "tnm", "bclc")


@dataclass(frozen=True, slots=True, kw_only=True)
class KaplanMeier:
    """A Kaplan-Meier curve.

    Attributes
    ----------
    group : str
        Category of the grouping column, or "all".
    patients, events : int
        Size of the group and events in it.
    median_weeks : float
        Median survival; infinite where the curve does not fall to one half.
    weeks, survival, lower, upper : ndarray of float, shape (T,)
        The curve and its pointwise 95 % band (log-log transformed).
    at_risk : ndarray of int, shape (T,)
        Patients at risk just before each time.
    """

    group: str
    patients: int
    events: int
    median_weeks: float
    weeks: npt.NDArray[np.float64]
    survival: npt.NDArray[np.float64]
    lower: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]
    at_risk: npt.NDArray[np.int64]

    def censored(self) -> list[float]:
        """Return the times at which patients leave without the event.

        More leave the risk set there than the curve's fall accounts for.
        """
        left = self.at_risk - np.append(self.at_risk[1:], 0)
        before = np.append(1.0, self.survival[:-1])
        share = 1 - self.survival / np.where(before > 0, before, 1)
        events = np.rint(np.where(before > 0, share * self.at_risk, 0))
        return [float(week) for week in self.weeks[(left - events > 0.5) & (self.weeks > 0)]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxResult:
    """A Cox model with one staging system, coded 0, 1, 2 ... in its order, as the covariate.

    Attributes
    ----------
    covariate : str
        Column of the staging system.
    patients, events : int
        What the model was fitted on.
    hazard_ratio, lower, upper, p : float
        Per stage, with its 95 % interval and Wald p-value.
    c_index : float
        Harrell's concordance index with the stage itself as the risk. Nothing is fitted: a system whose higher stages
        live longer is below 0.5.
    c_index_apparent : float
        The same of the fitted model on the patients it was fitted on. The model turns a system around where that fits
        better, so this is hardly ever below 0.5.
    c_index_corrected : float
        `c_index_apparent` less its optimism, by 2,000 bootstrap samples (Harrell et al. 1996).
    ph_p : float
        Test of proportional hazards (Schoenfeld residuals against the rank of time): a small p says that the hazard
        ratio changes over time.
    """

    covariate: str
    patients: int
    events: int
    hazard_ratio: float
    lower: float
    upper: float
    p: float
    c_index: float
    c_index_apparent: float
    c_index_corrected: float
    ph_p: float


def _columns(endpoint: str) -> tuple[str, str]:
    if endpoint not in ENDPOINTS:
        raise UsageError(f"endpoint is {endpoint!r}; use {' or '.join(map(repr, ENDPOINTS))}.")
    return ENDPOINTS[endpoint]


def endpoint_frame(table: pd.DataFrame, endpoint: str, *columns: str) -> pd.DataFrame:
    """Return `duration` (weeks, float), `event` (bool) and `columns`, as lifelines wants them.

    Patients without a time or an event flag are left out; the index stays that of `table`.
    """
    import pandas as pd

    time, event = _columns(endpoint)
    unknown = [name for name in columns if name not in table]
    if unknown:
        raise UsageError(f"no column {unknown[0]!r} in the clinical table; it has {', '.join(table.columns[:8])} ...")
    known = table[time].notna() & table[event].notna()
    frame = pd.DataFrame(
        {"duration": table.loc[known, time].astype(float), "event": table.loc[known, event].astype(bool)}
    )
    for name in columns:
        frame[name] = table.loc[known, name]
    return frame


def structured_endpoint(table: pd.DataFrame, endpoint: str) -> npt.NDArray[Any]:
    """Return the endpoint as the structured array of scikit-survival: fields `event` (bool), `time` (weeks).

    Raises
    ------
    ClinicalError
        A patient lacks the time or the event: rows would no longer match the table's.
    """
    frame = endpoint_frame(table, endpoint)
    if len(frame) != len(table):
        raise ClinicalError(f"no {endpoint} endpoint for {count(len(table) - len(frame), 'patient')}; drop them first.")
    result = np.empty(len(frame), dtype=[("event", bool), ("time", float)])
    result["event"], result["time"] = frame["event"], frame["duration"]
    return result


def kaplan_meier(table: pd.DataFrame, endpoint: str = "os", *, by: str | None = None) -> list[KaplanMeier]:
    """Kaplan-Meier curves, one for each category of `by` (missing values left out), or one for all.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`hcc_tace_data.load_clinical`.
    endpoint : {"os", "ttp"}
        Which endpoint.
    by : str, optional
        Column that groups the patients. One of numbers with many values is split at its median.
    """
    from lifelines import KaplanMeierFitter

    frame = endpoint_frame(table, endpoint, *([by] if by else []))
    if frame.empty:
        raise ClinicalError(f"no patient has a {endpoint} endpoint.")
    curves = []
    for group, rows in [("all", frame)] if by is None else _groups(frame, by):
        fitted = KaplanMeierFitter().fit(rows["duration"], rows["event"])
        band = fitted.confidence_interval_survival_function_.to_numpy()
        curves.append(
            KaplanMeier(
                group=group,
                patients=len(rows),
                events=int(rows["event"].sum()),
                median_weeks=float(fitted.median_survival_time_),
                weeks=fitted.timeline.astype(float),
                survival=fitted.survival_function_.to_numpy()[:, 0],
                lower=band[:, 0],
                upper=band[:, 1],
                at_risk=fitted.event_table["at_risk"].to_numpy(np.int64),
            )
        )
    return curves


def _grouped(frame: pd.DataFrame, by: str) -> pd.Series[Any]:
    """Return the group of every row of `frame`: the categories of `by`, or its halves where it holds many numbers."""
    import pandas as pd

    values = frame[by]
    if values.nunique() <= 12:
        return values
    if not pd.api.types.is_numeric_dtype(values):
        raise UsageError(
            f"column {by!r} has {count(values.nunique(), 'different value')}; group by a category or by numbers."
        )
    median = float(values.median())
    halves = values.map(lambda value: None if pd.isna(value) else f"{'<=' if value <= median else '>'} {median:g}")
    return pd.Series(
        pd.Categorical(halves, categories=[f"<= {median:g}", f"> {median:g}"], ordered=True), index=values.index
    )


def _groups(frame: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), rows) for name, rows in frame.groupby(_grouped(frame, by), observed=True)]


def log_rank(table: pd.DataFrame, endpoint: str, by: str) -> tuple[float, float]:
    """Return statistic and p-value of the log-rank test between the groups that :func:`kaplan_meier` makes of `by`."""
    from lifelines.statistics import multivariate_logrank_test

    frame = endpoint_frame(table, endpoint, by).dropna(subset=[by])
    groups = _grouped(frame, by)
    if groups.nunique() < 2:
        raise ClinicalError(f"column {by!r} has fewer than two groups with a {endpoint} endpoint.")
    result = multivariate_logrank_test(frame["duration"], groups.astype(str), frame["event"])
    return float(result.test_statistic), float(result.p_value)


def cox_by_stage(
    table: pd.DataFrame, endpoint: str = "os", *, systems: Sequence[str] = STAGING_SYSTEMS
) -> list[CoxResult]:
    """Fit one Cox model for each staging system (its categories as 0, 1, 2 ...)."""
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning
    from lifelines.statistics import proportional_hazard_test

    results = []
    for system in systems:
        frame = endpoint_frame(table, endpoint, system).dropna(subset=[system])
        if not hasattr(frame[system], "cat") or frame[system].nunique() < 2 or not frame["event"].any():
            raise ClinicalError(f"column {system!r} is not a category with two groups and an event; no Cox model.")
        frame[system] = frame[system].cat.codes.astype(float)
        try:
            with warnings.catch_warnings():  # lifelines warns where a few patients leave the model undetermined
                warnings.simplefilter("error", ConvergenceWarning)
                fitted = CoxPHFitter().fit(frame, "duration", "event")
        except (ConvergenceError, ConvergenceWarning, np.linalg.LinAlgError) as error:
            raise ClinicalError(
                f"the Cox model with {system!r} does not converge on {count(len(frame), 'patient')}."
            ) from error
        row = fitted.summary.loc[system]
        stage = frame[system].to_numpy()
        weeks, event = frame["duration"].to_numpy(), frame["event"].to_numpy()
        apparent, corrected = _optimism(weeks, event, stage)
        results.append(
            CoxResult(
                covariate=system,
                patients=len(frame),
                events=int(frame["event"].sum()),
                hazard_ratio=float(row["exp(coef)"]),
                lower=float(row["exp(coef) lower 95%"]),
                upper=float(row["exp(coef) upper 95%"]),
                p=float(row["p"]),
                c_index=harrell_c(weeks, event, stage),
                c_index_apparent=apparent,
                c_index_corrected=corrected,
                ph_p=float(np.squeeze(proportional_hazard_test(fitted, frame, time_transform="rank").p_value)),
            )
        )
    return results


def _optimism(weeks: Floats, event: Bools, stage: Floats, *, rounds: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Return the C-index of a Cox model of one covariate on its own patients, apparent and corrected for optimism.

    Of such a model only the sign of the coefficient matters to the order of patients, and that is the sign of the score
    at 0, as the partial likelihood is concave: nothing needs to be fitted.
    """
    at_risk = (weeks[None, :] >= weeks[:, None]).astype(np.float64)
    pairs = comparable_pairs(weeks, event).astype(np.float64)
    right = pairs * right_order(stage)

    def signs(times: Floats) -> Floats:  # how often each sample holds each patient, (samples, patients)
        mean = times @ (at_risk * stage).T / np.maximum(times @ at_risk.T, 1)
        result: Floats = np.sign((times * event * (stage - mean)).sum(axis=1))
        return result

    def c_indices(times: Floats, sign: Floats) -> Floats:
        share = ((times @ right) * times).sum(axis=1) / np.maximum(((times @ pairs) * times).sum(axis=1), 1)
        return np.where(sign > 0, share, np.where(sign < 0, 1 - share, 0.5))

    once = np.ones((1, len(weeks)))
    apparent = float(c_indices(once, signs(once))[0])
    samples = np.random.default_rng(seed).multinomial(len(weeks), once[0] / len(weeks), size=rounds).astype(np.float64)
    found = signs(samples)
    optimism = c_indices(samples, found) - c_indices(once, found)
    return apparent, apparent - float(optimism.mean())
