"""Cross-validation: nobody is predicted by a model that saw them, and the test set decides nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcc_tace_data import load_task
from hcc_tace_data.errors import UsageError
from hcc_tace_data.outcome import evaluate
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
    found = evaluate(survival, models=[model], folds="shipped", rounds=10)
    assert found.patients == 85
    assert not used & held
    assert held <= set(found.left_out)


def test_stages_are_taken_as_they_are_and_may_be_worse_than_chance(survival: Task) -> None:
    stages = [model for model in ladder(survival, forest=False) if model.name in ("clip_score", "tnm")]
    found = evaluate(survival, models=stages, reference="clip_score", repeats=1, rounds=50)
    clip, tnm = found.models
    # independent code on the same sheet: CLIP 0.586 with the interval .51 to .63
    assert clip.scores["harrell_c"].value == pytest.approx(0.60, abs=0.03)
    assert clip.difference is None
    assert tnm.difference is not None
    assert tnm.difference.value == pytest.approx(tnm.scores["harrell_c"].value - clip.scores["harrell_c"].value)
    assert 0.35 < found.permuted < 0.65


def test_nonsense_is_refused(survival: Task) -> None:
    with pytest.raises(UsageError, match="'repeated' or 'shipped'"):
        evaluate(survival, folds="twice")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not among the models"):
        evaluate(survival, reference="deep")
