"""The CT reader under moved, flipped, shuffled, dropped and damaged slices: every voxel where the patient has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from hcc_tace_data import open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.errors import (
    DicomReadError,
    DuplicatePositionError,
    GapError,
    NotAVolumeError,
    TiltError,
    UsageError,
)

ROWS, COLUMNS = 6, 9
QUICK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _turn(seed: int) -> np.ndarray:
    """Return the directions of rows' pixels, of columns' pixels and of slices, as columns; axial for seed 0."""
    if seed == 0:
        return np.eye(3)
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    return axes


class Series:
    """A CT series whose stored values tell column, row and slice of each pixel, and so where it lies."""

    def __init__(self, folder: Path, depth: int = 6, step: float = 2.5, axes: np.ndarray | None = None) -> None:
        self.folder, self.depth, self.step = folder, depth, step
        self.axes = np.eye(3) if axes is None else axes
        self.origin = np.array([-120.5, 33.25, -410.0])
        self.spacing = (0.8, 0.7)
        study, series, frame = generate_uid(), generate_uid(), generate_uid()
        self.slices = []
        for d in range(depth):
            ds = pydicom.Dataset()
            ds.file_meta = pydicom.dataset.FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
            ds.PatientID, ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "HCC_001", "CT", 1, d + 1
            ds.ImageType, ds.SliceThickness = ["ORIGINAL", "PRIMARY", "AXIAL"], step
            ds.ImageOrientationPatient = [float(v) for v in (*self.axes[:, 0], *self.axes[:, 1])]
            ds.ImagePositionPatient = [float(v) for v in self.origin + d * step * self.axes[:, 2]]
            ds.PixelSpacing, ds.Rows, ds.Columns = list(self.spacing), ROWS, COLUMNS
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
            ds.PixelData = self.stored(d).astype("<i2").tobytes()
            self.slices.append(ds)

    @staticmethod
    def stored(d: int) -> np.ndarray:
        return 100 * d + 10 * np.arange(ROWS)[:, None] + np.arange(COLUMNS)[None, :]

    def save(self, names: list[str] | None = None) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        for number, ds in enumerate(self.slices):
            ds.save_as(self.folder / (names[number] if names else f"{number:03}.dcm"), enforce_file_format=True)
        return self.folder

    def place(self, column: float, row: float, d: float) -> np.ndarray:
        along, down, normal = self.axes.T
        return self.origin + column * self.spacing[1] * along + row * self.spacing[0] * down + d * self.step * normal

    def check(self, volume: Any, hu: Any = lambda d, row, column: 100 * d + 10 * row + column - 1024) -> None:
        """Compare every voxel with what was stored where that voxel lies in the patient."""
        for index in np.ndindex(volume.array.shape):
            point = (volume.affine @ [*index, 1])[:3]
            along, down, normal = self.axes.T
            offset = point - self.origin
            source = [offset @ normal / self.step, offset @ down / self.spacing[0], offset @ along / self.spacing[1]]
            d, row, column = (round(float(v)) for v in source)
            np.testing.assert_allclose(source, [d, row, column], atol=1e-3)
            assert volume.array[index] == hu(d, row, column)


@given(turn=st.integers(0, 50), reverse=st.booleans(), data=st.data())
@QUICK
def test_shuffled_flipped_and_turned(tmp_path: Path, turn: int, reverse: bool, data: st.DataObject) -> None:
    axes = _turn(turn)
    if reverse:  # rows run the other way: the normal turns round, and with it the order of the slices
        axes = axes * np.array([1, -1, -1])
    series = Series(tmp_path / "s", axes=axes)
    order = data.draw(st.permutations(range(series.depth)))
    series.save([f"{number}.dcm" for number in order])
    volume = read_ct(series.folder)
    assert volume.array.shape == (series.depth, ROWS, COLUMNS)
    series.check(volume)
    np.testing.assert_allclose(np.diff(volume.positions), series.step, atol=1e-6)


@given(gone=st.integers(1, 4), turn=st.integers(0, 20))
@QUICK
def test_a_dropped_slice_is_refused_kept_or_filled(tmp_path: Path, gone: int, turn: int) -> None:
    series = Series(tmp_path / "s", axes=_turn(turn))
    del series.slices[gone]
    series.save()
    with pytest.raises(GapError) as caught:
        read_ct(series.folder)
    gap = caught.value.positions
    assert gap[1] - gap[0] == pytest.approx(2 * series.step)
    series.check(read_ct(series.folder, on_gap="fill"))  # stored values rise evenly: linear filling gives them back
    kept = read_ct(series.folder, on_gap="keep")
    assert len(kept.array) == series.depth - 1
    assert len(kept.positions) == series.depth - 1


def test_dropped_at_the_ends_moves_nothing(tmp_path: Path) -> None:
    series = Series(tmp_path / "s")
    series.slices = series.slices[1:-1]
    series.save()
    volume = read_ct(series.folder)
    assert len(volume.array) == series.depth - 2
    series.check(volume)


@pytest.mark.parametrize("numbered", [True, False])
def test_two_acquisitions_at_the_same_places(tmp_path: Path, numbered: bool) -> None:
    series = Series(tmp_path / "s")
    second = Series(tmp_path / "other")
    for d, ds in enumerate(second.slices):
        ds.SeriesInstanceUID, ds.StudyInstanceUID = (
            series.slices[0].SeriesInstanceUID,
            series.slices[0].StudyInstanceUID,
        )
        ds.FrameOfReferenceUID = series.slices[0].FrameOfReferenceUID
        ds.InstanceNumber = series.depth + d + 1
        ds.PixelData = (series.stored(d) + 5000).astype("<i2").tobytes()
        if numbered:
            ds.AcquisitionNumber = 2
    if numbered:
        for ds in series.slices:
            ds.AcquisitionNumber = 1
    series.slices += second.slices
    series.save()
    with pytest.raises(DuplicatePositionError):
        read_ct(series.folder)
    first, other = read_ct(series.folder, on_duplicate="split")
    series.check(first)
    series.check(other, lambda d, row, column: 100 * d + 10 * row + column - 1024 + 5000)


def test_a_tilted_gantry_is_recognised_and_straightened(tmp_path: Path) -> None:
    series = Series(tmp_path / "s", step=2.0)
    for d, ds in enumerate(series.slices):  # each corner 0.8 mm, one row, farther down
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [float(x), float(y) + 0.8 * d, float(z)]
    series.save()
    with pytest.raises(TiltError, match=r"21\.80 degrees"):
        read_ct(series.folder)
    straight = read_ct(series.folder, on_tilt="resample")
    d, row = 3, 5
    np.testing.assert_array_equal(straight.array[d, row], series.stored(d)[row - d] - 1024)
    assert (straight.array[d, : d - 1] == -1024).all()  # nothing was imaged there


def test_uneven_spacing_is_a_gap_but_rounding_is_not(tmp_path: Path) -> None:
    series = Series(tmp_path / "s")
    for d, ds in enumerate(series.slices):
        x, y, z = (float(v) for v in ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y, z + (0.01 if d % 2 else 0)]
    series.save()
    assert len(read_ct(series.folder).array) == series.depth
    x, y, z = (float(v) for v in series.slices[-1].ImagePositionPatient)
    series.slices[-1].ImagePositionPatient = [x, y, z + 1]
    series.save()
    with pytest.raises(GapError):
        read_ct(series.folder)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_transfer_syntaxes(tmp_path: Path, syntax: Any, dtype: str) -> None:
    series = Series(tmp_path / "s", depth=3)
    for d, ds in enumerate(series.slices):
        if syntax == RLELossless:
            ds.compress(RLELossless, series.stored(d).astype(np.int16))
            continue
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = series.stored(d).astype(">i2").tobytes()
            ds["PixelData"].VR = "OW"
        ds.file_meta.TransferSyntaxUID = syntax
    series.save()
    volume = read_ct(series.folder, dtype=dtype)
    assert volume.array.dtype == dtype
    series.check(volume)


@pytest.mark.parametrize("signed", [True, False])
def test_bits_above_those_stored_are_no_part_of_a_value(tmp_path: Path, signed: bool) -> None:
    series = Series(tmp_path / "s", depth=9)  # enough for two threads
    for d, ds in enumerate(series.slices):
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, int(signed)
        ds.PixelData = ((series.stored(d).astype(np.uint16) & 0xFFF) | 0x5000).tobytes()
    series.save()
    for dtype in ("int16", "float32"):
        series.check(read_ct(series.folder, dtype=dtype))


def test_every_slice_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    series = Series(tmp_path / "s", depth=10)
    for d, ds in enumerate(series.slices):
        ds.RescaleSlope, ds.RescaleIntercept = 1 + d % 3, -10 * d
    series.save()

    def hu(d: int, row: int, column: int) -> int:
        return (100 * d + 10 * row + column) * (1 + d % 3) - 10 * d

    for dtype in ("int16", "float32"):
        series.check(read_ct(series.folder, dtype=dtype), hu)
    series.slices[4].RescaleSlope = "0.5"
    series.save()
    with pytest.raises(DicomReadError, match="not whole numbers"):
        read_ct(series.folder)
    half = read_ct(series.folder, dtype="float32").array[4]
    np.testing.assert_array_equal(half, (series.stored(4) * 0.5 - 40).astype(np.float32))


def test_hu_that_do_not_fit_are_refused_not_wrapped(tmp_path: Path) -> None:
    series = Series(tmp_path / "s", depth=2)
    series.slices[1].PixelRepresentation = 0
    series.slices[1].PixelData = np.full((ROWS, COLUMNS), 65000, "<u2").tobytes()
    series.save()
    with pytest.raises(DicomReadError, match="more than int16 can"):
        read_ct(series.folder)
    assert read_ct(series.folder, dtype="float32").array[1].max() == 65000 - 1024


def test_out_is_filled_in_place_or_refused(tmp_path: Path) -> None:
    series = Series(tmp_path / "s")
    series.save()
    out = np.zeros((series.depth, ROWS, COLUMNS), np.int16)
    volume = read_ct(series.folder, out=out)
    assert np.shares_memory(volume.array, out)
    series.check(volume)
    for wrong in (out.astype(np.float32), out[1:], np.asfortranarray(out)):
        with pytest.raises(UsageError, match="out="):
            read_ct(series.folder, out=wrong)


def test_foreign_files_are_left_out_with_a_reason(tmp_path: Path) -> None:
    series = Series(tmp_path / "s")
    scout, capture, large = (Series(tmp_path / name).slices[0] for name in "abc")
    for ds in (scout, capture, large):
        ds.SeriesInstanceUID, ds.StudyInstanceUID = (
            series.slices[0].SeriesInstanceUID,
            series.slices[0].StudyInstanceUID,
        )
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    capture.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    large.Rows, large.PixelData = 2 * ROWS, large.PixelData * 2
    series.slices += [scout, capture, large]
    folder = series.save()
    (folder / "notes").write_text("seen by nobody")
    volume = read_ct(folder)
    reasons = {Path(path).name: reason for path, reason in volume.left_out.items()}
    assert reasons["006.dcm"] == "localizer"
    assert reasons["007.dcm"] == "secondary capture"
    assert "foreign size" in reasons["008.dcm"]
    assert reasons["notes"] == "not a DICOM file"
    series.check(volume)


def test_two_patients_are_never_one_volume(tmp_path: Path) -> None:
    series = Series(tmp_path / "s")
    for ds in series.slices[3:]:
        ds.PatientID = "HCC_002"
    series.save()
    with pytest.raises(NotAVolumeError, match="2 patients"):
        read_ct(series.folder)
    collection = open_collection(series.folder)
    assert sorted(collection) == ["HCC_001", "HCC_002"]


def test_mixed_orientations_and_frames_of_reference(tmp_path: Path) -> None:
    series = Series(tmp_path / "s")
    series.slices[2].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    series.save()
    with pytest.raises(NotAVolumeError, match="several orientations"):
        read_ct(series.folder)
    series.slices[2].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    series.slices[2].FrameOfReferenceUID = generate_uid()
    series.save()
    with pytest.raises(NotAVolumeError, match="frames of reference"):
        read_ct(series.folder)
    del series.slices[2].ImagePositionPatient
    series.slices[2].FrameOfReferenceUID = series.slices[0].FrameOfReferenceUID
    series.save()
    with pytest.raises(NotAVolumeError, match="no ImagePositionPatient"):
        read_ct(series.folder)


@given(share=st.floats(0, 1, exclude_max=True))
@example(share=0.763671875)  # the end of an element: what is left is a whole header, of no image
@QUICK
def test_a_slice_cut_short_is_an_error_wherever_it_is_cut(tmp_path: Path, share: float) -> None:
    series = Series(tmp_path / "s", depth=3)
    folder = series.save()
    whole = (folder / "001.dcm").read_bytes()
    (folder / "001.dcm").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DicomReadError):
        read_ct(sorted(folder.iterdir()))


def test_a_slice_that_ends_with_an_element(tmp_path: Path) -> None:
    series = Series(tmp_path / "s", depth=3)
    folder = series.save()
    file = folder / "001.dcm"
    whole = file.read_bytes()
    start = whole.find(b"\x20\x00\x0e\x00UI")  # from the series' UID on it is known whose slice this is
    for size in range(start, len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(DicomReadError):
            read_ct(sorted(folder.iterdir()))
