"""Segmentations as other software writes them, and as damage leaves them: the right masks, or a typed refusal."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless, generate_uid

from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import DicomReadError, SegmentationError, UsageError

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
WriteCT = Callable[..., list[Path]]


def _write(sources: list[Path], masks: np.ndarray, path: Path, kind: str = "BINARY") -> Path:
    described = [
        hd.seg.SegmentDescription(
            segment_number=number + 1,
            segment_label=f"segment {number + 1}",
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number in range(len(masks))
    ]
    headers = [pydicom.dcmread(source) for source in sources]
    for one in headers:
        one.PatientSex = one.PatientBirthDate = one.StudyTime = one.AccessionNumber = one.StudyID = ""
        one.ReferringPhysicianName = ""
    seg = hd.seg.Segmentation(
        source_images=headers, pixel_array=np.moveaxis(masks, 0, -1), segmentation_type=kind,
        segment_descriptions=described, series_instance_uid=generate_uid(), series_number=300,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer="test", manufacturer_model_name="test",
        software_versions="1", device_serial_number="1",
    )  # fmt: skip
    seg.save_as(path)
    return path


@pytest.fixture
def drawn(write_ct: WriteCT, tmp_path: Path) -> tuple[Any, np.ndarray, Path]:
    """A CT volume, masks (2, D, H, W) on it, and the SEG of them."""
    files = write_ct(tmp_path / "ct")  # in the order of their places
    rng = np.random.default_rng(3)
    masks = np.zeros((2, 7, 24, 30), np.uint8)
    masks[0, 1:6, 3:14, 5:20] = rng.random((5, 11, 15)) < 0.6
    masks[1, 2:4, 16:20, 2:9] = 1
    return read_ct(files), masks, _write(files, masks, tmp_path / "seg.dcm")


def _masks(file: Path, like: Any) -> dict[int, np.ndarray]:
    seg = read_seg(file, like)
    return {one.number: seg.array[row] for row, one in enumerate(seg.segments)}


SYNTAXES = [None, "", "1.2.3.4.5", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.999", "no UID",
            "1.2.840.10008.1.2.1\\1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90",
            "1.2.840.10008.5.1.4.1.1.2"]  # fmt: skip


@pytest.mark.parametrize("syntax", SYNTAXES, ids=str)
@pytest.mark.parametrize("encapsulated", [False, True])
def test_odd_transfer_syntaxes(drawn: Any, syntax: Any, encapsulated: bool) -> None:
    volume, masks, file = drawn
    ds = pydicom.dcmread(file)
    if encapsulated:
        ds.PixelData = encapsulate([b"\1\2\3\4"] * int(ds.NumberOfFrames))
        ds["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    whole = file.read_bytes()
    at = whole.index(b"\2\0\x10\0UI")
    end = at + 8 + int.from_bytes(whole[at + 6 : at + 8], "little")
    text = b"" if syntax is None else syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"" if syntax is None else whole[at : at + 6] + len(text).to_bytes(2, "little") + text
    file.write_bytes(whole[:at] + element + whole[end:])
    try:
        found = _masks(file, volume)
    except DicomReadError as error:
        assert file.name in str(error)  # noqa: PT017 - reading it is fine too
        return
    assert not encapsulated
    for number, mask in found.items():
        np.testing.assert_array_equal(mask, masks[number - 1])


def _frames(ds: pydicom.Dataset) -> Iterator[np.ndarray]:
    yield from ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)


@pytest.mark.parametrize("cut", [0, 3])
def test_deflated_frames(drawn: Any, cut: int) -> None:
    volume, masks, file = drawn
    ds = pydicom.dcmread(file)
    streams = []
    for frame in _frames(ds):
        deflate = zlib.compressobj(wbits=-15)
        packed = np.packbits(frame.reshape(-1), bitorder="little").tobytes()
        stream = deflate.compress(packed) + deflate.flush()
        streams.append(stream[: len(stream) - cut] if cut else stream)
    ds.PixelData = encapsulate(streams)
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.8.1"
    pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    if cut:
        with pytest.raises(DicomReadError, match="cannot be decoded"):
            read_seg(file, volume)
        return
    for number, mask in _masks(file, volume).items():
        np.testing.assert_array_equal(mask, masks[number - 1])


def _run_lengths(data: bytes) -> bytes:
    """Encode without any run: literal stretches of at most 128 bytes."""
    parts = [bytes([len(data[i : i + 128]) - 1]) + data[i : i + 128] for i in range(0, len(data), 128)]
    body = b"".join(parts)
    return (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + body + b"\x80" * (len(body) % 2)


@pytest.mark.parametrize("packed", [True, False])
def test_run_lengths_of_one_bit(drawn: Any, packed: bool) -> None:
    volume, masks, file = drawn
    ds = pydicom.dcmread(file)
    frames = [frame.reshape(-1).astype(np.uint8) for frame in _frames(ds)]
    ds.PixelData = encapsulate(
        [_run_lengths((np.packbits(one, bitorder="little") if packed else one).tobytes()) for one in frames]
    )
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = RLELossless
    pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    for number, mask in _masks(file, volume).items():
        np.testing.assert_array_equal(mask, masks[number - 1])


@pytest.mark.parametrize("padding", [None, 0, 255])
@pytest.mark.parametrize("lowest", [0, 1])
@pytest.mark.parametrize("typed", [False, True])
def test_label_maps_whose_background_is_any_value(
    write_ct: WriteCT, tmp_path: Path, padding: int | None, lowest: int, typed: bool
) -> None:
    """Only PixelPaddingValue names the background, and a segment of that type; 0 may be a part of the body."""
    files = write_ct(tmp_path / "ct")
    drawn = np.zeros((7, 24, 30), np.uint8)
    drawn[1:6, 3:14, 5:20], drawn[2:4, 8:12, 7:9] = 1, 2
    file = _write(files, np.stack([drawn == 1, drawn == 2]).astype(np.uint8), tmp_path / "seg.dcm", "LABELMAP")
    ds = pydicom.dcmread(file)
    described = {segment.SegmentNumber: segment for segment in ds.SegmentSequence}
    if lowest == 0 and 0 not in described:  # what lies around the organs is a segment too
        import copy

        rest = copy.deepcopy(described[1])
        rest.SegmentNumber, rest.SegmentLabel = 0, "rest"
        ds.SegmentSequence.insert(0, rest)
        described[0] = rest
    if lowest == 1 and 0 in described:
        ds.SegmentSequence = [one for one in ds.SegmentSequence if one.SegmentNumber]
        described.pop(0)
    for number in (0,):
        if number in described:
            code = described[0].SegmentedPropertyTypeCodeSequence[0]
            code.CodeValue, code.CodingSchemeDesignator = ("125040", "DCM") if typed else ("10200004", "SCT")
    if padding is None:
        if "PixelPaddingValue" in ds:
            del ds.PixelPaddingValue
    else:
        ds.add_new(0x00280120, "US", padding)
    stored = ds.pixel_array
    if padding == 255 and lowest == 1:
        stored = np.where(stored == 0, 255, stored).astype(stored.dtype)
        ds.PixelData = stored.tobytes()
    ds.save_as(file)
    found = _masks(file, read_ct(files))
    wanted = {1: drawn == 1, 2: drawn == 2}
    if lowest == 0 and (padding == 255 or (padding is None and not typed)):
        wanted[0] = drawn == 0
        assert len(ds.PerFrameFunctionalGroupsSequence) <= 7
    assert set(found) == set(wanted)
    frames = {round(float(one.PlanePositionSequence[0].ImagePositionPatient[2]), 3)
              for one in ds.PerFrameFunctionalGroupsSequence}  # fmt: skip
    shown = [d for d in range(7) if round(-410.0 + 2.5 * d, 3) in frames]
    for number, mask in wanted.items():
        np.testing.assert_array_equal(found[number][shown], mask[shown])
        assert not found[number][[d for d in range(7) if d not in shown]].any()
    if 0 in wanted:
        with pytest.raises(UsageError, match="segment number 0"):
            read_seg(file, read_ct(files)).label_map()


def test_a_value_that_no_segment_describes_is_refused(write_ct: WriteCT, tmp_path: Path) -> None:
    files = write_ct(tmp_path / "ct")
    mask = np.zeros((1, 7, 24, 30), np.uint8)
    mask[0, 1:3, 4:9, 4:9] = 1
    file = _write(files, mask, tmp_path / "seg.dcm", "LABELMAP")
    ds = pydicom.dcmread(file)
    ds.PixelData = (ds.pixel_array * 7).tobytes()
    ds.save_as(file)
    with pytest.raises(SegmentationError, match="value 7"):
        read_seg(file, read_ct(files))


@pytest.mark.parametrize("slices", [[3], [1, 5], [1, 3], [0, 6]])
def test_frames_alone_make_a_grid_of_the_stated_spacing(write_ct: WriteCT, tmp_path: Path, slices: list[int]) -> None:
    files = write_ct(tmp_path / "ct")
    volume = read_ct(files)
    mask = np.zeros((1, 7, 24, 30), np.uint8)
    mask[0, slices, 5:9, 6:10] = 1
    seg = read_seg(_write(files, mask, tmp_path / "seg.dcm"))
    assert np.linalg.norm(seg.affine[:3, 0]) == pytest.approx(2.5)
    assert seg.shape[0] == slices[-1] - slices[0] + 1
    first = volume.affine @ [slices[0], 0, 0, 1]
    np.testing.assert_allclose(seg.affine[:, 3], first, atol=1e-3)
    np.testing.assert_array_equal(seg.array[0], mask[0, slices[0] : slices[-1] + 1])


def test_a_single_frame_may_say_everything_in_the_shared_groups(write_ct: WriteCT, tmp_path: Path) -> None:
    files = write_ct(tmp_path / "ct")
    mask = np.zeros((1, 7, 24, 30), np.uint8)
    mask[0, 3, 5:9, 6:10] = 1
    file = _write(files, mask, tmp_path / "seg.dcm")
    ds = pydicom.dcmread(file)
    for element in ds.PerFrameFunctionalGroupsSequence[0]:
        ds.SharedFunctionalGroupsSequence[0].add(element)
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(file)
    np.testing.assert_array_equal(read_seg(file, read_ct(files)).array[0], mask[0])


WRONG = [("US", 3), ("UL", 70000), ("SS", -1), ("FD", float("nan")), ("FD", float("inf")), ("FD", [1.0, 2.0, 3.0]),
         ("LO", "text"), ("LO", ""), ("OB", b"\xff" * 6), ("UI", "1.2.3"), ("SQ", []), ("SQ", [pydicom.Dataset()]),
         ("PN", "A^B"), ("US", []), ("US", [1, 2]), ("AT", 0x00100010), ("UN", b"\0\1"),
         ("DA", "20200101")]  # fmt: skip


def _elements(ds: pydicom.Dataset) -> Iterator[tuple[pydicom.Dataset, Any]]:
    for element in list(ds):
        yield ds, element.tag
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


@given(data=st.data(), shared=st.booleans(), wrong=st.sampled_from(WRONG))
@QUICK
def test_values_of_the_wrong_kind_in_functional_groups(
    write_ct: WriteCT, tmp_path_factory: Any, data: st.DataObject, shared: bool, wrong: tuple[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("wrong")
    files = write_ct(folder / "ct", depth=3)
    mask = np.zeros((1, 3, 24, 30), np.uint8)
    mask[0, :2, 5:9, 6:10] = 1
    file = _write(files, mask, folder / "seg.dcm")
    ds = pydicom.dcmread(file)
    within = ds if data.draw(st.booleans()) else pydicom.Dataset()
    if within is not ds:
        group = ds.SharedFunctionalGroupsSequence if shared else ds.PerFrameFunctionalGroupsSequence
        within = group[0]
    holder, tag = data.draw(st.sampled_from([(h, t) for h, t in _elements(within) if t != 0x7FE00010]))
    holder.add_new(tag, *wrong)
    try:
        pydicom.dcmwrite(file, ds, implicit_vr=False, little_endian=True, force_encoding=True)
    except Exception:  # pydicom does not write it
        return
    try:
        seg = read_seg(file, read_ct(files))
        read_seg(file)
    except (DicomReadError, SegmentationError, UsageError, ValueError) as error:
        if type(error).__module__ != "hcc_tace_data.errors":
            raise
        return
    if tag not in (0x00620001, 0x00280010, 0x00280011, 0x00280120):  # type and size say what the bits mean
        np.testing.assert_array_equal(seg.array[0], mask[0])
