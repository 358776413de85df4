"""HU are served only where they are known: each way a header leaves them open is refused, by the file's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from hcc_tace_data import open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.headers import read_header
from hcc_tace_data.dicom.rescale import hu_problem
from hcc_tace_data.errors import DicomReadError

QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
ABSENT = None


def _set_text(ds: pydicom.Dataset, tag: int, text: str | None) -> None:
    """Put a decimal string as it is written, whatever it says; None removes the element."""
    if text is ABSENT:
        del ds[tag]
        return
    raw = text.encode() + b" " * (len(text) % 2)
    ds[tag] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), "DS", len(raw), raw, 0, False, True)


def _lut() -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [2, 0, 16], "HU"
    item.add_new(0x00283006, "US", [0, 1])
    return item


SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", RLELossless]
BAD: dict[str, Callable[[pydicom.Dataset], None]] = {
    **{
        f"{name} {text!r}": lambda ds, tag=tag, text=text: _set_text(ds, tag, text)
        for name, tag in (("slope", 0x00281053), ("intercept", 0x00281052))
        for text in (ABSENT, "", "  ", "nan", "NaN", "inf", "-inf", "1e999", "one", "1,0", "1_0", "1\\2", "\0")
    },
    "slope 0": lambda ds: _set_text(ds, 0x00281053, "0"),
    "slope 0.0e3": lambda ds: _set_text(ds, 0x00281053, "0.0e3"),
    "slope -0": lambda ds: _set_text(ds, 0x00281053, "-0"),
    "slope too small": lambda ds: _set_text(ds, 0x00281053, "1e-30"),
    "intercept too large": lambda ds: _set_text(ds, 0x00281052, "1e30"),
    "slope too large": lambda ds: _set_text(ds, 0x00281053, "1e36"),
    **{f"type {kind}": lambda ds, kind=kind: setattr(ds, "RescaleType", kind) for kind in ("Z_EFF", "MGML", "%")},
    "lookup table": lambda ds: setattr(ds, "ModalityLUTSequence", [_lut()]),
    "palette": lambda ds: setattr(ds, "PhotometricInterpretation", "PALETTE COLOR"),
    "high bit above": lambda ds: (setattr(ds, "BitsStored", 12), setattr(ds, "HighBit", 15)),
    "high bit below": lambda ds: setattr(ds, "HighBit", 11),
    "more bits than there are": lambda ds: setattr(ds, "BitsStored", 20),
    "no bits": lambda ds: setattr(ds, "BitsStored", 0),
    "sign": lambda ds: setattr(ds, "PixelRepresentation", 2),
}


@pytest.mark.parametrize("number", range(len(BAD)))
def test_unknown_hu_are_refused_by_the_name_of_the_file(
    write_ct: Callable[..., list[Path]], tmp_path: Path, number: int
) -> None:
    what, syntax = list(BAD)[number], SYNTAXES[number % 4]
    files = write_ct(tmp_path, depth=2)
    ds = pydicom.dcmread(files[1])
    if syntax == "1.2.840.10008.1.2.2":
        ds.PixelData = ds.pixel_array.astype(">i2").tobytes()
    elif syntax == RLELossless:
        ds.compress(RLELossless)
    ds.file_meta.TransferSyntaxUID = syntax
    BAD[what](ds)
    implicit, little = syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2"
    pydicom.dcmwrite(files[1], ds, implicit_vr=implicit, little_endian=little, force_encoding=True)
    for dtype in ("int16", "float32"):
        with pytest.raises(DicomReadError, match=files[1].name):
            read_ct(files, dtype=dtype)
    assert hu_problem(read_header(str(files[1]))) or "sign" in what
    assert not hu_problem(read_header(str(files[0])))
    # the same from the table of instances
    table = open_collection(tmp_path, cache=False).instances
    problems = {row["path"]: hu_problem(row) for row in table.to_dict("records")}
    assert {path for path, problem in problems.items() if problem} == {files[1].name}


@given(
    slope=st.sampled_from(["1", "1.0", " 1", "+1.", "2", "-1", "0.5", "1E0", "0.9765625", "1.52590218966"]),
    intercept=st.sampled_from(["-1024", "0", "-1e3", "-1024.0 ", " -8192", "-0.5"]),
    kind=st.sampled_from([None, "", "HU", "hu", " HU ", "US"]),
    padding=st.sampled_from([None, b"", b"\x30\xf8", b"\x30\xf8\x00\x00", b"\x30", b"\x00\x80\xff\x7f"]),
    padding_vr=st.sampled_from(["US", "SS", "UN", "OW"]),
)
@QUICK
def test_known_hu_are_those_of_highdicom(
    write_ct: Callable[..., list[Path]], tmp_path: Path, slope: str, intercept: str, kind: str | None,
    padding: bytes | None, padding_vr: str,
) -> None:  # fmt: skip
    files = write_ct(tmp_path, depth=1)
    ds = pydicom.dcmread(files[0])
    _set_text(ds, 0x00281053, slope)
    _set_text(ds, 0x00281052, intercept)
    if kind is not None:
        ds.RescaleType = kind
    if padding is not None:  # in any form: it decides no HU
        ds[0x00280120] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(0x00280120), padding_vr, len(padding), padding, 0, False, True
        )
    pydicom.dcmwrite(files[0], ds, implicit_vr=False, little_endian=True, force_encoding=True)
    plain = pydicom.dcmread(files[0])
    if padding is not None:
        del plain[0x00280120]
    expected = plain.pixel_array.astype(np.float64) * float(slope) + float(intercept)
    got = read_ct(files, dtype="float32").array[0]
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-3)
    if kind in (None, "HU") and padding is None:
        image = hd.Image.from_dataset(plain)
        theirs = image.get_frame(1, apply_modality_transform=True, apply_voi_transform=False)
        np.testing.assert_allclose(got, theirs, rtol=1e-6, atol=1e-3)
    if float(slope).is_integer() and float(intercept).is_integer():
        np.testing.assert_array_equal(read_ct(files).array[0], expected)


@given(
    bits=st.integers(8, 16), signed=st.booleans(), rubbish=st.integers(0, 2**32 - 1),
    syntax=st.sampled_from(["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", RLELossless]),
)  # fmt: skip
@QUICK
def test_bits_that_are_not_stored_are_cut_off(
    write_ct: Callable[..., list[Path]], tmp_path: Path, bits: int, signed: bool, rubbish: int, syntax: str
) -> None:
    files = write_ct(tmp_path, depth=1)
    ds = pydicom.dcmread(files[0])
    rng = np.random.default_rng(rubbish)
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    values = rng.integers(low, high, (ds.Rows, ds.Columns))
    words = (values & ((1 << bits) - 1)) | (rng.integers(0, 1 << 16, values.shape) & ~((1 << bits) - 1) & 0xFFFF)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    if syntax == RLELossless:
        ds.BitsStored, ds.HighBit = 16, 15
        ds.compress(RLELossless, words.astype(np.uint16).view(np.int16 if signed else np.uint16))
        ds.BitsStored, ds.HighBit = bits, bits - 1
    else:
        little = syntax != "1.2.840.10008.1.2.2"
        ds.PixelData = words.astype("<u2" if little else ">u2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        files[0], ds, implicit_vr=False, little_endian=syntax != "1.2.840.10008.1.2.2", force_encoding=True
    )
    np.testing.assert_array_equal(read_ct(files, dtype="float32").array[0], values - 1024)


@given(
    stream_signed=st.booleans(), signed=st.booleans(), bits=st.integers(9, 16), lost=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
@QUICK
def test_jpeg_2000_whose_stream_contradicts_the_header(
    write_ct: Callable[..., list[Path]], tmp_path: Path, stream_signed: bool, signed: bool, bits: int, lost: int,
    seed: int,
) -> None:  # fmt: skip
    """Two's complement, or refused; never values off by a power of two."""
    openjpeg = pytest.importorskip("openjpeg.utils")
    files = write_ct(tmp_path, depth=1)
    ds = pydicom.dcmread(files[0])
    stored = bits - lost
    low, high = (-(1 << stored - 1), 1 << stored - 1) if signed else (0, 1 << stored)
    ds.Rows, ds.Columns = 64, 80  # OpenJPEG wants some pixels for its resolutions
    values = np.random.default_rng(seed).integers(low, high, (64, 80))
    # the words of `bits` bits, as a signed or an unsigned stream holds them
    words = values & ((1 << bits) - 1)
    if stream_signed:
        words = np.where(words >= 1 << bits - 1, words - (1 << bits), words).astype(np.int16)
    else:
        words = words.astype(np.uint16)
    stream = openjpeg.encode_array(words, bits_stored=bits, photometric_interpretation=2, use_mct=False)
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
    ds.save_as(files[0])
    try:
        got = read_ct(files, dtype="float32").array[0]
    except DicomReadError:
        assert stream_signed != signed
        return
    np.testing.assert_array_equal(got, values - 1024)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1, RLELossless])
def test_compressed_slices(
    write_ct: Callable[..., list[Path]], tmp_path: Path, syntax: str, bits: int, signed: bool
) -> None:
    files = write_ct(tmp_path, depth=3)
    half = 1 << bits - 1
    values = np.random.default_rng(bits).integers(-half if signed else 0, half if signed else 2 * half, (3, 64, 80))
    if syntax == JPEGLosslessSV1:
        gdcm_files(files, values, bits, signed)
    else:
        for file, plane in zip(files, values, strict=True):
            ds = pydicom.dcmread(file)
            ds.Rows, ds.Columns = 64, 80
            ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
            ds.compress(syntax, plane.astype(np.int16 if signed else np.uint16))
            ds.save_as(file)
    np.testing.assert_array_equal(read_ct(files, dtype="float32").array, values - 1024)


def gdcm_files(files: list[Path], values: np.ndarray, bits: int, signed: bool) -> None:
    """Compress with JPEG Lossless."""
    gdcm = pytest.importorskip("gdcm")
    for file, plane in zip(files, values, strict=True):
        ds = pydicom.dcmread(file)
        ds.Rows, ds.Columns = plane.shape
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, int(signed)
        ds.PixelData = plane.astype(np.int16 if signed else np.uint16).tobytes()
        ds.save_as(file)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(file))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(file))
        assert writer.Write()


def test_overlay_in_unused_bits_is_not_part_of_the_image(write_ct: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = write_ct(tmp_path, depth=1)
    ds = pydicom.dcmread(files[0])
    values = np.random.default_rng(5).integers(0, 4096, (ds.Rows, ds.Columns)).astype(np.uint16)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    ds.PixelData = (values | 0x1000).tobytes()
    ds.add_new(0x60000100, "US", 16)
    ds.add_new(0x60000102, "US", 12)
    ds.save_as(files[0])
    np.testing.assert_array_equal(read_ct(files, dtype="float32").array[0], values.astype(np.float32) - 1024)


def test_the_judgement_takes_rows_with_missing_values() -> None:
    import pandas as pd

    row = {"rescale_slope": 1.0, "rescale_intercept": 0.0, "high_bit": pd.NA, "modality_lut": math.nan}
    assert hu_problem(row) == ""
    assert "RescaleSlope" in hu_problem({})
