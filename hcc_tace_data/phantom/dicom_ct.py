"""CT files as TCIA publishes them, written fast: one header is built with pydicom, slices patch a few elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from struct import pack

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from hcc_tace_data.phantom.seeding import UID_ROOT

__all__ = [
    "PADDING", "SeriesHeader", "SliceHeader", "SliceWriter", "deidentified", "file_meta", "slice_dataset",
]  # fmt: skip

#: PixelPaddingValue as the scanner writes it. No pixel of the collection's files has it: what is outside the circle of
#: reconstruction is stored as -1024 (-2048 HU), or as 0 in some.
PADDING = -2000
_BLANK_UID = f"{UID_ROOT}{0:035d}"
_PIXELS = Tag(0x7FE00010)


def file_meta(sop_class: str, sop_uid: str) -> FileMetaDataset:
    """Return the file meta information that the archive's software, Posda, writes."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("1.3.6.1.4.1.22213.1.143")
    meta.ImplementationVersionName = "0.5"
    meta.SourceApplicationEntityTitle = "POSDA"
    return meta


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeader:
    """What all slices of one acquisition share. Lengths in mm, times as DICOM strings."""

    patient_id: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    study_date: str
    step_time: str  # PerformedProcedureStepStartTime
    days: int  # from the diagnosis to this study
    study_description: str
    series_description: str
    series_number: int
    contrast_route: str
    pixels: int
    pixel_spacing: float
    origin: tuple[float, float]  # x and y of the first pixel
    thickness: float
    kvp: int
    table_height: float
    outside: int  # HU outside the circle of reconstruction
    signed: bool
    named: bool  # the one patient whose age, sex and scanner were not removed


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceHeader:
    """What differs from slice to slice: `z` in mm, `made` the InstanceCreationTime, `current` of the tube in mA."""

    sop_uid: str
    instance: int
    acquisition: int | None
    z: float
    made: str
    current: int

    @property
    def exposure(self) -> int:
        """Exposure as GE writes it, in proportion to the tube current."""
        return round(0.10394 * self.current)


def deidentified(dataset: Dataset, patient_id: str, days: int) -> None:
    """Add what TCIA's de-identification leaves: patient, time since diagnosis, profile, the archive's private block."""
    dataset.PatientName = patient_id
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = ""
    dataset.ClinicalTrialTimePointID = str(days)
    dataset.ClinicalTrialTimePointDescription = "Days offset from diagnosis"
    dataset.LongitudinalTemporalOffsetFromEvent = float(days)
    dataset.LongitudinalTemporalEventType = "DIAGNOSIS"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Per DICOM PS 3.15 AnnexE. Details in 0012,0064"
    codes = {
        "113100": "Basic Application Confidentiality Profile",
        "113101": "Clean Pixel Data Option",
        "113104": "Clean Structured Content Option",
        "113105": "Clean Descriptors Option",
        "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
        "113108": "Retain Patient Characteristics Option",
        "113109": "Retain Device Identity Option",
        "113111": "Retain Safe Private Option",
    }
    items = []
    for value, meaning in codes.items():
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items
    dataset.add(DataElement(0x00130010, "LO", "CTP"))
    dataset.add(DataElement(0x00131010, "LO", "HCC-TACE-Seg"))
    dataset.add(DataElement(0x00131013, "LO", "17068374"))
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"


def slice_dataset(header: SeriesHeader, one: SliceHeader) -> Dataset:
    """Return the header of one slice as a pydicom dataset, without pixels.

    Elements, their order, empty values and the style of numbers follow the collection's own files: clocks of series,
    acquisition and content were removed, what is left is InstanceCreationTime and PerformedProcedureStepStartTime.
    """
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.InstanceCreationTime = one.made
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = one.sop_uid
    ds.StudyDate = ds.ContentDate = header.study_date
    ds.StudyTime = ds.ContentTime = ""
    ds.AccessionNumber = ""
    ds.Modality = "CT"
    ds.Manufacturer = "GE MEDICAL SYSTEMS" if header.named else ""
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = header.study_description
    if header.series_description:
        ds.SeriesDescription = header.series_description
    deidentified(ds, header.patient_id, header.days)
    ds.PatientSex = "F" if header.named else ""
    if header.named:
        ds.PatientAge = "079Y"
    ds.ContrastBolusAgent = ""
    ds.BodyPartExamined = "LIVER"
    ds.ScanOptions = "HELICAL MODE"
    ds.SliceThickness = f"{header.thickness:.6f}"
    ds.KVP = str(header.kvp)
    ds.DataCollectionDiameter = "500.000000"
    if header.contrast_route:
        ds.ContrastBolusRoute = header.contrast_route
    ds.ReconstructionDiameter = f"{header.pixel_spacing * header.pixels:.6f}"
    ds.DistanceSourceToDetector = "949.075012"
    ds.DistanceSourceToPatient = "541.000000"
    ds.GantryDetectorTilt = "0.000000"
    ds.TableHeight = f"{header.table_height:.6f}"
    ds.RotationDirection = "CW"
    ds.ExposureTime = "1160"
    ds.XRayTubeCurrent = str(one.current)
    ds.Exposure = str(one.exposure)
    ds.FilterType = "BODY FILTER"
    ds.GeneratorPower = "49000"
    ds.FocalSpots = "1.200000"
    ds.ConvolutionKernel = "STANDARD"
    ds.PatientPosition = "FFS"
    ds.RevolutionTime = 0.8
    ds.SingleCollimationWidth = 1.25
    ds.TotalCollimationWidth = 20.0
    ds.TableSpeed = 23.4375
    ds.TableFeedPerRotation = 18.75
    ds.SpiralPitchFactor = 0.9375
    ds.StudyInstanceUID, ds.SeriesInstanceUID = header.study_uid, header.series_uid
    ds.StudyID = ""
    ds.SeriesNumber = str(header.series_number)
    if one.acquisition is not None:
        ds.AcquisitionNumber = str(one.acquisition)
    ds.InstanceNumber = str(one.instance)
    ds.ImagePositionPatient = [*(f"{at:.6f}" for at in header.origin), f"{one.z:.6f}"]
    ds.ImageOrientationPatient = ["1.000000", "0.000000", "0.000000", "0.000000", "1.000000", "0.000000"]
    ds.FrameOfReferenceUID = header.frame_of_reference_uid
    ds.PositionReferenceIndicator = "SN"
    ds.SliceLocation = f"{one.z:.6f}"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = header.pixels
    ds.PixelSpacing = [f"{header.pixel_spacing:.6f}", f"{header.pixel_spacing:.6f}"]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(header.signed)
    if header.signed:
        ds.add(DataElement(0x00280120, "SS", PADDING))
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.PerformedProcedureStepStartTime = header.step_time
    return ds


def _encode(element: DataElement) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, ["iso8859"])
    return buffer.getvalue()


def _short(tag: BaseTag, vr: bytes, text: str, padding: bytes = b" ") -> bytes:
    value = text.encode("ascii")
    value += padding * (len(value) % 2)
    return pack("<HH2sH", tag.group, tag.element, vr, len(value)) + value


def _number(tag: BaseTag, value: int) -> bytes:
    return _short(tag, b"IS", str(value))


class SliceWriter:
    """Makes the bytes of the files of one phase volume.

    Parameters
    ----------
    header : SeriesHeader
        What the slices share.
    """

    def __init__(self, header: SeriesHeader) -> None:
        self._header = header
        blank = SliceHeader(sop_uid=_BLANK_UID, instance=1, acquisition=1, z=0.0, made="000000", current=100)
        self._elements: dict[BaseTag, bytes] = {
            element.tag: _encode(element) for element in slice_dataset(header, blank)
        }
        buffer = BytesIO()
        buffer.write(bytes(128) + b"DICM")
        write_file_meta_info(buffer, file_meta(CTImageStorage, _BLANK_UID))  # type: ignore[arg-type]
        self._meta = buffer.getvalue()

    def slice(self, hu: NDArray[np.int16], one: SliceHeader) -> bytes:
        """Return one file; `hu` is int16 (rows, columns), `header.outside` where nothing was reconstructed."""
        stored = hu.astype("<i2") + np.int16(1024)
        if not self._header.signed:
            stored = np.maximum(stored, 0)
        place = "\\".join(f"{at:.6f}" for at in (*self._header.origin, one.z))
        changed: Mapping[BaseTag, bytes] = {
            Tag(0x00080013): _short(Tag(0x00080013), b"TM", one.made),
            Tag(0x00080018): _short(Tag(0x00080018), b"UI", one.sop_uid, b"\0"),
            Tag(0x00181151): _number(Tag(0x00181151), one.current),
            Tag(0x00181152): _number(Tag(0x00181152), one.exposure),
            Tag(0x00200012): b"" if one.acquisition is None else _number(Tag(0x00200012), one.acquisition),
            Tag(0x00200013): _number(Tag(0x00200013), one.instance),
            Tag(0x00200032): _short(Tag(0x00200032), b"DS", place),
            Tag(0x00201041): _short(Tag(0x00201041), b"DS", f"{one.z:.6f}"),
        }
        # The first blank UID in the file meta group is MediaStorageSOPInstanceUID (2 before 18).
        meta = self._meta.replace(_BLANK_UID.encode(), one.sop_uid.encode(), 1)
        pixels = stored.astype("<i2").tobytes()
        return b"".join(
            [
                meta,
                *(changed.get(tag, value) for tag, value in self._elements.items()),
                pack("<HH2sHI", _PIXELS.group, _PIXELS.element, b"OW", 0, len(pixels)),
                pixels,
            ]
        )
