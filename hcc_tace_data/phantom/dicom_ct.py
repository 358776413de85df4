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

__all__ = ["PADDING", "SeriesHeader", "SliceWriter", "deidentified", "slice_dataset"]

#: What the scanner stores outside its round field of view.
PADDING = -2000
IMPLEMENTATION_UID = f"{UID_ROOT}{0:035d}"
_PIXELS = Tag(0x7FE00010)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesHeader:
    """What all slices of one phase volume share. Lengths in mm, times as DICOM strings."""

    patient_id: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    study_date: str
    study_time: str
    series_time: str
    acquisition_time: str
    content_time: str
    study_description: str
    series_description: str
    series_number: int
    acquisition_number: int | None
    contrast_agent: str
    pixels: int
    pixel_spacing: float
    origin: float
    thickness: float
    kvp: int
    signed: bool
    named: bool  # the one patient whose age, sex and scanner were not removed


def deidentified(dataset: Dataset, patient_id: str) -> None:
    """Add what TCIA's de-identification leaves behind: patient module, profile, private block of the archive."""
    dataset.PatientName = patient_id
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Per DICOM PS 3.15 AnnexE. Details in 0012,0064"
    codes = {
        "113100": "Basic Application Confidentiality Profile",
        "113101": "Clean Pixel Data Option",
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


def slice_dataset(header: SeriesHeader, *, sop_uid: str, instance: int, z: float) -> Dataset:
    """Return the header of one slice as a pydicom dataset, without pixels."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = sop_uid
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = header.study_date
    ds.StudyTime, ds.SeriesTime = header.study_time, header.series_time
    ds.AcquisitionTime, ds.ContentTime = header.acquisition_time, header.content_time
    ds.AccessionNumber = ""
    ds.Modality = "CT"
    ds.Manufacturer = "GE MEDICAL SYSTEMS" if header.named else ""
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = header.study_description
    if header.series_description:
        ds.SeriesDescription = header.series_description
    deidentified(ds, header.patient_id)
    ds.PatientSex = "F" if header.named else ""
    if header.named:
        ds.PatientAge = "079Y"
    if header.contrast_agent:
        ds.ContrastBolusAgent = header.contrast_agent
    ds.BodyPartExamined = "LIVER"
    ds.ScanOptions = "HELICAL MODE"
    ds.SliceThickness = f"{header.thickness:g}"
    ds.KVP = str(header.kvp)
    ds.DataCollectionDiameter = "500"
    ds.ReconstructionDiameter = f"{header.pixel_spacing * header.pixels:.6g}"
    ds.GantryDetectorTilt = "0.000000"
    ds.ConvolutionKernel = "STANDARD"
    ds.PatientPosition = "FFS"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = header.study_uid, header.series_uid
    ds.StudyID = ""
    ds.SeriesNumber = str(header.series_number)
    if header.acquisition_number is not None:
        ds.AcquisitionNumber = str(header.acquisition_number)
    ds.InstanceNumber = str(instance)
    ds.ImagePositionPatient = [f"{header.origin:.6f}", f"{header.origin:.6f}", f"{z:.6f}"]
    ds.ImageOrientationPatient = ["1.000000", "0.000000", "0.000000", "0.000000", "1.000000", "0.000000"]
    ds.FrameOfReferenceUID = header.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    ds.SliceLocation = f"{z:.6f}"
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


class SliceWriter:
    """Makes the bytes of the files of one phase volume.

    Parameters
    ----------
    header : SeriesHeader
        What the slices share.
    """

    def __init__(self, header: SeriesHeader) -> None:
        self._header = header
        template = slice_dataset(header, sop_uid=f"{UID_ROOT}{0:035d}", instance=1, z=0.0)
        self._elements: dict[BaseTag, bytes] = {element.tag: _encode(element) for element in template}
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\x00\x01"
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = UID(f"{UID_ROOT}{0:035d}")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
        meta.ImplementationVersionName = "HCC_TACE_TWIN"
        buffer = BytesIO()
        buffer.write(bytes(128) + b"DICM")
        write_file_meta_info(buffer, meta)  # type: ignore[arg-type]
        self._meta = buffer.getvalue()
        self._blank_uid = f"{UID_ROOT}{0:035d}".encode()

    def slice(self, hu: NDArray[np.int16], *, sop_uid: str, instance: int, z: float) -> bytes:
        """Return one file; `hu` is int16 (rows, columns), NaN-free, :data:`PADDING` - 1024 outside the field."""
        stored = hu.astype("<i2") + np.int16(1024)
        if not self._header.signed:
            stored = np.maximum(stored, 0)
        changed: Mapping[BaseTag, bytes] = {
            Tag(0x00080018): _short(Tag(0x00080018), b"UI", sop_uid, b"\0"),
            Tag(0x00200013): _short(Tag(0x00200013), b"IS", str(instance)),
            Tag(0x00200032): _short(
                Tag(0x00200032), b"DS", f"{self._header.origin:.6f}\\{self._header.origin:.6f}\\{z:.6f}"
            ),
            Tag(0x00201041): _short(Tag(0x00201041), b"DS", f"{z:.6f}"),
        }
        # The first blank UID in the file meta group is MediaStorageSOPInstanceUID (2 before 18).
        meta = self._meta.replace(self._blank_uid, sop_uid.encode(), 1)
        pixels = stored.astype("<i2").tobytes()
        return b"".join(
            [
                meta,
                *(changed.get(tag, value) for tag, value in self._elements.items()),
                pack("<HH2sHI", _PIXELS.group, _PIXELS.element, b"OW", 0, len(pixels)),
                pixels,
            ]
        )
