"""Exports read back by those who use them: identical voxels in identical places."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data import fuse_staple, load_hcc_tace, open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.errors import PatientNotFoundError, UsageError
from hcc_tace_data.export.run import export_cases
from hcc_tace_data.facts.splits import patients_of, split_table

PATIENTS = ["HCC_001", "HCC_003", "HCC_008", "HCC_021"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
QUICK = settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _export(root: Path, out: Path, format: str, **options: Any) -> list[Any]:
    return list(export_cases(open_collection(root), out, format, workers=1, **options))


def _check(image: Any, array: np.ndarray, affine: np.ndarray) -> None:
    """Compare a NIfTI image with an array (D, H, W) and its affine to LPS mm."""
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), array)
    depth, height, width = array.shape
    for d, h, w in ((0, 0, 0), (depth - 1, 0, width - 1), (0, height - 1, 0)):
        there = LPS_TO_RAS @ affine @ [d, h, w, 1]
        np.testing.assert_allclose(image.affine @ [w, h, d, 1], there, atol=1e-4)


def _expected(root: Path, patients: list[str]) -> dict[str, Any]:
    return {sample["patient_id"]: sample for sample in load_hcc_tace(root) if sample["patient_id"] in patients}


def _check_pairs(root: Path, pairs: dict[str, tuple[Any, Any]]) -> None:
    expected = _expected(root, list(pairs))
    assert set(expected) == set(pairs)
    for name, (image, label) in pairs.items():
        sample = expected[name]
        _check(image, sample["image"][0].numpy(), sample["affine"].numpy())
        _check(label, sample["label"].numpy(), sample["affine"].numpy())


def test_nnunet(twin: Path, tmp_path: Path) -> None:
    done = _export(twin, tmp_path, "nnunet", patients=PATIENTS)
    assert [case.skipped for case in done] == [""] * 4
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "liver": 1, "tumour": 2, "portal vein": 3, "aorta": 4}
    pairs = {}
    for name in PATIENTS:
        part = "Ts" if split_table()[name] is None else "Tr"
        image = nibabel.load(tmp_path / f"images{part}" / f"{name}_0000.nii.gz")
        pairs[name] = image, nibabel.load(tmp_path / f"labels{part}" / f"{name}.nii.gz")
    _check_pairs(twin, pairs)
    training = {name for name in PATIENTS if split_table()[name] is not None}
    assert dataset["numTraining"] == len(training)
    for fold, part in enumerate(json.loads((tmp_path / "splits_final.json").read_text())):
        assert set(part["train"]) == training & set(patients_of("train", fold))
        assert set(part["val"]) == training & set(patients_of("validation", fold))


def test_monai(twin: Path, tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    _export(twin, tmp_path, "monai", patients=PATIENTS)
    listed = [*load_decathlon_datalist(tmp_path / "dataset.json", True, "training")]
    if json.loads((tmp_path / "dataset.json").read_text())["numTest"]:
        listed += load_decathlon_datalist(tmp_path / "dataset.json", True, "test")
    _check_pairs(twin, {one["patient_id"]: (nibabel.load(one["image"]), nibabel.load(one["label"])) for one in listed})
    for fold in range(5):
        path = tmp_path / f"dataset_fold{fold}.json"
        held = json.loads(path.read_text())["validation"]
        assert {one["patient_id"] for one in held} == set(PATIENTS) & set(patients_of("validation", fold))
        kept = {one["patient_id"] for one in load_decathlon_datalist(path, True, "training")}
        assert kept == set(PATIENTS) & set(patients_of("train", fold))


def test_hugging_face(twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    _export(twin, tmp_path / "hf", "hf", patients=PATIENTS)
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    rows = {row["patient_id"]: row for split in loaded.values() for row in split}
    _check_pairs(twin, {name: (row["image"], row["label"]) for name, row in rows.items()})
    for split, part in loaded.items():
        assert {row["patient_id"] for row in part} == {
            name for name in PATIENTS if (split_table()[name] is None) == (split == "test")
        }
    assert json.loads(rows["HCC_003"]["clinical"])["patient_id"] == "HCC_003"
    assert rows["HCC_003"]["readers"] == 3
    assert "CC BY 4.0" in (tmp_path / "hf" / "README.md").read_text()


def test_seg_of_fused_readers(twin: Path, tmp_path: Path) -> None:
    names = ["HCC_003", "HCC_017"]
    done = _export(twin, tmp_path, "seg", patients=names, annotations="staple")
    assert [case.skipped for case in done] == ["", ""]
    for case in done:
        patient = open_collection(twin)[case.patient_id]
        chosen = [one for one in patient.baseline.annotations if one.reader != "collection"]
        volume = read_ct(list(chosen[0].paths))
        drawn = [np.asarray(nibabel.load(one.path).dataobj).transpose(2, 1, 0) for one in chosen]
        fused = fuse_staple(drawn).label_map
        fused[fused == 5] = 2  # necrosis is tumour in the standard classes
        read = read_seg(case.files[0], like=volume)
        np.testing.assert_array_equal(read.label_map(), fused)
        assert {segment.algorithm for segment in read.segments} == {"SEMIAUTOMATIC"}
    table = (tmp_path / "segmentations.csv").read_text().splitlines()
    assert table[1].endswith(",reader_1+reader_2+reader_3,3")


@given(seed=st.integers(0, 30), reverse=st.booleans(), drawn=st.integers(0, 5))
@QUICK
def test_flipped_and_oblique_ct_survive_every_format(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray],
    seed: int, reverse: bool, drawn: int,
) -> None:  # fmt: skip
    folder = tmp_path / f"{seed}{reverse}{drawn}"
    paths = write_ct(folder / "root" / "ct", seed, reverse)
    labels, volume = draw_labels(drawn), read_ct(paths)
    write_seg(folder / "root" / "seg.dcm", labels, paths, algorithm=Algorithm(name="drawn", version="1"))
    for format in ("nnunet", "monai", "hf", "seg"):
        (done,) = _export(folder / "root", folder / format, format)
        assert done.skipped == ""
        if format == "seg":
            np.testing.assert_array_equal(read_seg(done.files[0], like=volume).label_map(), labels)
            continue
        if format == "hf":
            import pyarrow.parquet as pq

            (row,) = pq.read_table(done.files[0]).to_pylist()
            pair = [nibabel.Nifti1Image.from_bytes(_unzipped(row[name]["bytes"])) for name in ("image", "label")]
        else:
            pair = [nibabel.load(path) for path in done.files]
        _check(pair[0], volume.array, volume.affine)
        _check(pair[1], labels, volume.affine)


def _unzipped(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def test_a_run_is_taken_up_and_changed_sources_are_written_anew(twin: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(twin / "HCC_003", tmp_path / "root" / "HCC_003")).parent
    shutil.copytree(twin / "annotations", root / "annotations")
    shutil.copytree(twin / "HCC_017", root / "HCC_017")
    out = tmp_path / "out"
    options: dict[str, Any] = {"annotations": "reader_1"}
    _export(root, out, "nnunet", patients=["HCC_003"], **options)
    files = sorted(path for path in out.rglob("*.nii.gz"))
    stamps = {path: path.stat().st_mtime_ns for path in files}
    _export(root, out, "nnunet", **options)
    assert {path: path.stat().st_mtime_ns for path in files} == stamps
    everything = set(json.loads((out / "provenance.json").read_text())["patients"])
    assert everything == {"HCC_003", "HCC_017"}
    label = next(path for path in files if "labels" in path.parent.name)
    label.write_bytes(label.read_bytes()[:-7])  # what a full disk leaves behind
    drawn = root / "annotations" / "reader_1" / "HCC_017.nii.gz"
    image = nibabel.load(drawn)
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), drawn)
    _export(root, out, "nnunet", **options)
    assert np.asarray(nibabel.load(label).dataobj).any()
    (changed,) = out.glob("labels*/HCC_017.nii.gz")
    assert not np.asarray(nibabel.load(changed).dataobj).any()
    with pytest.raises(UsageError, match="another annotations"):
        _export(root, out, "nnunet", annotations="reader_2")
    with pytest.raises(UsageError, match="other files"):
        _export(root, root, "nnunet")
    assert not list(out.rglob("*.part*"))


def test_two_processes_give_the_same_files(twin: Path, tmp_path: Path) -> None:
    _export(twin, tmp_path / "one", "monai", patients=PATIENTS[:2])
    list(export_cases(open_collection(twin), tmp_path / "two", "monai", patients=PATIENTS[:2], workers=2))
    for path in (tmp_path / "one").rglob("*.json"):
        if path.name != "provenance.json" and ".hcc-tace" not in path.parts:
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    for path in (tmp_path / "one").rglob("*.nii.gz"):
        ours, theirs = nibabel.load(path), nibabel.load(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        np.testing.assert_array_equal(ours.dataobj, theirs.dataobj)


def test_croissant_is_accepted_and_its_records_load(tmp_path: Path, twin: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant, which checks Croissant files, is not there")
    assert main(["export", "croissant", str(tmp_path / "real"), "--quiet"]) == 0
    assert main(["export", "croissant", str(tmp_path / "twin"), str(twin), "--quiet"]) == 0
    command = [sys.executable, "-m", "mlcroissant.scripts.validate", "--jsonld", str(tmp_path / "real/croissant.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "real" / "croissant.json"))
    rows = list(dataset.records("series"))
    assert len(rows) == 677
    assert sum(row["series/instances"] for row in rows) == 51968
    parts = [row["splits/split"] for row in dataset.records("splits")]
    assert (parts.count(b"train"), parts.count(b"test")) == (85, 20)
    twins = mlcroissant.Dataset(jsonld=str(tmp_path / "twin" / "croissant.json"))
    assert {row["splits/patient_id"].decode() for row in twins.records("splits")} == set(open_collection(twin))


def test_the_known_missing_slice_is_no_failure_and_said_once(
    twin: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "nifti", str(tmp_path / "a"), str(twin), "--patient", "HCC_001"]) == 0
    told = capfd.readouterr()
    assert (told.out + told.err).count("off the CT") == 1
    assert main(["export", "nifti", str(tmp_path / "a"), str(twin), "--patient", "HCC_001", "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert (len(document["known"]), document["skipped"]) == (1, [])


def test_wrong_use(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(twin)
    for words, message in (
        (["nnunet", "--labels", "nothing"], "nothing"),
        (["nnunet", "--annotations", "reader_8"], "reader_8"),
        (["nifti", "--labels", "liver"], "nifti"),
        (["hf", "--all-volumes"], "--all-volumes"),
        (["croissant", "--patient", "HCC_001"], "croissant"),
    ):
        assert main(["export", words[0], str(tmp_path / "out"), root, *words[1:]]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(PatientNotFoundError):
        _export(twin, tmp_path / "out", "seg", patients=["HCC_777"])
