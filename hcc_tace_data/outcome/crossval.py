"""Cross-validated scores of the reference models, with intervals, paired differences and a permutation control."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.outcome.metrics import Interval, bootstrap, harrell_c, uno_c
from hcc_tace_data.outcome.models import Model, ladder
from hcc_tace_data.outcome.tasks import Task

__all__ = ["Evaluation", "ModelScores", "evaluate", "out_of_fold", "permuted"]

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Split = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
Folds = Literal["repeated", "shipped"]


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
        ``harrell_c`` and ``uno_c``, or ``auc``, ``average_precision`` and ``balanced_accuracy``.
    difference : Interval or None
        Of the first score to that of the reference model, paired over patients.
    """

    name: str
    label: str
    features: int
    scores: dict[str, Interval]
    difference: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of all models for one task.

    Attributes
    ----------
    task : str
        Name of the task.
    patients, events : int
        How many patients, and how many of them with the event.
    folds : {"repeated", "shipped"}
        Repeated stratified five-fold over all patients, or the shipped folds over the development patients.
    repeats : int
        How often the folds were drawn.
    reference : str
        The model that differences are taken to.
    models : tuple of ModelScores
    permuted : float
        The first score of the reference model with the target shuffled: chance.
    left_out : dict of str to str
    """

    task: str
    patients: int
    events: int
    folds: Folds
    repeats: int
    reference: str
    models: tuple[ModelScores, ...]
    permuted: float
    left_out: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """Return the evaluation as JSON-ready values."""
        rows = [
            {
                "name": one.name,
                "label": one.label,
                "features": one.features,
                **{key: [value.value, value.lower, value.upper] for key, value in one.scores.items()},
                "difference": None
                if one.difference is None
                else [one.difference.value, one.difference.lower, one.difference.upper],
            }
            for one in self.models
        ]
        return {
            "task": self.task,
            "patients": self.patients,
            "events": self.events,
            "folds": self.folds,
            "repeats": self.repeats,
            "reference": self.reference,
            "permuted": self.permuted,
            "models": rows,
            "left_out": self.left_out,
        }


def evaluate(
    task: Task,
    *,
    models: Sequence[Model] | None = None,
    folds: Folds = "repeated",
    repeats: int = 5,
    rounds: int = 1000,
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
        task, repeats = _development(task), 1
    risks: dict[str, Floats] = {}
    for done, model in enumerate(chosen, start=1):
        risks[model.name] = out_of_fold(task, model, folds=folds, repeats=repeats, seed=seed)
        if progress is not None:
            progress(done, len(chosen))
    first, *_ = _scores_of(task)
    scores = []
    for model in chosen:
        difference = None
        if model.name != reference:
            difference = bootstrap(
                _difference(task, first, risks[model.name], risks[reference]), len(task), rounds=rounds, seed=seed
            )
        found = {
            name: bootstrap(_score(task, name, risks[model.name]), len(task), rounds=rounds, seed=seed)
            for name in _scores_of(task)
        }
        scores.append(
            ModelScores(
                name=model.name, label=model.label, features=len(model.columns), scores=found, difference=difference
            )
        )
    shuffled = permuted(task, chosen[names.index(reference)], folds=folds, seed=seed)
    return Evaluation(
        task=task.name,
        patients=len(task),
        events=int(task.target.iloc[:, -1].sum()),
        folds=folds,
        repeats=repeats,
        reference=reference,
        models=tuple(scores),
        permuted=shuffled,
        left_out=task.left_out,
    )


def out_of_fold(task: Task, model: Model, *, folds: Folds = "repeated", repeats: int = 5, seed: int = 0) -> Floats:
    """Return the risk of each patient by models that were not fitted on that patient.

    Risks are ranked among the training patients of their fold, 0 to 1, so that folds can be pooled, and averaged over
    the repeats.
    """
    total = np.zeros(len(task))
    for repeat in range(repeats):
        for train, test in _splits(task, folds, seed + repeat):
            features = task.features[list(model.columns)]
            found = model.predict(features.iloc[train], task.target.iloc[train], features.iloc[test])
            total[test] += _rank(found.risk, found.training)
    return total / repeats


def permuted(task: Task, model: Model, *, folds: Folds = "repeated", seed: int = 0, rounds: int = 3) -> float:
    """Return the mean first score with the targets shuffled between patients: what chance gives."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(rounds):
        target = task.target.iloc[rng.permutation(len(task))].set_axis(task.target.index)
        shuffled = replace(task, target=target)
        risk = out_of_fold(shuffled, model, folds=folds, repeats=1, seed=seed + number)
        found.append(_score(shuffled, _scores_of(task)[0], risk)(np.arange(len(task))))
    return float(np.mean(found))


def _development(task: Task) -> Task:
    own = task.fold.notna().to_numpy()
    out = dict.fromkeys(map(str, task.features.index[~own]), "in the test set of the shipped split")
    return replace(
        task,
        features=task.features[own],
        target=task.target[own],
        fold=task.fold[own],
        left_out=task.left_out | out,
    )


def _splits(task: Task, folds: Folds, seed: int) -> Iterator[Split]:
    from sklearn.model_selection import StratifiedKFold

    if folds == "shipped":
        fold = task.fold.to_numpy(np.int64)
        for number in range(FOLDS):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        return
    event = task.target.iloc[:, -1].to_numpy(bool)
    yield from StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(event)), event)


def _rank(risk: Floats, training: Floats) -> Floats:
    """Return the share of training patients with a lower risk, ties by half."""
    ordered = np.sort(training)
    low = np.searchsorted(ordered, risk, side="left")
    high = np.searchsorted(ordered, risk, side="right")
    return (low + high) / (2 * len(ordered))


def _scores_of(task: Task) -> tuple[str, ...]:
    return ("harrell_c", "uno_c") if task.survival else ("auc", "average_precision", "balanced_accuracy")


def _score(task: Task, name: str, risk: Floats) -> Callable[[npt.NDArray[np.int64]], float]:
    if task.survival:
        weeks, event = task.target["weeks"].to_numpy(float), task.target["event"].to_numpy(bool)
        concordance = harrell_c if name == "harrell_c" else uno_c
        return lambda rows: concordance(weeks[rows], event[rows], risk[rows])
    truth = task.target["refractory"].to_numpy(bool)
    return lambda rows: _classified(name, truth[rows], risk[rows])


def _classified(name: str, truth: npt.NDArray[np.bool_], risk: Floats) -> float:
    from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

    if truth.all() or not truth.any():
        return float("nan")
    if name == "auc":
        return float(roc_auc_score(truth, risk))
    if name == "average_precision":
        return float(average_precision_score(truth, risk))
    return float(balanced_accuracy_score(truth, risk > 0.5))


def _difference(task: Task, name: str, risk: Floats, other: Floats) -> Callable[[npt.NDArray[np.int64]], float]:
    one, two = _score(task, name, risk), _score(task, name, other)
    return lambda rows: one(rows) - two(rows)
