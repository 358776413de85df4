"""NIfTI files as other readers see them: the same voxels in the same places."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk

from hcc_tace_data import open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.volumes.nifti import write_nifti


def _voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_real_files_through_the_command(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = shared_data / "dicom" / "dcmqi_liver_ct"
    shutil.copytree(source, tmp_path / "in", ignore=shutil.ignore_patterns(".*"))
    assert main(["export", "nifti", str(tmp_path / "out"), str(tmp_path / "in"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["skipped"] == []
    files = [tmp_path / "out" / name for name in document["files"]]
    (ct,) = [path for path in files if path.name.endswith("_ct.nii.gz")]
    slices = sorted(source.glob("0*.dcm"), key=lambda f: sitk.ReadImage(str(f)).GetOrigin()[2])
    theirs, ours = sitk.ReadImage([str(f) for f in slices]), sitk.ReadImage(str(ct))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
    np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), atol=1e-4)
    np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-6)

    grid = read_ct([*source.glob("0*.dcm")])
    for path in files:
        if not path.name.endswith("_dseg.nii.gz"):
            continue
        told = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
        dicom = next(f for f in source.glob("*.dcm") if hd.imread(f).SOPInstanceUID == told["SOPInstanceUID"])
        expected = hd.seg.segread(dicom).get_volume().match_geometry(grid.get_geometry()).array
        expected = expected.reshape(*grid.array.shape, -1)
        assert told["Overlapping"] == bool((expected.sum(axis=-1) > 1).any())
        for index, segment in enumerate(told["Segments"]):
            if told["Overlapping"]:
                base = str(path).replace("_dseg.nii.gz", "")
                mask = _voxels(Path(f"{base}_label-{segment['Number']}_mask.nii.gz"))
            else:
                mask = _voxels(path) == segment["Number"]
            np.testing.assert_array_equal(mask, expected[..., index])


def test_oblique_and_flipped_affines_survive(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(10):
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        affine = np.eye(4)
        affine[:3, :3] = axes * rng.uniform(0.5, 5, 3)
        affine[:3, 3] = rng.uniform(-300, 300, 3)
        array = rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
        path = tmp_path / f"{number}.nii.gz"
        write_nifti(path, array, affine)
        image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
        if np.linalg.det(axes) < 0:  # ITK's directions are those of a right-handed grid read w, h, d: see below
            continue
        for index in ((0, 0, 0), (3, 4, 5), (1, 2, 3)):
            place = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]])
            np.testing.assert_allclose(place, (affine @ [*index, 1])[:3], atol=1e-3)


def test_phantom_and_a_second_run(twin: Path, tmp_path: Path) -> None:
    collection = open_collection(twin)
    first = [*export_nifti(collection, tmp_path, patients=["HCC_003", "HCC_008", "HCC_021"])]
    assert [study.skipped for study in first] == [()] * len(first)
    truth = {name: sitk.ReadImage(str(twin / "truth" / "labels" / f"{name}.nii.gz")) for name in ("HCC_003", "HCC_008")}
    for study in first:
        labels = [path for path in study.files if path.name.endswith("_dseg.nii.gz")]
        if not labels or study.patient_id not in truth:
            continue
        ours, theirs = sitk.ReadImage(str(labels[0])), truth[study.patient_id]
        assert ours.GetSize() == theirs.GetSize()
        np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-3)
        mine, real = sitk.GetArrayFromImage(ours) == 1, sitk.GetArrayFromImage(theirs) == 1
        assert 2 * (mine & real).sum() / (mine.sum() + real.sum()) > 0.9  # the SEG is a fusion of simulated readers
    stamps = {path: path.stat().st_mtime_ns for study in first for path in study.files}
    second = [*export_nifti(collection, tmp_path, patients=["HCC_003", "HCC_008", "HCC_021"])]
    assert {path: path.stat().st_mtime_ns for study in second for path in study.files} == stamps


def test_pybids_finds_every_file_by_subject_visit_and_phase(twin: Path, tmp_path: Path) -> None:
    """BIDS has no CT yet, so its validator knows the tables and the sidecars of the folder, and not the images."""
    from bids import BIDSLayout
    from bids_validator import BIDSValidator

    collection = open_collection(twin)
    done = [*export_nifti(collection, tmp_path, patients=["HCC_003", "HCC_008"], all_volumes=True)]
    layout = BIDSLayout(tmp_path, validate=False)
    assert layout.get_subjects() == ["HCC003", "HCC008"]
    wanted = collection.phase_volumes[lambda rows: rows["patient_id"].isin(["HCC_003", "HCC_008"])]
    images = [file.get_entities() for file in layout.get(suffix="ct", extension=".nii.gz")]
    parts = [one["subject"] for one in images if "chunk" in one]
    assert parts == ["HCC008"], "one region of its porto-venous sweep is annotated; the whole sweep is there as well"
    images = [one for one in images if "chunk" not in one]
    found = sorted((one["subject"], one["session"], one["ceagent"]) for one in images)
    dates = {study.study_uid: study.date for patient in collection.values() for study in patient.studies}
    assert found == sorted(
        (row.patient_id.replace("_", ""), dates[row.study_uid], row.phase.replace("_", ""))
        for row in wanted.itertuples()
    )
    assert len(layout.get(suffix="dseg", extension=".nii.gz")) == 2
    assert sorted(file.path for file in layout.get(extension=".nii.gz")) == sorted(
        str(path) for study in done for path in study.files if path.name.endswith(".nii.gz")
    )
    for name in ("dataset_description.json", "participants.tsv", "participants.json", "scans.json"):
        assert BIDSValidator().is_bids(f"/{name}")
    for table in tmp_path.rglob("*_scans.tsv"):
        assert BIDSValidator().is_bids(f"/{table.relative_to(tmp_path).as_posix()}")
        listed = table.read_text(encoding="utf-8").splitlines()[1:]
        assert listed
        assert all((table.parent / line.split("\t")[0]).is_file() for line in listed)


def test_wrong_arguments(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "dicom", str(tmp_path), str(twin)]) == 2
    assert "use nifti" in capsys.readouterr().err
    assert main(["export", "nifti", str(tmp_path), str(twin), "--patient", "HCC_999"]) == 2
    assert "HCC_999" in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert main(["export", "nifti", str(tmp_path / "out"), str(tmp_path / "none")]) == 3
