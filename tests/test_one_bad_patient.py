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

from hcc_tace_data import make_phantom, open_collection
from hcc_tace_data.cli.main import main

PATIENTS = ["HCC_001", "HCC_002", "HCC_003"]
BAD = "HCC_002"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("bad") / "twin", patients=PATIENTS, workers=1)


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


WAYS: dict[str, Callable[[list[Path], Path], object]] = {
    "a slope missing in one slice": lambda cts, seg: _edit(cts[2], RescaleSlope=None),
    "a slice without position": lambda cts, seg: _edit(cts[2], ImagePositionPatient=None),
    "pixels that no decoder reads": lambda cts, seg: [_garbled(path) for path in cts],
    "SEG of an unknown transfer syntax": lambda cts, seg: _change(
        seg, b"1.2.840.10008.1.2.1\0", b"9.2.840.10008.9.9.9\0"
    ),
    "SEG cut short": lambda cts, seg: seg.write_bytes(seg.read_bytes()[:2000]),
}
#: What each command exits with where one patient is bad.
CODES = {"prepare": (0, 1), "export": (0, 1), "phases": (0,), "measure": (0,), "validate": (0, 1), "report": (0,)}
#: `phases` reads no pixels of a patient whose headers say it all, so nothing need be bad for it.
NEED_NOT_NAME = {"phases"}


@pytest.mark.parametrize("way", WAYS)
def test_the_others_finish_and_the_bad_one_is_named(
    made: Path, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "twin"))
    study = open_collection(root, cache=False)[BAD].baseline
    assert study is not None
    assert study.segmentation is not None
    WAYS[way]([*study.annotated.paths], study.segmentation.paths[0])
    page = tmp_path / "report.html"
    commands = [
        ["prepare", str(root), "--phases", "annotated", "--json"],
        ["export", "seg", str(tmp_path / "seg"), str(root), "--json"],
        ["phases", str(root), "--json"],
        ["measure", str(root), "--json"],
        ["validate", str(root), "--json", "--select", "HT2,HT4,HT5,HT9"],
        ["report", str(root), "--out", str(page), "--workers", "1"],
    ]
    for words in commands if way.endswith("cut short") else commands[:-1]:  # the page takes longest
        code = main(words)
        told = capsys.readouterr()
        assert code in CODES[words[0]], (words[0], code, told.err)
        if words[0] == "report":
            whole = page.read_text(encoding="utf-8")
        elif words[0] == "validate":  # a finding is of the bad patient, and the others are whole
            document = json.loads(told.out)
            assert {one["code"]: one["status"] for one in document["rules"]}["HT901"] == "passed"
            if way != "pixels that no decoder reads":  # the rules read no pixels by default
                assert code == 1
                assert BAD in json.dumps(document["findings"])
            continue
        else:
            whole = json.dumps(json.loads(told.out))
        for patient in ("HCC_001", "HCC_003"):
            assert patient in whole, words[0]
        if words[0] not in NEED_NOT_NAME:
            assert BAD in whole + told.err, words[0]
        assert "Traceback" not in told.err
        assert "unexpected" not in whole + told.err
    made_by = {path.name[:7] for path in (root / ".hcc-tace" / "store").glob("*/HCC_*")}
    assert made_by >= {"HCC_001", "HCC_003"}
