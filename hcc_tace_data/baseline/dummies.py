"""Stored cases of noise: a training to measure where there are no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters

__all__ = ["dummy_cases"]


def dummy_cases(folder: Path, side: int, *, channels: int = 1, cases: int = 2, slices: int = 24) -> list[StoredCase]:
    """Write `cases` volumes of noise of `slices` x `side` x `side` voxels and return them."""
    phases = tuple(f"noise_{channel}" for channel in range(channels))
    store = Store(folder / "store", StoreParameters(phases=phases, classes={1: ("liver",), 2: ("tumour",)}))
    stored = []
    for number in range(cases):
        rng = np.random.default_rng(number)
        label = np.zeros((slices, side, side), dtype=np.uint8)
        label[:, side // 4 : 3 * side // 4, side // 8 : 3 * side // 4] = 1
        label[:, side // 3 : side // 2, side // 3 : side // 2] = 2
        source = folder / f"dummy-{number}"
        source.touch()
        case = Case(
            patient_id=f"DUMMY_{number}",
            study_uid="",
            series_uid=f"dummy-{number}",
            phases=phases,
            paths=(source,),
            sources=((source,),) * channels,
            segmentation=source,
        )
        arrays = CaseArrays(
            image=rng.integers(-200, 300, (channels, *label.shape), dtype=np.int16),
            label=label,
            spacing=np.array([2.5, 0.8, 0.8]),
            affine=np.diag([2.5, 0.8, 0.8, 1.0]),
        )
        stored.append(store.write(case, arrays))
    return stored
