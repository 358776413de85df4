"""One bad patient stops none of the others: they finish, and it is named with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

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


WAYS: dict[str, Callable[[list[Path], Path], object]] = {
    "bits stored 0": lambda cts, seg: [_change(p, b"\x28\0\x01\x01US\2\0", b"\x28\0\x01\x01US\0\0") for p in cts],
    "SEG with an unknown VR": lambda cts, seg: _change(seg, b"\x62\0\4\0US", b"\x62\0\4\0ZZ"),
    "SEG of an unknown transfer syntax": lambda cts, seg: _change(
        seg, b"1.2.840.10008.1.2.1\0", b"9.2.840.10008.9.9.9\0"
    ),
    "SEG cut short": lambda cts, seg: seg.write_bytes(seg.read_bytes()[:2000]),
    "a slice that vanished": lambda cts, seg: [p.write_bytes(p.read_bytes()[:-2000]) for p in cts],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_others_finish_and_the_bad_one_is_named(
    made: Path, tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "twin"))
    study = open_collection(root, cache=False)[BAD].baseline
    assert study is not None
    assert study.segmentation is not None
    WAYS[way]([*study.annotated.paths], study.segmentation.paths[0])
    for words in (
        ["prepare", str(root), "--phases", "annotated", "--json"],
        ["export", "seg", str(tmp_path / "seg"), str(root), "--json"],
        ["phases", str(root), "--json"],
    ):
        code = main(words)
        told = capsys.readouterr()
        assert code in (0, 1), (words[0], code, told.err)
        whole = json.dumps(json.loads(told.out))
        assert "HCC_001" in whole
        assert "HCC_003" in whole
        if words[0] != "phases":
            assert BAD in whole + told.err
    made_by = {path.name[:7] for path in (root / ".hcc-tace" / "store").glob("*/HCC_*")}
    assert made_by >= {"HCC_001", "HCC_003"}
