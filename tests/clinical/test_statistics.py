"""Agreement and survival against hand-computed and library values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hcc_tace_data.clinical import load_clinical
from hcc_tace_data.clinical.agreement import bland_altman, fleiss_kappa, gwet_ac1, weighted_kappa
from hcc_tace_data.clinical.plots import plot_survival, survival_figure
from hcc_tace_data.clinical.survival import endpoint_frame, kaplan_meier, log_rank, structured_endpoint
from hcc_tace_data.errors import ClinicalError, UsageError

RATINGS = arrays(np.int64, (20, 3), elements=st.integers(0, 3))

# Fleiss (1971) as Wikipedia works it through: 10 subjects, 14 raters, 5 categories.
FLEISS_COUNTS = (
    """0 0 0 0 14/0 2 6 4 2/0 0 3 5 6/0 3 9 2 0/2 2 8 1 1/7 7 0 0 0/3 2 6 3 0/2 5 3 2 2/6 5 2 1 0/0 2 2 3 7"""
)


def test_fleiss_kappa_of_the_textbook() -> None:
    counts = [[int(cell) for cell in row.split()] for row in FLEISS_COUNTS.split("/")]
    ratings = np.array([np.repeat(np.arange(5), row) for row in counts])
    assert fleiss_kappa(ratings, categories=5) == pytest.approx(0.210, abs=5e-4)


def test_weighted_kappa_by_hand() -> None:
    # joint table [[2, 1], [0, 1]]: observed disagreement 1/4, by chance 3/4*1/2*... = (3*2 + 1*2) / 16
    value = weighted_kappa([0, 0, 0, 1], [0, 0, 1, 1], categories=2)
    assert value == pytest.approx(1 - (1 / 4) / (3 / 4 * 2 / 4 + 1 / 4 * 2 / 4))


@given(RATINGS)
@settings(deadline=None, max_examples=60)
def test_order_of_raters_and_cases_does_not_matter(ratings: np.ndarray) -> None:
    shuffled = ratings[::-1][:, [2, 0, 1]]
    for measure in (fleiss_kappa, gwet_ac1):
        assert measure(ratings, categories=4) == pytest.approx(measure(shuffled, categories=4), nan_ok=True)
    pair = weighted_kappa(ratings[:, 0], ratings[:, 1], categories=4)
    assert pair == pytest.approx(weighted_kappa(ratings[:, 1], ratings[:, 0], categories=4), nan_ok=True)


@given(RATINGS)
@settings(deadline=None, max_examples=30)
def test_full_agreement_is_one(ratings: np.ndarray) -> None:
    same = np.repeat(ratings[:, :1], 3, axis=1)
    assert gwet_ac1(same, categories=4) == pytest.approx(1)
    if len(np.unique(same)) > 1:
        assert fleiss_kappa(same, categories=4) == pytest.approx(1)


def test_ratings_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="outside 0 to 1"):
        fleiss_kappa(np.array([[0, 2]]), categories=2)


def test_bland_altman_leaves_missing_pairs_out() -> None:
    result = bland_altman([10, np.nan, 14, 20], [9, 3, 15, 17])
    assert (result.cases, result.bias) == (3, 1.0)
    assert result.upper - result.bias == pytest.approx(1.96 * 2.0)


@pytest.fixture
def table(sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path]) -> pd.DataFrame:
    return load_clinical(write_sheet(sheet))


def test_curves_by_group_cover_the_cohort(table: pd.DataFrame) -> None:
    curves = kaplan_meier(table, "os", by="child_pugh")
    assert [curve.group for curve in curves] == ["A", "B", "C"]
    assert sum(curve.patients for curve in curves) == 12
    for curve in curves:
        assert (np.diff(curve.survival) <= 0).all()
        assert curve.at_risk[0] == curve.patients
    _, p = log_rank(table, "os", "child_pugh")
    assert 0 < p <= 1


def test_a_column_of_numbers_is_split_at_its_median(table: pd.DataFrame) -> None:
    table = pd.concat([table, table.assign(tumour_size_cm=table["tumour_size_cm"] + 20)], ignore_index=True)
    curves = kaplan_meier(table, "os", by="tumour_size_cm")
    assert [curve.patients for curve in curves] == [12, 12]
    assert [curve.group[:2] for curve in curves] == ["<=", "> "]
    statistic, p = log_rank(table, "os", "tumour_size_cm")
    assert statistic == pytest.approx(0, abs=1e-9)  # both halves have the same times
    assert p == pytest.approx(1)
    with pytest.raises(UsageError, match="different values"):
        kaplan_meier(table.assign(name=[f"n{i}" for i in range(24)]), "os", by="name")


def test_endpoints_as_other_libraries_want_them(table: pd.DataFrame) -> None:
    array = structured_endpoint(table, "ttp")
    frame = endpoint_frame(table, "ttp", "sex")
    assert array.dtype.names == ("event", "time")
    np.testing.assert_array_equal(array["time"], frame["duration"])
    assert frame["event"].dtype == bool
    table.loc[3, "ttp_weeks"] = pd.NA
    with pytest.raises(ClinicalError, match="no ttp endpoint for 1 patient;"):
        structured_endpoint(table, "ttp")
    assert 3 not in endpoint_frame(table, "ttp").index


def test_unknown_column_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="'shoe_size'"):
        kaplan_meier(table, by="shoe_size")


def test_censored_before_the_cutoff_is_unknown(table: pd.DataFrame) -> None:
    early = table["ttp_weeks"] <= 14
    assert table.loc[early & table["progressed"], "tace_response"].eq("refractory").all()
    assert table.loc[early & ~table["progressed"], "tace_response"].isna().all()
    assert table.loc[~early, "tace_response"].eq("susceptible").all()


def test_plot_is_a_picture(table: pd.DataFrame, tmp_path: Path) -> None:
    plot_survival(table, tmp_path / "survival.png", by="child_pugh")
    upper = survival_figure(table, by="tumour_size_cm").axes[0]
    legend = upper.get_legend()
    assert legend.get_title().get_text() == "Tumour size, cm"
    assert all(re.search(r"\d patients?, \d+ events?\)$", text.get_text()) for text in legend.get_texts())
    assert " patients, log-rank p = " in upper.get_title()
    assert any(line.get_marker() == "|" and len(line.get_xdata()) for line in upper.lines), "censored patients"
    assert (tmp_path / "survival.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [path.name for path in tmp_path.glob("*.png")] == ["survival.png"]
