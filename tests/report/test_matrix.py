"""The matrix of phases says of each label whether it is published or inferred."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd

from hcc_tace_data.phases.names import PHASES
from hcc_tace_data.report.matrix import phase_matrix


def table(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Return a phase table of one visit: phase, source, series."""
    return pd.DataFrame(
        [
            {"patient_id": "HCC_001", "study_date": "20000101", "phase": phase, "source": source, "confidence": 0.9,
             "evidence": ("said so",), "annotated": None, "series_uid": series}
            for phase, source, series in rows
        ]
    )  # fmt: skip


def cells(volumes: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    patient: Any = SimpleNamespace(baseline=SimpleNamespace(date="20000101"))
    matrix = phase_matrix({"HCC_001": patient}, volumes)  # type: ignore[arg-type]
    return dict(zip(PHASES, matrix["rows"][0]["visits"][0], strict=True)), matrix


def test_cells_say_where_their_phase_is_from() -> None:
    found, matrix = cells(
        table(
            ("pre_contrast", "published", "1"),
            ("arterial", "inferred", "2"),
            ("portal_venous", "published", "3"),
            ("portal_venous", "inferred", "4"),
            ("unknown", "inferred", "5"),
        )
    )
    assert {phase: cell.get("inferred") for phase, cell in found.items() if cell["count"]} == {
        "pre_contrast": False, "arterial": True, "portal_venous": True, "unknown": False,
    }  # fmt: skip
    assert "as published" in found["pre_contrast"]["text"]
    assert "inferred" not in found["pre_contrast"]["text"]
    assert "inferred" in found["arterial"]["text"]
    assert "published" not in found["arterial"]["text"]
    assert "1 as published, 1 inferred" in found["portal_venous"]["text"]
    assert matrix["sources"] == {"published": 2, "inferred": 2}
