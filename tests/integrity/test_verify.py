"""The integrity check on phantoms that something happened to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import StoreError
from hcc_tace_data.integrity.ledger import ledger_path, read_ledger
from hcc_tace_data.integrity.verify import adopt, verify


@pytest.fixture(scope="module")
def whole(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("verify") / "t", patients=["HCC_002", "HCC_008"])


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def _counts(root: Path, **options: Any) -> dict[str, int]:
    document = verify(open_collection(root), **options).as_dict()
    assert document["ok"] == (not document["problems"])
    return {kind: document["counts"][kind] for kind in NOTHING}


def _ct(root: Path) -> list[Path]:
    return sorted(next(iter(sorted(root.glob("HCC_002/*/CT_*")))).iterdir())


NOTHING = {"missing": 0, "altered": 0, "unreadable": 0, "extra": 0}


def test_a_whole_folder(whole: Path) -> None:
    report = verify(open_collection(whole))
    assert report.ok
    assert report.series == len((whole / "series.csv").read_text().splitlines()) - 1
    assert report.instances == len(list(whole.glob("HCC_*/*/*/*.dcm")))
    assert report.bytes == sum(path.stat().st_size for path in whole.glob("HCC_*/*/*/*.dcm"))


def test_what_is_missing_is_counted(copy: Path) -> None:
    files = _ct(copy)
    files[0].unlink()
    assert _counts(copy) == NOTHING | {"missing": 1}
    shutil.rmtree(files[0].parent)
    assert _counts(copy) == NOTHING | {"missing": len(files)}
    assert _counts(copy, patients=["HCC_008"]) == NOTHING


def test_damaged_files_are_unreadable_but_not_missing(copy: Path) -> None:
    first, second, *_ = _ct(copy)
    first.write_bytes(first.read_bytes()[:-10])
    second.write_bytes(b"")
    assert _counts(copy) == NOTHING | {"unreadable": 2}


def test_what_does_not_belong_here(copy: Path, whole: Path, shared_data: Path) -> None:
    shutil.copy(_ct(whole)[0], copy / "again.dcm")
    assert _counts(copy) == NOTHING | {"extra": 1}
    shutil.copy(shared_data / "dicom" / "dcmqi_liver_ct" / "01.dcm", copy / "foreign.dcm")
    assert _counts(copy) == NOTHING | {"extra": 2}


def test_a_longer_file_is_altered(copy: Path) -> None:
    file = _ct(copy)[0]
    file.write_bytes(file.read_bytes() + b"\0\0")
    assert _counts(copy) == NOTHING | {"altered": 1}


def test_a_changed_pixel_shows_only_in_the_digest(copy: Path) -> None:
    assert adopt(open_collection(copy)) == len(read_ledger(copy))
    assert _counts(copy, deep=True) == NOTHING
    file = _ct(copy)[3]
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(bytes(content))
    assert _counts(copy) == NOTHING
    assert _counts(copy, deep=True) == NOTHING | {"altered": 1}
    problem = verify(open_collection(copy), deep=True).problems[0]
    assert problem.path == str(file.relative_to(copy))


def test_two_files_that_changed_places(copy: Path) -> None:
    adopt(open_collection(copy))
    first, second, *_ = _ct(copy)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert _counts(copy) == NOTHING | {"altered": 2}


def test_a_ledger_that_is_none(copy: Path) -> None:
    ledger_path(copy).parent.mkdir(exist_ok=True)
    ledger_path(copy).write_bytes(b"not a database at all, but long enough to be looked at" * 10)
    with pytest.raises(StoreError, match="is not a ledger"):
        verify(open_collection(copy))


def test_the_command(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(copy), "--adopt", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert document["adopted"] == document["counts"]["instances"]
    keys = {"series", "instances", "bytes", "missing", "altered", "unreadable", "extra", "known"}
    assert set(document["counts"]) == keys
    _ct(copy)[0].unlink()
    assert main(["verify", str(copy)]) == 1
    out = capsys.readouterr().out
    assert "1 of" in out
    assert "1 missing" in out
    # a folder with something wrong is not adopted
    assert main(["verify", str(copy), "--adopt", "--quiet"]) == 1
    assert len(read_ledger(copy)) == document["adopted"]
    assert main(["verify", str(copy), "--patients", "HCC_999"]) == 2
    assert main(["verify", str(copy / "nowhere")]) == 3


def test_the_real_table_misses_what_a_phantom_lacks(copy: Path) -> None:
    (copy / "series.csv").unlink()
    report = verify(open_collection(copy), patients=["HCC_002"])
    assert not report.ok
    assert {problem.kind for problem in report.problems} == {"missing", "extra"}


def test_known_issues_are_found_in_the_files_and_are_no_fault(twin: Path, tmp_path: Path) -> None:
    report = verify(open_collection(twin))
    assert report.ok
    known = {problem.patient_id: problem for problem in report.problems}
    assert {problem.kind for problem in report.problems} == {"known"}
    assert known["HCC_001"].files == 1  # one CT file that its segmentation references
    assert "two StudyInstanceUIDs" in known["HCC_021"].message
    assert report.as_dict()["counts"]["known"] == len(report.problems) == 2


def test_missing_files_are_named_where_they_are_on_record(copy: Path) -> None:
    adopt(open_collection(copy))
    file = _ct(copy)[0]
    file.unlink()
    (problem,) = verify(open_collection(copy)).problems
    assert file.name in problem.message


def test_whole_series_are_adopted_and_others_are_not(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = _ct(copy)[0]
    file.unlink()
    assert main(["verify", str(copy), "--adopt", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    recorded = read_ledger(copy)
    assert document["adopted"] == len(recorded) > 0
    folders = {str(Path(path).parent) for path in recorded}
    assert str(file.parent.relative_to(copy)) not in folders
    assert len(folders) == document["counts"]["series"]


def test_nothing_is_adopted_while_a_download_runs(copy: Path) -> None:
    from hcc_tace_data.errors import FolderLockedError
    from hcc_tace_data.system.lock import lock_folder

    collection = open_collection(copy)
    with lock_folder(copy), pytest.raises(FolderLockedError):
        adopt(collection)
