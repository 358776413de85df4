"""The twin's readers: their planted skill is found again, and their fusion is better than any of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hcc_tace_data import fuse_staple
from hcc_tace_data.phantom.readers import simulate_readers


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def _check(truth: np.ndarray, readers: list[np.ndarray], p: dict[int, np.ndarray], q: dict[int, np.ndarray]) -> None:
    fused = fuse_staple(readers)
    for label, planted in p.items():
        true = truth == label
        best = max(_dice(reader == label, true) for reader in readers)
        mine = _dice(fused.label_map == label, true)
        assert mine > best or mine == 1
        # no error is planted twice as large as the smallest that a sample of this size can show
        few = 1 / np.count_nonzero(true)
        errors = np.sqrt(np.maximum(planted * (1 - planted), few) / np.count_nonzero(true))
        assert (np.abs(fused.sensitivity[label] - planted) < 2 * errors).all()
        errors = np.sqrt(np.maximum(q[label] * (1 - q[label]), 1 / truth.size) / np.count_nonzero(~true))
        assert (np.abs(fused.specificity[label] - q[label]) < 2 * errors).all()


@pytest.mark.parametrize("patient", ["HCC_001", "HCC_008", "HCC_017", "HCC_065"])
def test_of_a_twin(twin: Path, patient: str) -> None:
    truth = np.asarray(nibabel.load(twin / "truth" / "labels" / f"{patient}.nii.gz").dataobj)
    planted = json.loads((twin / "truth" / "readers.json").read_text())[patient]
    readers = [np.asarray(nibabel.load(twin / "annotations" / name / f"{patient}.nii.gz").dataobj) for name in planted]
    skill = {
        name: {int(k): np.array([one[k][name] for one in planted.values()]) for k in planted["reader_1"]}
        for name in ("sensitivity", "specificity")
    }
    _check(truth, readers, skill["sensitivity"], skill["specificity"])


def test_of_a_large_liver_with_a_large_tumour() -> None:
    """Where thousands of voxels leave no room for errors that two readers share."""
    d, h, w = np.ogrid[:40, :120, :120]
    truth = np.zeros((40, 120, 120), np.uint8)
    truth[((d - 20) / 17) ** 2 + ((h - 60) / 45) ** 2 + ((w - 50) / 40) ** 2 < 1] = 1
    truth[((d - 22) / 12) ** 2 + ((h - 70) / 26) ** 2 + ((w - 40) / 24) ** 2 < 1] = 2
    truth[15:25, 50:54, 30:80] = 3
    readings = simulate_readers(truth, (2.5, 0.8, 0.8), seed=3, patient_id="HCC_900")
    labels = [int(n) for n in np.unique(truth) if n]
    p = {n: np.array([one.sensitivity[n] for one in readings]) for n in labels}
    q = {n: np.array([one.specificity[n] for one in readings]) for n in labels}
    _check(truth, [one.labels for one in readings], p, q)
