"""Each kind of defect in an otherwise sound sheet gives exactly its own problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.clinical import load_clinical, table_schema
from hcc_tace_data.clinical.schema import check_sheet, response_code


def test_sound_sheet_has_no_problem(sheet: pd.DataFrame) -> None:
    assert check_sheet(sheet) == []


@pytest.mark.parametrize(
    ("changes", "check", "column"),
    [
        ({"TTP": "soon"}, "type", "TTP"),
        ({"age": 61.5}, "type", "age"),
        ({"AFP": -3.0}, "range", "AFP"),
        ({"Tr_Size": 400.0}, "range", "Tr_Size"),
        ({"CPS": "Z"}, "vocabulary", "CPS"),
        ({"Smoking": 2}, "vocabulary", "Smoking"),
        ({"OS": None}, "missing", "OS"),
        ({"Okuda": None}, "missing", "Okuda"),
        ({"TCIA_ID": "HCC_7"}, "patient_id", "TCIA_ID"),
        ({"TCIA_ID": "HCC_001"}, "duplicate_patient", "TCIA_ID"),
        ({"agegp": "<=40"}, "age_group", "agegp"),
        ({"AFP_group": ">=400", "AFP": 399.0}, "afp_group", "AFP_group"),
        ({"CLIP": "Stage_4-6", "CLIP_Score": "Stage_2"}, "clip_group", "CLIP"),
        ({"TTP": 500.0, "OS": 400.0}, "ttp_after_os", "TTP"),
        ({"Interval_FU": -25.86}, "interval_order", "Interval_FU"),
        ({"2_RECIST_BL": 100.0, "2_RECIST_FU": 130.0, "2_RECIST": 3}, "response_code", "2_RECIST"),
        ({"3_mRECIST_FU": None}, "reader_partial", "3_mRECIST_FU"),
        ({"2_RECIST_BL": None, "2_RECIST_FU": None, "2_RECIST": None}, "reader_partial", "2_RECIST_BL"),
        ({"1_EASL": None}, "reader_partial", "1_EASL"),
    ],
)
def test_defect_gives_exactly_its_problem(
    sheet: pd.DataFrame, changes: dict[str, Any], check: str, column: str
) -> None:
    for header, value in changes.items():
        sheet.loc[5, header] = value
    problems = check_sheet(sheet)
    assert [(p.check, p.column, p.row) for p in problems] == [(check, column, 7)]


def test_several_defects_are_all_named(sheet: pd.DataFrame) -> None:
    sheet.loc[0, "AFP"] = -1.0
    sheet.loc[3, "CPS"] = "Q"
    sheet.loc[3, "OS"] = None
    assert [(p.row, p.check) for p in check_sheet(sheet)] == [(2, "range"), (5, "missing"), (5, "vocabulary")]


def test_text_outside_the_vocabulary_is_masked(sheet: pd.DataFrame) -> None:
    sheet.loc[2, "Pathology"] = "per Dr. Julius Hibbert"
    (problem,) = check_sheet(sheet)
    assert "Hibbert" not in problem.message
    assert problem.patient_id == "HCC_003"


@pytest.mark.parametrize("reader", [1, 2, 3])
def test_a_reader_may_be_missing_with_all_measurements(sheet: pd.DataFrame, reader: int) -> None:
    sheet.loc[4, [header for header in sheet if header.startswith(f"{reader}_")]] = None
    assert check_sheet(sheet) == []


def test_typed_table_satisfies_its_schema(sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path]) -> None:
    table = load_clinical(write_sheet(sheet))
    table_schema().validate(table, lazy=True)
    wrong = table.assign(age_years=table["age_years"].astype(float), tumour_size_cm=table["tumour_size_cm"] * -1)
    with pytest.raises(pandera.errors.SchemaErrors) as caught:
        table_schema().validate(wrong, lazy=True)
    assert set(caught.value.failure_cases["column"].fillna(caught.value.failure_cases["failure_case"])) >= {
        "tumour_size_cm"
    }
    assert "age_years" in str(caught.value)


@given(st.floats(1, 500), st.floats(0, 500))
@settings(deadline=None, max_examples=200)
def test_response_code_is_monotonic_in_the_follow_up(baseline: float, follow_up: float) -> None:
    code = response_code(baseline, follow_up)
    assert response_code(baseline, follow_up + 1) >= code
    assert code == 1 if follow_up == 0 else code in {2, 3, 4}
