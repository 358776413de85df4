"""The index against pydicom, and its cache."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import pandas as pd
import pydicom
import pytest

from hcc_tace_data.collection import index
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


@pytest.fixture
def folder(shared_data, tmp_path):
    """Four slices, and a file that is not DICOM."""
    root = tmp_path / "root"
    root.mkdir()
    for file in (shared_data / "dicom/ge_missing_slice").iterdir():
        (root / file.stem).write_bytes(file.read_bytes())
    return root


def _problems(root, **options):
    found = open_collection(root, **options)
    return len(found.instances), dict(found.problems.itertuples(index=False, name=None))


def test_a_file_replaced_under_the_same_size_and_time_is_read_again(folder):
    before = open_collection(folder).instances
    path = folder / before["path"].iloc[0]
    status, data = path.stat(), path.read_bytes()
    changed = data.replace(before["patient_id"].iloc[0].encode(), b"X" * len(before["patient_id"].iloc[0]))
    assert len(changed) == len(data) != 0
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert set(open_collection(folder).instances["patient_id"].iloc[:1]) == {"X" * len(before["patient_id"].iloc[0])}
    other = folder.parent / "other"
    other.write_bytes(data)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    pd.testing.assert_frame_equal(open_collection(folder).instances, before)


def test_no_flipped_bit_of_the_cache_changes_the_table(folder):
    """Another position, UID or length would be served; the cache is made again instead."""
    right = open_collection(folder).instances
    cache = folder / ".hcc-tace" / "index.parquet"
    whole = cache.read_bytes()
    assert tuple(pd.read_parquet(cache).columns)[: len(right.columns)] == tuple(right.columns)
    dice = random.Random(7)
    for _ in range(40):
        place = dice.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << dice.randrange(8)
        cache.write_bytes(damaged)
        pd.testing.assert_frame_equal(open_collection(folder).instances, right)
    for data in (b"", whole[:-1], whole[:100], whole + b"x", b"PAR1"):
        cache.write_bytes(data)
        pd.testing.assert_frame_equal(open_collection(folder).instances, right)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_pipes_do_not_block(folder):
    (folder / ".hcc-tace").mkdir()
    os.mkfifo(folder / ".hcc-tace" / "index.parquet")
    os.mkfifo(folder / "pipe.dcm")
    assert _problems(folder) == (4, {"pipe.dcm": "a pipe or a device: not read"})


def test_names_that_are_not_utf8_are_problems(folder):
    try:
        (folder / os.fsdecode(b"caf\xe9.dcm")).write_bytes(b"x")
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    (folder / os.fsdecode(b"d\xffr")).mkdir()
    (folder / os.fsdecode(b"d\xffr") / "a.dcm").write_bytes(b"x")
    count, problems = _problems(folder)
    assert (count, sorted(problems)) == (4, ["caf\\xe9.dcm", "d\\xffr"])
    assert all("UTF-8" in reason for reason in problems.values())
    assert _problems(folder)[0] == 4


@pytest.mark.parametrize(
    ("element", "column", "tag"),
    [
        (b"\x20\x00\x13\x00IS", "instance_number", "(0020,0013)"),
        (b"\x28\x00\x10\x00US", "rows", "(0028,0010)"),  # a text where two bytes belong: pydicom makes a number of it
    ],
)
def test_numbers_beyond_64_bits_are_absent_and_said(folder, element, column, tag):
    path = sorted(folder.iterdir())[0]
    data = path.read_bytes()
    at = data.index(element)
    length = struct.unpack_from("<H", data, at + 6)[0]
    digits = b"99999999999999999999"
    path.write_bytes(data[: at + 4] + b"IS" + struct.pack("<H", len(digits)) + digits + data[at + 8 + length :])
    for _ in range(2):  # the second time from the cache
        collection = open_collection(folder)
        table = collection.instances.set_index("path")
        assert len(table) == 4
        assert table[column].isna().tolist() == [name == path.name for name in table.index]
        assert table.loc[path.name, "unread_values"] == tag
        assert (table["unread_values"] != "").sum() == 1
        assert not len(collection.problems)  # the file can be read


def test_whatever_the_reader_raises_the_others_are_read(folder, monkeypatch):
    real = index.HeaderReader.read

    def read(self, path, name=None):
        if path.endswith(first.name):
            raise errors[0]
        return real(self, path, name)

    first = sorted(folder.iterdir())[0]
    monkeypatch.setattr(index.HeaderReader, "read", read)
    errors = [FileNotFoundError(2, "No such file"), RecursionError("deep"), MemoryError(), OverflowError("int")]
    while errors:
        assert _problems(folder, cache=False)[0] == 3
        assert list(_problems(folder, cache=False)[1]) == [first.name]
        errors.pop(0)


def test_a_folder_that_was_being_written_is_no_data(folder):
    (folder / ".HCC_001.0123abcd.part" / "1").mkdir(parents=True)
    shutil.copy(sorted(folder.glob("*"))[-1], folder / ".HCC_001.0123abcd.part" / "1" / "a.dcm")
    assert _problems(folder, cache=False) == (4, {})


def test_folders_that_may_not_be_read_are_problems(folder, monkeypatch):
    (folder / "locked").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert _problems(folder, cache=False) == (4, {"locked": "folder cannot be read: Permission denied"})
