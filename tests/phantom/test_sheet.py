"""The clinical sheet of a twin: columns, relations, and agreement with the images."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pytest
from scipy.spatial.distance import pdist

from hcc_tace_data.phantom.plan import load_table, plan_patient
from hcc_tace_data.phantom.sheet import GLOSSARY, SHEET_NAME, clinical_row, draw_course


@pytest.fixture(scope="module")
def cohort() -> list[dict[str, object]]:
    table = load_table()
    rows = []
    for name in sorted(table["patient_id"].unique()):
        visits = sorted({one.study_date for one in plan_patient(table, name).series})
        rows.append({**clinical_row(3, name, draw_course(3, name), visits), "visits": visits})
    return rows


def test_columns_are_the_official_ones(shared_data: Path, twin: Path) -> None:
    official = openpyxl.load_workbook(shared_data / SHEET_NAME)["data table"]
    book = openpyxl.load_workbook(twin / "clinical" / SHEET_NAME)
    assert book.sheetnames == ["data table", "glossary"]
    assert [cell.value for cell in book["data table"][1]] == [cell.value for cell in official[1]] == list(GLOSSARY)
    assert book["glossary"].max_row == 57


def test_categories_follow_from_the_measurements(cohort) -> None:
    for row in cohort:
        for reader in (1, 2, 3):
            for rule in ("RECIST", "mRECIST"):
                before, after = row[f"{reader}_{rule}_BL"], row[f"{reader}_{rule}_FU"]
                if before is None:
                    assert after is None
                    continue
                change = (after - before) / before
                expected = 1 if after == 0 else 2 if change <= -0.3 else 4 if change >= 0.2 else 3
                assert row[f"{reader}_{rule}"] == expected
                assert row[f"{reader}_mRECIST_BL"] <= row[f"{reader}_RECIST_BL"]
        if row["1_EASL_FU"] is not None:
            assert row["1_EASL"] == (3 if row["1_EASL_FU"] == 0 else 4)


def test_times_are_in_order_and_fit_the_studies(cohort) -> None:
    for row in cohort:
        first, last = (date(int(v[:4]), int(v[4:6]), int(v[6:])) for v in (row["visits"][0], row["visits"][-1]))
        assert row["Interval_FU"] == pytest.approx((last - first).days / 7, abs=0.006)
        assert 0 < row["TTP"] <= row["OS"]


def test_shares_are_those_of_the_cohort(cohort) -> None:
    def count(column: str, value: object) -> int:
        return sum(row[column] == value for row in cohort)

    assert count("Sex", 2) == 37
    assert count("Death_1_StillAliveorLostToFU_0", 1) == 93
    assert count("Censored_0_progressed_1", 1) == 45
    assert sum(all(row[f"{k}_mRECIST"] is not None for k in (1, 2, 3)) for row in cohort) == 93
    assert next(row["Sex"] for row in cohort if row["TCIA_ID"] == "HCC_017") == 2


def test_progressive_disease_has_progressed(cohort) -> None:
    for row in cohort:
        if row["1_mRECIST"] == 4:
            assert row["Censored_0_progressed_1"] == 1
            assert row["TTP"] == pytest.approx(row["Interval_FU"], abs=0.006)


def test_first_reader_measures_what_the_images_show(twin: Path) -> None:
    """The sheet's diameter is the longest one of the true labels within a slice, to a pixel."""
    book = openpyxl.load_workbook(twin / "clinical" / SHEET_NAME)["data table"]
    columns = {cell.value: k for k, cell in enumerate(book[1])}
    checked = 0
    for row in book.iter_rows(min_row=2, values_only=True):
        stated = row[columns["1_RECIST_BL"]]
        if stated is None:
            continue
        image = nibabel.load(twin / "truth" / "labels" / f"{row[0]}.nii.gz")
        pixel = float(image.header.get_zooms()[0])
        masses = np.isin(np.asarray(image.dataobj), (2, 5))
        found = [pdist(np.argwhere(masses[..., k])).max() for k in range(masses.shape[2]) if masses[..., k].sum() > 1]
        assert stated == pytest.approx(pixel * max(found), abs=1.05 * pixel)
        checked += 1
    assert checked >= 8
