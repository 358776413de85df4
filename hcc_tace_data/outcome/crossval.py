"""Cross-validated scores of the reference models, with intervals, paired differences and a permutation control."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.concordance import comparable_pairs
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.outcome.calibration import Calibration, calibrate_class, calibrate_survival
from hcc_tace_data.outcome.metrics import (
    Interval,
    Score,
    auc,
    average_precision,
    balanced_accuracy,
    bootstrap,
    brier_losses,
    concordance_score,
    mean_score,
    uno_weights,
)
from hcc_tace_data.outcome.models import Model, encode, ladder
from hcc_tace_data.outcome.ridge import stratified_folds
from hcc_tace_data.outcome.tasks import Task

__all__ = ["HORIZONS", "Evaluation", "ModelScores", "OutOfFold", "evaluate", "out_of_fold", "permuted"]

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Split = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
Folds = Literal["repeated", "shipped"]

#: Weeks up to which the probability of the event is compared with what happened.
HORIZONS = {"os": 104.0, "ttp": 26.0}
#: Times of the integrated Brier score: between these quantiles of the times of events.
_BRIER_QUANTILES = (0.05, 0.9)
_BRIER_TIMES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfFold:
    """What models say of patients that they were not fitted on, averaged over the repeats.

    Attributes
    ----------
    risk : ndarray of float64, shape (N,)
        Share of the training patients of the fold with a lower risk, ties by half; of a stage, the stage itself.
    event_by : ndarray of float64, shape (N, T), or None
        Probability of the event up to each of :func:`times_of`; of a class in one column.
    """

    risk: Floats
    event_by: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScores:
    """What one model reached out of fold.

    Attributes
    ----------
    name, label : str
        The model.
    features : int
        How many columns it takes.
    scores : dict of str to Interval
        ``harrell_c``, ``uno_c`` and ``integrated_brier``, or ``auc``, ``average_precision``, ``balanced_accuracy``
        (risks above the median are predicted refractory) and ``brier``.
    difference : Interval or None
        Of the first score to that of the reference model, paired over patients.
    brier_difference : Interval or None
        Of the Brier score to that of "nothing" (Kaplan-Meier, or the share of the class): below 0 is better.
    calibration : Calibration or None
        Of the probabilities at the horizon of the task.
    out_of_fold : OutOfFold
        What the scores were computed from, in the order of the task's patients.
    """

    name: str
    label: str
    features: int
    scores: dict[str, Interval]
    difference: Interval | None
    brier_difference: Interval | None
    calibration: Calibration | None
    out_of_fold: OutOfFold = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of all models for one task.

    Attributes
    ----------
    task : Task
        The patients that were scored.
    patients, events : int
        How many patients, and how many of them with the event.
    folds : {"repeated", "shipped"}
        Repeated stratified five-fold over all patients, or the shipped folds over the development patients.
    repeats : int
        How often the folds were drawn.
    reference : str
        The model that differences are taken to.
    models : tuple of ModelScores
    permuted : Interval
        The first score of the reference model with the target shuffled, which is chance: the mean over the shuffles
        and the range of the middle 95 % of them.
    test_patients : int
        How many patients of the shipped test set took part, like all others; 0 for the shipped folds.
    left_out : dict of str to str
    """

    task: Task
    patients: int
    events: int
    folds: Folds
    repeats: int
    reference: str
    models: tuple[ModelScores, ...]
    permuted: Interval
    test_patients: int
    left_out: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """Return the evaluation as JSON-ready values."""
        rows = [
            {
                "name": one.name,
                "label": one.label,
                "features": one.features,
                **{key: _plain(value) for key, value in one.scores.items()},
                "difference": _plain(one.difference),
                "brier_difference": _plain(one.brier_difference),
                "calibration": None if one.calibration is None else one.calibration.plain(),
            }
            for one in self.models
        ]
        return {
            "task": self.task.name,
            "patients": self.patients,
            "events": self.events,
            "folds": self.folds,
            "repeats": self.repeats,
            "reference": self.reference,
            "permuted": _plain(self.permuted),
            "test_patients": self.test_patients,
            "models": rows,
            "left_out": self.left_out,
        }


def _plain(interval: Interval | None) -> list[float | None] | None:
    if interval is None:
        return None
    return [value if np.isfinite(value) else None for value in (interval.value, interval.lower, interval.upper)]


def evaluate(
    task: Task,
    *,
    models: Sequence[Model] | None = None,
    folds: Folds = "repeated",
    repeats: int = 5,
    rounds: int = 1000,
    permutations: int = 20,
    reference: str = "clinical",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score models out of fold.

    Parameters
    ----------
    task : Task
        From :func:`load_task`.
    models : sequence of Model, optional
        Default :func:`hcc_tace_data.outcome.models.ladder`.
    folds : {"repeated", "shipped"}
        See :class:`Evaluation`. The 20 test patients of the shipped split take part in "repeated" like all others,
        and are not used at all in "shipped".
    repeats : int
        Draws of the folds; the shipped folds are used once.
    rounds : int
        Bootstrap resamples of patients.
    permutations : int
        How often the target is shuffled for the control.
    reference : str
        Name of the model that the others are compared with.
    seed : int
        Of folds, bootstrap and permutation.
    progress : callable, optional
        Called with (models done, models in all).

    Raises
    ------
    UsageError
        Other folds, or a reference that is not among the models.
    """
    if folds not in ("repeated", "shipped"):
        raise UsageError(f"folds is {folds!r}; use 'repeated' or 'shipped'.")
    chosen = tuple(models) if models is not None else ladder(task)
    names = [one.name for one in chosen]
    if reference not in names:
        raise UsageError(f"the reference {reference!r} is not among the models: {', '.join(names)}.")
    if folds == "shipped":
        task, repeats = task.development(), 1
    predicted: dict[str, OutOfFold] = {}
    for done, model in enumerate(chosen, start=1):
        predicted[model.name] = out_of_fold(task, model, folds=folds, repeats=repeats, seed=seed)
        if progress is not None:
            progress(done, len(chosen))

    def interval(score: Score) -> Interval:
        return bootstrap(score, len(task), rounds=rounds, seed=seed)

    scores = {name: _scores(task, found) for name, found in predicted.items()}
    first = next(iter(scores[reference]))
    losses = {name: _losses(task, found) for name, found in predicted.items()}
    nothing = losses.get("nothing")
    rows = []
    for model in chosen:
        own = losses[model.name]
        rows.append(
            ModelScores(
                name=model.name,
                label=model.label,
                features=len(model.columns),
                scores={name: interval(score) for name, score in scores[model.name].items()},
                difference=None
                if model.name == reference
                else interval(_minus(scores[model.name][first], scores[reference][first])),
                brier_difference=None
                if own is None or nothing is None or model.name == "nothing"
                else interval(mean_score(own - nothing)),
                calibration=_calibration(task, predicted[model.name]),
                out_of_fold=predicted[model.name],
            )
        )
    return Evaluation(
        task=task,
        patients=len(task),
        events=int(task.target.iloc[:, -1].sum()),
        folds=folds,
        repeats=repeats,
        reference=reference,
        models=tuple(rows),
        permuted=permuted(task, chosen[names.index(reference)], folds=folds, rounds=permutations, seed=seed),
        test_patients=int(task.fold.isna().sum()),
        left_out=task.left_out,
    )


def times_of(task: Task) -> Floats:
    """Return the weeks at which probabilities are predicted: the horizon, then those of the integrated Brier score."""
    if not task.survival:
        return np.zeros(1)
    weeks = task.target["weeks"][task.target["event"]].to_numpy(float)
    low, high = np.quantile(weeks, _BRIER_QUANTILES) if len(weeks) else (0.0, 1.0)
    return np.concatenate([[HORIZONS[task.name]], np.linspace(low, max(high, low + 1e-6), _BRIER_TIMES)])


def out_of_fold(task: Task, model: Model, *, folds: Folds = "repeated", repeats: int = 5, seed: int = 0) -> OutOfFold:
    """Return what models say of each patient that were not fitted on that patient.

    Risks are ranked among the training patients of their fold, 0 to 1, so that folds can be pooled, and averaged over
    the repeats.
    """
    features, times = encode(task.features[list(model.columns)]), times_of(task)
    risk, chance, whole = np.zeros(len(task)), np.zeros((len(task), len(times))), True
    for repeat in range(repeats):
        for train, test in _splits(task, folds, seed + repeat):
            found = model.predict(features.iloc[train], task.target.iloc[train], features.iloc[test])
            risk[test] += found.risk if found.training is None else _rank(found.risk, found.training)
            if found.event_by is None:
                whole = False
            else:
                chance[test] += found.event_by(times)
    return OutOfFold(risk=risk / repeats, event_by=chance / repeats if whole else None)


def permuted(task: Task, model: Model, *, folds: Folds = "repeated", seed: int = 0, rounds: int = 20) -> Interval:
    """Return the first score with the targets shuffled between patients; see :attr:`Evaluation.permuted`."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rounds):
        target = task.target.iloc[rng.permutation(len(task))].set_axis(task.target.index)
        shuffled = replace(task, target=target)
        predicted = out_of_fold(shuffled, model, folds=folds, repeats=1, seed=seed + number)
        score = next(iter(_scores(shuffled, predicted).values()))
        found.append(float(score(np.ones((1, len(task))))[0]))
    return Interval(float(np.mean(found)), *map(float, np.percentile(found, [2.5, 97.5])))


def _splits(task: Task, folds: Folds, seed: int) -> Iterator[Split]:
    if folds == "shipped":
        fold = task.fold.to_numpy(np.int64)
    else:
        fold = stratified_folds(task.target.iloc[:, -1].to_numpy(bool), FOLDS, seed)
    for number in np.unique(fold):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _rank(risk: Floats, training: Floats) -> Floats:
    """Return the share of training patients with a lower risk, ties by half."""
    ordered = np.sort(training)
    low = np.searchsorted(ordered, risk, side="left")
    high = np.searchsorted(ordered, risk, side="right")
    return (low + high) / (2 * len(ordered))


def _minus(one: Score, other: Score) -> Score:
    return lambda counts: one(counts) - other(counts)


def _survival(task: Task) -> tuple[Floats, npt.NDArray[np.bool_]]:
    return task.target["weeks"].to_numpy(float), task.target["event"].to_numpy(bool)


def _losses(task: Task, found: OutOfFold) -> Floats | None:
    """Return the part of each patient in the Brier score."""
    if found.event_by is None:
        return None
    if task.survival:
        return brier_losses(*_survival(task), found.event_by[:, 1:], times_of(task)[1:])
    return np.asarray((found.event_by[:, 0] - task.target["refractory"].to_numpy(float)) ** 2)


def _scores(task: Task, found: OutOfFold) -> dict[str, Score]:
    losses = _losses(task, found)
    scores: dict[str, Score]
    if task.survival:
        weeks, event = _survival(task)
        pairs = comparable_pairs(weeks, event).astype(np.float64)
        scores = {
            "harrell_c": concordance_score(pairs, found.risk),
            "uno_c": concordance_score(pairs * uno_weights(weeks, event)[:, None], found.risk),
        }
        return scores if losses is None else scores | {"integrated_brier": mean_score(losses)}
    truth = task.target["refractory"].to_numpy(bool)
    scores = {
        "auc": auc(truth, found.risk),
        "average_precision": average_precision(truth, found.risk),
        "balanced_accuracy": balanced_accuracy(truth, found.risk > np.median(found.risk)),
    }
    return scores if losses is None else scores | {"brier": mean_score(losses)}


def _calibration(task: Task, found: OutOfFold) -> Calibration | None:
    if found.event_by is None:
        return None
    if task.survival:
        return calibrate_survival(*_survival(task), found.event_by[:, 0], HORIZONS[task.name])
    return calibrate_class(task.target["refractory"].to_numpy(bool), found.event_by[:, 0])
