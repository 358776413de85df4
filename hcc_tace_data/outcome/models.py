"""Reference models: from no information to clinical variables and features of the images.

Every model is fitted on the training patients of a fold only, its penalty or depth chosen by cross-validation within
them. What it gives is a risk: higher means an earlier event, or a refractory tumour.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.survival import STAGING_SYSTEMS
from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.outcome.metrics import harrell_c
from hcc_tace_data.outcome.tasks import CLINICAL, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Model", "Prediction", "encode", "ladder"]

Floats = npt.NDArray[np.float64]
Predictor = Callable[["pd.DataFrame", "pd.DataFrame", "pd.DataFrame"], "Prediction"]

_PENALTIES = (0.03, 0.1, 0.3, 1.0)
_STRENGTHS = (0.01, 0.1, 1.0)
_LEAVES = (3, 6, 12)
_INNER_FOLDS = 3
_TREES = 100


@dataclass(frozen=True, slots=True)
class Prediction:
    """Risks of the patients predicted, and of the training patients, against whom they are ranked."""

    risk: Floats
    training: Floats


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the ladder: its name, what it is, the columns it takes, and how it predicts."""

    name: str
    label: str
    columns: tuple[str, ...]
    predict: Predictor


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
        Columns beyond those of the sheet count as features of the images.
    forest : bool
        With a random survival forest (needs scikit-survival) or random forest.
    """
    linear = _cox if task.survival else _logistic
    trees = _survival_forest if task.survival else _random_forest
    name = "ridge Cox" if task.survival else "ridge logistic"
    clinical = tuple(column for column in CLINICAL if column in task.features)
    small = tuple(column for column in ("tumour_size_cm", "afp_ng_ml", "child_pugh") if column in clinical)
    images = tuple(str(column) for column in task.features if column not in (*CLINICAL, *STAGING_SYSTEMS))
    models = [Model("nothing", "Kaplan-Meier" if task.survival else "majority", (), _constant)]
    models += [
        Model(system, f"stage by {system.upper().replace('_SCORE', '')}", (system,), _stage)
        for system in STAGING_SYSTEMS
        if system in task.features
    ]
    if len(small) == 3:
        models.append(Model("size_afp_child_pugh", f"{name}: size, AFP, Child-Pugh", small, linear))
    if clinical:
        models.append(Model("clinical", f"{name}: {len(clinical)} clinical variables", clinical, linear))
        if forest:
            models.append(Model("clinical_forest", f"forest: {len(clinical)} clinical variables", clinical, trees))
    if images:
        models.append(Model("images", f"{name}: {len(images)} image features", images, linear))
        models.append(Model("clinical_images", f"{name}: clinical and image features", (*clinical, *images), linear))
    return tuple(models)


def _constant(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    return Prediction(np.zeros(len(test)), np.zeros(len(train)))


def _stage(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    """Take the stage itself as the risk: nothing is fitted, so a stage worse than chance stays below one half."""
    return Prediction(encode(test).iloc[:, 0].to_numpy(float), encode(train).iloc[:, 0].to_numpy(float))


def _prepared(train: pd.DataFrame, test: pd.DataFrame) -> tuple[Floats, Floats]:
    """Fill gaps with the training median, mark them, scale; constants are dropped."""
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        VarianceThreshold(),
        StandardScaler(),
    )
    fitted = steps.fit_transform(encode(train).to_numpy(float))
    return np.asarray(fitted), np.asarray(steps.transform(encode(test).to_numpy(float)))


def _inner(target: pd.DataFrame) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    from sklearn.model_selection import StratifiedKFold

    event = target.iloc[:, -1].to_numpy(bool)
    folds = StratifiedKFold(_INNER_FOLDS, shuffle=True, random_state=0)
    return list(folds.split(np.zeros(len(event)), event))


def _best(
    values: Sequence[float],
    target: pd.DataFrame,
    train: pd.DataFrame,
    fit: Callable[[float, Any, Any, Any], Prediction],
    score: Callable[[pd.DataFrame, Floats], float],
) -> float:
    """Return the setting with the best mean score over folds within the training patients."""
    scores = []
    for value in values:
        found = []
        for inside, outside in _inner(target):
            predicted = fit(value, train.iloc[inside], target.iloc[inside], train.iloc[outside])
            found.append(score(target.iloc[outside], predicted.risk))
        scores.append(float(np.nanmean(found)))
    return values[int(np.argmax(scores))]


def _cox(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    return _fit_cox(_best(_PENALTIES, target, train, _fit_cox, _concordance), train, target, test)


def _concordance(target: pd.DataFrame, risk: Floats) -> float:
    return harrell_c(target["weeks"].to_numpy(float), target["event"].to_numpy(bool), risk)


def _fit_cox(penalty: float, train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    import pandas as pd
    from lifelines import CoxPHFitter

    fitted, predicted = _prepared(train, test)
    frame = pd.DataFrame(fitted)
    frame["weeks"], frame["event"] = target["weeks"].to_numpy(), target["event"].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoxPHFitter(penalizer=penalty).fit(frame, "weeks", "event")
    weights = model.params_.to_numpy()
    return Prediction(predicted @ weights, fitted @ weights)


def _auc(target: pd.DataFrame, risk: Floats) -> float:
    from sklearn.metrics import roc_auc_score

    truth = target["refractory"].to_numpy(bool)
    return float(roc_auc_score(truth, risk)) if truth.any() and not truth.all() else float("nan")


def _logistic(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    return _fit_logistic(_best(_STRENGTHS, target, train, _fit_logistic, _auc), train, target, test)


def _fit_logistic(strength: float, train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    from sklearn.linear_model import LogisticRegression

    fitted, predicted = _prepared(train, test)
    model = LogisticRegression(C=strength, max_iter=2000, class_weight="balanced")
    model.fit(fitted, target["refractory"].to_numpy(bool))
    return Prediction(model.decision_function(predicted), model.decision_function(fitted))


def _survival_forest(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    return _fit_survival_forest(_best(_LEAVES, target, train, _fit_survival_forest, _concordance), train, target, test)


def _fit_survival_forest(leaf: float, train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    from sksurv.ensemble import RandomSurvivalForest
    from sksurv.util import Surv

    fitted, predicted = _prepared(train, test)
    truth = Surv.from_arrays(target["event"].to_numpy(bool), target["weeks"].to_numpy(float))
    model = RandomSurvivalForest(_TREES, min_samples_leaf=int(leaf), random_state=0).fit(fitted, truth)
    return Prediction(np.asarray(model.predict(predicted)), np.asarray(model.predict(fitted)))


def _random_forest(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    return _fit_random_forest(_best(_LEAVES, target, train, _fit_random_forest, _auc), train, target, test)


def _fit_random_forest(leaf: float, train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
    from sklearn.ensemble import RandomForestClassifier

    fitted, predicted = _prepared(train, test)
    model = RandomForestClassifier(_TREES, min_samples_leaf=int(leaf), class_weight="balanced", random_state=0)
    model.fit(fitted, target["refractory"].to_numpy(bool))
    return Prediction(model.predict_proba(predicted)[:, 1], model.predict_proba(fitted)[:, 1])
