"""The twin's headers beside those of a real series of the collection, element by element."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from hcc_tace_data import make_phantom

#: Elements whose values are the same in every file of the collection that was seen.
FIXED = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "StudyTime", "ContentTime", "AccessionNumber", "Modality",
    "Manufacturer", "ReferringPhysicianName", "PatientBirthDate", "PatientSex", "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalEventType", "PatientIdentityRemoved", "DeidentificationMethod", "ContrastBolusAgent",
    "BodyPartExamined", "ScanOptions", "DataCollectionDiameter", "GantryDetectorTilt", "RotationDirection",
    "FilterType", "ConvolutionKernel", "PatientPosition", "StudyID", "ImageOrientationPatient",
    "PositionReferenceIndicator", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "LongitudinalTemporalInformationModified", "WindowCenter",
    "WindowWidth", "RescaleIntercept", "RescaleSlope", "RescaleType",
]  # fmt: skip


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[Dataset]:
    """The real series, from the head down."""
    files = sorted((shared_data / "dicom" / "hcc_048_portal_venous").glob("*.dcm"))
    if not files:
        pytest.skip("the real series is not there")
    return sorted((pydicom.dcmread(path) for path in files), key=lambda one: int(one.InstanceNumber))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """The twin of the same series, from the head down."""
    root = make_phantom(tmp_path_factory.mktemp("one") / "t", patients=["HCC_048"], workers=1)
    found = [pydicom.dcmread(path) for path in root.glob("HCC_048/*/CT_*/*.dcm")]
    first = min(one.StudyDate for one in found)
    own = [one for one in found if one.StudyDate == first and one.SeriesNumber == 6]
    return sorted(own, key=lambda one: int(one.InstanceNumber))


def style(value: Any) -> Any:
    """Return how a value is written: digits as 9 with their number after the point, the kind of any other text."""
    if isinstance(value, pydicom.multival.MultiValue):
        return tuple(style(one) for one in value)
    text = str(getattr(value, "original_string", value))
    number = re.fullmatch(r"-?\d+(?:\.(\d+))?", text)
    return ("number", len(number[1] or "")) if number else "text" if text else "empty"


def elements(dataset: Dataset) -> dict[str, tuple[str, Any]]:
    """Return VR and style of each element by tag, sequences as their whole content."""
    return {
        str(one.tag): (one.VR, [str(item) for item in one.value] if one.VR == "SQ" else style(one.value))
        for one in dataset
        if one.tag != 0x7FE00010
    }


def test_every_element_is_there_and_written_alike(real: list[Dataset], made: list[Dataset]) -> None:
    assert elements(made[0]) == elements(real[0])
    assert all(elements(one) == elements(made[0]) for one in made)
    assert [one.tag for one in made[0]] == sorted(one.tag for one in real[0])
    assert made[0]["PixelData"].VR == real[0]["PixelData"].VR


def test_the_file_meta_information_is_the_archives(real: list[Dataset], made: list[Dataset]) -> None:
    theirs, ours = ({one.keyword: one.value for one in files[0].file_meta} for files in (real, made))
    for name in ("FileMetaInformationGroupLength", "MediaStorageSOPInstanceUID"):
        assert theirs.pop(name)
        assert ours.pop(name)
    assert ours == theirs


@pytest.mark.parametrize("keyword", FIXED)
def test_constant_values(real: list[Dataset], made: list[Dataset], keyword: str) -> None:
    assert {str(one[keyword].value) for one in made} == {str(one[keyword].value) for one in real}


def test_what_changes_from_slice_to_slice(real: list[Dataset], made: list[Dataset]) -> None:
    def changing(files: list[Dataset]) -> set[str]:
        counts = Counter((one.keyword, str(one.value)) for file in files for one in file if one.tag != 0x7FE00010)
        return {keyword for (keyword, _), count in counts.items() if count < len(files)}

    assert changing(made) == changing(real)
    for files in (real, made):
        times = [one.InstanceCreationTime for one in files]
        assert times == sorted(times)
        assert 1 < len(set(times)) < len(files)
        heights = [float(one.ImagePositionPatient[2]) for one in files]
        assert heights == sorted(heights, reverse=True)
        assert {one.AcquisitionNumber for one in files} == {2}
        assert all(90 <= one.XRayTubeCurrent <= 630 for one in files)
        assert all(abs(one.Exposure - 0.104 * one.XRayTubeCurrent) < 0.65 for one in files)
        assert all(one.InstanceCreationTime > files[0].PerformedProcedureStepStartTime for one in files)


def test_nothing_was_reconstructed_outside_the_circle(real: list[Dataset], made: list[Dataset]) -> None:
    for files in (real, made):
        stored = files[0].pixel_array
        assert stored.min() == stored[0, 0] == -1024
        assert (stored == -1024).mean() == pytest.approx(0.213, abs=0.003)
        assert not (stored == files[0].PixelPaddingValue).any()


def test_numbers_of_sweeps_follow_their_order(
    twin: Path, phases: list[dict[str, str]], headers: dict[str, Any]
) -> None:
    """AcquisitionNumber grows from arterial to porto-venous to delayed within a visit."""
    order = ("pre_contrast", "arterial", "portal_venous", "delayed")
    visits: dict[str, dict[str, set[int]]] = {}
    for row in phases:
        one = headers[row["sop_uid"]]
        if "AcquisitionNumber" in one:
            numbers = visits.setdefault(row["study_uid"], {}).setdefault(row["phase"], set())
            numbers.add(int(one.AcquisitionNumber))
    assert len(visits) > 20
    for found in visits.values():
        assert all(len(numbers) <= 2 for numbers in found.values())  # two for a sweep over two regions
        firsts = [min(found[phase]) for phase in order if phase in found]
        assert firsts == sorted(firsts)
