"""`hcc-tace fuse` on files as readers hand them in."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hcc_tace_data import fuse_staple, make_phantom, open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.system.files import OUTPUT_MARK
from hcc_tace_data.volumes.grids import through
from hcc_tace_data.volumes.nifti import write_nifti

PATIENT = "HCC_012"
NAMES = ["reader_1", "reader_2", "reader_3"]


@pytest.fixture
def files(twin: Path) -> list[str]:
    return [str(twin / "annotations" / name / f"{PATIENT}.nii.gz") for name in NAMES]


@pytest.fixture
def ct(twin: Path, tmp_path: Path) -> Path:
    """Return a folder with the annotated CT alone."""
    study = open_collection(twin)[PATIENT].baseline
    assert study is not None
    for path in study.annotations[0].paths:
        (tmp_path / "ct").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "ct")
    return tmp_path / "ct"


def _voxels(path: Path | str) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)


def _results(out: Path) -> set[str]:
    """Names in a folder of results, which says that it is no part of a collection."""
    names = {path.name for path in out.iterdir()}
    assert OUTPUT_MARK in names
    return names - {OUTPUT_MARK}


def test_label_map_probabilities_report_and_seg(
    files: list[str], ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["fuse", *files, "--out", str(out), "--ct", str(ct), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    expected = fuse_staple([_voxels(path) for path in files])
    np.testing.assert_array_equal(_voxels(out / "labels.nii.gz"), expected.label_map)
    for key, number in report["labels"].items():
        np.testing.assert_allclose(_voxels(out / f"probability_{key}.nii.gz"), expected.probability[number], atol=1e-6)
        told = report["staple"][key]
        assert told["iterations"] == expected.iterations[number]
        np.testing.assert_allclose([told["sensitivity"][name] for name in NAMES], expected.sensitivity[number])
        assert report["agreement"][key]["dice"]["reader_1/reader_2"] > 0.8
    assert (report["region"], report["threshold"], report["ties"][:2]) == ("image", 0.5, ["liver", "tumour"])
    seg = read_seg(out / "labels_seg.dcm", like=read_ct(ct))
    np.testing.assert_array_equal(seg.label_map(), expected.label_map)
    assert json.loads((out / "labels.json").read_text())["labels"]["1"] == "liver"
    assert {Path(name).name for name in report["files"]} == _results(out)
    assert main(["fuse", *files, "--out", str(out), "--region", "union"]) == 0
    assert "sensitivity" in capsys.readouterr().out


def test_labels_are_matched_by_name_across_formats_and_orientations(
    files: list[str], ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = fuse_staple([_voxels(path) for path in files]).label_map
    image = nibabel.load(files[0])
    turned = image.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(("A", "S", "R"))
        )
    )
    swapped = np.choose(np.asarray(turned.dataobj), [0, 3, 1, 2, 4]).astype(np.uint8)
    one = tmp_path / "one.nii.gz"
    nibabel.save(nibabel.Nifti1Image(swapped, turned.affine), one)
    names = {"labels": {"3": "Liver", "1": "Tumor", "2": "portal vein", "4": "AORTA"}}
    (tmp_path / "one.json").write_text(json.dumps(names))
    two = tmp_path / "two.dcm"
    write_seg(two, _voxels(files[1]), [*ct.iterdir()], algorithm=Algorithm(name="hand", version="1", kind="MANUAL"))
    out = tmp_path / "out"
    assert main(["fuse", str(one), str(two), files[2], "-o", str(out), "--ct", str(ct), "-q"]) == 0
    np.testing.assert_array_equal(_voxels(out / "labels.nii.gz"), expected)
    drawn = [_voxels(path) for path in files]
    assert main(["fuse", *files, "-o", str(out), "--method", "union", "-q"]) == 0
    np.testing.assert_array_equal(_voxels(out / "labels.nii.gz") > 0, np.any(drawn, axis=0))
    assert main(["fuse", *files, "-o", str(out), "--method", "intersection", "-q"]) == 0
    alike = (drawn[0] == drawn[1]) & (drawn[1] == drawn[2])
    np.testing.assert_array_equal(_voxels(out / "labels.nii.gz"), np.where(alike, drawn[0], 0))
    # what the first run wrote and this one did not make is gone: it told of another fusion
    assert _results(out) == {"labels.nii.gz", "labels.json", "fusion.json"}
    capsys.readouterr()


def test_wrong_use(files: list[str], ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    image = nibabel.load(files[0])
    moved = image.affine.copy()
    moved[0, 3] += 2.2
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), tmp_path / "moved.nii.gz")
    empty = tmp_path / "empty.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    for words, message in (
        ([files[0], files[0]], "given twice"),
        ([files[0], str(tmp_path / "moved.nii.gz")], "another grid"),
        ([str(empty)], "no reader drew"),
        ([*files, "--method", "mean"], "--method"),
        ([*files, "--threshold", "0"], "threshold"),
        ([*files, "--phase", str(ct)], "--ct"),
    ):
        assert main(["fuse", *words, "--out", str(out)]) == 2
        assert message in capsys.readouterr().err
    for words, message in (
        ([files[0], str(tmp_path / "none.nii.gz")], "no file"),
        ([*files, "--ct", str(tmp_path / "none")], "no folder"),
        ([*files, "--ct", str(Path(files[0]).parent)], "no CT"),
    ):
        assert main(["fuse", *words, "--out", str(out)]) == 3
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_readers_file_is_not_overwritten(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "labels.nii.gz"
    shutil.copy(files[0], mine)
    before = mine.read_bytes()
    assert main(["fuse", str(mine), *files[1:], "--out", str(tmp_path)]) == 2
    assert "overwritten" in capsys.readouterr().err
    assert mine.read_bytes() == before
    assert list(tmp_path.iterdir()) == [mine]
    assert main(["fuse", *files, "--out", str(mine)]) == 2
    assert "is a file" in capsys.readouterr().err


def test_a_stopped_run_is_no_result_and_the_next_one_clears_up(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["fuse", *files, "-o", str(out), "-q"]) == 0
    (out / "thesis.txt").write_text("mine")
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == "probability_tumour.nii.gz":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert main(["fuse", *files[:2], "-o", str(out), "-q"]) == 2
    assert "disk" in capsys.readouterr().err
    assert json.loads((out / "fusion.json").read_text())["complete"] is False
    monkeypatch.undo()
    assert main(["fuse", *files[1:], "-o", str(out), "-q", "--method", "majority"]) == 0
    assert _results(out) == {"labels.nii.gz", "labels.json", "fusion.json", "thesis.txt"}
    (tmp_path / "file").write_text("")
    assert main(["fuse", *files, "-o", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_names_of_labels_and_readers_stay_apart(files: list[str], tmp_path: Path) -> None:
    """Labels whose names make one file name, a reader who looked for one label only, files of one name."""
    image = nibabel.load(files[0])
    drawn = np.asarray(image.dataobj)
    told = ({"1": "left lobe", "2": "left-lobe"}, {"1": "left lobe", "2": "left-lobe"}, {"2": "left-lobe"})
    for number, names in enumerate(told):
        path = tmp_path / "ab"[number // 2] / f"{'one' if number < 2 else 'two'}{number % 2}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        kept = np.where((drawn > 2) | ((drawn == 1) & ("1" not in names)), 0, drawn).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(kept, image.affine), path)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"labels": names}))
    words = [str(path) for path in sorted(tmp_path.rglob("*.nii.gz"))]
    assert main(["fuse", *words, "-o", str(tmp_path / "out"), "-q"]) == 0
    report = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert len(list((tmp_path / "out").glob("probability_*.nii.gz"))) == 2
    assert list(report["agreement"]["left lobe"]["dice"]) == ["one0/one1"]
    assert len(report["agreement"]["left-lobe"]["dice"]) == 3
    assert report["staple"]["left lobe"]["sensitivity"]["two0"] is None


def test_one_of_several_volumes_in_a_folder(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baselines = [patient.baseline for name, patient in open_collection(twin).items() if name != "HCC_001"]
    study, drawn = next((s, a) for s in baselines if s for a in s.annotations[:1] if a.volume > 0)
    folder = drawn.paths[0].parent  # stacked phases
    readers = [str(twin / "annotations" / name / f"{study.patient_id}.nii.gz") for name in NAMES]
    assert main(["fuse", *readers, "--out", str(tmp_path / "out"), "--ct", str(folder)]) == 2
    assert f"{folder}:0" in capsys.readouterr().err
    assert main(["fuse", *readers, "--out", str(tmp_path / "out"), "--ct", f"{folder}:{drawn.volume}", "-q"]) == 0
    seg = read_seg(tmp_path / "out" / "labels_seg.dcm", like=read_ct(list(drawn.paths), on_gap="fill"))
    np.testing.assert_array_equal(seg.label_map(), fuse_staple([_voxels(path) for path in readers]).label_map)
    assert main(["fuse", *readers, "--out", str(tmp_path / "out"), "--ct", f"{folder}:7"]) == 2
    assert "no 7" in capsys.readouterr().err


def test_fuse_staple_takes_files(files: list[str]) -> None:
    fused, expected = fuse_staple([Path(path) for path in files]), fuse_staple([_voxels(path) for path in files])
    np.testing.assert_array_equal(fused.label_map, expected.label_map)
    for label, probability in expected.probability.items():
        np.testing.assert_array_equal(fused.probability[label], probability)


def test_a_number_in_the_place_of_a_name_is_that_number(files: list[str], tmp_path: Path) -> None:
    named = tmp_path / "named.nii.gz"
    shutil.copy(files[0], named)
    (tmp_path / "named.json").write_text(json.dumps({"labels": {str(n): str(n) for n in range(1, 5)}}))
    fused = fuse_staple([str(named), *files[1:]])
    np.testing.assert_array_equal(fused.label_map, fuse_staple([_voxels(path) for path in files]).label_map)


def test_the_whole_chain_with_a_registered_phase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader who drew on the other phase is brought over: nearer to the truth than the same mask left where it is."""
    root = make_phantom(tmp_path / "twin", patients=[PATIENT], size="small", workers=1)
    study = open_collection(root)[PATIENT].baseline
    assert study is not None
    own = study.annotations[0]
    transforms = json.loads((root / "truth" / "transforms.json").read_text())
    other = next(s for s in study.series if s.modality == "CT" and s.series_uid != own.series_uid)
    for name, paths in (("ct", own.paths), ("phase", other.paths)):
        (tmp_path / name).mkdir()
        for path in paths:
            shutil.copy(path, tmp_path / name)
    fixed, moving = read_ct(tmp_path / "ct"), read_ct(tmp_path / "phase")
    (matrix,) = [np.array(t["annotated_to_volume"]) for t in transforms if t["series_uid"] == other.series_uid]
    truth = _voxels(root / "truth" / "labels" / f"{PATIENT}.nii.gz")
    size = tuple(int(n) for n in moving.spatial_shape)
    # what the reader sees on the other phase: the truth, moved as the patient moved
    drawn = through(truth > 0, np.asarray(fixed.affine), np.asarray(moving.affine), size, np.linalg.inv(matrix))
    write_nifti(tmp_path / "far.nii.gz", drawn.astype(np.uint8), np.asarray(moving.affine))
    words = [str(tmp_path / "far.nii.gz"), "-o", str(tmp_path / "out"), "--ct", str(tmp_path / "ct")]
    assert main(["fuse", *words, "--phase", str(tmp_path / "phase"), "-q"]) == 0
    capsys.readouterr()
    brought = _voxels(tmp_path / "out" / "labels.nii.gz") > 0
    left = through(drawn, np.asarray(moving.affine), np.asarray(fixed.affine), truth.shape)
    dice = [2 * (m & (truth > 0)).sum() / (m.sum() + (truth > 0).sum()) for m in (left, brought)]
    assert dice[1] > dice[0]
    assert dice[1] > 0.9
    assert (tmp_path / "out" / "phase_1.tfm.json").is_file()
    assert read_seg(tmp_path / "out" / "labels_seg.dcm", like=fixed).array[0].any()
