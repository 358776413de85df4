"""Ridge regression by Newton's method, Cox and logistic: cross-validation fits thousands, in milliseconds each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["baseline_hazard", "fit_cox", "fit_logistic", "stratified_folds"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_MOST_STEPS = 50
_ENOUGH = 1e-6


def fit_cox(x: Floats, weeks: Floats, event: Bools, penalty: float) -> Floats:
    """Fit a Cox model with a ridge penalty.

    Maximises the mean partial log-likelihood (Breslow's for tied times) less half of `penalty` times the squared
    weights: lifelines' ``CoxPHFitter(penalizer=penalty)``.

    Parameters
    ----------
    x : ndarray of float64, shape (N, P)
        Scaled features without gaps.
    weeks : ndarray of float64, shape (N,)
    event : ndarray of bool, shape (N,)
    penalty : float
        Above 0 where P is not small.

    Returns
    -------
    ndarray of float64, shape (P,)
        Weights; all 0 without features or events.
    """
    if not x.shape[1] or not event.any():
        return np.zeros(x.shape[1])
    order = np.argsort(weeks, kind="stable")
    x, weeks, event = x[order], weeks[order], event[order]
    x, turn = _fewer(x)
    weights = _newton(x, event.astype(np.float64), np.searchsorted(weeks, weeks, side="left"), penalty)
    return weights if turn is None else weights @ turn


def _fewer(x: Floats) -> tuple[Floats, Floats | None]:
    """Turn more columns than patients into as many: the weights of a ridge model are in the space of the patients."""
    if x.shape[1] <= len(x):
        return x, None
    turn = np.linalg.svd(x, full_matrices=False)[2]
    return x @ turn.T, turn


def fit_logistic(x: Floats, truth: Bools, penalty: float) -> tuple[Floats, float]:
    """Fit a logistic model with a ridge penalty on its weights.

    Maximises the mean log-likelihood less half of `penalty` times the squared weights: scikit-learn's
    ``LogisticRegression(C=1 / (penalty * N))``.

    Returns
    -------
    weights : ndarray of float64, shape (P,)
    intercept : float
        Without features or with patients of one class alone, that of the share of the class, rounded inwards.
    """
    if not x.shape[1] or truth.all() or not truth.any():
        share = float(np.clip(truth.mean(), 0.5 / len(truth), 1 - 0.5 / len(truth)))
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share)))
    x, turn = _fewer(x)
    wide = np.hstack([x, np.ones((len(x), 1))])
    ridge = np.append(np.full(x.shape[1], penalty), 1e-12)
    target = truth.astype(np.float64)

    def value(at: Floats) -> float:
        eta = wide @ at
        fit = float((target * eta - np.logaddexp(0, eta)).mean())
        return fit - float(ridge @ at**2) / 2

    def slopes(at: Floats) -> tuple[Floats, Floats]:
        chance = 1 / (1 + np.exp(-np.clip(wide @ at, -700, 700)))
        gradient = (target - chance) @ wide / len(x) - ridge * at
        return gradient, (wide.T * (chance * (1 - chance))) @ wide / len(x) + np.diag(ridge + 1e-12)

    weights = _climb(value, slopes, wide)
    own = weights[:-1]
    return (own if turn is None else own @ turn), float(weights[-1])


def _newton(x: Floats, event: Floats, first: npt.NDArray[np.intp], penalty: float) -> Floats:
    patients, features = x.shape

    def value(weights: Floats) -> float:
        eta = x @ weights
        at_risk = np.logaddexp.accumulate(eta[::-1])[::-1][first]
        fit: float = float(event @ (eta - at_risk)) / patients
        return fit - penalty / 2 * float(weights @ weights)

    def slopes(weights: Floats) -> tuple[Floats, Floats]:
        eta = x @ weights
        risk = np.exp(eta - eta.max())
        at_risk = np.cumsum(risk[::-1])[::-1][first]
        mean = np.cumsum((risk[:, None] * x)[::-1], axis=0)[::-1][first] / at_risk[:, None]
        gradient = event @ (x - mean) / patients - penalty * weights
        hazard = np.cumsum(np.bincount(first, weights=event / at_risk, minlength=patients))
        curvature = ((x.T * (risk * hazard)) @ x - (mean.T * event) @ mean) / patients
        curvature[np.diag_indices(features)] += penalty + 1e-12
        return gradient, curvature

    return _climb(value, slopes, x)


def _climb(
    value: Callable[[Floats], float], slopes: Callable[[Floats], tuple[Floats, Floats]], columns: Floats
) -> Floats:
    """Return the weights of columns (N, P) at which `value` is highest, by Newton's steps, halved where it falls."""
    weights = np.zeros(columns.shape[1])
    now = value(weights)
    for _ in range(_MOST_STEPS):
        gradient, curvature = slopes(weights)
        newton = np.asarray(np.linalg.solve(curvature, gradient), dtype=np.float64)
        step = _bounded(newton, columns)
        size = 1.0
        while size > 1e-6 and (then := value(weights + size * step)) < now:
            size /= 2
        if size <= 1e-6:
            break
        weights, now = weights + size * step, then
        if np.abs(size * step).max() < _ENOUGH:
            break
    return weights


def _bounded(step: Floats, x: Floats) -> Floats:
    """Shorten a step that would change the predictor of some patient by more than 5."""
    return step * min(1.0, 5 / max(float(np.abs(x @ step).max()), 1e-12))


def baseline_hazard(eta: Floats, weeks: Floats, event: Bools) -> tuple[Floats, Floats]:
    """Return times of events and the cumulative hazard at each of a patient whose linear predictor is 0 (Breslow).

    With all predictors 0 the hazard is that of Kaplan and Meier: ``exp(-hazard)`` is their estimate.
    """
    times = np.unique(weeks[event])
    risk = np.exp(np.clip(eta, -30, 30))
    steps = []
    for time in times:
        events = int((event & (weeks == time)).sum())
        at_risk = float(risk[weeks >= time].sum())
        share = events / at_risk
        # of the last patients nobody is left: their hazard is bounded, as infinity has no use
        steps.append(share if eta.any() else -np.log(max(1 - share, 1e-6)))
    return times, np.cumsum(steps)


def stratified_folds(event: Bools, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each patient, drawn so that folds differ by one patient and by one event at most."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(event == kind)) for kind in (True, False)])
    number = np.empty(len(event), dtype=np.int64)
    number[order] = np.arange(len(event)) % folds
    return number
