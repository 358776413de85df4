"""The folder of an export: resumed, never mixed with anything, nothing half and nothing stale under a final name."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.errors import OutputError, SegmentationError, UsageError
from hcc_tace_data.export import nnunet
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.export.output_folder import claim_folder
from hcc_tace_data.export.run import export_cases

NAMES = ["HCC_003", "HCC_017"]
MADE = Algorithm(name="drawn", version="1")


@pytest.fixture
def root(twin: Path, tmp_path: Path) -> Path:
    """Return a small collection that may be changed."""
    for name in NAMES:
        shutil.copytree(twin / name, tmp_path / "root" / name)
    return tmp_path / "root"


def _export(root: Path, out: Path, format: str, **options: Any) -> dict[str, str]:
    """Export, and return PatientID -> why it was left out."""
    if format == "nifti":
        return {study.patient_id: "".join(study.skipped) for study in export_nifti(open_collection(root), out)}
    done = export_cases(open_collection(root), out, format, workers=1, **options)
    return {case.patient_id: case.skipped for case in done}


def _files(out: Path) -> dict[str, bytes]:
    """Return the files of an export but those that tell the time or are the exporter's own."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "provenance.json" and ".hcc-tace" not in path.parts
    }


@pytest.mark.parametrize("format", ["nifti", "nnunet"])
def test_changed_and_damaged_files_are_written_anew_and_others_kept(root: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    _export(root, out, format)
    whole = _files(out)
    stamps = {path: (out / path).stat().st_mtime_ns for path in whole}
    label = next(out / name for name in whole if "HCC_017" in name.replace("HCC0", "HCC_0") and "_ct" not in name)
    label.write_bytes(whole[label.relative_to(out).as_posix()][:-9])
    _export(root, out, format)
    assert _files(out) == whole
    kept = [name for name in whole if "003" in name]
    assert kept
    assert all((out / name).stat().st_mtime_ns == stamps[name] for name in kept)
    seg = _seg_of(root)
    changed = pydicom.dcmread(seg)
    changed.PixelData = bytes(len(changed.PixelData))  # a reader who saw nothing
    changed.save_as(seg)
    _export(root, out, format)
    now = _files(out)
    assert set(now) == set(whole)
    assert sum(now[name] != whole[name] for name in now) == 1


@pytest.mark.parametrize("format", ["nifti", "monai", "croissant"])
def test_foreign_folders_are_refused_and_left_as_they_are(
    root: Path, tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").write_text("dear")
    open_collection(root)  # writes its cache
    for out in (tmp_path / "full", root):
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        assert main(["export", format, str(out), *([] if format == "croissant" else [str(root)])]) == 2
        assert "other files" in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    _export(root, tmp_path / "seg", "seg")
    assert main(["export", format, str(tmp_path / "seg"), *([] if format == "croissant" else [str(root)])]) == 2
    assert "another" in capsys.readouterr().err


def test_one_process_at_a_time(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with claim_folder(out, {"format": "monai", "labels": "standard", "annotations": "collection"}):
        before = _files(out)
        assert main(["export", "monai", str(out), str(root)]) == 2
        assert f"process {os.getpid()}" in capsys.readouterr().err
        assert _files(out) == before
    assert main(["export", "monai", str(out), str(root), "-q"]) == 0


@pytest.mark.parametrize("format", ["nifti", "nnunet", "hf", "seg"])
def test_a_full_disk_is_said_and_leaves_nothing_half(
    root: Path, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    written: list[Path] = []
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.suffix in {".gz", ".parquet", ".dcm"}:
            written.append(target)
            if len(written) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert main(["export", format, str(out), str(root), "--workers", "1"]) == 2
    told = capsys.readouterr().err
    assert f"the disk of {out} is full" in told
    assert "same command again" in told
    assert not written[1].exists()
    monkeypatch.undo()
    assert main(["export", format, str(out), str(root), "-q"]) == 0
    assert main(["export", format, str(whole), str(root), "-q"]) == 0
    assert list(_files(out)) == list(_files(whole))
    if format != "seg":  # every DICOM object gets a UID of its own
        assert _files(out) == _files(whole)


def test_a_folder_that_cannot_be_made_is_said(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert main(["export", "nnunet", str(out), str(root)]) == 2
        assert "cannot be written" in capsys.readouterr().err


def test_what_cannot_be_written_any_more_does_not_stay(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _export(root, out, "nnunet")
    seg = _seg_of(root / "HCC_017")
    seg.write_bytes(seg.read_bytes()[:5000])
    assert _export(root, out, "nnunet")["HCC_017"]
    assert not [name for name in _files(out) if "HCC_017" in name]
    assert "HCC_017" not in json.loads((out / "provenance.json").read_text())["patients"]
    training = json.loads((out / "dataset.json").read_text())["numTraining"]
    assert training == len(list((out / "imagesTr").iterdir()))


def test_a_patient_of_whom_one_file_cannot_be_made_has_none(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = nnunet.write_nifti

    def fail(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
        if path.name == "HCC_003.nii.gz":
            raise SegmentationError("labels that cannot be written")
        made(path, array, affine)

    monkeypatch.setattr(nnunet, "write_nifti", fail)
    assert _export(root, tmp_path / "out", "nnunet") == {"HCC_003": "labels that cannot be written", "HCC_017": ""}
    assert not [name for name in _files(tmp_path / "out") if "HCC_003" in name]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["numTraining"] == len(
        list((tmp_path / "out" / "labelsTr").iterdir())
    )


def _seg_of(folder: Path) -> Path:
    return next(p for p in folder.rglob("*.dcm") if pydicom.dcmread(p, stop_before_pixels=True).Modality == "SEG")


def test_what_a_killed_run_left_goes(root: Path, tmp_path: Path) -> None:
    """Also where the next run is about another patient: nnU-Net would take the orphan for a case."""
    script = (
        "import os, signal, sys; from pathlib import Path; from hcc_tace_data.cli.main import main\n"
        "replace = Path.replace\n"
        "def stop(self, target):\n"
        "    if 'labels' in str(target): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "Path.replace = stop\n"
        "main(['export', 'nnunet', sys.argv[1], sys.argv[2], '--patient', 'HCC_003', '--workers', '1'])\n"
    )
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", script, str(out), str(root)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert list(out.rglob(".*.part*"))
    assert [name for name in _files(out) if "HCC_003_0000" in name]
    _export(root, out, "nnunet", patients=["HCC_017"])
    assert not [name for name in _files(out) if "HCC_003" in name or ".part" in name]
    _export(root, out, "nnunet")
    _export(root, tmp_path / "whole", "nnunet")
    assert _files(out) == _files(tmp_path / "whole")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_stopped_processes_end_and_the_next_run_goes_on(root: Path, tmp_path: Path, stop: signal.Signals) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hcc_tace_data", "export", "monai", str(out), str(root), "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for _ in range(600):
            if (out / ".hcc-tace" / "records").is_dir() or process.poll() is not None:
                break
            time.sleep(0.02)
        os.kill(process.pid, stop)
        _, told = process.communicate(timeout=60)
    if stop == signal.SIGINT and process.returncode != 0:
        assert process.returncode == 130
        assert "Traceback" not in told
    for _ in range(100):  # the workers go with it
        if not _processes_of(process.pid):
            break
        time.sleep(0.1)
    assert not _processes_of(process.pid)
    _export(root, out, "monai")
    _export(root, tmp_path / "whole", "monai")
    assert _files(out) == _files(tmp_path / "whole")


def _processes_of(session: int) -> list[str]:
    """Return the processes of a session."""
    found = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=False)
    return found.stdout.split()


@pytest.mark.parametrize("format", ["nifti", "nnunet", "monai", "hf", "seg"])
def test_patients_may_be_called_anything(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray], format: str
) -> None:
    names = ["../../evil", "a/b", "a-b", "parameters", "é ü"]
    for number, patient in enumerate(names):
        paths = write_ct(tmp_path / "root" / str(number), patient=patient)
        write_seg(tmp_path / "root" / f"{number}.dcm", draw_labels(number), paths, algorithm=MADE)
    inside = tmp_path / "deep" / "out"
    assert not any(_export(tmp_path / "root", inside, format).values())
    assert {path.name for path in tmp_path.iterdir()} == {"root", "deep"}
    assert [path.name for path in inside.parent.iterdir()] == ["out"]
    told = json.loads((inside / "provenance.json").read_text())["studies" if format == "nifti" else "patients"]
    assert sorted(one["patient_id"] for one in told.values()) == sorted(names)
    files = [name for one in told.values() for name in one["files"]]
    assert len(set(files)) == len(files)
    if format == "monai":
        maps = {json.dumps(np.asarray(nibabel.load(inside / n).dataobj).tolist()) for n in files if "labels" in n}
        assert len(maps) == len(names)


def test_another_labelling_is_another_export(root: Path, tmp_path: Path) -> None:
    _export(root, tmp_path / "out", "monai")
    with pytest.raises(UsageError, match="another labels"):
        _export(root, tmp_path / "out", "monai", labels="lesion")
    with pytest.raises(OutputError, match="cannot be written"), claim_folder(Path("/proc/none"), {}):
        pass
