"""One row of the instance table from one file."""

from __future__ import annotations

import math
import os
import warnings
from functools import lru_cache
from typing import Any

from hcc_tace_data.dicom.elements import CutShort, NeedMore, UnusualFile, walk
from hcc_tace_data.dicom.header_structure import HeaderStructure
from hcc_tace_data.errors import DicomReadError, NotDicomError

__all__ = ["COLUMNS", "FLOATS", "INTEGERS", "TEXTS", "HeaderReader", "read_header"]

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
    "instance_creation_date": (0x00080012, "DA"),
    "instance_creation_time": (0x00080013, "TM"),
    "study_description": (0x00081030, "LO"),
    "series_description": (0x0008103E, "LO"),
    "image_type": (0x00080008, "CS"),
    "frame_of_reference_uid": (0x00200052, "UI"),
    "photometric_interpretation": (0x00280004, "CS"),
    "contrast_agent": (0x00180010, "LO"),
    "contrast_route": (0x00181040, "LO"),
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
#: Tag -> kind of value, the column (or columns) it fills.
_FIELDS: dict[int, tuple[str, Any]] = {
    **{tag: ("text", name) for name, (tag, _) in TEXTS.items()},
    **{tag: (vr, name) for name, (tag, vr) in (*INTEGERS.items(), *_NUMBERS.items())},
    **{tag: ("vector", names) for (tag, _), names in _VECTORS.items()},
}
_EMPTY: dict[str, Any] = {
    **dict.fromkeys((*TEXTS, "transfer_syntax_uid"), ""),
    **dict.fromkeys(INTEGERS),
    **dict.fromkeys(FLOATS, math.nan),
}
_PIXEL_REPRESENTATION = 0x00280103


def read_header(path: str, name: str | None = None) -> dict[str, Any]:
    """Read one header; for many, a :class:`HeaderReader` is faster.

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
    return HeaderReader().read(path, name)


class HeaderReader:
    """Reads headers one after the other, and the faster the more alike they are.

    A header that was walked leaves its structure behind: where its tags, representations and lengths lie. A file that
    has the same bytes in all these places has its values in the same places too, and is read without a walk.
    """

    _KEPT = 8
    _PATIENCE = 64

    def __init__(self) -> None:
        self._structures: list[HeaderStructure] = []
        self._hits = self._misses = 0

    def read(self, path: str, name: str | None = None) -> dict[str, Any]:
        """Read one header, as :func:`read_header` does."""
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(handle)
            size = status.st_size
            if size == 0:
                raise DicomReadError(f"{path} is empty (0 bytes); fetch it again.")
            data = os.read(handle, min(_FIRST_READ, size))
            if data[128:132] != b"DICM":
                raise NotDicomError(f"{path} is not a DICOM file (no DICM prefix).")
            row = self._recognised(data, size) or self._walked(handle, data, size)
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

    def _recognised(self, data: bytes, size: int) -> dict[str, Any] | None:
        """Return the row of a header built like one before, else None."""
        for number, structure in enumerate(self._structures):
            raws = structure.values_in(data, size)
            if raws is None:
                continue
            if number:  # the one used last is looked at first
                self._structures.insert(0, self._structures.pop(number))
            row = structure.row.copy()
            for place, raw in enumerate(raws):
                if raw != structure.raws[place]:
                    tag = structure.tags[place]
                    if tag == _PIXEL_REPRESENTATION:  # other values are read by it
                        return None
                    _set(row, tag, structure.vrs[place], raw)
            self._hits += 1
            return row
        return None

    def _walked(self, handle: int, data: bytes, size: int) -> dict[str, Any]:
        """Walk the header, and keep its structure if more like it may come."""
        while True:
            try:
                walked = walk(data, size, _VRS)
                break
            except NeedMore as more:
                wanted = max(int(more.args[0]), 4 * len(data))
                rest = os.read(handle, min(wanted, size) - len(data))
                if not rest:
                    raise CutShort from None
                data += rest
        row = _row(*walked)
        self._misses += 1
        # files that are all built differently gain nothing, and a lone one neither
        if 1 < self._misses < self._PATIENCE + self._hits and 0 <= walked[2] <= _FIRST_READ:
            self._structures.insert(0, HeaderStructure(data, size, _VRS, row))
            del self._structures[self._KEPT :]
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
    row = {**_EMPTY, "transfer_syntax_uid": syntax}
    for tag, (vr, raw) in values.items():  # ascending: what decides how another is read comes first
        if vr and vr.decode() != _VRS[tag] and not (_VRS[tag] == "XS" and vr in _PAD_VRS):
            raise UnusualFile("another VR than the dictionary's")
        _set(row, tag, vr, raw)
    row["pixel_offset"], row["pixel_length"], row["pixel_vr"] = offset, length, pixel_vr.decode()
    return row


def _set(row: dict[str, Any], tag: int, vr: bytes, raw: bytes) -> None:
    """Put the value of `tag` into its column."""
    kind, name = _FIELDS[tag]
    if kind == "text":
        row[name] = _text(raw)
    elif kind == "vector":
        text = _text(raw)
        numbers = [_number(part) for part in text.split("\\")] if text else [math.nan] * len(name)
        if len(numbers) != len(name):
            raise UnusualFile("wrong number of values")
        row.update(zip(name, numbers, strict=True))
    elif kind == "US":
        if len(raw) not in (0, 2):
            raise UnusualFile("several values")
        row[name] = int.from_bytes(raw, "little") if raw else None
    elif kind == "IS":
        text = _text(raw)
        if "_" in text:  # int() would take 1_0 for ten
            raise UnusualFile(f"{name} is not a whole number")
        row[name] = int(text) if text else None
    elif kind == "DS":
        text = _text(raw)
        row[name] = _number(text) if text else math.nan
    else:
        row[name] = _padding(row, vr, raw)


def _padding(row: dict[str, Any], vr: bytes, raw: bytes) -> float:
    """Return PixelPaddingValue, whose representation is the pixels'."""
    if not raw:
        return math.nan
    if len(raw) != 2:
        raise UnusualFile("several values")
    if row["pixel_representation"] not in (0, 1):
        raise UnusualFile("PixelRepresentation is neither 0 nor 1")
    signed = row["pixel_representation"] == 1
    if vr and (vr == b"SS") != signed:
        raise UnusualFile("the padding value's VR contradicts PixelRepresentation")
    return float(int.from_bytes(raw, "little", signed=signed))


def _by_pydicom(path: str) -> dict[str, Any]:
    """Read what the walk would not vouch for. No pixel offset: pydicom reads those pixels too."""
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
