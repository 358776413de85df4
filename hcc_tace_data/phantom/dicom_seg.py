"""The DICOM segmentation of a twin patient: made by highdicom in the shape dcmqi gave the collection's."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from hcc_tace_data.phantom.body import LABELS
from hcc_tace_data.phantom.dicom_ct import deidentified, file_meta
from hcc_tace_data.phantom.plan import PatientPlan
from hcc_tace_data.phantom.seeding import twin_uid

__all__ = ["flip_frames", "refer_elsewhere", "write_segmentation"]

#: Segment label, category (code, meaning), type (code, meaning), colour as dcmqi recommends (R, G, B).
_SEGMENTS: dict[int, tuple[str, tuple[str, str], tuple[str, str]]] = {
    LABELS["liver"]: ("Liver", ("123037004", "Anatomical Structure"), ("10200004", "Liver")),
    LABELS["mass"]: ("Mass", ("49755003", "Morphologically Altered Structure"), ("4147007", "Mass")),
    LABELS["portal_vein"]: ("Portal vein", ("123037004", "Anatomical Structure"), ("32764006", "Portal vein")),
    LABELS["aorta"]: ("Abdominal aorta", ("123037004", "Anatomical Structure"), ("7832008", "Abdominal aorta")),
    LABELS["necrosis"]: ("Necrosis", ("49755003", "Morphologically Altered Structure"), ("6574001", "Necrosis")),
}
#: Patients with empty frames of the mass that lie off the CT's grid.
_EMPTY_OFF_GRID = {"HCC_041", "HCC_089", "HCC_095"}


def write_segmentation(
    path: Path, plan: PatientPlan, labels: NDArray[np.uint8], sources: Sequence[Dataset], elsewhere: Sequence[Dataset]
) -> None:
    """Write the SEG of one patient, quirks included.

    Parameters
    ----------
    path : Path
        File to write.
    plan : PatientPlan
        The patient.
    labels : numpy.ndarray
        uint8 (slices, rows, columns) of segment numbers on the annotated volume.
    sources : sequence of Dataset
        Headers of the annotated slices, in the order of `labels`, missing files included.
    elsewhere : sequence of Dataset
        Headers of a series that the SEG refers to instead of `sources` (one patient), else empty.
    """
    import highdicom as hd  # noqa: PLC0415 - slow to import
    from highdicom.sr.coding import CodedConcept  # noqa: PLC0415 - slow to import

    pid, seg = plan.patient_id, plan.segmentation
    numbers = [1, 2, 3, 4] + ([5] if pid == "HCC_017" else [])
    described = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=_SEGMENTS[number][0],
            segmented_property_category=CodedConcept(_SEGMENTS[number][1][0], "SCT", _SEGMENTS[number][1][1]),
            segmented_property_type=CodedConcept(_SEGMENTS[number][2][0], "SCT", _SEGMENTS[number][2][1]),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="STAPLE of three readers", version="1", family=CodedConcept("123109", "DCM", "Manual Processing")
            ),
        )
        for number in numbers
    ]
    flip = pid == "HCC_003"
    pixels = labels[:, ::-1, ::-1] if flip else labels
    stacked = np.stack([pixels == number for number in numbers], axis=-1)
    for source in sources:
        source.PatientName = ""  # highdicom warns of names of one component; the archive's name is set below
    result = hd.seg.Segmentation(
        source_images=list(sources),
        pixel_array=stacked,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=seg.series_uid,
        series_number=seg.number,
        sop_instance_uid=twin_uid("seg", plan.seed, pid),
        instance_number=1,
        manufacturer="QIICR",
        manufacturer_model_name="git@github.com:QIICR/dcmqi.git",
        software_versions="phantom",
        device_serial_number="1",
        series_description=seg.description,
        content_label="SEGMENTATION",
        omit_empty_frames=False,
    )
    if "SourceImageSequence" in result:  # dcmqi writes none at this level
        del result.SourceImageSequence
    _freeze(result, plan, sources[0])
    if flip:
        flip_frames(result, sources)
    if pid == "HCC_021":
        for k, item in enumerate(result.PerFrameFunctionalGroupsSequence):
            x, y, z = item.PlanePositionSequence[0].ImagePositionPatient
            item.PlanePositionSequence[0].ImagePositionPatient = [x, y, round(float(z) + (0.01, -0.02, 0.02)[k % 3], 4)]
    if pid in _EMPTY_OFF_GRID:
        _add_empty_frames(result, labels.shape, sources)
    if elsewhere:
        refer_elsewhere(result, elsewhere)
    if pid == "HCC_048":
        del result.ReferencedSeriesSequence
    result.save_as(path)


def _freeze(result: Dataset, plan: PatientPlan, source: Dataset) -> None:
    """Replace what depends on the clock or on chance, and add what the archive's de-identification adds."""
    date = plan.segmentation.study_date
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        if name in result:
            delattr(result, name)
    result.ContentDate, result.ContentTime = date, "120000"
    result.SeriesDate, result.SeriesTime = date, "120000"
    organisation = UID(twin_uid("dimensions", plan.seed, plan.patient_id))
    for item in result.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = f"{date}120000"
    for item in result.PerFrameFunctionalGroupsSequence:
        # The library lets frames of one slice share one position object: changing one would change all.
        item.PlanePositionSequence = deepcopy(item.PlanePositionSequence)
    for item in [*result.DimensionOrganizationSequence, *result.DimensionIndexSequence]:
        item.DimensionOrganizationUID = organisation
    deidentified(result, plan.patient_id, plan.days(plan.segmentation.study_date))
    result.PatientSex = source.PatientSex
    result.BodyPartExamined = "LIVER"
    result.file_meta.update(file_meta(result.SOPClassUID, result.SOPInstanceUID))


def flip_frames(result: Dataset, sources: Sequence[Dataset]) -> None:
    """Rows and columns run the other way: the first pixel is the CT's last."""
    spacing = float(sources[0].PixelSpacing[0])
    extent = spacing * (int(sources[0].Rows) - 1)
    shared = result.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    shared.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
    for item in result.PerFrameFunctionalGroupsSequence:
        x, y, z = (float(v) for v in item.PlanePositionSequence[0].ImagePositionPatient)
        item.PlanePositionSequence[0].ImagePositionPatient = [round(x + extent, 6), round(y + extent, 6), z]


def _add_empty_frames(result: Dataset, shape: tuple[int, ...], sources: Sequence[Dataset], count: int = 3) -> None:
    """Append empty frames of the mass beyond the CT, between its slice positions."""
    frames = list(result.PerFrameFunctionalGroupsSequence)
    heights = sorted(float(one.ImagePositionPatient[2]) for one in sources)
    step = heights[1] - heights[0]
    sample = next(
        frame for frame in frames if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == LABELS["mass"]
    )
    for k in range(count):
        item = deepcopy(sample)
        x, y, _ = item.PlanePositionSequence[0].ImagePositionPatient
        item.PlanePositionSequence[0].ImagePositionPatient = [x, y, round(heights[-1] + (k + 1.4) * step, 4)]
        content = item.FrameContentSequence[0]
        content.DimensionIndexValues = [*content.DimensionIndexValues[:-1], len(heights) + 1 + k]
        frames.append(item)
    result.PerFrameFunctionalGroupsSequence = frames
    bits = int(result.NumberOfFrames) * shape[1] * shape[2]
    total = (bits + count * shape[1] * shape[2] + 7) // 8
    data = bytes(result.PixelData)[: (bits + 7) // 8]
    data += bytes(total - len(data))
    result.PixelData = data + b"\0" * (len(data) % 2)
    result.NumberOfFrames = int(result.NumberOfFrames) + count


def refer_elsewhere(result: Dataset, others: Sequence[Dataset]) -> None:
    """Point every reference at `others`, slice by slice, though they lie somewhere else."""
    series = result.ReferencedSeriesSequence[0]
    series.SeriesInstanceUID = others[0].SeriesInstanceUID
    listed = []
    for one in others:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        listed.append(item)
    series.ReferencedInstanceSequence = listed
    for k, frame in enumerate(result.PerFrameFunctionalGroupsSequence):
        for derivation in frame.get("DerivationImageSequence", []):
            for source in derivation.SourceImageSequence:
                source.ReferencedSOPInstanceUID = others[k % len(others)].SOPInstanceUID
