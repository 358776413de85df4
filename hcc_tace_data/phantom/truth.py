"""Ground truth of a twin: written beside the data, for tests and benchmarks; the product never reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hcc_tace_data.phantom.patient import PatientResult
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import csv_rows

__all__ = ["TABLE_COLUMNS", "write_csv", "write_truth"]

TABLE_COLUMNS = (
    "patient_id", "study_uid", "study_date", "series_uid", "modality", "series_number", "series_description",
    "instances", "bytes", "bucket", "prefix", "source",
)  # fmt: skip


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows` as UTF-8 CSV with a header line."""
    atomic_write_text(path, csv_rows(columns, rows))


def write_truth(root: Path, results: Sequence[PatientResult], *, seed: int, size: str) -> None:
    """Write ``truth/``: phases.csv, annotated.csv, readers.json, transforms.json, twin.json."""
    truth = root / "truth"
    write_csv(
        truth / "phases.csv",
        ("patient_id", "study_uid", "series_uid", "sop_uid", "volume", "phase"),
        [row for one in results for row in one.phase_rows],
    )
    write_csv(
        truth / "annotated.csv",
        ("patient_id", "series_uid", "volume", "phase"),
        [one.annotated for one in results],
    )
    for name, document in (
        ("readers.json", {one.patient_id: one.readers for one in results}),
        ("transforms.json", [row for one in results for row in one.transforms]),
        ("twin.json", {"seed": seed, "size": size, "patients": [one.patient_id for one in results]}),
    ):
        atomic_write_text(truth / name, json.dumps(document, indent=1) + "\n")
