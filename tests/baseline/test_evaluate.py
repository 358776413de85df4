"""Figures over patients: definitions, intervals, groups, and what knows nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.baseline.evaluate import DEFINITIONS, bootstrap_interval, evaluate_case, size_group, summarise
from hcc_tace_data.baseline.trivial import TrivialPredictors
from hcc_tace_data.errors import UsageError
from hcc_tace_data.loaders.store import StoredCase

SPACING = (2.0, 1.0, 1.0)


def _case(name: str, tumour: bool = True, phase: str = "arterial") -> dict[str, object]:
    true = np.zeros((4, 10, 10), np.uint8)
    true[1:3, 2:8, 2:8] = 1
    true[1, 2, 2] = 3
    predicted = np.where(true > 0, 1, 0).astype(np.uint8)
    if tumour:
        true[1, 4:6, 4:6] = 2
        predicted[1, 4:6, 4:5] = 2
    return {"patient_id": name, "phase": phase, "labels": evaluate_case(predicted, true, SPACING)}


def test_liver_holds_tumour_and_vessels_on_both_sides() -> None:
    labels = _case("a")["labels"]
    assert labels["liver"]["dice"] == 1  # type: ignore[index]
    assert labels["tumour"]["dice"] == pytest.approx(4 / 6)  # type: ignore[index]
    assert labels["tumour"]["volume_error_ml"] == pytest.approx(-2 * 2 / 1000)  # type: ignore[index]
    # four voxels of 2 mm3
    assert labels["tumour"]["diameter_cm"] == pytest.approx((6 * 8 / np.pi) ** (1 / 3) / 10)  # type: ignore[index]


def test_dice_by_slice_is_not_dice_by_patient() -> None:
    true, predicted = np.zeros((2, 10, 10), np.uint8), np.zeros((2, 10, 10), np.uint8)
    true[0, :8, :8] = predicted[0, :8, :8] = 2
    true[1, 0, 0] = 2
    scores = evaluate_case(predicted, true, SPACING)["tumour"]
    assert scores["per_slice_dice"] == 0.5
    assert scores["dice"] == pytest.approx(128 / 129)


def test_summary_counts_patients_once_and_tells_groups_apart() -> None:
    cases = [_case("a"), _case("b", tumour=False), _case("c", phase="portal_venous")]
    summary = summarise(cases)
    row = summary["labels"]["tumour"]["dice"]
    assert row["n"] == 3
    assert row["mean"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert row["median"] == pytest.approx(2 / 3)
    assert row["low"] <= row["mean"] <= row["high"]
    assert {name: group["tumour"]["dice"]["n"] for name, group in summary["by_phase"].items()} == {
        "arterial": 2,
        "portal_venous": 1,
    }
    assert set(summary["by_tumour_size"]) == {"below 3 cm", "no tumour"}
    assert summary["lesions"] == {"lesions": 2, "found": 2, "false_positives": 0}
    assert "comparable" in summary["per_slice"]["tumour"]["note"]
    assert json.loads(json.dumps(summary, allow_nan=False))
    assert "both masks empty" in DEFINITIONS["empty_masks"]
    with pytest.raises(UsageError, match="more than once"):
        summarise([cases[0], cases[0]])


def test_sizes_are_listed_from_small_to_large() -> None:
    cases = [_case(name) for name in "abc"]
    for case, diameter in zip(cases, (12.0, 4.0, 2.0), strict=True):
        case["labels"]["tumour"]["diameter_cm"] = diameter  # type: ignore[index]
    assert list(summarise(cases)["by_tumour_size"]) == ["below 3 cm", "3 to 5 cm", "10 cm and more"]


def test_interval_as_the_normal_approximation_has_it() -> None:
    values = np.random.default_rng(0).normal(0.7, 0.1, 200)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)
    assert bootstrap_interval(values) == (low, high)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=25), st.integers(0, 5))
@settings(deadline=None, max_examples=15)
def test_interval_is_the_bca_interval_of_scipy(values: list[float], seed: int) -> None:
    from scipy.stats import bootstrap

    array = np.array(values)
    if np.ptp(array) < 1e-3:
        assert bootstrap_interval([array[0]] * 4) == (array[0], array[0])
        return
    theirs = bootstrap(
        (array,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(seed), vectorized=True
    )
    low, high = bootstrap_interval(values, seed=seed)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_interval_covers_the_mean_of_few_skewed_patients() -> None:
    """Scores of tumours: most are good, some are 0. Plain percentiles of 20 patients miss more often."""
    rng, hits, plain = np.random.default_rng(3), 0, 0
    truth = 0.8 * 0.8
    for seed in range(150):
        values = np.where(rng.random(20) < 0.2, 0.0, rng.normal(0.8, 0.05, 20))
        low, high = bootstrap_interval(values, resamples=1000, seed=seed)
        hits += low <= truth <= high
        means = values[rng.integers(0, 20, (1000, 20))].mean(axis=1)
        plain += np.percentile(means, 2.5) <= truth <= np.percentile(means, 97.5)
    assert hits >= 0.9 * 150
    assert hits >= plain - 3


def test_empty_predictions_are_counted() -> None:
    cases = [_case("a"), _case("b", tumour=False), _case("c")]
    nothing = np.zeros((4, 10, 10), np.uint8)
    true = nothing.copy()
    true[1, 2:5, 2:5] = 2
    cases.append({"patient_id": "d", "phase": "arterial", "labels": evaluate_case(nothing, true, SPACING)})
    summary = summarise(cases)
    assert summary["empty_predictions"] == {
        "liver": {"patients": 1, "annotated": 1},
        "tumour": {"patients": 2, "annotated": 1},
    }
    assert summary["labels"]["tumour"]["dice"]["n"] == 4


def test_a_score_that_some_patients_lack_is_left_out() -> None:
    cases = [_case("a"), _case("b")]
    cases[1]["labels"]["tumour"]["surface_dice_surfels"] = None  # type: ignore[index]
    labels = summarise(cases)["labels"]
    assert "surface_dice_surfels" not in labels["tumour"]
    assert {"hd95_mm", "hd95_pooled_mm", "surface_dice"} <= labels["tumour"].keys()


@pytest.mark.parametrize(("diameter", "group"), [(2.9, "below 3 cm"), (3.0, "3 to 5 cm"), (12, "10 cm and more")])
def test_size_groups(diameter: float, group: str) -> None:
    assert size_group(diameter) == group


def test_trivial_predictors_find_what_hu_tell(cases: list[StoredCase]) -> None:
    # liver 110 HU, tumour 40 HU, noise 8 HU: a threshold parts them, all of the liver does not
    fitted = TrivialPredictors.fit(cases[:4])
    held_out = cases[5]
    scores = fitted.score(np.asarray(held_out.image), np.isin(held_out.label, (1, 2, 3)), np.asarray(held_out.label))
    assert scores["hu_threshold"]["tumour"] > 0.9
    assert scores["all_liver"]["tumour"] < 0.5
    band = fitted.tumour_band
    assert band.low < 40 < band.high <= 90
    assert (band.channel, band.less) == (0, None)
    assert fitted.patients == ("HCC_000", "HCC_001", "HCC_002", "HCC_003")
    assert TrivialPredictors.fit_each([cases[:4], cases[2:]]) == [fitted, TrivialPredictors.fit(cases[2:])]


def test_trivial_predictors_know_every_phase_that_a_network_sees() -> None:
    # in either phase alone a tumour is as bright as its liver in the mean; what washes out tells
    rng = np.random.default_rng(3)
    stored = []
    for number, level in enumerate((90.0, 120.0, 150.0)):
        label = np.zeros((4, 24, 24), np.uint8)
        label[:, 4:20, 4:20] = 1
        label[:, 8:12, 8:12] = 2
        portal = np.where(label > 0, level + rng.normal(0, 30, label.shape), -1000.0)
        arterial = portal + 40 * (label == 2)
        image = np.stack([portal, arterial]).astype(np.int16)
        stored.append(
            SimpleNamespace(
                image=image,
                label=label,
                liver=((0, 4), (4, 20), (4, 20)),
                shape=image.shape,
                patient_id=f"HCC_00{number}",
                folder=Path(str(number)),
                phases=("portal_venous", "arterial"),
            )
        )
    fitted = TrivialPredictors.fit(cast("list[StoredCase]", stored[:2]))
    last = stored[2]
    scores = fitted.score(last.image, last.label > 0, last.label)
    assert scores["hu_threshold"]["tumour"] == 1.0
    assert "portal_venous minus arterial" in fitted.about()["hu_threshold"]
