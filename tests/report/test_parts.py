"""A part of the page that cannot be made says why in its place; the page is written nevertheless."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pytest

from hcc_tace_data.report import build, write_report


@pytest.fixture(scope="module")
def made_once(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("parts") / "twin", patients=2)


@pytest.fixture
def root(made_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "twin"))


def test_broken_sources_of_every_part(root: Path, tmp_path: Path) -> None:
    path = next(root.glob("clinical/*.xlsx"))
    book = openpyxl.load_workbook(path)
    sheet = book["data table"]
    column = [cell.value for cell in sheet[1]].index("TTP") + 1
    for row in range(2, sheet.max_row + 1):
        sheet.cell(row, column).value = None
    book.save(path)
    (root / "predictions").mkdir()
    (root / "predictions" / "evaluation.json").write_text("{}")
    (root / ".hcc-tace").mkdir(exist_ok=True)
    (root / ".hcc-tace" / "ledger.sqlite").write_bytes(b"x" * 5000)
    summary = write_report(root, tmp_path / "r.html", slices=1, workers=1)
    assert set(summary.failed) == {"files", "scores"}
    assert not summary.whole
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("This part could not be made") == 2
    assert "is not an evaluation" in page
    assert "is not a ledger" in page
    assert "The files could not be checked" in page
    assert "Overall survival" in page
    assert summary.pictures > 0


def test_a_crash_of_any_part_is_said_in_its_place(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("for the test")

    for name in ("validate", "verify", "label_phases", "make_cards"):
        monkeypatch.setattr(build, name, crash)
    for name in (
        "table_one",
        "survival_section",
        "competing_section",
        "cox_rows",
        "response_section",
        "agreement_section",
    ):
        monkeypatch.setattr(build.cohort, name, crash)
    summary = write_report(root, tmp_path / "r.html", workers=1)
    names = {
        "findings",
        "files",
        "phases",
        "patients",
        "cohort",
        "survival",
        "competing",
        "stages",
        "response",
        "readers",
    }
    assert set(summary.failed) == names
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("This part could not be made") == len(names)
    assert "No curation error" not in page


def test_one_patient_that_cannot_be_drawn_leaves_the_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hcc_tace_data.report import patients

    real = patients._card

    def card(case, *rest):
        if case.patient_id == "HCC_001":
            raise RecursionError("deep")
        return real(case, *rest)

    monkeypatch.setattr(patients, "_card", card)
    summary = write_report(root, tmp_path / "r.html", slices=1, workers=1)
    assert list(summary.not_drawn) == ["HCC_001"]
    assert "RecursionError" in summary.not_drawn["HCC_001"]
    assert summary.pictures > 0
