"""Reference models: from no information to clinical variables and features of the images.

Every model is fitted on the training patients of a fold only, its penalty or depth chosen by cross-validation within
them. What it gives is a risk: higher means an earlier event, or a refractory tumour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.concordance import harrell_c
from hcc_tace_data.clinical.survival import STAGING_SYSTEMS
from hcc_tace_data.errors import ClinicalError, DependencyError
from hcc_tace_data.outcome.linear import LinearModel, Preparation
from hcc_tace_data.outcome.metrics import auc
from hcc_tace_data.outcome.ridge import baseline_hazard, fit_cox, fit_logistic, stratified_folds
from hcc_tace_data.outcome.tasks import Task
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Model", "Prediction", "encode", "fit_cox_model", "fit_logistic_model", "ladder"]

Floats = npt.NDArray[np.float64]
Predictor = Callable[["pd.DataFrame", "pd.DataFrame", "pd.DataFrame"], "Prediction"]
Fitter = Callable[["pd.DataFrame", "pd.DataFrame"], LinearModel]

_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
#: Of a model of one column, whose order of patients no penalty changes.
_LONE_PENALTY = 0.01
_STAGES = {"clip_score": "CLIP score", "okuda": "Okuda stage", "tnm": "TNM stage", "bclc": "BCLC stage"}
_LEAVES = (3, 6, 12)
_INNER_FOLDS = 3
_TREES = 100


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of patients that it was not fitted on.

    Attributes
    ----------
    risk : ndarray of float64, shape (N,)
        Higher means an earlier event, or a refractory tumour.
    training : ndarray of float64, shape (M,), or None
        Risks of the training patients, among whom `risk` is ranked so that folds can be pooled; None where `risk` means
        the same in every fold, as nothing was fitted.
    event_by : callable or None
        Probability of the event up to each of some weeks, (N, T); for "tace_response" of being refractory, (N, 1).
    """

    risk: Floats
    training: Floats | None
    event_by: Callable[[Floats], Floats] | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the ladder: its name, what it is, the columns it takes, and how it predicts.

    ``predict(train, target, test)`` takes encoded features (see :func:`encode`). ``fit(train, target)`` gives the model
    as it can be saved, where it is linear.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    predict: Predictor
    fit: Fitter | None = None


def encode(features: pd.DataFrame) -> pd.DataFrame:
    """Return features as numbers: flags 0 and 1, ordered categories by rank, others one column each, AFP as log10.

    Nothing is learnt from the rows: categories come from the columns' types.
    """
    import pandas as pd

    columns: dict[str, pd.Series[Any]] = {}
    for name in features.columns:
        values = features[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            codes = values.cat.codes.astype(float).where(values.notna())
            if values.cat.ordered or len(values.cat.categories) == 2:
                columns[name] = codes
            else:
                for number, category in enumerate(values.cat.categories):
                    columns[f"{name}={category}"] = (codes == number).astype(float)
        elif pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_numeric_dtype(values.dtype):
            numbers = values.astype("Float64").astype(float)
            columns[str(name)] = (1 + numbers).apply(np.log10) if name == "afp_ng_ml" else numbers
        else:
            raise ClinicalError(f"column {name!r} holds {values.dtype}; features are numbers, flags or categories.")
    return pd.DataFrame(columns, index=features.index)


def ladder(task: Task, *, forest: bool = True) -> tuple[Model, ...]:
    """Return the reference models for a task, from the simplest to the one with everything.

    Parameters
    ----------
    task : Task
        Columns beyond those of the sheet (:attr:`Task.extra`) count as features of the images.
    forest : bool
        With a random survival forest (needs scikit-survival) or random forest.
    """
    fit = fit_cox_model if task.survival else fit_logistic_model
    trees = _survival_forest if task.survival else _random_forest
    name = "ridge Cox" if task.survival else "ridge logistic"
    images = task.extra
    clinical = tuple(str(column) for column in task.features if column not in (*STAGING_SYSTEMS, *images))
    small = tuple(column for column in ("tumour_size_cm", "afp_ng_ml", "child_pugh") if column in clinical)
    stages = tuple(system for system in STAGING_SYSTEMS if system in task.features)
    models = [_linear("nothing", "Kaplan-Meier" if task.survival else "majority", (), fit)]
    models += [Model(system, _STAGES[system], (system,), partial(_stage, fit), fit) for system in stages]
    if len(stages) > 1:
        models.append(_linear("stages", f"{name}: {len(stages)} staging systems", stages, fit))
    if len(small) == 3:
        models.append(_linear("size_afp_child_pugh", f"{name}: size, AFP, Child-Pugh", small, fit))
    if clinical:
        models.append(_linear("clinical", f"{name}: {count(len(clinical), 'clinical variable')}", clinical, fit))
        if forest:
            models.append(
                Model("clinical_forest", f"forest: {count(len(clinical), 'clinical variable')}", clinical, trees)
            )
    if images:
        models.append(_linear("images", f"{name}: {count(len(images), 'image feature')}", images, fit))
        if clinical:
            both = (*clinical, *images)
            models.append(_linear("clinical_images", f"{name}: clinical and image features", both, fit))
    return tuple(models)


def _linear(name: str, label: str, columns: tuple[str, ...], fit: Fitter) -> Model:
    return Model(name, label, columns, partial(_predict_linear, fit), fit)


def _predict_linear(fit: Fitter, train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    model = fit(train, target)
    values = test.to_numpy(float)
    return Prediction(model.risk(values), model.risk(train.to_numpy(float)), partial(model.event_by, values))


def _stage(fit: Fitter, train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    """Take the stage itself as the risk: a stage worse than chance stays below one half.

    Probabilities need a model of it.
    """
    model = fit(train, target)
    values = test.to_numpy(float)
    risk = np.where(np.isnan(values), model.preparation.medians, values)[:, 0]
    return Prediction(risk, None, partial(model.event_by, values))


def _best(settings: Sequence[float], event: Any, scores: Callable[[Any, Any], Sequence[float]]) -> float:
    """Return the setting with the best mean score over folds within the training patients; the first of equal ones.

    ``scores(inside, outside)`` fits on the one and scores on the other, one score per setting; NaN if undefined.
    """
    fold = stratified_folds(event, _INNER_FOLDS, seed=0)
    found = np.array([scores(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(_INNER_FOLDS)])
    known = np.isfinite(found)
    means = np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return settings[int(np.argmax(np.where(known.any(axis=0), means, -np.inf)))]


def fit_cox_model(train: pd.DataFrame, target: pd.DataFrame) -> LinearModel:
    """Fit a ridge Cox model; the penalty is chosen by cross-validation among the patients given.

    Parameters
    ----------
    train : pandas.DataFrame
        Encoded features.
    target : pandas.DataFrame
        ``weeks`` and ``event``.
    """
    values, names = train.to_numpy(float), [str(name) for name in train.columns]
    weeks, event = target["weeks"].to_numpy(float), target["event"].to_numpy(bool)

    def scores(inside: Any, outside: Any) -> list[float]:
        preparation = Preparation.learn(values[inside], names)
        fitted, tested = preparation.apply(values[inside]), preparation.apply(values[outside])
        return [
            harrell_c(weeks[outside], event[outside], tested @ fit_cox(fitted, weeks[inside], event[inside], penalty))
            for penalty in _PENALTIES
        ]

    penalty = _best(_PENALTIES, event, scores) if len(names) > 1 else _LONE_PENALTY
    preparation = Preparation.learn(values, names)
    fitted = preparation.apply(values)
    weights = fit_cox(fitted, weeks, event, penalty)
    at, hazard = baseline_hazard(fitted @ weights, weeks, event)
    return LinearModel(
        preparation=preparation, weights=weights, penalty=penalty, intercept=0.0, weeks=at, hazard=hazard
    )


def fit_logistic_model(train: pd.DataFrame, target: pd.DataFrame) -> LinearModel:
    """Fit a ridge logistic model; see :func:`fit_cox_model`. The target is ``refractory``."""
    values, names = train.to_numpy(float), [str(name) for name in train.columns]
    truth = target["refractory"].to_numpy(bool)

    def scores(inside: Any, outside: Any) -> list[float]:
        preparation = Preparation.learn(values[inside], names)
        fitted, tested = preparation.apply(values[inside]), preparation.apply(values[outside])
        return [
            _auc(truth[outside], tested @ fit_logistic(fitted, truth[inside], penalty)[0]) for penalty in _PENALTIES
        ]

    penalty = _best(_PENALTIES, truth, scores) if len(names) > 1 else _LONE_PENALTY
    preparation = Preparation.learn(values, names)
    weights, intercept = fit_logistic(preparation.apply(values), truth, penalty)
    nothing = np.zeros(0)
    return LinearModel(
        preparation=preparation, weights=weights, penalty=penalty, intercept=intercept, weeks=nothing, hazard=nothing
    )


def _auc(truth: npt.NDArray[np.bool_], risk: Floats) -> float:
    return float(auc(truth, risk)(np.ones((1, len(truth))))[0])


def _survival_forest(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    try:
        from sksurv.ensemble import RandomSurvivalForest
        from sksurv.util import Surv
    except ImportError:
        raise DependencyError("the forest needs scikit-survival: pip install 'hcc-tace-data[survival]'.") from None

    values = train.to_numpy(float)
    weeks, event = target["weeks"].to_numpy(float), target["event"].to_numpy(bool)

    def grow(leaf: float, rows: Any) -> tuple[Preparation, Any]:
        preparation = Preparation.learn(values[rows], [str(name) for name in train.columns])
        truth = Surv.from_arrays(event[rows], weeks[rows])
        forest = RandomSurvivalForest(_TREES, min_samples_leaf=int(leaf), random_state=0)
        return preparation, forest.fit(preparation.apply(values[rows]), truth)

    def scores(inside: Any, outside: Any) -> list[float]:
        grown = [grow(leaf, inside) for leaf in _LEAVES]
        risks = [np.asarray(forest.predict(preparation.apply(values[outside]))) for preparation, forest in grown]
        return [harrell_c(weeks[outside], event[outside], risk) for risk in risks]

    preparation, forest = grow(_best(_LEAVES, event, scores), np.arange(len(values)))
    tested = preparation.apply(test.to_numpy(float))

    def event_by(at: Floats) -> Floats:
        curves = np.hstack([np.ones((len(tested), 1)), forest.predict_survival_function(tested, return_array=True)])
        return 1 - curves[:, np.searchsorted(forest.unique_times_, at, side="right")]

    risk, training = (np.asarray(forest.predict(one)) for one in (tested, preparation.apply(values)))
    return Prediction(risk, training, event_by)


def _random_forest(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    from sklearn.ensemble import RandomForestClassifier

    values, truth = train.to_numpy(float), target["refractory"].to_numpy(bool)

    def grow(leaf: float, rows: Any) -> Callable[[Floats], Floats]:
        preparation = Preparation.learn(values[rows], [str(name) for name in train.columns])
        forest = RandomForestClassifier(_TREES, min_samples_leaf=int(leaf), random_state=0)
        forest.fit(preparation.apply(values[rows]), truth[rows])
        place = list(forest.classes_).index(True) if True in forest.classes_ else None
        return lambda new: (
            np.zeros(len(new)) if place is None else np.asarray(forest.predict_proba(preparation.apply(new)))[:, place]
        )

    def scores(inside: Any, outside: Any) -> list[float]:
        return [_auc(truth[outside], grow(leaf, inside)(values[outside])) for leaf in _LEAVES]

    chance = grow(_best(_LEAVES, truth, scores), np.arange(len(values)))
    risk = chance(test.to_numpy(float))
    return Prediction(risk, chance(values), lambda _: risk[:, None])
