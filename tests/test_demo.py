"""The demo runs from end to end and leaves a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcc_tace_data.cli.main import main


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", str(tmp_path), "--seconds", "4", "--size", "tiny", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert not set(result["trained_on"]) & set(result["held_out"])
    assert result["steps"] >= 1
    assert all(0 < loss < 10 for loss in result["losses"])
    assert set(result["dice"]) == {"liver", "tumour", "portal vein", "aorta"}
    assert Path(result["picture"]).read_bytes().startswith(b"\x89PNG")
