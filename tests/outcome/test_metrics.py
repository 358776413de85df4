"""Scores against scikit-survival and lifelines, and what they say of chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_ipcw, integrated_brier_score
from sksurv.util import Surv

from hcc_tace_data.outcome.metrics import bootstrap, harrell_c, integrated_brier, uno_c


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
    ours = integrated_brier(weeks, event, survival, times)
    assert ours == pytest.approx(integrated_brier_score(truth, truth, survival, times), rel=0.02)


def test_a_model_that_knows_nothing_is_at_one_half() -> None:
    weeks, event, _ = _cohort(1)
    assert harrell_c(weeks, event, np.zeros(len(weeks))) == 0.5
    assert np.isnan(harrell_c(weeks, np.zeros(len(weeks), dtype=bool), weeks))


def test_reversed_risks_mirror_the_score() -> None:
    weeks, event, risk = _cohort(2)
    assert harrell_c(weeks, event, risk) + harrell_c(weeks, event, -risk) == pytest.approx(1)


def test_intervals_hold_the_value_and_are_paired() -> None:
    weeks, event, risk = _cohort(3)
    found = bootstrap(lambda rows: harrell_c(weeks[rows], event[rows], risk[rows]), len(weeks), rounds=200)
    assert found.lower < found.value < found.upper
    same = bootstrap(lambda rows: 0.0 * rows.sum(), len(weeks), rounds=20)
    assert (same.value, same.lower, same.upper) == (0, 0, 0)
    assert not same.excludes_zero
