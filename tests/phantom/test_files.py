"""The written files, read back with pydicom, SimpleITK, highdicom and nibabel."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_erosion

from hcc_tace_data.phantom.seeding import UID_ROOT


def annotated(twin: Path, patient: str) -> dict[str, str]:
    with open(twin / "truth" / "annotated.csv", newline="") as handle:
        return next(row for row in csv.DictReader(handle) if row["patient_id"] == patient)


def slices(phases: list[dict[str, str]], headers, series: str, volume: str) -> list[pydicom.Dataset]:
    chosen = [headers[row["sop_uid"]] for row in phases if (row["series_uid"], row["volume"]) == (series, volume)]
    return sorted(chosen, key=lambda one: float(one.ImagePositionPatient[2]))


def hu(one: pydicom.Dataset) -> np.ndarray:
    return one.pixel_array.astype(np.int32) + int(one.RescaleIntercept)


def test_truth_lists_every_file_once(phases, headers) -> None:
    assert sorted(row["sop_uid"] for row in phases) == sorted(headers)


def test_headers_are_those_of_the_archive(headers) -> None:
    for one in headers.values():
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert one.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert one.PatientIdentityRemoved == "YES"
        assert one[0x0013, 0x0010].value == "CTP"
        assert str(one.PatientName) == one.PatientID
        assert one.PatientBirthDate == ""
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            assert one[name].value.startswith(UID_ROOT)
        assert one.PixelRepresentation == int(one.PatientID != "HCC_065" or one.StudyDate != "20030426")
        assert ("PatientAge" in one) == (one.PatientID == "HCC_017") == bool(one.Manufacturer)


def test_simpleitk_reads_the_same_hounsfield_units(twin: Path, phases, headers) -> None:
    series = next(row["series_uid"] for row in phases if row["patient_id"] == "HCC_012")
    folder = next(twin.glob(f"HCC_012/*/CT_{series}"))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    ours = np.stack([hu(one) for one in slices(phases, headers, series, "0")])
    assert np.array_equal(sitk.GetArrayFromImage(image), ours)


@pytest.mark.parametrize(
    ("phase", "aorta", "liver"),
    [
        ("pre_contrast", (32, 55), (15, 75)),
        ("arterial", (200, 460), (35, 120)),
        ("portal_venous", (115, 220), (60, 165)),
    ],
)
def test_enhancement_is_that_of_the_phase(twin: Path, phases, headers, phase: str, aorta, liver) -> None:
    """The true labels, moved by the planted motion, select aorta and liver in every baseline volume."""
    transforms = json.loads((twin / "truth" / "transforms.json").read_text())
    checked = 0
    for entry in transforms:
        patient = entry["patient_id"]
        target = annotated(twin, patient)
        studies = {row["series_uid"]: row["study_uid"] for row in phases}
        if entry["phase"] != phase or entry["study_uid"] != studies[target["series_uid"]]:
            continue
        image = nibabel.load(twin / "truth" / "labels" / f"{patient}.nii.gz")
        label = np.asarray(image.dataobj).copy()
        for number in (1, 4):  # borders mix two tissues
            border = (label == number) & ~binary_erosion(label == number, np.ones((3, 3, 1)))
            label[border] = 0
        inverse = np.linalg.inv(image.affine) @ np.diag([-1, -1, 1, 1]) @ np.linalg.inv(entry["annotated_to_volume"])
        found: dict[int, list[float]] = {1: [], 4: []}
        for one in slices(phases, headers, entry["series_uid"], str(entry["volume"])):
            x0, y0, z = map(float, one.ImagePositionPatient)
            row, column = np.mgrid[: one.Rows, : one.Columns]
            spacing = float(one.PixelSpacing[0])
            points = np.stack(
                [x0 + spacing * column, y0 + spacing * row, np.full(row.shape, z), np.ones(row.shape)], -1
            )
            index = np.rint(points @ inverse.T)[..., :3].astype(int)
            inside = np.all((index >= 0) & (index < label.shape), axis=-1)
            values = np.zeros(row.shape, int)
            values[inside] = label[tuple(index[inside].T)]
            for number in found:
                found[number] += list(hu(one)[values == number])
        if len(found[4]) >= 5 and len(found[1]) >= 50:
            assert aorta[0] <= np.median(found[4]) <= aorta[1], (patient, np.median(found[4]))
            assert liver[0] <= np.median(found[1]) <= liver[1], (patient, np.median(found[1]))
            checked += 1
    assert checked >= 4


@pytest.mark.parametrize("patient", ["HCC_001", "HCC_012", "HCC_003", "HCC_017", "HCC_041"])
def test_segmentation_lies_on_the_truth(twin: Path, segmentation, patient: str) -> None:
    """Frames placed by their own positions agree with the planted labels on the annotated grid."""
    dataset = highdicom.seg.Segmentation.from_dataset(segmentation(patient))
    truth = nibabel.load(twin / "truth" / "labels" / f"{patient}.nii.gz")
    label = np.asarray(truth.dataobj)
    to_index = np.linalg.inv(truth.affine) @ np.diag([-1, -1, 1, 1])
    orientation = np.array(
        dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, float
    )
    spacing = float(dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0])
    overlap = dict.fromkeys(range(1, 6), 0)
    drawn = dict.fromkeys(range(1, 6), 0)
    frames = dataset.pixel_array
    for frame, item in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(item.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        rows, columns = np.nonzero(frame)
        start = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        points = start + spacing * (columns[:, None] * orientation[:3] + rows[:, None] * orientation[3:])
        index = np.rint(np.c_[points, np.ones(len(points))] @ to_index.T)[:, :3].astype(int)
        drawn[number] += len(index)
        overlap[number] += int((label[tuple(index.T)] == number).sum())
    for number in range(1, len(dataset.SegmentSequence) + 1):
        total = drawn[number] + int((label == number).sum())
        assert 2 * overlap[number] / total > (0.9 if number == 1 else 0.75), (number, drawn)


def test_readers_differ_and_are_as_good_as_planted(twin: Path) -> None:
    planted = json.loads((twin / "truth" / "readers.json").read_text())
    for patient, readers in planted.items():
        truth = np.asarray(nibabel.load(twin / "truth" / "labels" / f"{patient}.nii.gz").dataobj)
        maps = []
        for name, skill in readers.items():
            drawn = np.asarray(nibabel.load(twin / "annotations" / name / f"{patient}.nii.gz").dataobj)
            maps.append(drawn)
            for key, values in skill.items():
                positive = truth == int(key)
                assert np.mean(drawn[positive] == int(key)) == pytest.approx(values["sensitivity"])
                assert np.mean(drawn[~positive] != int(key)) == pytest.approx(values["specificity"])
                assert values["sensitivity"] > 0.6
        assert len({one.tobytes() for one in maps}) == 3


def test_quirks_of_segmentations(segmentation, headers) -> None:
    assert "ReferencedSeriesSequence" not in segmentation("HCC_048")
    labels = [item.SegmentLabel for item in segmentation("HCC_017").SegmentSequence]
    assert labels == ["Liver", "Mass", "Portal vein", "Abdominal aorta", "Necrosis"]
    flipped = segmentation("HCC_003").SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    assert list(flipped.ImageOrientationPatient) == [-1, 0, 0, 0, -1, 0]
    missing = {
        item.ReferencedSOPInstanceUID
        for item in segmentation("HCC_001").ReferencedSeriesSequence[0].ReferencedInstanceSequence
    } - set(headers)
    assert len(missing) == 1
    astray = segmentation("HCC_089").ReferencedSeriesSequence[0].ReferencedInstanceSequence
    heights = [float(headers[item.ReferencedSOPInstanceUID].ImagePositionPatient[2]) for item in astray]
    frames = segmentation("HCC_089").PerFrameFunctionalGroupsSequence
    assert min(heights) > max(float(item.PlanePositionSequence[0].ImagePositionPatient[2]) for item in frames)


def test_off_grid_frames_are_empty(segmentation, headers) -> None:
    dataset = segmentation("HCC_041")
    series = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    top = max(float(headers[item.ReferencedSOPInstanceUID].ImagePositionPatient[2]) for item in series)
    beyond = [
        k
        for k, item in enumerate(dataset.PerFrameFunctionalGroupsSequence)
        if float(item.PlanePositionSequence[0].ImagePositionPatient[2]) > top + 0.1
    ]
    assert len(beyond) == 3
    assert dataset.NumberOfFrames == 4 * len(series) + 3
    assert not dataset.pixel_array[beyond].any()


def test_quirks_of_stacks(twin: Path, phases, headers) -> None:
    def stack(patient: str) -> dict[str, list[pydicom.Dataset]]:
        row = annotated(twin, patient)
        members = sorted({one["volume"] for one in phases if one["series_uid"] == row["series_uid"]})
        return {volume: slices(phases, headers, row["series_uid"], volume) for volume in members}

    # two phases in three sweeps: the second phase goes on with a second region
    assert [len({one.AcquisitionNumber for one in part}) for part in stack("HCC_008").values()] == [1, 2]
    assert len(stack("HCC_011")) == 3
    uneven = np.diff([float(one.ImagePositionPatient[2]) for one in stack("HCC_011")["1"]])
    assert uneven.max() == pytest.approx(2 * uneven.min())
    first, second = (
        np.array([float(one.ImagePositionPatient[2]) for one in part]) for part in stack("HCC_099").values()
    )
    assert np.allclose(second[-1] - first[-1], 0.5)
    assert all("AcquisitionNumber" not in one for part in stack("HCC_065").values() for one in part)


def test_follow_up_of_one_day_in_two_studies(twin: Path) -> None:
    assert len(list((twin / "HCC_021").iterdir())) == 3
