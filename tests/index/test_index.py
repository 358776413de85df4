"""The index against pydicom, and its cache."""

from __future__ import annotations

import pydicom

from hcc_tace_data.headers import read_header
from hcc_tace_data.index import open_collection


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
