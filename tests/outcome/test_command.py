"""`hcc-tace outcome` on the published sheet: figures, a saved model, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcc_tace_data.cli.main import main
from hcc_tace_data.outcome import FittedModel


@pytest.fixture(scope="module")
def sheet(shared_data: Path) -> str:
    return str(shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx")


def test_radiomics_are_added_to_the_sheet(
    sheet: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(shared_data / "published" / "radiomics_tumour.csv")
    page = tmp_path / "outcome.html"
    options = ["--features", table, "--columns", "original_shape_M*", "--repeats", "1", "--permutations", "1"]
    assert main(["outcome", "report", sheet, "--tasks", "os", *options, "--out", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    repeated, shipped = (document["tasks"][0][name] for name in ("repeated", "shipped"))
    rows = {row["name"]: row for row in repeated["models"]}
    assert rows["images"]["features"] == 7
    assert rows["clinical_images"]["features"] == 25
    low, high = rows["clinical_images"]["difference"][1:]
    assert low < 0 < high  # images are not shown to help
    assert (repeated["test_patients"], shipped["test_patients"]) == (20, 0)
    text = page.read_text(encoding="utf-8")
    assert "so images are not shown to help" in text
    assert text.count('<svg class="chart"') == 3
    assert "85 development patients" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_models_are_fitted_and_saved(sheet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.json"
    assert main(["outcome", "fit", sheet, "--task", "ttp", "--model", "stages", "--out", str(out)]) == 0
    assert "fitted on 85 patients" in (said := capsys.readouterr().out)
    assert "20 test patients not used" in said
    assert FittedModel.load(out).columns == ("clip_score", "okuda", "tnm", "bclc")


@pytest.mark.parametrize("column", ["reader1_recist_fu_mm", "interval_fu_weeks", "chemotherapy", "died"])
def test_a_column_that_was_not_known_is_refused_by_name(
    sheet: str, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["outcome", "evaluate", sheet, "--clinical", f"age_years,{column}"]) == 2
    assert column in capsys.readouterr().err


def test_usage(sheet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["outcome", "report", sheet, "--tasks", "survival"]) == 2
    assert main(["outcome", "report", sheet, "--out", str(tmp_path)]) == 2
    assert main(["outcome", "evaluate", sheet, "--columns", "a"]) == 2
    (tmp_path / "t.csv").write_text("patient_id,name\nHCC_001,x\n")
    assert main(["outcome", "evaluate", sheet, "--features", str(tmp_path / "t.csv")]) == 2
    assert "no column of numbers" in capsys.readouterr().err
