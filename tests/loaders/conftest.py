"""Stored cases of random arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters

PARAMETERS = StoreParameters(classes={1: ("liver",), 2: ("tumour",)})


@pytest.fixture
def make_case(tmp_path: Path) -> Callable[..., tuple[Case, CaseArrays]]:
    """Return a function that makes a case with source files and random arrays."""

    def make(number: int, depth: int = 6, side: int = 16) -> tuple[Case, CaseArrays]:
        rng = np.random.default_rng(number)
        folder = tmp_path / "dicom" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        names = [*(f"{d}.dcm" for d in range(depth)), "seg.dcm"]
        for name in names:
            if not (folder / name).exists():
                (folder / name).write_bytes(name.encode())
        label = np.zeros((depth, side, side), np.uint8)
        label[1:-1, 3:9, 4:10] = 1
        label[2, 5:7, 5:8] = 2
        case = Case(
            patient_id=f"HCC_{number:03d}",
            study_uid=f"1.2.{number}",
            series_uid=f"1.2.{number}.1",
            phases=("portal_venous",),
            paths=tuple(folder / name for name in names[:-1]),
            segmentation=folder / names[-1],
            clinical={"age_years": 60.0 + number, "tace_response": ""},
        )
        arrays = CaseArrays(
            image=rng.integers(-1000, 1000, (depth, side, side)).astype(np.int16),
            label=label,
            spacing=np.array([2.5, 0.8, 0.8]),
            affine=np.diag([2.5, 0.8, 0.8, 1.0]),
            liver=((1, depth - 1), (3, 9), (4, 10)),
            tumour=((2, 3), (5, 7), (5, 8)),
        )
        return case, arrays

    return make


@pytest.fixture
def stored(make_case: Callable[..., tuple[Case, CaseArrays]], tmp_path: Path) -> list[StoredCase]:
    """Five stored cases of different depth."""
    store = Store(tmp_path / "store", PARAMETERS)
    return [store.write(*make_case(number, depth=4 + number)) for number in range(5)]
