"""Ridge models against lifelines and scikit-learn, and what is learnt from training patients alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from sklearn.linear_model import LogisticRegression

from hcc_tace_data.outcome.linear import Preparation
from hcc_tace_data.outcome.ridge import baseline_hazard, fit_cox, fit_logistic, stratified_folds


def _cohort(features: int, patients: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(features)
    x = rng.normal(size=(patients, features))
    weeks = rng.exponential(40 * np.exp(-x[:, 0])) + 1
    # lifelines scales by the standard deviation of a sample
    return (x - x.mean(axis=0)) / x.std(axis=0, ddof=1), weeks, rng.random(patients) < 0.7


@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_cox_is_lifelines(penalty: float) -> None:
    x, weeks, event = _cohort(6)
    frame = pd.DataFrame(x).assign(weeks=weeks, event=event)
    theirs = CoxPHFitter(penalizer=penalty).fit(frame, "weeks", "event")
    assert fit_cox(x, weeks, event, penalty) == pytest.approx(theirs.params_.to_numpy(), abs=2e-3)
    eta = x @ theirs.params_.to_numpy()
    times, hazard = baseline_hazard(eta, weeks, event)
    # lifelines gives the hazard of the mean patient, here the one with features 0
    assert hazard == pytest.approx(theirs.baseline_cumulative_hazard_.loc[times].to_numpy()[:, 0], rel=0.02)


def test_without_features_the_curve_is_kaplan_meiers() -> None:
    _, weeks, event = _cohort(1)
    event[weeks.argmax()] = False
    times, hazard = baseline_hazard(np.zeros(80), weeks, event)
    assert np.exp(-hazard) == pytest.approx(KaplanMeierFitter().fit(weeks, event).predict(times).to_numpy())


def test_more_features_than_patients_change_nothing_but_the_way() -> None:
    x, weeks, event = _cohort(120, 50)
    weights = fit_cox(x, weeks, event, 0.3)
    # at the optimum the gradient of the penalised likelihood is 0
    order = np.argsort(weeks)
    eta, sorted_x = (x @ weights)[order], x[order]
    risk = np.exp(eta)
    mean = np.cumsum((risk[:, None] * sorted_x)[::-1], axis=0)[::-1] / np.cumsum(risk[::-1])[::-1][:, None]
    gradient = event[order].astype(float) @ (sorted_x - mean) / 50 - 0.3 * weights
    assert np.abs(gradient).max() < 1e-5
    truth = event
    weights, intercept = fit_logistic(x, truth, 0.3)
    theirs = LogisticRegression(C=1 / (0.3 * 50), tol=1e-8, max_iter=5000).fit(x, truth)
    assert weights == pytest.approx(theirs.coef_[0], abs=1e-4)
    assert intercept == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_extreme_values_and_one_class_end_in_numbers() -> None:
    x, weeks, event = _cohort(3)
    x[0, 0] = 1e4
    assert np.isfinite(fit_cox(x, weeks, event, 0.03)).all()
    assert fit_cox(x, weeks, np.zeros(80, dtype=bool), 0.1).tolist() == [0, 0, 0]
    weights, intercept = fit_logistic(x, np.ones(80, dtype=bool), 0.1)
    assert weights.tolist() == [0, 0, 0]
    assert 4 < intercept < 6


def test_preparation_is_learnt_from_training_patients_and_kept_in_json() -> None:
    train = np.array([[1.0, np.nan, 5.0], [3.0, 2.0, 5.0], [8.0, 4.0, 5.0]])
    found = Preparation.learn(train, ["a", "b", "c"])
    assert found.columns() == ("a", "b", "b is missing")  # c never varies
    assert found.medians.tolist() == [3, 3, 5]
    new = found.apply(np.array([[np.nan, np.nan, 9.0]]))
    assert new[0, 0] == pytest.approx((3 - 4) / train[:, 0].std())
    again = Preparation.from_plain(found.plain())
    assert (again.apply(train) == found.apply(train)).all()


def test_folds_are_balanced() -> None:
    event = np.arange(77) < 11
    fold = stratified_folds(event, 5, 3)
    assert sorted(np.bincount(fold)) == [15, 15, 15, 16, 16]
    assert set(np.bincount(fold[event])) <= {2, 3}
    assert (fold != stratified_folds(event, 5, 4)).any()
