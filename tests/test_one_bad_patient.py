"""One bad patient stops none of the others: they finish, and it is named with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from hcc_tace_data import open_collection
from hcc_tace_data.cli.main import main

GOOD = ["HCC_001", "HCC_003"]


def _change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def _edit(path: Path, **values: Any) -> None:
    """Change elements of a file; None removes one."""
    ds = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path)


def _garbled(path: Path) -> None:
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)


#: A patient of the twin -> what is done to it, and what `prepare` and `export` say of it.
BAD: dict[str, tuple[Callable[[list[Path], Path], object], str]] = {
    "HCC_008": (lambda cts, seg: _edit(cts[2], RescaleSlope=None), "RescaleSlope is missing"),
    "HCC_011": (lambda cts, seg: _edit(cts[2], ImagePositionPatient=None), "no ImagePositionPatient"),
    "HCC_017": (lambda cts, seg: [_garbled(path) for path in cts], "compressed frame 1 is of 0 x 0 pixels"),
    "HCC_041": (
        lambda cts, seg: _change(seg, b"1.2.840.10008.1.2.1\0", b"9.2.840.10008.9.9.9\0"),
        "transfer syntax 9.2.840.10008.9.9.9 is not known",
    ),
    "HCC_048": (lambda cts, seg: seg.write_bytes(seg.read_bytes()[:2000]), "no segmentation in the baseline study"),
}


@pytest.fixture(scope="module")
def root(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a collection of two patients as they should be and one bad in each way."""
    root = tmp_path_factory.mktemp("bad") / "root"
    for patient in (*GOOD, *BAD):
        shutil.copytree(twin / patient, root / patient)
    found = open_collection(root, cache=False)
    for patient, (spoil, _) in BAD.items():
        study = found[patient].baseline
        assert study is not None
        assert study.segmentation is not None
        spoil([*study.annotated.paths], study.segmentation.paths[0])
    return root


def _run(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """Run a command; return its document and what it said beside."""
    assert main([*words, "--json"]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert "unexpected" not in told.out + told.err
    return json.loads(told.out), told.err


def test_prepare_and_export(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "seg"
    stored, _ = _run(["prepare", str(root), "--phases", "annotated", "--cache", str(tmp_path / "store")], 1, capsys)
    exported, _ = _run(["export", "seg", str(out), str(root), "--workers", "1"], 1, capsys)
    assert [case["patient_id"] for case in stored["cases"]] == GOOD
    assert all((Path(case["folder"]) / "image.npy").is_file() for case in stored["cases"])
    assert sorted(path.parent.name for path in out.rglob("*.dcm")) == GOOD
    skipped = {one["patient_id"]: one["reason"] for one in exported["skipped"]}
    for said in (stored["left_out"] | stored["failed"], skipped):
        assert said.keys() == BAD.keys()
        for patient, (_, reason) in BAD.items():
            assert reason in said[patient]


def test_phases(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled, told = _run(["phases", str(root)], 0, capsys)
    # every patient keeps a volume: a SEG has no phase, and the other faults leave some CT of the patient readable
    assert {one["patient_id"] for one in labelled["volumes"]} == {*GOOD, *BAD}
    assert "HCC_048" in told
    assert "cut short" in told


def test_measure(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured, told = _run(["measure", str(root)], 0, capsys)
    assert sorted({row["patient_id"] for row in measured["rows"]}) == GOOD
    said = json.dumps({key: value for key, value in measured.items() if key != "rows"}) + told
    for patient in BAD:
        assert patient in said


def test_validate(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, _ = _run(["validate", str(root), "--select", "HT2,HT4,HT5,HT9", "--workers", "1"], 1, capsys)
    assert {one["code"]: one["status"] for one in report["rules"]}["HT901"] == "passed"
    errors = {
        one["patient_id"] or one["path"].split("/")[0]
        for one in report["findings"]
        if one["severity"] == "error" and not one["known"]
    }
    # rules read no pixels by default
    assert errors == BAD.keys() - {"HCC_017"}


def test_report(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "report.html"
    three = [*GOOD, "HCC_017"]
    _run(["report", str(root), "--out", str(page), "--workers", "1", "--patients", ",".join(three)], 0, capsys)
    whole = page.read_text(encoding="utf-8")
    for patient in three:
        assert patient in whole
    assert "compressed frame 1 is of 0 x 0 pixels" in whole
