"""The published sheet gives the published figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcc_tace_data.clinical import COLUMNS, load_clinical, read_glossary, read_sheet, response_code
from hcc_tace_data.clinical.agreement import reader_agreement
from hcc_tace_data.clinical.survival import cox_by_stage, kaplan_meier


@pytest.fixture(scope="module")
def table(real_sheet: Path) -> pd.DataFrame:
    return load_clinical(real_sheet)


def test_marginals(table: pd.DataFrame) -> None:
    assert len(table) == 105
    assert table["patient_id"].tolist() == [f"HCC_{number:03d}" for number in range(1, 106)]
    assert table["sex"].value_counts().to_dict() == {"male": 68, "female": 37}
    assert (table["age_years"].min(), table["age_years"].max()) == (31, 93)
    assert int(table["died"].sum()) == 93
    assert int(table["progressed"].sum()) == 45
    readers = [f"reader{reader}_recist" for reader in (1, 2, 3)]
    assert int(table[readers].notna().all(axis=1).sum()) == 93


def test_ages_by_sex_as_in_the_paper(table: pd.DataFrame) -> None:
    ages = table.groupby("sex", observed=True)["age_years"]
    assert ages.min().to_dict() == {"male": 31, "female": 46}
    assert ages.max()["female"] == 93
    assert ages.mean()["male"] == pytest.approx(66.4, abs=0.05)
    assert ages.mean()["female"] == pytest.approx(69.6, abs=0.05)


def test_regimens_as_in_the_paper(table: pd.DataFrame) -> None:
    counts = table["chemotherapy"].value_counts(dropna=False)
    assert counts["doxorubicin LC beads"] == 33
    assert table["chemotherapy"].isna().sum() == 17
    assert counts.sum() - 33 - 17 == 55


def test_medians(table: pd.DataFrame) -> None:
    assert table["ttp_weeks"].median() == pytest.approx(20.714286, abs=1e-5)
    assert table["os_weeks"].median() == pytest.approx(104.428571, abs=1e-5)
    overall, progression = kaplan_meier(table, "os")[0], kaplan_meier(table, "ttp")[0]
    # medians by hand: the first time at which the product of (1 - events / at risk) is one half or less
    for curve, time, event in ((overall, "os_weeks", "died"), (progression, "ttp_weeks", "progressed")):
        survival, median = 1.0, float("inf")
        for week in sorted(table[time].unique()):
            deaths = int((table.loc[table[time] == week, event]).sum())
            survival *= 1 - deaths / int((table[time] >= week).sum())
            if survival <= 0.5:
                median = float(week)
                break
        assert curve.median_weeks == pytest.approx(median)


@pytest.mark.parametrize("criterion", ["RECIST", "mRECIST"])
@pytest.mark.parametrize("reader", [1, 2, 3])
def test_every_category_recomputes(real_sheet: Path, criterion: str, reader: int) -> None:
    raw = read_sheet(real_sheet)
    names = [f"{reader}_{criterion}_BL", f"{reader}_{criterion}_FU", f"{reader}_{criterion}"]
    rows = raw[names].dropna().to_numpy(float)
    assert len(rows) == (95 if reader == 3 else 96)
    assert [response_code(before, after) for before, after, _ in rows] == rows[:, 2].astype(int).tolist()


def test_response_counts_what_nobody_knows(table: pd.DataFrame) -> None:
    response = table["tace_response"]
    assert response.value_counts().to_dict() == {"susceptible": 66, "refractory": 11}
    unknown = table[response.isna()]
    assert len(unknown) == 28
    assert not unknown["progressed"].any()
    assert (unknown["ttp_weeks"] <= 14).all()


def test_reader_agreement(table: pd.DataFrame) -> None:
    recist, mrecist = (reader_agreement(table, criterion) for criterion in ("recist", "mrecist"))
    assert (recist.cases, recist.identical) == (93, 67)
    assert (mrecist.cases, mrecist.identical) == (93, 43)
    assert recist.fleiss_kappa == pytest.approx(0.354, abs=5e-4)
    assert mrecist.fleiss_kappa == pytest.approx(0.443, abs=5e-4)
    limits = recist.diameters[(1, 2, "bl")]
    difference = (table["reader1_recist_bl_mm"] - table["reader2_recist_bl_mm"]).dropna().astype(float)
    assert limits.cases == len(difference)
    assert limits.bias == pytest.approx(np.mean(difference))


def test_staging_systems_have_a_c_index(table: pd.DataFrame) -> None:
    results = {result.covariate: result for result in cox_by_stage(table, "os")}
    assert set(results) == {"clip_score", "okuda", "tnm", "bclc"}
    assert all(result.patients == 105 and result.events == 93 for result in results.values())
    assert results["clip_score"].c_index == pytest.approx(0.609, abs=5e-4)


def test_only_the_one_contradiction_is_reported(table: pd.DataFrame) -> None:
    (problem,) = table.attrs["problems"]
    assert "HCC_017" in problem
    assert "-25.86" in problem


def test_glossary_explains_every_column(real_sheet: Path) -> None:
    glossary = read_glossary(real_sheet)
    assert len(glossary) == len(COLUMNS) == 57


def test_original_headers_stay_reachable(table: pd.DataFrame, real_sheet: Path) -> None:
    headers = table.attrs["headers"]
    assert [headers[name] for name in table.columns[:57]] == list(read_sheet(real_sheet).columns)
