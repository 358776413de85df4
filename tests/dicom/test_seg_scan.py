"""The scan of a SEG's frames against pydicom, and packed bits against unpacking them all."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ImplicitVRLittleEndian

from hcc_tace_data.dicom import seg_file
from hcc_tace_data.dicom.seg_bits import DenseFrames, PackedFrames
from hcc_tace_data.dicom.seg_file import SegFile, open_seg
from hcc_tace_data.errors import DicomReadError, SegmentationError

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def segs(twin: Path) -> list[Path]:
    """Two SEGs of the phantom: with and without references."""
    return [next(twin.glob(f"{patient}/*/SEG_*/*.dcm")) for patient in ("HCC_008", "HCC_048")]


def _loosened(path: Path, target: Path, undefined: bool, implicit: bool) -> Path:
    data = pydicom.dcmread(path)

    def loosen(dataset: pydicom.Dataset) -> None:
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = undefined
                for item in element.value:
                    item.is_undefined_length_sequence_item = undefined
                    loosen(item)

    loosen(data)
    if implicit:
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data.save_as(target)
    return target


def _by_pydicom(path: Path) -> SegFile:
    return seg_file._by_pydicom(path, path.read_bytes(), True, True)


def _equal(left: SegFile, right: SegFile) -> None:
    assert left.segments == right.segments
    assert (left.kind, left.rows, left.columns, left.full) == (right.kind, right.rows, right.columns, right.full)
    for name in ("positions", "orientations", "spacings", "segments"):
        np.testing.assert_array_equal(getattr(left.frames, name), getattr(right.frames, name))
    assert left.frames.cited == right.frames.cited
    assert left.referenced == right.referenced
    assert left.frame_of_reference_uid == right.frame_of_reference_uid
    for frame in range(len(left.frames)):
        mine, theirs = left.pixels.patch(frame), right.pixels.patch(frame)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert (mine.row, mine.column) == (theirs.row, theirs.column)
            np.testing.assert_array_equal(mine.pixels, theirs.pixels)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
def test_lengths_and_representations(segs: list[Path], tmp_path: Path, undefined: bool, implicit: bool) -> None:
    for number, path in enumerate(segs):
        file = _loosened(path, tmp_path / f"{number}.dcm", undefined, implicit)
        scanned = seg_file._scanned(file, file.read_bytes(), True, True)  # raises where it would fall back
        _equal(scanned, _by_pydicom(file))
        assert len(scanned.frames) > 10
    assert open_seg(segs[0], cited=True).frames.cited
    assert not open_seg(segs[0]).frames.cited


@given(data=st.data())
@QUICK
def test_changed_bytes_give_what_pydicom_gives_or_an_error(
    segs: list[Path], tmp_path: Path, data: st.DataObject
) -> None:
    undefined = data.draw(st.booleans())
    base = tmp_path / f"base-{undefined}.dcm"
    if not base.exists():
        _loosened(segs[0], base, undefined, False)
    content = bytearray(base.read_bytes())
    end = content.rfind(b"\xe0\x7f\x10\x00") + 12
    start = content.find(b"\x00\x52\x30\x92")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.dcm"
    path.write_bytes(bytes(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of damaged values
        _compare(path)


def _compare(path: Path) -> None:
    try:
        scanned = open_seg(path, cited=True)
    except (DicomReadError, SegmentationError):
        return
    _equal(scanned, _by_pydicom(path))


@given(
    frames=st.integers(1, 4),
    size=st.sampled_from([(6, 512), (5, 64), (3, 128), (4, 192), (5, 8), (8, 9), (7, 13), (16, 16)]),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.001, 0.02, 0.5, 1.0]),
)
@QUICK
def test_patches_hold_all_that_is_set(frames: int, size: tuple[int, int], seed: int, share: float) -> None:
    planes = (np.random.default_rng(seed).random((frames, *size)) < share).astype(np.uint8)
    packed = PackedFrames(np.packbits(planes.ravel(), bitorder="little").tobytes() + b"\xff", frames, *size)
    for reader in (packed, DenseFrames(planes)):
        for frame in range(frames):
            again = np.zeros(size, np.uint8)
            patch = reader.patch(frame)
            if patch is not None:
                height, width = patch.pixels.shape
                again[patch.row : patch.row + height, patch.column : patch.column + width] = patch.pixels
            assert (patch is None) == (not planes[frame].any())
            np.testing.assert_array_equal(again, planes[frame])
