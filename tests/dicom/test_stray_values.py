"""A value that cannot be understood costs that value, and is named; never the file."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hcc_tace_data import open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.headers import FLOATS, INTEGERS, read_header
from hcc_tace_data.errors import DicomReadError, NotAVolumeError, NotDicomError

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
WriteCT = Callable[..., list[Path]]

# what nothing in reading a volume needs
SPARE = {"InstanceNumber": "IS", "AcquisitionNumber": "IS", "SeriesNumber": "IS", "GantryDetectorTilt": "DS",
         "KVP": "DS", "SliceThickness": "DS", "SpacingBetweenSlices": "DS"}  # fmt: skip
TEXTS = ["1.0", " 7", "+3", "1e3", "abc", "1,5", "99999999999999999999", "-9223372036854775809", "nan", "inf", "1_0",
         "0x10", "1\\2\\3", "\xb2", "9" * 5000, "\0", "--1", "1 2", ""]  # fmt: skip


def _raw(ds: pydicom.Dataset, keyword: str, vr: str, value: bytes) -> None:
    tag = pydicom.tag.Tag(keyword)
    ds[tag] = pydicom.dataelem.RawDataElement(tag, vr, len(value), value, 0, False, True)


@given(
    keyword=st.sampled_from(list(SPARE)), text=st.sampled_from(TEXTS) | st.text(st.characters(max_codepoint=255)),
    vr=st.sampled_from([None, "UN", "LO", "SH", "OB"]),
)  # fmt: skip
@example(keyword="InstanceNumber", text="1.0", vr=None)
@QUICK
def test_no_file_is_lost_for_a_stray_value(
    write_ct: WriteCT, tmp_path_factory: pytest.TempPathFactory, keyword: str, text: str, vr: str | None
) -> None:
    folder = tmp_path_factory.mktemp("ct")
    files = write_ct(folder, depth=3)
    exact = read_ct(files).array
    ds = pydicom.dcmread(files[1])
    raw = text.encode("latin-1")[:60000]
    _raw(ds, keyword, vr or SPARE[keyword], raw + b" " * (len(raw) % 2))
    pydicom.dcmwrite(files[1], ds, implicit_vr=False, little_endian=True, force_encoding=True)
    np.testing.assert_array_equal(read_ct(files).array, exact)
    row = read_header(str(files[1]))
    collection = open_collection(folder, cache=False)
    assert len(collection.instances) == 3
    assert not len(collection.problems)
    for name in INTEGERS:
        assert row[name] is None or -(1 << 63) <= row[name] < 1 << 63
    for name in FLOATS:
        assert math.isnan(row[name]) or math.isfinite(row[name])


def test_stray_values_are_named(write_ct: WriteCT, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = write_ct(tmp_path, depth=2)
    ds = pydicom.dcmread(files[0])
    _raw(ds, "InstanceNumber", "IS", b"one ")
    _raw(ds, "KVP", "DS", b"1e999 ")
    pydicom.dcmwrite(files[0], ds, implicit_vr=False, little_endian=True, force_encoding=True)
    assert read_header(str(files[0]))["unread_values"].split() == ["(0018,0060)", "(0020,0013)"]
    assert read_header(str(files[1]))["unread_values"] == ""
    with caplog.at_level(logging.WARNING):
        read_ct(files)
    assert files[0].name in caplog.text
    assert "(0020,0013)" in caplog.text
    instances = open_collection(tmp_path, cache=False).instances.set_index("path")
    assert "(0018,0060)" in instances.loc[files[0].name, "unread_values"]


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"])
@pytest.mark.parametrize("text", [b"x\\y", b"1\\2\\nan ", b"", b"1\\2\\3\\4\\5\\6\\7 ", b"1\\inf "])
def test_places_that_cannot_be_understood_are_refused(
    write_ct: WriteCT, tmp_path: Path, keyword: str, text: bytes
) -> None:
    files = write_ct(tmp_path, depth=2)
    ds = pydicom.dcmread(files[0])
    _raw(ds, keyword, "US" if keyword == "Rows" else "DS", text)
    pydicom.dcmwrite(files[0], ds, implicit_vr=False, little_endian=True, force_encoding=True)
    with pytest.raises((DicomReadError, NotAVolumeError)):
        read_ct(files)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("meta", [True, False])
def test_data_sets_without_preamble(write_ct: WriteCT, tmp_path: Path, implicit: bool, meta: bool) -> None:
    files = write_ct(tmp_path)
    exact = read_ct(files)
    for file in files[3:]:
        ds = pydicom.dcmread(file)
        if implicit:
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        pydicom.dcmwrite(file, ds, implicit_vr=implicit, little_endian=True, force_encoding=True)
        whole = file.read_bytes()
        start = 132 if meta else whole.index(b"\x08\0\x08\0")
        file.write_bytes(whole[start:])
    read = read_ct(tmp_path)
    np.testing.assert_array_equal(read.array, exact.array)
    assert not read.left_out
    assert len(open_collection(tmp_path, cache=False).instances) == len(files)


@given(content=st.binary(max_size=400))
@example(content=b"\x08\0\x05\0CS\x02\0aa" * 30)
@QUICK
def test_other_files_are_not_taken_for_dicom(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes"
    file.write_bytes(content)
    with pytest.raises(DicomReadError) as caught:
        read_header(str(file))
    assert isinstance(caught.value, NotDicomError) or not content or content[128:132] == b"DICM"


def test_a_file_that_is_left_out_and_may_be_a_slice_is_a_warning(
    write_ct: WriteCT, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_ct(tmp_path)
    (tmp_path / "slice.dcm").write_bytes(b"no DICOM")
    with caplog.at_level(logging.WARNING):
        read_ct(tmp_path)
    assert "slice.dcm" in caplog.text
