"""A tiny twin of the patients with quirks, made once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hcc_tace_data.phantom import make_phantom

QUIRKY = ["HCC_001", "HCC_003", "HCC_008", "HCC_011", "HCC_012", "HCC_017", "HCC_021", "HCC_041", "HCC_048"]
QUIRKY += ["HCC_065", "HCC_089", "HCC_099"]


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("twin") / "t", patients=QUIRKY, workers=1)


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
