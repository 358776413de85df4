"""Cross-validation: nobody is predicted by a model that saw them, and the test set decides nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcc_tace_data import load_task
from hcc_tace_data.errors import ClinicalError, UsageError
from hcc_tace_data.outcome import FittedModel, evaluate, fit_outcome
from hcc_tace_data.outcome.crossval import out_of_fold
from hcc_tace_data.outcome.models import Model, Prediction, ladder
from hcc_tace_data.outcome.tasks import Task


@pytest.fixture(scope="module")
def survival(shared_data: Path) -> Task:
    return load_task("os", shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx")


def test_nobody_is_predicted_by_a_model_that_saw_them(survival: Task) -> None:
    seen: list[tuple[set[str], set[str]]] = []

    def spy(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
        assert list(train.index) == list(target.index)
        seen.append((set(train.index), set(test.index)))
        return Prediction(np.zeros(len(test)), np.zeros(len(train)))

    out_of_fold(survival, Model("spy", "spy", ("age_years",), spy), repeats=2)
    assert len(seen) == 10
    assert all(not train & test for train, test in seen)
    assert set.union(*(test for _, test in seen[:5])) == set(survival.features.index)


def test_the_shipped_folds_leave_the_test_set_alone(survival: Task) -> None:
    held = set(survival.features.index[survival.fold.isna()])
    used: set[str] = set()

    def spy(train: pd.DataFrame, target: pd.DataFrame, test: pd.DataFrame) -> Prediction:
        used.update(train.index, test.index)
        return Prediction(np.zeros(len(test)), np.zeros(len(train)))

    model = Model("clinical", "spy", ("age_years",), spy)
    found = evaluate(survival, models=[model], folds="shipped", rounds=10, permutations=1)
    assert found.patients == 85
    assert not used & held
    assert held <= set(found.left_out)


def test_stages_are_taken_as_they_are_and_may_be_worse_than_chance(survival: Task) -> None:
    chosen = [model for model in ladder(survival, forest=False) if model.name in ("nothing", "clip_score", "tnm")]
    found = evaluate(survival, models=chosen, reference="clip_score", repeats=1, rounds=50, permutations=3)
    nothing, clip, tnm = found.models
    # nothing is fitted for a stage: the index is that of the whole cohort, in every fold
    assert clip.scores["harrell_c"].value == pytest.approx(0.609, abs=5e-4)
    assert clip.difference is None
    assert tnm.difference is not None
    assert tnm.difference.value == pytest.approx(tnm.scores["harrell_c"].value - clip.scores["harrell_c"].value)
    assert nothing.scores["harrell_c"].value == 0.5
    assert clip.brier_difference is not None
    brier = [one.scores["integrated_brier"].value for one in (clip, nothing)]
    assert clip.brier_difference.value == pytest.approx(brier[0] - brier[1])
    assert nothing.calibration is not None
    assert nothing.calibration.expected == pytest.approx(nothing.calibration.observed, abs=0.02)
    assert found.test_patients == 20


def test_figures_agree_with_independent_ones(survival: Task) -> None:
    """Independent code on the same sheet: four stages 0.592, 18 clinical variables 0.578 [.50, .66]."""
    chosen = [model for model in ladder(survival, forest=False) if model.name in ("stages", "clinical")]
    found = evaluate(survival, models=chosen, repeats=2, rounds=200, permutations=10)
    stages, clinical = (one.scores["harrell_c"] for one in found.models)
    assert stages.value == pytest.approx(0.592, abs=0.03)
    assert 0.50 < clinical.value < 0.66
    assert clinical.lower < 0.578 < clinical.upper
    assert found.permuted.value == pytest.approx(0.5, abs=0.05)
    assert found.permuted.lower < 0.5 < found.permuted.upper


def _poisoned(task: Task) -> Task:
    """Return the task with nonsense in every row of the test set."""
    held = task.fold.isna()
    target = task.target.copy()
    target.loc[held, "weeks"] = 1.0
    target.loc[held, "event"] = ~target.loc[held, "event"]
    features = task.features.copy()
    features.loc[held, "age_years"] = 1
    features.loc[held, "tumour_size_cm"] = 99.0
    return replace(task, target=target, features=features)


def test_the_test_set_decides_nothing(survival: Task, tmp_path: Path) -> None:
    other = _poisoned(survival)
    assert fit_outcome(survival, "clinical").plain() == fit_outcome(other, "clinical").plain()
    models = [model for model in ladder(survival, forest=False) if model.name == "clinical"]
    pair = [evaluate(one, models=models, folds="shipped", rounds=20, permutations=1) for one in (survival, other)]
    assert pair[0].plain() == pair[1].plain()
    assert pair[0].test_patients == 0
    # it is recorded in the file
    fit_outcome(survival).save(tmp_path / "m.json")
    document = json.loads((tmp_path / "m.json").read_text())
    assert (len(document["fitted_on"]), len(document["held_out"])) == (85, 20)
    assert not set(document["fitted_on"]) & set(document["held_out"])


def test_a_saved_model_predicts_as_before(survival: Task, tmp_path: Path) -> None:
    fitted = fit_outcome(survival, "clinical")
    fitted.save(tmp_path / "m.json")
    again = FittedModel.load(tmp_path / "m.json")
    assert (again.risk(survival.features) == fitted.risk(survival.features)).all()
    chance = again.event_by(survival.features, np.array([26.0, 104.0]))
    assert chance.shape == (105, 2)
    assert ((chance >= 0) & (chance <= 1)).all()
    assert (chance[:, 0] <= chance[:, 1]).all()
    with pytest.raises(UsageError, match="'sex'"):
        again.risk(survival.features.drop(columns="sex"))
    with pytest.raises(UsageError, match="no linear model 'clinical_forest'"):
        fit_outcome(survival, "clinical_forest")
    document = json.loads((tmp_path / "m.json").read_text())
    for part, broken in (("format", "x"), ("model", {}), ("fitted_on", 3)):
        (tmp_path / "b.json").write_text(json.dumps(document | {part: broken}))
        with pytest.raises(ClinicalError, match=r"b\.json"):
            FittedModel.load(tmp_path / "b.json")


def test_responses_are_classified(shared_data: Path) -> None:
    task = load_task("tace_response", shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx")
    chosen = [model for model in ladder(task, forest=False) if model.name in ("nothing", "clinical")]
    found = evaluate(task, models=chosen, repeats=1, rounds=50, permutations=1)
    majority, clinical = found.models
    assert majority.scores["auc"].value == 0.5
    assert majority.scores["brier"].value == pytest.approx(11 / 77 * 66 / 77, abs=1e-3)
    assert clinical.scores["auc"].lower < 0.633 < clinical.scores["auc"].upper
    assert found.plain()["models"][0]["calibration"]["slope"] is None


def test_nonsense_is_refused(survival: Task) -> None:
    with pytest.raises(UsageError, match="'repeated' or 'shipped'"):
        evaluate(survival, folds="twice")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not among the models"):
        evaluate(survival, reference="deep")
