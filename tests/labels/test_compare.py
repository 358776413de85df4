"""A user's masks against the collection's: known differences come out, wherever and however the file is stored."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import SegmentationError, UsageError
from hcc_tace_data.labels.compare import compare_masks, files_by_patient
from hcc_tace_data.loaders.load import load_hcc_tace
from hcc_tace_data.open import open_collection
from hcc_tace_data.volumes.nifti import write_nifti

PATIENT = "HCC_004"


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("set") / "t", patients=[PATIENT, "HCC_010"])


@pytest.fixture(scope="module")
def truth(root: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Label map of the first patient, its affine, and ml per voxel."""
    dataset = load_hcc_tace(root, phases="annotated")
    sample = next(one for one in dataset if one["patient_id"] == PATIENT)
    affine = np.asarray(sample["affine"], np.float64)
    return np.asarray(sample["label"]), affine, abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def _scores(root: Path, file: Path, **options: str) -> dict[str, object]:
    study = open_collection(root)[PATIENT].baseline
    assert study is not None
    return {one.structure: one.scores for one in compare_masks(study, file, **options)}


def test_the_same_masks_are_equal_however_the_axes_run(
    root: Path, truth: tuple[np.ndarray, np.ndarray, float], tmp_path: Path
) -> None:
    labels, affine, _ = truth
    write_nifti(tmp_path / "a.nii.gz", labels, affine)
    image = nibabel.load(tmp_path / "a.nii.gz")
    turn = np.array([[1, -1], [0, 1], [2, -1]])
    nibabel.save(image.as_reoriented(turn), tmp_path / "b.nii.gz")
    for name in ("a.nii.gz", "b.nii.gz"):
        found = _scores(root, tmp_path / name)
        assert list(found) == ["whole liver", "tumour", "portal vein", "aorta"]
        assert {(one.dice, one.hd95_mm, one.volume_error_ml) for one in found.values()} == {(1.0, 0.0, 0.0)}


def test_what_is_missing_is_seen_and_the_whole_liver_holds_the_tumour(
    root: Path, truth: tuple[np.ndarray, np.ndarray, float], tmp_path: Path
) -> None:
    labels, affine, ml = truth
    half = labels.copy()
    tumour = np.argwhere(labels == 2)
    gone = tuple(tumour[: len(tumour) // 2].T)
    half[gone] = 1
    write_nifti(tmp_path / f"{PATIENT}.nii.gz", half, affine)
    found = _scores(root, tmp_path / f"{PATIENT}.nii.gz")
    kept = len(tumour) - len(gone[0])
    assert found["tumour"].dice == pytest.approx(2 * kept / (kept + len(tumour)))
    assert found["tumour"].volume_error_ml == pytest.approx(-len(gone[0]) * ml)
    assert found["whole liver"].dice == 1.0


def test_labels_that_a_file_does_not_name_are_not_scored(
    root: Path, truth: tuple[np.ndarray, np.ndarray, float], tmp_path: Path
) -> None:
    labels, affine, _ = truth
    write_nifti(tmp_path / "t.nii.gz", (labels == 2).astype(np.uint8) * 7, affine)
    (tmp_path / "t.json").write_text(json.dumps({"labels": {"7": "tumour"}}), encoding="utf-8")
    assert list(_scores(root, tmp_path / "t.nii.gz")) == ["tumour"]


def test_a_reader_can_be_what_is_compared_with(root: Path) -> None:
    own = root / "annotations" / "reader_1" / f"{PATIENT}.nii.gz"
    assert {one.dice for one in _scores(root, own, annotations="reader_1").values()} == {1.0}
    assert all(0.8 < one.dice < 1 for one in _scores(root, own).values())
    with pytest.raises(SegmentationError, match="nothing to compare with"):
        _scores(root, own, annotations="nobody")


def test_files_are_found_by_patient(tmp_path: Path) -> None:
    for name in (f"{PATIENT}.nii.gz", "notes.txt", "HCC_999.nii.gz", "HCC_010.seg.nrrd"):
        (tmp_path / name).touch()
    known = [PATIENT, "HCC_010"]
    assert files_by_patient(tmp_path, known) == {
        PATIENT: tmp_path / f"{PATIENT}.nii.gz",
        "HCC_010": tmp_path / "HCC_010.seg.nrrd",
    }
    assert list(files_by_patient(tmp_path / f"{PATIENT}.nii.gz", known)) == [PATIENT]
    (tmp_path / f"{PATIENT}.dcm").touch()
    with pytest.raises(UsageError, match="both of HCC_004"):
        files_by_patient(tmp_path, known)
    with pytest.raises(UsageError, match=r"HCC_001\.nii\.gz"):
        files_by_patient(tmp_path, ["HCC_001"])


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = tmp_path / "mine"
    masks.mkdir()
    for patient in (PATIENT, "HCC_010"):
        shutil.copy(root / "annotations" / "reader_2" / f"{patient}.nii.gz", masks)
    table = tmp_path / "scores.csv"
    assert main(["compare", str(masks), str(root), "--json", "--csv", str(table)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["rows"]) == len(list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))) == 8
    assert main(["compare", str(masks), str(root)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("mean") == 4
    assert "(2 patients)" in shown
    (masks / f"{PATIENT}.nii.gz").write_bytes(b"broken")
    assert main(["compare", str(masks), str(root), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert list(document["failed"]) == [PATIENT]
    assert len(document["rows"]) == 4
    assert main(["compare", str(masks / "none"), str(root)]) == 3
    assert main(["compare", str(root / "truth"), str(root)]) == 2


def test_an_annotation_is_compared_with_another_in_one_command(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "ba.png"
    assert main(["compare", "reader_2", str(root), "--json", "--plot", str(plot)]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = [row for row in document["rows"] if row["structure"] == "tumour"]
    assert len(rows) == 2
    difference = [row["predicted_ml"] - row["volume_ml"] for row in rows]
    limits = document["bland_altman_ml"]["tumour"]
    assert limits["bias"] == pytest.approx(np.mean(difference))
    assert limits["upper"] == pytest.approx(np.mean(difference) + 1.96 * np.std(difference, ddof=1))
    assert document["absent"] == []
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["compare", "bamf", str(root)]) == 3  # this twin has none
    assert "annotation by it" in capsys.readouterr().err
