"""The demo runs the whole pipeline and leaves a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcc_tace_data.cli.main import main
from hcc_tace_data.facts.splits import patients_of


@pytest.mark.timeout(900)  # twelve trainings: half a minute alone, minutes beside others
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", str(tmp_path), "--budget", "0.1", "--steps", "2", "--size", "tiny", "--json", "--quiet"]
    words += ["--folds", "5", "--control"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["folds"]) == 5
    held_out = {case["patient_id"] for case in result["evaluation"]["cases"]}
    assert len(held_out) == 3
    assert held_out <= set(patients_of("test"))
    for fold in result["folds"]:
        assert not held_out & {*fold["train"], *fold["validation"], *fold["liver"]["train_patients"]}
    assert Path(result["report"]).read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_a_full_demo_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--size", "full"]) == 2
    assert "tiny or small" in capsys.readouterr().err
