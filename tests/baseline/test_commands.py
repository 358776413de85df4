"""`hcc-tace baseline` as a user calls it, on a tiny twin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.baseline.checkpoint import load_weights, save_weights
from hcc_tace_data.baseline.data import Cohort, load_cohort, part_of
from hcc_tace_data.baseline.images import read_phases
from hcc_tace_data.cli.main import main
from hcc_tace_data.dicom.ct import CTVolume
from hcc_tace_data.errors import BaselineError, RegistrationError
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.volumes.nifti import write_nifti
from hcc_tace_data.volumes.registration import Registration

HELD_OUT = patients_of("test")[:2]


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    code = main(["baseline", *words, "--json", "--quiet"])
    out, err = capsys.readouterr()
    assert code == 0, err
    document: dict[str, object] = json.loads(out)
    return document


def test_a_run_says_all_that_decided_it(trained: Path) -> None:
    for stage in ("liver", "tumour"):
        folder = trained / "fold0" / stage
        names = {path.name for path in folder.iterdir()}
        assert {
            "best.safetensors",
            "last.safetensors",
            "log.csv",
            "steps.csv",
            "run.json",
            "state.pt",
            "README.md",
            "events",
        } <= names
        assert list((folder / "events").iterdir())
        record = json.loads((folder / "run.json").read_text())
        assert record["config"]["model"]["widths"] == [8, 16]
        assert (record["seed"], record["steps"], record["processes"]) == (0, 40, 1)
        assert len(record["store_digest"]) == 16
        assert record["environment"]["packages"]["torch"].startswith("2.")
        # nobody of the validation or the test set was touched
        assert set(record["train_patients"]) <= set(patients_of("train", 0))
        assert not set(record["train_patients"]) & {*patients_of("validation", 0), *patients_of("test")}
        assert set(record["validation_patients"]) <= set(patients_of("validation", 0))
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlicense:")
        assert "Not for clinical use" in card


def test_training_again_needs_resume(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    record = json.loads((copy / "fold0" / "liver" / "run.json").read_text())
    (tmp_path / "same.yaml").write_text(json.dumps(record["config"]))
    words = ["train", str(small_twin), "--out", str(copy), "--preset", str(tmp_path / "same.yaml"), "--stage", "liver"]
    assert main(["baseline", *words, "--quiet"]) == 2
    assert "--resume" in capsys.readouterr().err
    before = load_weights(copy / "fold0" / "liver" / "last.safetensors")[0]
    again = _json(capsys, *words, "--resume")
    assert again["runs"][0]["steps"] == 40  # type: ignore[index]
    after = load_weights(copy / "fold0" / "liver" / "last.safetensors")[0]
    assert all((before[name] == after[name]).all() for name in before)
    assert main(["baseline", *words, "--resume", "--quiet", "--set", "optimizer.lr=0.5"]) == 2
    assert "another configuration" in capsys.readouterr().err


def test_a_patient_without_one_of_the_phases_stops_nobody(
    small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The networks see two phases; that of one patient cannot be brought onto the other."""
    collection = open_collection(small_twin)
    lacking, *others = sorted(collection)
    files = collection.instances
    theirs = set(files.loc[files["patient_id"] == lacking, "sop_uid"])

    def fails(fixed: CTVolume, moving: CTVolume, **options: object) -> Registration:
        if theirs & set(moving.sop_uids):
            raise RegistrationError("too little in common")
        return Registration(
            matrix=np.eye(4), engine="none", similarity_before=1.0, similarity_after=1.0, plausible=True
        )

    monkeypatch.setattr("hcc_tace_data.loaders.prepare.register", fails)
    root, run, store = str(small_twin), str(tmp_path / "run"), str(tmp_path / "store")
    keys = ["model.widths=[4,8]", "batch_size=8", "max_steps=2", "augment=false"]
    words = ["train", root, "--out", run, "--preset", "modern", "--fold", "0", "--cache", store, "--workers", "1"]
    _json(capsys, *words, *(word for key in keys for word in ("--set", key)))
    for stage in ("liver", "tumour"):
        record = json.loads((tmp_path / "run" / "fold0" / stage / "run.json").read_text())
        assert record["config"]["input"]["phases"] == ["portal_venous", "arterial"]
        assert record["channels"] == 2
        assert lacking not in record["train_patients"]
    out = tmp_path / "predicted"
    words = ["baseline", "predict", lacking, others[0], "--root", root, "--model", run, "--out", str(out)]
    assert main([*words, "--cache", store, "--seg", "--json", "--quiet"]) == 2
    printed, error = capsys.readouterr()
    (row,) = json.loads(printed)["predictions"]
    assert row["name"] == others[0]
    assert Path(row["seg"]).is_file()
    assert f"{lacking} cannot be predicted: arterial cannot be brought onto the annotated grid" in error
    assert [path.name for path in out.glob("*.nii.gz")] == [f"{others[0]}.nii.gz"]
    document = _json(
        capsys, "evaluate", root, "--model", run, "--cache", store, "--predictions", str(tmp_path / "scored")
    )
    assert set(document["left_out"]) == {lacking}  # type: ignore[call-overload]
    # files from elsewhere: one folder for each phase
    portal, arterial = _phase_folders(
        load_cohort(collection, patients=others[:1], phases=PHASES, cache=store), tmp_path
    )
    words = ["predict", str(portal), "--model", run, "--out", str(tmp_path / "files")]
    (row,) = _json(capsys, *words, "--phase", f"arterial={arterial}")["predictions"]  # type: ignore[misc]
    assert nibabel.load(row["file"]).shape == nibabel.load(out / f"{others[0]}.nii.gz").shape
    for more, message in (
        ([], "has 1 channel, the networks 2 (portal_venous, arterial); add --phase"),
        (["--phase", f"delayed={arterial}"], "the networks see portal_venous, arterial"),
        (["--phase", str(arterial)], "as PHASE=FOLDER"),
        (["--phase", f"arterial={tmp_path / 'none'}"], "is not a folder"),
        (["--phase", f"arterial={arterial}", others[0], "--root", root], "belongs to one folder"),
    ):
        assert main(["baseline", *words, *more, "--quiet"]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


PHASES = ("portal_venous", "arterial")


def _phase_folders(cohort: Cohort, place: Path) -> list[Path]:
    """Copy the files of each phase of the one patient into a folder of its own."""
    (case,) = cohort.cases.values()
    folders = []
    for phase, paths in zip(case.phases, case.channels, strict=True):
        folders.append(place / case.patient_id / phase)
        folders[-1].mkdir(parents=True)
        for path in paths:
            shutil.copy(path, folders[-1])
    return folders


def test_phases_of_a_study_are_registered_as_in_training(small_twin: Path, tmp_path: Path) -> None:
    collection = open_collection(small_twin)
    folders = {}
    for patient in HELD_OUT:
        cohort = load_cohort(collection, patients=[patient], phases=PHASES)
        folders[patient] = _phase_folders(cohort, tmp_path)
        case = cohort.cases[patient]
        drawn_on, other = sorted(
            zip(case.channels, folders[patient], strict=True), key=lambda one: one[0] != case.paths
        )
        found = read_phases(drawn_on[1], {other[1].name: other[1]}, PHASES)
        np.testing.assert_array_equal(found.array, np.asarray(cohort.stored[patient].image))
    first, second = folders.values()
    with pytest.raises(BaselineError, match="another patient or study"):
        read_phases(first[0], {"arterial": second[1]}, PHASES)


def test_switches_of_a_training_work_together(
    small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The liver network on LiTS, the tumour network in its liver, half precision, channels last, averaged weights."""
    cohort = load_cohort(open_collection(small_twin))
    lits = tmp_path / "lits"
    for number, case in enumerate(part_of(cohort, 0).train[:2]):
        label = np.asarray(case.label)
        values = np.where(label == 2, 2, np.isin(label, (1, 3))).astype(np.uint8)
        write_nifti(lits / f"volume-{number}.nii", np.asarray(case.image[0]), np.asarray(case.affine))
        write_nifti(lits / f"segmentation-{number}.nii.gz", values, np.asarray(case.affine))
    words = ["train", str(small_twin), "--out", str(tmp_path / "run"), "--preset", "modern", "--liver-data", str(lits)]
    words += ["--deterministic", "--no-tensorboard", "--fold", "1"]
    keys = ["model.widths=[4,8]", "batch_size=8", "max_steps=3", "tumour_liver=predicted", "precision=bf16"]
    keys += ["channels_last=true", "ema=0.9", "model.deep_supervision=true"]
    assert main(["baseline", *words, "--quiet"]) == 2
    assert "LiTS has one phase, the networks see 2 (portal_venous, arterial)" in capsys.readouterr().err
    keys += ["input.phases=[annotated]"]
    found = _json(capsys, *words, *(word for key in keys for word in ("--set", key)))
    assert [row["steps"] for row in found["runs"]] == [3, 3]  # type: ignore[attr-defined]
    records = [json.loads((tmp_path / "run/fold1" / stage / "run.json").read_text()) for stage in ("liver", "tumour")]
    assert [record["data"] for record in records] == ["LiTS", "HCC-TACE-Seg"]
    assert set(records[0]["train_patients"]) <= {"LiTS_000", "LiTS_001"}
    assert set(records[0]["validation_patients"]) <= set(patients_of("validation", 1))
    assert set(records[1]["train_patients"]) <= set(patients_of("train", 1))
    assert records[1]["config"]["tumour_liver"] == "predicted"
    assert records[1]["deterministic"]


def test_patients_are_predicted_on_their_ct_and_scored(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions"
    words = ["--model", str(trained), "--root", str(small_twin), "--out", str(out)]
    found = _json(capsys, "predict", *HELD_OUT, *words, "--flips")
    assert [row["name"] for row in found["predictions"]] == HELD_OUT  # type: ignore[attr-defined]
    case = load_cohort(open_collection(small_twin), patients=HELD_OUT).stored[HELD_OUT[0]]
    image = nibabel.load(out / f"{HELD_OUT[0]}.nii.gz")
    assert image.shape == case.shape[:0:-1]
    assert set(np.unique(image.dataobj)) <= {0, 1, 2}
    document = _json(capsys, "evaluate", str(small_twin), "--predictions", str(out), "--model", str(trained))
    assert json.loads((out / "evaluation.json").read_text()) == document
    assert [row["patient_id"] for row in document["cases"]] == HELD_OUT  # type: ignore[attr-defined]
    assert document["summary"]["labels"]["liver"]["dice"]["n"] == 2  # type: ignore[index]
    assert document["true_liver"]["summary"]["labels"]["liver"]["dice"]["mean"] == 1  # type: ignore[index]
    assert set(document["trivial"]) == {"all_liver", "hu_threshold"}  # type: ignore[call-overload]
    for name in ("contours", "dice", "volumes", "curves"):
        assert (out / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert main(["baseline", "evaluate", str(small_twin), "--predictions", str(out), "--patient", "HCC_001"]) in (2, 3)


def test_development_patients_are_scored_out_of_fold(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", str(small_twin), "--predictions", str(tmp_path), "--split", "out-of-fold"]
    found = _json(capsys, *words, "--model", str(trained))
    assert [case["patient_id"] for case in found["cases"]] == [patients_of("validation", 0)[0]]  # type: ignore[attr-defined]
    assert "optimistic" in found["note"]  # type: ignore[operator]
    assert json.loads((tmp_path / "out-of-fold" / "evaluation.json").read_text()) == found
    assert main(["baseline", *words, "--quiet"]) == 2
    assert "--model" in capsys.readouterr().err
    copy = shutil.copytree(trained, tmp_path / "leak")
    path = copy / "fold0" / "tumour" / "run.json"
    record = json.loads(path.read_text())
    record["train_patients"].append(patients_of("validation", 0)[0])
    path.write_text(json.dumps(record))
    assert main(["baseline", *words, "--model", str(copy), "--quiet"]) == 2
    assert "were trained on" in capsys.readouterr().err


def test_a_folder_of_dicom_and_its_nifti_give_the_same(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = load_cohort(open_collection(small_twin), patients=HELD_OUT)
    case = next(c for c in cohort.cases.values() if len({path.parent for path in c.paths}) == 1)
    folder = tmp_path / "ct"
    folder.mkdir()
    for path in case.paths:
        shutil.copy(path, folder)
    from hcc_tace_data.baseline.images import read_dicom

    volume = read_dicom(folder)
    write_nifti(tmp_path / "scan.nii.gz", volume.array, volume.affine)
    # another reader's axes: the same voxels, flipped and with slices last
    flipped = volume.affine.copy()
    flipped[:3, 3] += flipped[:3, 1] * (volume.array.shape[1] - 1)
    flipped[:3, 1] *= -1
    write_nifti(tmp_path / "flipped.nii", volume.array[:, ::-1], flipped)
    inputs = [str(folder), str(tmp_path / "scan.nii.gz"), str(tmp_path / "flipped.nii")]
    found = _json(capsys, "predict", *inputs, "--model", str(trained), "--out", str(tmp_path / "out"))
    labels = [np.asarray(nibabel.load(row["file"]).dataobj) for row in found["predictions"]]  # type: ignore[attr-defined]
    assert labels[0].any()
    assert np.array_equal(labels[0], labels[1])
    assert np.array_equal(labels[0], labels[2][:, ::-1])
    affines = [nibabel.load(row["file"]).affine for row in found["predictions"]]  # type: ignore[attr-defined]
    assert np.allclose(affines[1], nibabel.load(tmp_path / "scan.nii.gz").affine)
    assert np.allclose(affines[2], nibabel.load(tmp_path / "flipped.nii").affine)


def test_dicom_seg_of_a_prediction(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """highdicom reads from the file what the NIfTI says, at the same places in the patient."""
    words = ["--model", str(trained), "--root", str(small_twin), "--out", str(tmp_path / "predictions"), "--seg"]
    found = _json(capsys, "predict", HELD_OUT[0], *words)
    assert open_collection(tmp_path, cache=False).instances.empty  # no second annotation of the study
    assert len(open_collection(tmp_path / "predictions", cache=False).instances) == 1
    row = found["predictions"][0]  # type: ignore[index]
    file = hd.seg.segread(row["seg"])
    assert [item.SegmentLabel for item in file.SegmentSequence] == ["Liver", "Mass"]
    assert file.PatientID == HELD_OUT[0]
    case = load_cohort(open_collection(small_twin), patients=HELD_OUT).cases[HELD_OUT[0]]
    cited = {str(item.ReferencedSOPInstanceUID) for item in file.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert cited == {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in case.paths}
    nifti = nibabel.load(row["file"])
    there = np.argwhere(np.asarray(nifti.dataobj))
    places = nibabel.affines.apply_affine(nifti.affine, there) * [-1, -1, 1]  # RAS -> LPS
    volume = file.get_volume(combine_segments=True)
    index = np.rint(volume.map_reference_to_indices(places)).astype(int)
    assert np.allclose(volume.map_reference_to_indices(places), index, atol=0.01)
    assert np.array_equal(volume.array[tuple(index.T)], np.asarray(nifti.dataobj)[tuple(there.T)])
    assert np.count_nonzero(volume.array) == len(there) > 0


def test_what_goes_wrong_is_said(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(small_twin)
    seen = json.loads((trained / "fold0" / "liver" / "run.json").read_text())["train_patients"][0]
    for words, said in (
        (["train", root, "--preset", "fancy"], "no preset 'fancy'"),
        (["train", root, "--set", "optimizer.lr=fast"], "optimizer.lr"),
        (["train", root, "--stage", "spleen"], "liver, tumour or both"),
        (["train", root, "--set", "precision=fp16", "--out", str(tmp_path / "x")], "needs a GPU"),
        (["train", root, "--liver-data", str(tmp_path)], "no liver data"),
        (["predict", HELD_OUT[0], "--root", root, "--model", str(tmp_path)], "no trained networks"),
        (["predict", HELD_OUT[0], "--root", root, "--model", str(trained), "--fold", "3"], "no checkpoint"),
        (["predict", HELD_OUT[0], "--root", root, "--model", str(trained), "--preset", "paper"], "not 'paper'"),
        (["predict", "HCC_999", "--root", root, "--model", str(trained)], "no such patient"),
        (["evaluate", root, "--predictions", str(tmp_path)], "no prediction at"),
        (["evaluate", root, "--model", str(trained), "--split", "train"], "use test or validation"),
    ):
        assert main(["baseline", *words, "--quiet"]) == 2, words
        assert said in capsys.readouterr().err, words
    assert main(["baseline", "predict", seen, "--root", root, "--model", str(trained), "--out", str(tmp_path)]) == 0
    assert "seen in training" in capsys.readouterr().err


@pytest.fixture
def blind(trained: Path, tmp_path: Path) -> Path:
    """The run with a liver network that finds nothing anywhere."""
    copy = shutil.copytree(trained, tmp_path / "blind")
    path = copy / "fold0" / "liver" / "best.safetensors"
    weights, about = load_weights(path)
    weights["head.bias"] = weights["head.bias"] * 0 + weights["head.bias"].new_tensor([99.0, -99.0])
    save_weights(path, weights, about)
    return copy


def test_no_liver_is_said_and_nothing_written(
    blind: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--model", str(blind), "--root", str(small_twin), "--out", str(out), "--quiet"]
    assert main(["baseline", "predict", HELD_OUT[0], *words]) == 2
    assert f"no liver found in {HELD_OUT[0]}" in capsys.readouterr().err
    case = load_cohort(open_collection(small_twin), patients=HELD_OUT).stored[HELD_OUT[0]]
    write_nifti(tmp_path / "ct.nii", np.asarray(case.image[0]), np.asarray(case.affine))
    assert main(["baseline", "predict", str(tmp_path / "ct.nii"), *words]) == 2
    assert "no liver found" in capsys.readouterr().err
    assert not out.exists() or not list(out.iterdir())
    # where patients are scored it counts: nothing found
    found = _json(capsys, "evaluate", str(small_twin), "--model", str(blind), "--predictions", str(out), "--no-plots")
    assert found["summary"]["labels"]["liver"]["dice"]["mean"] == 0  # type: ignore[index]
    assert found["true_liver"]["summary"]["labels"]["liver"]["dice"]["mean"] == 1  # type: ignore[index]


def test_results_do_not_write_over_each_other(
    trained: Path, small_twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load_cohort(open_collection(small_twin), patients=HELD_OUT).stored[HELD_OUT[0]]
    for place in ("a", "b"):
        write_nifti(tmp_path / place / "ct.nii.gz", np.asarray(case.image[0]), np.asarray(case.affine))
    words = ["--model", str(trained), "--out", str(tmp_path / "out"), "--quiet"]
    both = [str(tmp_path / place / "ct.nii.gz") for place in ("a", "b")]
    assert main(["baseline", "predict", *both, *words]) == 2
    assert "would both become" in capsys.readouterr().err
    assert main(["baseline", "predict", both[0], *words, "--seg"]) == 2
    assert "not a folder of DICOM" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    # a tumour sought in the annotated liver is no prediction of the cascade and lies apart
    monkeypatch.chdir(small_twin)  # where a folder has the patient's name
    found = _json(
        capsys, "predict", HELD_OUT[0], "--root", ".", "--true-liver", "--model", str(trained), "--out", str(tmp_path)
    )
    assert [row["file"] for row in found["predictions"]] == [  # type: ignore[attr-defined]
        str(tmp_path / "true-liver" / f"{HELD_OUT[0]}.nii.gz")
    ]


def test_an_empty_fold_is_named(small_twin: Path) -> None:
    cohort = load_cohort(open_collection(small_twin), patients=[*HELD_OUT, patients_of("validation", 2)[0]])
    with pytest.raises(BaselineError, match=r"fold 1 has no validation patient.*no fold works"):
        part_of(cohort, 1)


def test_bench_by_its_own_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dummy", "32", "--set", "model.widths=[8,16]", "--set", "batch_size=4", "--steps", "4", "--rounds", "1"]
    found = _json(capsys, "bench", *words)
    # 3x3 convolutions of 1-8, 8-8, 24-8, 8-8 maps on 32x32, 8-16, 16-16 on 16x16, head 8-2; forward and twice back
    maps = 9 * (1 * 8 + 8 * 8 + 24 * 8 + 8 * 8) * 32**2 + 9 * (8 * 16 + 16 * 16) * 16**2 + 8 * 2 * 32**2
    assert found["gflop_per_step"] == pytest.approx(3 * 2 * 4 * maps / 1e9, abs=0.006)
    rounds = found["rounds"]
    assert found["ratio"] == pytest.approx(rounds["both"][0] / rounds["step"][0], rel=0.01)  # type: ignore[index]
    assert found["images_per_second"]["step"] == pytest.approx(16 / rounds["step"][0], rel=0.01)  # type: ignore[index]
    assert found["share_of_peak"] is None


def test_two_processes_train_one_network(small_twin: Path, tmp_path: Path) -> None:
    """torchrun with gloo: same steps in both, every training patient seen, one set of files."""
    words = ["baseline", "train", str(small_twin), "--out", str(tmp_path), "--preset", "modern", "--stage", "liver"]
    keys = ["model.widths=[4,8]", "batch_size=8", "max_steps=4", "input.slices=liver", "input.phases=[annotated]"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
        + ["--master_port=0", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", "-m", "hcc_tace_data", *words]
        + [word for key in keys for word in ("--set", key)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "fold0" / "liver" / "run.json").read_text())
    assert (record["processes"], record["steps"]) == (2, 4)
    assert set(record["train_patients"]) <= set(patients_of("train", 0))
    assert len(record["train_patients"]) == 4
    assert done.stdout.count("fold 0  liver") == 1
