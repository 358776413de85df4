"""What the twin holds, read once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pydicom
import pytest


@pytest.fixture(scope="session")
def phases(twin: Path) -> list[dict[str, str]]:
    with open(twin / "truth" / "phases.csv", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="session")
def headers(twin: Path) -> dict[str, pydicom.Dataset]:
    """Every CT file by SOPInstanceUID."""
    found = {}
    for path in sorted(twin.glob("HCC_*/*/CT_*/*.dcm")):
        dataset = pydicom.dcmread(path)
        found[str(dataset.SOPInstanceUID)] = dataset
    return found


@pytest.fixture(scope="session")
def segmentation(twin: Path) -> Any:
    def read(patient: str) -> pydicom.Dataset:
        (path,) = twin.glob(f"{patient}/*/SEG_*/*.dcm")
        return pydicom.dcmread(path)

    return read
