"""The index against pydicom, and its cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from hcc_tace_data.dicom.headers import read_header
from hcc_tace_data.open import open_collection


def test_rows_equal_pydicom(shared_data):
    for file in sorted((shared_data / "dicom").rglob("*.dcm")):
        row, data = read_header(str(file)), pydicom.dcmread(file)
        assert row["sop_uid"] == data.SOPInstanceUID
        assert row["patient_id"] == data.PatientID
        assert row["rows"] == data.get("Rows")
        if "ImagePositionPatient" in data:
            assert [row[f"position_{a}"] for a in "xyz"] == list(data.ImagePositionPatient)


def test_cache_and_problems(shared_data, tmp_path):
    for file in (shared_data / "dicom/ge_missing_slice").iterdir():
        (tmp_path / file.stem).write_bytes(file.read_bytes())
    (tmp_path / "empty").touch()
    (tmp_path / "LICENSE").write_text("x")
    first = open_collection(tmp_path)
    read = []
    second = open_collection(tmp_path, progress=lambda done, total: read.append(total))
    assert len(first.instances) == len(second.instances) == 4
    assert read == [1]  # only the empty file is looked at again
    assert list(second.problems["path"]) == ["empty"]


@pytest.mark.parametrize("sign", [".hcc-tace-output", ".hcc-tace/parameters.json"])
def test_what_the_package_made_is_no_part_of_the_collection(twin, tmp_path, sign):
    """A prediction written as SEG into the root would else be a second annotation of its study."""
    root = Path(shutil.copytree(twin, tmp_path / "copy"))
    before = open_collection(root, cache=False).instances
    made = root / "predictions" / "deep"
    made.mkdir(parents=True)
    seg = next(path for path in root.rglob("*.dcm") if path.parent.name.startswith("SEG"))
    shutil.copy(seg, made / "HCC_001.dcm")
    assert len(open_collection(root, cache=False).instances) == len(before) + 1
    (root / "predictions" / sign).parent.mkdir(exist_ok=True)
    (root / "predictions" / sign).write_text("{}")
    assert len(open_collection(root, cache=False).instances) == len(before)
    assert len(open_collection(root / "predictions", cache=False).instances) == 1  # asked for by name


def test_the_index_of_a_folder_that_cannot_be_written_goes_where_caches_go(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("HCC_TACE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    root.mkdir()
    for file in (shared_data / "dicom/ge_missing_slice").iterdir():
        (root / file.stem).write_bytes(file.read_bytes())
    (root / ".hcc-tace" / "index.parquet").mkdir(parents=True)  # nothing can be written there, by root neither
    open_collection(root)
    (kept,) = (tmp_path / "cache").iterdir()
    assert kept.name.startswith("index-")
    read = []
    assert len(open_collection(root, progress=lambda done, total: read.append(total)).instances) == 4
    assert read == []
