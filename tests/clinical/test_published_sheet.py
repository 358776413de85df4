"""The published sheet gives the published figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcc_tace_data.clinical import COLUMNS, load_clinical, read_glossary, read_sheet, response_code, table_schema
from hcc_tace_data.clinical.agreement import reader_agreement
from hcc_tace_data.clinical.competing import competing_death
from hcc_tace_data.clinical.survival import cox_by_stage, kaplan_meier, log_rank


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
    assert overall.median_weeks == pytest.approx(108.285714, abs=1e-5)
    assert progression.median_weeks == pytest.approx(45.86, abs=1e-5)


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
    # irrCAC 0.4.4 and scikit-learn 1.9.1 give the same
    assert (recist.gwet_ac1, mrecist.gwet_ac1) == pytest.approx((0.78939, 0.52622), abs=5e-6)
    assert list(recist.weighted_kappa.values()) == pytest.approx([0.401288, 0.354981, 0.460870], abs=5e-7)
    assert list(mrecist.weighted_kappa.values()) == pytest.approx([0.545730, 0.646846, 0.612177], abs=5e-7)
    assert {key: item.cases for key, item in mrecist.diameters.items()} == {
        (a, b, visit): 95 if (a, b) == (1, 2) else 93 for a, b in ((1, 2), (1, 3), (2, 3)) for visit in ("bl", "fu")
    }
    limits = recist.diameters[(1, 2, "bl")]
    difference = (table["reader1_recist_bl_mm"] - table["reader2_recist_bl_mm"]).dropna().astype(float)
    assert limits.cases == len(difference)
    assert limits.bias == pytest.approx(np.mean(difference))


def test_a_stage_worse_than_chance_is_below_one_half(table: pd.DataFrame) -> None:
    overall = {result.covariate: result for result in cox_by_stage(table, "os")}
    assert {name: round(result.c_index, 3) for name, result in overall.items()} == {
        "clip_score": 0.609, "okuda": 0.546, "tnm": 0.588, "bclc": 0.549,
    }  # fmt: skip
    assert all(result.patients == 105 and result.events == 93 for result in overall.values())
    progression = {result.covariate: result for result in cox_by_stage(table, "ttp")}
    tnm = progression["tnm"]
    assert (tnm.c_index, tnm.c_index_apparent) == pytest.approx((0.455, 0.545), abs=5e-4)
    for result in (*overall.values(), *progression.values()):
        # lifelines' own index of the fitted model is the apparent one
        assert result.c_index_apparent in (pytest.approx(result.c_index), pytest.approx(1 - result.c_index))
        assert result.c_index_corrected < result.c_index_apparent + 0.001
    # hazards of CLIP are not proportional over the years, those of TNM are
    assert overall["clip_score"].ph_p < 0.05 < overall["tnm"].ph_p


def test_most_patients_without_progression_died_long_after_they_were_last_seen(table: pd.DataFrame) -> None:
    found = competing_death(table)
    assert (found.patients, found.progressed, found.censored, found.died) == (105, 45, 60, 53)
    assert found.median_weeks == pytest.approx(78.7, abs=0.05)
    assert "60 of 105 patients have no recorded progression; 53 of them died, in median 79 weeks" in found.summary
    assert (found.progression + found.death <= 1 + 1e-9).all()
    assert (found.progression <= found.kaplan_meier + 1e-9).all()
    # without censoring before the last event the incidences are shares of patients
    first = table["os_weeks"][~table["died"] & ~table["progressed"]].min()
    place = int((found.weeks < first).sum()) - 1
    shares = [
        int((table["progressed"] & (table["ttp_weeks"] < first)).sum()) / 105,
        int((~table["progressed"] & table["died"] & (table["os_weeks"] < first)).sum()) / 105,
    ]
    assert [found.progression[place], found.death[place]] == pytest.approx(shares)


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


def test_consensus_is_the_median_of_the_readers(table: pd.DataFrame) -> None:
    counts = table["mrecist_consensus"].value_counts().to_dict()
    assert counts == {"CR": 17, "PR": 44, "SD": 30, "PD": 2}
    assert table["recist_consensus"].value_counts().to_dict() == {"CR": 0, "PR": 5, "SD": 83, "PD": 5}
    assert "tace_response: unknown for 28 patients, censored before 14 weeks" in table.attrs["notes"]
    assert any("Cisplastin" in note for note in table.attrs["notes"])


def test_the_typed_table_satisfies_its_schema(table: pd.DataFrame) -> None:
    assert len(table_schema().validate(table, lazy=True)) == 105


def test_curves_by_any_column(table: pd.DataFrame) -> None:
    for name in ("sex", "bclc", "tumour_size_cm", "cirrhosis", "age_years", "tace_response"):
        curves = kaplan_meier(table, "os", by=name)
        assert sum(curve.patients for curve in curves) == table[name].notna().sum()
        assert 0 <= log_rank(table, "os", name)[1] <= 1
