"""One row of the instance table from one file."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import Any

from hcc_tace_data.elements import CutShort, NeedMore, UnusualFile, walk
from hcc_tace_data.errors import DicomReadError

__all__ = ["COLUMNS", "FLOATS", "INTEGERS", "TEXTS", "read_header"]

_FIRST_READ = 8192

TEXTS = {
    "patient_id": (0x00100020, "LO"),
    "study_uid": (0x0020000D, "UI"),
    "series_uid": (0x0020000E, "UI"),
    "sop_uid": (0x00080018, "UI"),
    "sop_class_uid": (0x00080016, "UI"),
    "modality": (0x00080060, "CS"),
    "study_date": (0x00080020, "DA"),
    "study_time": (0x00080030, "TM"),
    "series_date": (0x00080021, "DA"),
    "series_time": (0x00080031, "TM"),
    "acquisition_date": (0x00080022, "DA"),
    "acquisition_time": (0x00080032, "TM"),
    "content_time": (0x00080033, "TM"),
    "study_description": (0x00081030, "LO"),
    "series_description": (0x0008103E, "LO"),
    "image_type": (0x00080008, "CS"),
    "frame_of_reference_uid": (0x00200052, "UI"),
    "photometric_interpretation": (0x00280004, "CS"),
    "contrast_agent": (0x00180010, "LO"),
    "manufacturer": (0x00080070, "LO"),
}
INTEGERS = {
    "series_number": (0x00200011, "IS"),
    "acquisition_number": (0x00200012, "IS"),
    "instance_number": (0x00200013, "IS"),
    "rows": (0x00280010, "US"),
    "columns": (0x00280011, "US"),
    "number_of_frames": (0x00280008, "IS"),
    "bits_allocated": (0x00280100, "US"),
    "bits_stored": (0x00280101, "US"),
    "pixel_representation": (0x00280103, "US"),
    "samples_per_pixel": (0x00280002, "US"),
}
_NUMBERS = {
    "rescale_slope": (0x00281053, "DS"),
    "rescale_intercept": (0x00281052, "DS"),
    "pixel_padding_value": (0x00280120, "XS"),
    "slice_thickness": (0x00180050, "DS"),
    "spacing_between_slices": (0x00180088, "DS"),
    "gantry_tilt": (0x00181120, "DS"),
    "kvp": (0x00180060, "DS"),
}
_VECTORS = {
    (0x00200032, 3): ("position_x", "position_y", "position_z"),
    (0x00200037, 6): tuple(f"orientation_{i}" for i in range(6)),
    (0x00280030, 2): ("spacing_row", "spacing_column"),
}
FLOATS = (*_NUMBERS, *(name for names in _VECTORS.values() for name in names))
COLUMNS = (
    "path", "size", "mtime_ns", *TEXTS, "transfer_syntax_uid", *INTEGERS, *FLOATS,
    "pixel_offset", "pixel_length", "pixel_vr",
)  # fmt: skip
_VRS = {
    **{tag: vr for group in (TEXTS, INTEGERS, _NUMBERS) for tag, vr in group.values()},
    **{tag: "DS" for tag, _ in _VECTORS},
}
_PAD_VRS = (b"", b"US", b"SS")


def read_header(path: str, name: str | None = None) -> dict[str, Any]:
    """Read one header.

    Parameters
    ----------
    path : str
        The file.
    name : str, optional
        What to put in the row as `path`; default `path` itself.

    Returns
    -------
    dict
        The values of :data:`COLUMNS`; absent text is ``""``, an absent integer None, an absent float NaN.

    Raises
    ------
    DicomReadError
        The file is empty, is not DICOM, is cut short, or holds values that cannot be understood.
    OSError
        The file cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        size = status.st_size
        if size == 0:
            raise DicomReadError(f"{path} is empty (0 bytes); fetch it again.")
        data = os.read(handle, min(_FIRST_READ, size))
        if data[128:132] != b"DICM":
            raise DicomReadError(f"{path} is not a DICOM file (no DICM prefix).")
        while True:
            try:
                walked = walk(data, size, _VRS)
                row = _row(*walked)
                break
            except NeedMore as more:
                wanted = max(int(more.args[0]), 4 * len(data))
                rest = os.read(handle, min(wanted, size) - len(data))
                if not rest:
                    raise CutShort from None
                data += rest
    except (UnusualFile, ValueError, UnicodeDecodeError) as unusual:
        if isinstance(unusual, DicomReadError):
            raise
        row = _by_pydicom(path)
    except CutShort:
        raise DicomReadError(
            f"{path} is cut short: an element reaches past its {size} bytes; fetch it again."
        ) from None
    finally:
        os.close(handle)
    row["path"], row["size"], row["mtime_ns"] = name or path, size, status.st_mtime_ns
    if not row["sop_uid"] or not row["series_uid"]:
        raise DicomReadError(f"{path} has no SOPInstanceUID or no SeriesInstanceUID: no instance of a collection.")
    return row


# the files of a series say the same in most elements
@lru_cache(maxsize=4096)
def _text(raw: bytes) -> str:
    if b"\x1b" in raw:
        raise UnusualFile("code extension")
    padded = raw.rstrip(b" \0")
    if b"\0" in padded:
        raise UnusualFile("a NUL inside a text")
    return padded.decode("ascii").strip(" ")


@lru_cache(maxsize=4096)
def _number(text: str) -> float:
    value = float(text) if "_" not in text else math.nan
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _row(
    syntax: str, values: dict[int, tuple[bytes, bytes]], offset: int, length: int, pixel_vr: bytes
) -> dict[str, Any]:
    """Turn raw values into a row; anything odd raises, and pydicom decides."""
    for tag, (vr, _) in values.items():
        if vr and vr.decode() != _VRS[tag] and not (_VRS[tag] == "XS" and vr in _PAD_VRS):
            raise UnusualFile("another VR than the dictionary's")
    row: dict[str, Any] = {"transfer_syntax_uid": syntax}
    for name, (tag, _) in TEXTS.items():
        found = values.get(tag)
        row[name] = _text(found[1]) if found else ""
    for name, (tag, kind) in INTEGERS.items():
        found = values.get(tag)
        if not found or not found[1]:
            row[name] = None
        elif kind == "US":
            if len(found[1]) != 2:
                raise UnusualFile("several values")
            row[name] = int.from_bytes(found[1], "little")
        else:
            text = _text(found[1])
            if "_" in text:  # int() would take 1_0 for ten
                raise UnusualFile(f"{name} is not a whole number")
            row[name] = int(text) if text else None
    for name, (tag, kind) in _NUMBERS.items():
        found = values.get(tag)
        if not found or not found[1]:
            row[name] = math.nan
        elif kind == "XS":
            if len(found[1]) != 2:
                raise UnusualFile("several values")
            if row["pixel_representation"] not in (0, 1):
                raise UnusualFile("PixelRepresentation is neither 0 nor 1")
            signed = row["pixel_representation"] == 1
            if found[0] and (found[0] == b"SS") != signed:
                raise UnusualFile("the padding value's VR contradicts PixelRepresentation")
            row[name] = float(int.from_bytes(found[1], "little", signed=signed))
        else:
            text = _text(found[1])
            row[name] = _number(text) if text else math.nan
    for (tag, count), names in _VECTORS.items():
        found = values.get(tag)
        text = _text(found[1]) if found else ""
        numbers = [_number(part) for part in text.split("\\")] if text else [math.nan] * count
        if len(numbers) != count:
            raise UnusualFile("wrong number of values")
        row.update(zip(names, numbers, strict=True))
    row["pixel_offset"], row["pixel_length"], row["pixel_vr"] = offset, length, pixel_vr.decode()
    return row


def _by_pydicom(path: str) -> dict[str, Any]:
    """Read what the walk would not vouch for. No pixel offset: pydicom reads those pixels too."""
    import warnings

    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, stop_before_pixels=True)
            row: dict[str, Any] = {"transfer_syntax_uid": str(data.file_meta.get("TransferSyntaxUID", ""))}

            def value(tag: int) -> Any:
                return data[tag].value if tag in data else None

            for name, (tag, _) in TEXTS.items():
                found = value(tag)
                many = isinstance(found, pydicom.multival.MultiValue)
                row[name] = "" if found is None else "\\".join(map(str, found)) if many else str(found)
            for name, (tag, _) in INTEGERS.items():
                found = value(tag)
                row[name] = None if found in (None, "") else int(found)
            for name, (tag, _) in _NUMBERS.items():
                found = value(tag)
                row[name] = math.nan if found in (None, "") else float(found)
            for (tag, count), names in _VECTORS.items():
                found = value(tag)
                numbers = [math.nan] * count if found in (None, "") else [float(part) for part in found]
                row.update(zip(names, numbers, strict=True))
    except Exception as error:  # whatever a hostile file makes pydicom raise is one thing here: unreadable
        raise DicomReadError(f"{path} cannot be read as DICOM: {type(error).__name__}.") from error
    row["pixel_offset"], row["pixel_length"], row["pixel_vr"] = -1, -1, ""
    return row
