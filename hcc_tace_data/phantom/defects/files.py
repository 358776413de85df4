"""Defects of completeness and files (HT1, HT2): for each rule a change to a twin that breaks it and no other."""

from __future__ import annotations

import shutil

import numpy as np
from pydicom.uid import UID

from hcc_tace_data.phantom.defects.tools import Twin, change, in_series, named, plant, read, write
from hcc_tace_data.phantom.seeding import twin_uid
from hcc_tace_data.system.files import atomic_write_bytes
from hcc_tace_data.system.words import count

__all__ = []


_TOP = slice(-1, None)


@plant("HT101")
def _missing_slice(twin: Twin) -> str:
    twin.slices[-1].unlink()
    return f"removed {named(twin, twin.slices[-1])}, the top slice"


@plant("HT102")
def _missing_study(twin: Twin) -> str:
    follow_up = twin.collection[twin.patient].studies[-1]
    folder = twin.root / twin.patient / follow_up.study_uid
    shutil.rmtree(folder)
    return f"removed the study {named(twin, folder)}"


@plant("HT103")
def _missing_seg(twin: Twin) -> str:
    shutil.rmtree(twin.seg.parent)
    return f"removed the segmentation {named(twin, twin.seg.parent)}"


@plant("HT104")
def _missing_series(twin: Twin) -> str:
    shutil.rmtree(twin.slices[0].parent)
    return f"removed the series {named(twin, twin.slices[0].parent)}"


@plant("HT105")
def _missing_patient(twin: Twin) -> str:
    _, patient = twin.two()
    shutil.rmtree(twin.root / patient)
    return f"removed {patient}"


@plant("HT106")
def _foreign_series(twin: Twin) -> str:
    dataset, frames = twin.masks()
    dataset.SeriesInstanceUID = twin_uid("foreign", dataset.SeriesInstanceUID)
    dataset.SOPInstanceUID = UID(twin_uid("foreign", dataset.SOPInstanceUID))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    place = tuple(np.argwhere(frames)[0])
    frames[place] = 0  # a twin of the masks, not a copy
    target = twin.seg.parent.parent / f"SEG_{dataset.SeriesInstanceUID}" / f"{dataset.SOPInstanceUID}.dcm"
    target.parent.mkdir()
    data = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    write(target, dataset)
    return f"added {named(twin, target)}, which series.csv does not list"


@plant("HT201")
def _cut_file(twin: Twin) -> str:
    path = twin.slices[-1]
    atomic_write_bytes(path, path.read_bytes()[: path.stat().st_size // 2])
    return f"cut {named(twin, path)} to half its length"


@plant("HT202")
def _implicit(twin: Twin) -> str:
    from pydicom.uid import ImplicitVRLittleEndian  # noqa: PLC0415 - slow to import

    path = twin.slices[-1]
    dataset = read(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    write(path, dataset, implicit_vr=True, little_endian=True)
    return f"wrote {named(twin, path)} with implicit VR"


@plant("HT203")
def _copy_file(twin: Twin) -> str:
    path = twin.slices[-1]
    shutil.copyfile(path, path.with_name("copy.dcm"))
    return f"copied {named(twin, path)} to copy.dcm"


in_series("HT204", "changed SeriesNumber", lambda d: setattr(d, "SeriesNumber", "77"), files=_TOP)
in_series("HT205", "changed StudyDescription", lambda d: setattr(d, "StudyDescription", "CT OF THE CHEST"))
in_series(
    "HT208", "inverted the grey scale", lambda d: setattr(d, "PhotometricInterpretation", "MONOCHROME1"), files=_TOP
)
in_series("HT213", "removed RescaleSlope", lambda d: d.__delitem__("RescaleSlope"), files=_TOP)
in_series("HT212", "removed PositionReferenceIndicator", lambda d: d.__delitem__("PositionReferenceIndicator"))


@plant("HT214")
def _stray_number(twin: Twin) -> str:
    path = twin.slices[-1]
    data = path.read_bytes()
    place = data.index(b"\x18\x00\x50\x00DS") + 8  # SliceThickness; the library would refuse to write this
    atomic_write_bytes(path, data[:place] + b"x" + data[place + 1 :])
    return f"wrote a letter into SliceThickness of {named(twin, path)}"


@plant("HT207")
def _copied_pixels(twin: Twin) -> str:
    source = read(twin.slices[-2]).PixelData
    change(twin.slices[-1:], lambda d: setattr(d, "PixelData", source))
    return f"gave {named(twin, twin.slices[-1])} the pixels of the slice below"


@plant("HT209")
def _radiograph(twin: Twin) -> str:
    dataset = read(twin.slices[-1])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    dataset.Modality = "CR"
    dataset.SeriesInstanceUID = twin_uid("radiograph", dataset.SeriesInstanceUID)
    dataset.SOPInstanceUID = UID(twin_uid("radiograph", dataset.SOPInstanceUID))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = (np.frombuffer(dataset.PixelData, "<i2") + 1).astype("<i2").tobytes()
    target = twin.slices[0].parent.parent / f"CR_{dataset.SeriesInstanceUID}" / f"{dataset.SOPInstanceUID}.dcm"
    target.parent.mkdir()
    write(target, dataset)
    twin.count_again()
    return f"added the radiograph {named(twin, target)}"


@plant("HT210")
def _other_meta(twin: Twin) -> str:
    path = twin.slices[-1]
    dataset = read(path)
    own = str(dataset.SOPInstanceUID)
    other = (own[:-1] + ("1" if own[-1] != "1" else "2")).encode()
    # the library would set it right again
    atomic_write_bytes(path, path.read_bytes().replace(own.encode(), other, 1))
    return f"changed MediaStorageSOPInstanceUID of {named(twin, path)}"


@plant("HT211")
def _same_number(twin: Twin) -> str:
    number = read(twin.slices[-2]).InstanceNumber
    change(twin.slices[-1:], lambda d: setattr(d, "InstanceNumber", number))
    return f"gave {named(twin, twin.slices[-1])} the InstanceNumber of the slice below"


@plant("HT206")
def _two_names(twin: Twin) -> str:
    other = f"HCC_{(int(twin.patient[-3:]) + 500) % 1000:03d}"
    change(twin.slices, lambda d: setattr(d, "PatientName", other))
    return f"named the patient {other} in {count(len(twin.slices), 'file')} of {named(twin, twin.slices[0].parent)}"
