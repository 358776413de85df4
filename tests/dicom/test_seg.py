"""SEGs land where the patient is: equal to highdicom's reading, whatever the order, flips or holes of the frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import DicomReadError, FrameOfReferenceError, SegmentationError, UsageError

DEPTH, ROWS, COLUMNS = 5, 7, 9
QUICK = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def sources() -> list[pydicom.Dataset]:
    """Five small CT slices."""
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for d in range(DEPTH):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "HCC_001", "HCC_001", "", ""
        ds.StudyDate = ds.StudyTime = ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
        ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 1, d + 1
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-12.5, 30.0, 2.5 * d - 40], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.ImageType = [0.8, 0.7], 2.5, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = np.full((ROWS, COLUMNS), d, np.int16).tobytes()
        slices.append(ds)
    return slices


@pytest.fixture(scope="module")
def volume(sources: list[pydicom.Dataset], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("ct")
    for d, ds in enumerate(sources):
        ds.save_as(folder / f"{d}.dcm", enforce_file_format=True)
    return read_ct(folder)


def _seg(sources: list[pydicom.Dataset], masks: np.ndarray, kind: str = "BINARY", **options: Any) -> Any:
    """Write masks (S, D, H, W) with highdicom."""
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
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=np.moveaxis(masks, 0, -1),
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=300,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def _random(seed: int, segments: int = 2) -> np.ndarray:
    masks = np.random.default_rng(seed).random((segments, DEPTH, ROWS, COLUMNS)) < 0.3
    masks[:, 2, 3, 4] = True
    return masks.astype(np.uint8)


@pytest.mark.parametrize(("name", "segments"), [("liver.dcm", 1), ("partial_overlaps.dcm", 5)])
def test_real_files_as_highdicom_reads_them(shared_data: Path, name: str, segments: int) -> None:
    folder = shared_data / "dicom" / "dcmqi_liver_ct"
    volume = read_ct([folder / f"0{number}.dcm" for number in (1, 2, 3)])
    ours = read_seg(folder / name, like=volume)
    theirs = hd.seg.segread(folder / name).get_volume().match_geometry(volume.get_geometry())
    assert ours.array.shape == (segments, *volume.array.shape)
    assert ours.array.any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(np.moveaxis(ours.array, 0, -1), theirs.array.reshape(*volume.array.shape, segments))


@given(seed=st.integers(0, 999), empty=st.booleans(), data=st.data())
@QUICK
def test_order_flips_and_holes_do_not_move_a_voxel(
    sources: list[pydicom.Dataset], volume: Any, tmp_path: Path, seed: int, empty: bool, data: st.DataObject
) -> None:
    masks = _random(seed)
    masks[:, 4] = 0
    seg = _seg(sources, masks, omit_empty_frames=not empty)
    groups = list(seg.PerFrameFunctionalGroupsSequence)
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    frames = bits[: len(groups) * ROWS * COLUMNS].reshape(-1, ROWS, COLUMNS)
    order = data.draw(st.permutations(range(len(groups))))
    flip_rows, flip_columns = data.draw(st.booleans()), data.draw(st.booleans())
    shared = seg.SharedFunctionalGroupsSequence[0]
    turn = [-1.0 if flip_columns else 1.0, 0, 0, 0, -1.0 if flip_rows else 1.0, 0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = turn
    moved = []
    for number in order:
        group = pydicom.Dataset.from_json(groups[number].to_json())
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        position[0] += 0.7 * (COLUMNS - 1) if flip_columns else 0
        position[1] += 0.8 * (ROWS - 1) if flip_rows else 0
        group.PlanePositionSequence[0].ImagePositionPatient = position
        moved.append(group)
    seg.PerFrameFunctionalGroupsSequence = moved
    turned = frames[order][:, :: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    packed = np.packbits(turned.ravel(), bitorder="little").tobytes()
    seg.PixelData = packed + b"\0" * (len(packed) % 2)
    path = tmp_path / "seg.dcm"
    seg.save_as(path)
    np.testing.assert_array_equal(read_seg(path, like=volume).array, masks)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_kinds(sources: list[pydicom.Dataset], volume: Any, tmp_path: Path, kind: str) -> None:
    masks = _random(1)
    if kind == "LABELMAP":
        masks[1][masks[0] == 1] = 0
    if kind == "FRACTIONAL":
        values = masks * np.random.default_rng(0).integers(1, 256, masks.shape) / 255
        seg = _seg(sources, values, kind, fractional_type="PROBABILITY", max_fractional_value=255)
    else:
        values = masks
        seg = _seg(sources, masks, kind)
    seg.save_as(tmp_path / "seg.dcm")
    found = read_seg(tmp_path / "seg.dcm", like=volume)
    assert found.array.dtype == (np.float32 if kind == "FRACTIONAL" else np.uint8)
    np.testing.assert_allclose(found.array, values, atol=1e-6)
    assert [segment.label for segment in found.segments] == ["segment 1", "segment 2"]


@pytest.mark.parametrize("undefined", [False, True])
def test_sequence_lengths(sources: list[pydicom.Dataset], volume: Any, tmp_path: Path, undefined: bool) -> None:
    masks = _random(3)
    seg = _seg(sources, masks)
    seg["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    for item in seg.PerFrameFunctionalGroupsSequence:
        item.is_undefined_length_sequence_item = undefined
    seg.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", like=volume).array, masks)


def test_overlaps_are_kept_and_resolved_by_priority(sources: list[Any], volume: Any, tmp_path: Path) -> None:
    masks = np.zeros((2, DEPTH, ROWS, COLUMNS), np.uint8)
    masks[0, 1, 1:4, 1:4], masks[1, 1, 2:6, 2:6] = 1, 1
    _seg(sources, masks).save_as(tmp_path / "seg.dcm")
    found = read_seg(tmp_path / "seg.dcm", like=volume)
    np.testing.assert_array_equal(found.array, masks)
    assert found.label_map()[1, 2, 2] == 2
    assert found.label_map(priority=[2, 1])[1, 2, 2] == 1
    with pytest.raises(UsageError, match="each once"):
        found.label_map(priority=[1])


def test_own_grid_has_the_same_patient_coordinates(sources: list[Any], volume: Any, tmp_path: Path) -> None:
    masks = _random(5)
    _seg(sources, masks).save_as(tmp_path / "seg.dcm")
    own, placed = read_seg(tmp_path / "seg.dcm"), read_seg(tmp_path / "seg.dcm", like=volume)

    def places(result: Any) -> set[tuple[float, ...]]:
        index = np.argwhere(result.array[0])
        return {tuple(np.round(p, 3)) for p in index @ result.affine[:3, :3].T + result.affine[:3, 3]}

    assert places(own) == places(placed)


def test_another_orientation_of_the_grid(sources: list[Any], volume: Any, tmp_path: Path) -> None:
    masks = _random(6)
    _seg(sources, masks).save_as(tmp_path / "seg.dcm")
    turned = volume.permute_spatial_axes([2, 0, 1]).flip_spatial([0, 1])
    expected = masks.transpose(0, 3, 1, 2)[:, ::-1, ::-1]
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", like=turned).array, expected)


def test_frames_off_the_grid(sources: list[Any], volume: Any, tmp_path: Path) -> None:
    masks = _random(7)
    seg = _seg(sources, masks)
    group = seg.PerFrameFunctionalGroupsSequence[3]
    x, y, z = (float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
    item = pydicom.Dataset()
    item.ImagePositionPatient = [x, y, z + 1.0]
    group.PlanePositionSequence = [item]
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(SegmentationError, match=r"frame 4 .* does not lie on the grid"):
        read_seg(tmp_path / "seg.dcm", like=volume)
    found = read_seg(tmp_path / "seg.dcm", like=volume, on_off_grid="drop")
    assert found.lost == (3,)
    item.ImagePositionPatient = [x, y, z + 0.02]
    seg.save_as(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_seg(tmp_path / "seg.dcm", like=volume).array, masks)


def test_bad_input_is_a_typed_error(sources: list[Any], volume: Any, tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "seg.dcm"
    seg = _seg(sources, _random(8))
    seg.FrameOfReferenceUID = generate_uid()
    seg.save_as(path)
    with pytest.raises(FrameOfReferenceError, match="not drawn on it"):
        read_seg(path, like=volume)
    seg.FrameOfReferenceUID = volume.frame_of_reference_uid
    seg.save_as(path)
    whole = path.read_bytes()
    for size in (0, 100, 700, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises((DicomReadError, SegmentationError)):
            read_seg(path, like=volume)
    seg.PerFrameFunctionalGroupsSequence = list(seg.PerFrameFunctionalGroupsSequence)[:-1]
    seg.save_as(path)
    with pytest.raises(SegmentationError, match="functional groups"):
        read_seg(path, like=volume)
    with pytest.raises(DicomReadError, match="not a segmentation"):
        read_seg(shared_data / "dicom" / "dcmqi_liver_ct" / "01.dcm")
    path.write_text("<html>")
    with pytest.raises(DicomReadError, match="not a DICOM file"):
        read_seg(path)
