"""Making a twin: determinism, layout, refusals, defects, the command."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import UsageError
from hcc_tace_data.phantom import make_phantom
from hcc_tace_data.phantom.defects import apply_defect, defect_codes


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    names = ["HCC_002", "HCC_004"]
    alone = digests(make_phantom(tmp_path / "a", patients=names, workers=1))
    shared = digests(make_phantom(tmp_path / "b", patients=names, workers=2))
    assert alone == shared
    assert len(alone) > 100


def test_a_patient_does_not_depend_on_its_company(tmp_path: Path, twin: Path) -> None:
    alone = digests(make_phantom(tmp_path / "a", patients=["HCC_003"]) / "HCC_003")
    assert alone == digests(twin / "HCC_003")


def test_seeds_and_patients_differ(tmp_path: Path) -> None:
    root = make_phantom(tmp_path / "a", patients=["HCC_004"], seed=1)
    other = make_phantom(tmp_path / "b", patients=["HCC_004"], seed=2)
    assert not set(digests(root / "HCC_004").values()) & set(digests(other / "HCC_004").values())


def test_series_table_tells_what_was_written(twin: Path) -> None:
    with open(twin / "series.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    on_disk = {}
    for folder in twin.glob("HCC_*/*/*"):
        files = list(folder.iterdir())
        on_disk[folder.name.split("_")[1]] = (len(files), sum(path.stat().st_size for path in files))
    assert {row["series_uid"]: (int(row["instances"]), int(row["bytes"])) for row in rows} == on_disk
    assert {row["modality"] for row in rows} == {"CT", "SEG"}


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="not empty"):
        make_phantom(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("patients", [0, 106, "HCC_001", []])
def test_foolish_numbers_of_patients_are_refused(tmp_path: Path, patients: object) -> None:
    with pytest.raises(UsageError):
        make_phantom(tmp_path / "x", patients=patients)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_an_unknown_defect_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'no-such-thing'.*--defect list"):
        make_phantom(tmp_path / "x", defect="no-such-thing")
    assert not (tmp_path / "x").exists()


def test_a_failed_patient_leaves_no_half_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("hcc_tace_data.phantom.patient.write_segmentation", fail)
    with pytest.raises(OSError, match="disk full"):
        make_phantom(tmp_path / "x", patients=["HCC_004"], workers=1)
    assert not list((tmp_path / "x").glob("*HCC_004*"))


def test_every_defect_without_a_rule_changes_files(tmp_path: Path) -> None:
    """Those of a rule must be found by it: tests/validators/test_defects.py and test_deid_defects.py."""
    clean = make_phantom(tmp_path / "clean", patients=["HCC_004"], workers=1)
    before = digests(clean)
    own = [code for code in defect_codes() if not code.startswith("HT")]
    assert len(own) > 4
    for code in own:
        root = Path(shutil.copytree(clean, tmp_path / code))
        said = apply_defect(root, code)
        assert said
        assert digests(root) != before, code
        shutil.rmtree(root)


def test_command_reports_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", str(tmp_path / "t"), "--patients", "HCC_004", "--workers", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["patients"] == ["HCC_004"]
    assert document["series"] == 6
    assert document["instances"] == len(list((tmp_path / "t").glob("HCC_004/*/*/*.dcm")))


def test_command_refuses_with_usage_code(tmp_path: Path) -> None:
    assert main(["phantom", str(tmp_path / "t"), "--size", "huge", "--workers", "1"]) == 2


def test_a_killed_run_is_begun_again_and_its_remains_are_no_data(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal\n"
        "from hcc_tace_data.phantom import make\n"
        "real = make.write_truth\n"
        "def die(*a, **k):\n"
        "    os.makedirs(os.path.join(sys.argv[1], '.HCC_002.0123abcd.part', 'CT_1'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "make.write_truth = die\n"
        "make.make_phantom(sys.argv[1], patients=['HCC_001', 'HCC_002'], workers=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "twin")], check=False)
    assert done.returncode != 0
    assert (tmp_path / "twin" / "HCC_001").is_dir()
    with pytest.raises(UsageError, match="other patients, size or seed"):
        make_phantom(tmp_path / "twin", patients=["HCC_001"], workers=1)
    (tmp_path / "twin" / "mine.txt").write_text("the user's")
    with pytest.raises(UsageError, match="other files"):
        make_phantom(tmp_path / "twin", patients=["HCC_001", "HCC_002"], workers=1)
    (tmp_path / "twin" / "mine.txt").unlink()
    again = make_phantom(tmp_path / "twin", patients=["HCC_001", "HCC_002"], workers=1)
    fresh = make_phantom(tmp_path / "fresh", patients=["HCC_001", "HCC_002"], workers=1)
    assert {p.relative_to(again) for p in again.rglob("*")} == {p.relative_to(fresh) for p in fresh.rglob("*")}
