"""Scores against scikit-survival, scikit-learn and lifelines, and what they say of chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from sksurv.metrics import concordance_index_ipcw, integrated_brier_score
from sksurv.util import Surv

from hcc_tace_data.clinical.concordance import comparable_pairs
from hcc_tace_data.outcome.calibration import calibrate_class, calibrate_survival
from hcc_tace_data.outcome.metrics import (
    auc,
    average_precision,
    balanced_accuracy,
    bootstrap,
    concordance_score,
    harrell_c,
    integrated_brier,
    mean_score,
    uno_c,
)


def _cohort(seed: int, patients: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=patients)
    # whole weeks, so that times are tied
    weeks = np.ceil(rng.exponential(40 * np.exp(-risk))) + 1
    return weeks, rng.random(patients) < 0.7, risk


@given(st.integers(0, 10_000))
def test_without_tied_times_harrell_is_lifelines_exactly(seed: int) -> None:
    weeks, event, risk = _cohort(seed)
    weeks, risk = weeks + np.linspace(0, 0.5, len(weeks)), risk.round(1)
    if event.any():
        assert harrell_c(weeks, event, risk) == pytest.approx(concordance_index(weeks, -risk, event))


@pytest.mark.parametrize("seed", range(5))
def test_uno_and_brier_are_scikit_survivals(seed: int) -> None:
    weeks, event, risk = _cohort(seed)
    weeks = weeks + np.linspace(0, 0.5, len(weeks))
    event[weeks.argmax()] = True
    truth = Surv.from_arrays(event, weeks)
    assert uno_c(weeks, event, risk) == pytest.approx(concordance_index_ipcw(truth, truth, risk)[0], abs=1e-6)
    times = np.percentile(weeks, [20, 40, 60, 80])
    survival = np.exp(-np.exp(risk)[:, None] * times[None, :] / 40)
    ours = integrated_brier(weeks, event, 1 - survival, times)
    assert ours == pytest.approx(integrated_brier_score(truth, truth, survival, times), rel=0.02)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_scores_of_samples_are_those_of_repeated_patients(seed: int) -> None:
    weeks, event, risk = _cohort(seed, 30)
    risk = risk.round(1)
    counts = np.random.default_rng(seed).multinomial(30, np.full(30, 1 / 30))
    rows = np.repeat(np.arange(30), counts)
    if not event[rows].any() or event[rows].all():
        return
    sample = counts[None].astype(float)
    pairs = comparable_pairs(weeks, event).astype(float)
    found = concordance_score(pairs, risk)(sample)[0]
    assert found == pytest.approx(harrell_c(weeks[rows], event[rows], risk[rows]), nan_ok=True)
    assert auc(event, risk)(sample)[0] == pytest.approx(roc_auc_score(event[rows], risk[rows]))
    precision = average_precision_score(event[rows], risk[rows])
    assert average_precision(event, risk)(sample)[0] == pytest.approx(precision)
    balanced = balanced_accuracy_score(event[rows], risk[rows] > 0)
    assert balanced_accuracy(event, risk > 0)(sample)[0] == pytest.approx(balanced)


def test_a_model_that_knows_nothing_is_at_one_half() -> None:
    weeks, event, _ = _cohort(1)
    assert harrell_c(weeks, event, np.zeros(len(weeks))) == 0.5
    assert np.isnan(harrell_c(weeks, np.zeros(len(weeks), dtype=bool), weeks))


def test_reversed_risks_mirror_the_score() -> None:
    weeks, event, risk = _cohort(2)
    assert harrell_c(weeks, event, risk) + harrell_c(weeks, event, -risk) == pytest.approx(1)


def test_intervals_hold_the_value_and_are_paired() -> None:
    weeks, event, risk = _cohort(3)
    score = concordance_score(comparable_pairs(weeks, event).astype(float), risk)
    found = bootstrap(score, len(weeks), rounds=200)
    assert found.lower < found.value < found.upper
    same = bootstrap(lambda counts: score(counts) - score(counts), len(weeks), rounds=20)
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    assert not same.excludes_zero
    mean = bootstrap(mean_score(risk), len(weeks), rounds=2000)
    assert mean.upper - mean.lower == pytest.approx(2 * 1.96 * risk.std() / np.sqrt(len(risk)), rel=0.1)


def test_a_true_model_is_calibrated_and_an_extreme_one_is_not() -> None:
    rng = np.random.default_rng(0)
    risk = rng.normal(size=4000)
    weeks = rng.exponential(60 * np.exp(-risk))
    censored = rng.uniform(20, 200, size=4000)
    event = weeks <= censored
    seen = np.minimum(weeks, censored)
    chance = 1 - np.exp(-np.exp(risk) * 52 / 60)
    found = calibrate_survival(seen, event, chance, 52)
    assert found.slope == pytest.approx(1, abs=0.06)
    assert found.expected == pytest.approx(found.observed, abs=0.02)
    assert [group.patients for group in found.groups] == [1000] * 4
    assert all(group.lower < group.observed < group.upper for group in found.groups)
    extreme = 1 - np.exp(-np.exp(2 * risk) * 52 / 60)
    assert calibrate_survival(seen, event, extreme, 52).slope == pytest.approx(0.5, abs=0.04)
    truth = rng.random(4000) < 1 / (1 + np.exp(-risk))
    assert calibrate_class(truth, 1 / (1 + np.exp(-risk))).slope == pytest.approx(1, abs=0.1)
    assert np.isnan(calibrate_class(truth, np.full(4000, 0.5)).slope)
