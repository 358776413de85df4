"""A small file never takes much memory: what it claims is checked against its size before anything is allocated."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from hcc_tace_data.baseline.images import read_nifti
from hcc_tace_data.baseline.scoring import read_prediction
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.headers import read_header
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.errors import BaselineError, DicomReadError, HccTaceError, SegmentationError, UsageError
from hcc_tace_data.labels.files import read_label_file, read_label_grid
from hcc_tace_data.report.patients import read_prediction as read_drawn_prediction
from hcc_tace_data.validators.deid.pixels import read_files
from hcc_tace_data.validators.facts.pixel_digest import _stored

WriteCT = Callable[..., list[Path]]
DEFLATED = "1.2.840.10008.1.2.1.99"
_MIB = 1 << 20


@contextmanager
def at_most(mebibytes: int) -> Iterator[None]:
    """Fail where the block takes more memory at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= mebibytes * _MIB, f"{peak / _MIB:.0f} MiB"


def _zeros(mebibytes: int, wbits: int = -15) -> bytes:
    """Return a deflate stream of zeros, quickly: a block that stands for a mebibyte, repeated."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeeze.compress(bytes(_MIB)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes


def _deflated_bomb(source: Path, target: Path, mebibytes: int) -> Path:
    """Write a slice, deflated, with a private element of so many mebibytes of zeros before its pixels."""
    ds = pydicom.dcmread(source)
    ds.file_meta.TransferSyntaxUID = DEFLATED
    del ds.PixelData
    ds.save_as(target, enforce_file_format=True)
    data = target.read_bytes()
    end = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    body = zlib.decompress(data[end:], -15)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = squeeze.compress(
        body + b"\x29\0\x10\0LO\x02\0X " + struct.pack("<HH2sHI", 0x29, 0x1010, b"OB", 0, mebibytes << 20)
    )
    target.write_bytes(data[:end] + head + squeeze.flush(zlib.Z_FULL_FLUSH) + _zeros(mebibytes) + squeeze.flush())
    return target


@pytest.mark.parametrize("preamble", [True, False])
def test_a_deflated_data_set_is_inflated_within_a_bound(
    write_ct: WriteCT, tmp_path: Path, preamble: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hcc_tace_data.dicom.inflate._SURELY_FINE", 16 << 20)
    source = write_ct(tmp_path / "ct", depth=1)[0]
    bomb = _deflated_bomb(source, tmp_path / "bomb.dcm", 256)
    if not preamble:
        bomb.write_bytes(bomb.read_bytes()[132:])
    assert bomb.stat().st_size < _MIB / 2
    for read in (
        lambda: read_header(str(bomb)), lambda: read_ct([bomb]), lambda: read_seg(bomb),
    ):  # fmt: skip
        with at_most(96), pytest.raises(DicomReadError, match=r"bomb\.dcm"):
            read()
    with at_most(96):
        assert read_files((str(tmp_path), [0], ["bomb.dcm"]))[0][2]
        assert _stored(str(bomb), -1, 0) is None


def test_deflated_slices_are_read_as_others(write_ct: WriteCT, tmp_path: Path) -> None:
    files = write_ct(tmp_path / "ct", depth=3)
    exact = read_ct(files).array
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = DEFLATED
        ds.save_as(file, enforce_file_format=True)
    np.testing.assert_array_equal(read_ct(files).array, exact)
    assert read_header(str(files[0]))["transfer_syntax_uid"] == DEFLATED


def _stream(syntax: str, rows: int, columns: int) -> bytes:
    """Return the start of a stream that states its size."""
    if syntax == JPEG2000Lossless:
        return b"\xff\x4f\xff\x51" + struct.pack(
            ">HH8IHBBB", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1, 15, 1, 1
        )
    if syntax == RLELossless:
        return struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\0\x81\0"
    marker = 0xF7 if syntax == JPEGLSLossless else 0xC3
    return b"\xff\xd8\xff" + struct.pack(">BHBHHB3B", marker, 11, 16, rows, columns, 1, 1, 0x11, 0)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("liar", ["header", "stream", "both"])
def test_compressed_pixels_that_claim_more_than_they_hold(
    write_ct: WriteCT, tmp_path: Path, syntax: str, liar: str
) -> None:
    if syntax == RLELossless and liar == "stream":
        pytest.skip("a run-length stream does not state its size")
    bomb = write_ct(tmp_path / "ct", depth=1)[0]
    ds = pydicom.dcmread(bomb)
    huge = 65535
    stated = (huge, huge) if liar != "header" else (ds.Rows, ds.Columns)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([_stream(syntax, *stated)])
    ds["PixelData"].is_undefined_length = True
    if liar != "stream":
        ds.Rows = ds.Columns = huge
    ds.save_as(bomb, enforce_file_format=True)
    with at_most(64), pytest.raises(DicomReadError, match=r"claims|header says|cannot be decoded"):
        read_ct([bomb])
    with at_most(64):
        assert read_files((str(bomb.parent), [0], [bomb.name]))[0][2]
        assert _stored(str(bomb), -1, 0) is None


def test_many_slices_that_claim_a_little_each(write_ct: WriteCT, tmp_path: Path) -> None:
    files = write_ct(tmp_path / "ct", depth=6)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID, ds.Rows, ds.Columns = RLELossless, 8000, 8000
        ds.PixelData = encapsulate([_stream(RLELossless, 8000, 8000)])
        ds["PixelData"].is_undefined_length = True
        ds.save_as(file, enforce_file_format=True)
    with at_most(64), pytest.raises(DicomReadError, match="claims"):
        read_ct(files)


def _nifti(path: Path, shape: tuple[int, ...], kind: int, bits: int, *, slope: float = 1, held: int = 0) -> Path:
    """Write a NIfTI file whose header says `shape`, with so many mebibytes of zeros after it."""
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    raw = bytearray(header.binaryblock)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", raw, 70, kind, bits)
    struct.pack_into("<fff", raw, 108, 352, slope, 0)
    struct.pack_into("<hh", raw, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<4f", raw, 280 + 16 * row, *(float(column == row) for column in range(4)))
    raw[344:348] = b"n+1\0"
    head = bytes(raw) + bytes(4)
    if path.suffix == ".gz":
        squeeze = zlib.compressobj(1, zlib.DEFLATED, -15)
        start = squeeze.compress(head) + squeeze.flush(zlib.Z_FULL_FLUSH)
        path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start + _zeros(held) + squeeze.flush() + bytes(8))
    else:
        path.write_bytes(head)
    return path


BOMBS = {
    "more than it holds": ("a.nii", (600, 600, 600), 2, 8, 1, 0),
    "more than a gzip stream can hold": ("a.nii.gz", (600, 600, 600), 2, 8, 1, 0),
    "scaled to float64": ("a.nii.gz", (600, 600, 600), 2, 8, 2, 206),
    "more voxels than any CT": ("a.nii.gz", (1000, 1000, 1100), 2, 8, 1, 1050),
    "float64": ("a.nii.gz", (512, 512, 1000), 64, 64, 1, 2000),
    "dimensions at their limit": ("a.nii", (32767, 32767, 32767), 64, 64, 1, 0),
    "many channels": ("a.nii.gz", (512, 512, 100, 30), 4, 16, 1, 1500),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_nifti_file_that_claims_too_much(tmp_path: Path, what: str) -> None:
    name, shape, kind, bits, slope, held = BOMBS[what]
    file = _nifti(tmp_path / name, shape, kind, bits, slope=slope, held=held)
    assert file.stat().st_size < 4 * _MIB
    with at_most(64), pytest.raises(SegmentationError, match=str(file)):
        read_label_file(file)
    with at_most(64), pytest.raises(BaselineError, match=str(file)):
        read_nifti(file)
    case: Any = SimpleNamespace(shape=(1, *reversed(shape[:3])), affine=np.eye(4), patient_id="HCC_001")
    with at_most(64), pytest.raises(BaselineError, match=str(file)):
        read_prediction(file, case)
    with at_most(64), pytest.raises(UsageError, match=name):
        read_drawn_prediction(file, np.eye(4), shape[2::-1])


def test_a_prediction_of_another_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = _nifti(tmp_path / "a.nii.gz", (500, 500, 500), 2, 8, held=120)
    case: Any = SimpleNamespace(shape=(1, 20, 30, 40), affine=np.eye(4), patient_id="HCC_001")
    with at_most(8), pytest.raises(BaselineError, match="another grid"):
        read_prediction(file, case)


@pytest.mark.parametrize(
    ("sizes", "kind", "encoding"),
    [
        ("600 600 600", "uchar", "raw"), ("600 600 600", "uchar", "gzip"), ("2000 2000 2000", "uchar", "txt"),
        ("900 900 900", "unsigned long long int", "hex"), ("512 512 512", "double", "gzip"),
        ("4000000 1000 1000", "short", "bzip2"), ("64 512 512 512", "uchar", "gzip"), ("-5 -5 7", "uchar", "raw"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.nrrd", "a.seg.nrrd"])
def test_a_nrrd_file_that_claims_too_much(tmp_path: Path, sizes: str, kind: str, encoding: str, name: str) -> None:
    layers = "none " if sizes.count(" ") == 3 else ""
    file = tmp_path / name
    head = (
        f"NRRD0004\ntype: {kind}\ndimension: {len(sizes.split())}\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: {layers}(1,0,0) (0,1,0) (0,0,1)\nkinds: {'list ' if layers else ''}domain domain domain\n"
        f"endian: little\nencoding: {encoding}\nspace origin: (0,0,0)\n\n"
    )
    file.write_bytes(head.encode() + gzip.compress(bytes(1000)))
    for read in (read_label_file, read_label_grid):
        with at_most(64), pytest.raises(SegmentationError, match=r"a\.(seg\.)?nrrd"):
            read(file)


def test_values_that_are_no_labels(tmp_path: Path) -> None:
    """Every label costs a mask: a picture of thousands of values is no label file."""
    noise = np.random.default_rng(0).integers(0, 2000, (30, 30, 30)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(SegmentationError, match="different values"):
        read_label_file(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("way", ["frames far apart", "many segments", "deflated frames"])
def test_a_seg_that_claims_too_much(
    write_ct: WriteCT, draw_labels: Callable[[int], np.ndarray], tmp_path: Path, way: str
) -> None:
    source = write_seg(
        tmp_path / "source.dcm",
        draw_labels(1),
        write_ct(tmp_path / "ct"),
        algorithm=Algorithm(name="drawn", version="1"),
    )
    ds = pydicom.dcmread(source)
    if way == "deflated frames":
        ds.Rows = ds.Columns = 8000
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit = 7
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.8.1"
        ds.PixelData = encapsulate([_zeros(62)] * int(ds.NumberOfFrames))
        ds["PixelData"].is_undefined_length = True
    else:
        last = ds.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence[0]
        x, y, z = last.ImagePositionPatient
        last.ImagePositionPatient = [x, y, z + 2.5 * (4000 if way == "many segments" else 1_000_000)]
        for number in range(1000, 1300 if way == "many segments" else 1000):
            item = pydicom.Dataset()
            item.SegmentNumber = number
            ds.SegmentSequence.append(item)
    file = tmp_path / "seg.dcm"
    pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    for read in (read_seg, read_label_file):
        with at_most(64), pytest.raises(HccTaceError, match=r"seg\.dcm claims"):
            read(file)
