"""`hcc-tace clinical`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hcc_tace_data.cli.main import main


def test_json_is_one_document(
    sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    csv = tmp_path / "out.csv"
    assert main(["clinical", str(write_sheet(sheet)), "--json", "--by", "sex", "--csv", str(csv)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert document["patients"] == 12
    assert [group["group"] for group in document["survival"]["os"]["groups"]] == ["male", "female"]
    assert len(pd.read_csv(csv)) == 12


def test_defects_exit_with_one(
    sheet: pd.DataFrame, write_sheet: Callable[[pd.DataFrame], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sheet.loc[0, "CPS"] = "Z"
    assert main(["clinical", str(write_sheet(sheet))]) == 1
    assert "HCC_001" in capsys.readouterr().out


def test_no_sheet_exits_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clinical", str(tmp_path)]) == 3
    assert "No clinical sheet" in capsys.readouterr().err
