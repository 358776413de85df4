"""One row of the instance table from one file."""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hcc_tace_data.dicom.elements import CutShort, NeedMore, UnusualFile, walk
from hcc_tace_data.dicom.header_structure import HeaderStructure
from hcc_tace_data.dicom.inflate import DEFLATED, for_pydicom
from hcc_tace_data.errors import DicomReadError, NotDicomError

__all__ = ["COLUMNS", "FLOATS", "INTEGERS", "TEXTS", "HeaderReader", "read_header", "starts_like_data_set"]

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
    "rescale_type": (0x00281054, "LO"),
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
    "high_bit": (0x00280102, "US"),
    # 1 where the sequence has an item
    "modality_lut": (0x00283000, "SQ"),
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
#: `unread_values`: tags whose values are not what their type demands, as "(0020,0013) (0028,1053)"; their columns are
#: empty.
COLUMNS = (
    "path", "size", "mtime_ns", *TEXTS, "transfer_syntax_uid", *INTEGERS, *FLOATS, "unread_values",
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
    "unread_values": "",
}
_ITEM = b"\xfe\xff\x00\xe0"
_BINARY_VRS = frozenset({"FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
_INT64 = 1 << 63
#: Numbers with fewer digits fit.
_SURELY_INT64 = 19
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
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
        The values of :data:`COLUMNS`; absent text is ``""``, an absent integer None, an absent float NaN. A value that
        cannot be understood counts as absent and is named in `unread_values`.

    Raises
    ------
    DicomReadError
        The file is empty, is not DICOM, or is cut short.
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
            if data[128:132] == b"DICM":
                row = self._recognised(data, size) or self._walked(handle, data, size)
            else:
                row = _without_prefix(path, data, size)
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
            changed = structure.changes(data, size)
            if changed is None:
                continue
            if number:  # the one used last is looked at first
                self._structures.insert(0, self._structures.pop(number))
            row = structure.row.copy()
            for tag, vr, raw in changed:
                if tag == _PIXEL_REPRESENTATION:  # other values are read by it
                    return None
                _set(row, tag, vr, raw)
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
        alike = 1 < self._misses < self._PATIENCE + self._hits and not row["unread_values"]
        if alike and 0 <= walked[2] <= _FIRST_READ:
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
def _number(text: str) -> float | None:
    """Return a decimal string's value; NaN for an empty one, None for one that is not a finite number."""
    if not text:
        return math.nan
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _whole(text: str) -> int | None:
    """Return an integer string's value, also where it is written as 1.0; None for anything else."""
    if text.isdecimal() and text.isascii() and len(text) < _SURELY_INT64:  # nearly always
        return int(text)
    match = _WHOLE.fullmatch(text.strip())
    # no integer has more digits, and Python refuses to convert very long ones
    if match is None or len(text) > 24:
        return None
    value = int(match.group(1))
    return value if -_INT64 <= value < _INT64 else None


def _mark(row: dict[str, Any], tag: int) -> None:
    """Name a value that cannot be understood."""
    row["unread_values"] = f"{row['unread_values']} ({tag >> 16:04X},{tag & 0xFFFF:04X})".strip()


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
        _set_vector(row, tag, name, _text(raw))
    elif kind == "US":
        if len(raw) not in (0, 2):
            raise UnusualFile("several values")
        row[name] = int.from_bytes(raw, "little") if raw else None
    elif kind == "IS":
        _set_whole(row, tag, name, _text(raw))
    elif kind == "DS":
        _set_number(row, tag, name, _text(raw))
    elif kind == "SQ":
        row[name] = 1 if raw[:4] == _ITEM else None
    else:
        row[name] = _padding(row, vr, raw)


def _set_whole(row: dict[str, Any], tag: int, name: str, text: str) -> None:
    row[name] = _whole(text) if text else None
    if text and row[name] is None:
        _mark(row, tag)


def _set_number(row: dict[str, Any], tag: int, name: str, text: str) -> None:
    value = _number(text)
    if value is None:
        _mark(row, tag)
    row[name] = math.nan if value is None else value


def _set_vector(row: dict[str, Any], tag: int, names: tuple[str, ...], text: str) -> None:
    numbers = [_number(part) for part in text.split("\\")] if text else [math.nan] * len(names)
    if len(numbers) != len(names) or None in numbers or (text and math.nan in numbers):
        _mark(row, tag)
        numbers = [math.nan] * len(names)
    row.update(zip(names, numbers, strict=True))


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


def _without_prefix(path: str, data: bytes, size: int) -> dict[str, Any]:
    """Read a data set that was written without preamble and prefix, perhaps without file meta information.

    Raises
    ------
    NotDicomError
        It is not one.
    """
    if starts_like_data_set(data, size):
        with contextlib.suppress(DicomReadError):
            row = _by_pydicom(path)
            if row["sop_class_uid"].startswith("1.2.840.10008.") and row["sop_uid"] and row["series_uid"]:
                return row
    raise NotDicomError(f"{path} is not a DICOM file (no DICM prefix).")


def starts_like_data_set(data: bytes, size: int) -> bool:
    """Return whether bytes without the DICM prefix may be a data set that was written without preamble.

    Parameters
    ----------
    data : bytes
        The start of the file.
    size : int
        Size of the file in bytes.
    """
    if len(data) < 8:
        return False
    group, element, vr, length = struct.unpack_from("<HH2sH", data)
    explicit = vr.isalpha() and vr.isupper() and length <= size
    implicit = int.from_bytes(data[4:8], "little") <= min(size, 1024)
    return (group == 2 and explicit) or (group == 8 and element <= 0x18 and (explicit or implicit))


def _by_pydicom(path: str) -> dict[str, Any]:
    """Read what the walk would not vouch for. No pixel offset: pydicom reads those pixels too."""
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = for_pydicom(path)
            data = pydicom.dcmread(source, stop_before_pixels=True, force=True)
            syntax = data.file_meta.get_item("TransferSyntaxUID")
            uid = DEFLATED if source is not path else _joined(syntax.value if syntax is not None else None)
            row = {**_EMPTY, "transfer_syntax_uid": uid}
            for tag, (kind, name) in _FIELDS.items():  # ascending in what decides how another is read
                if tag in data:
                    _set_from(row, data, tag, kind, name)
    except DicomReadError:
        raise
    except Exception as error:  # whatever a hostile file makes pydicom raise is one thing here: unreadable
        raise DicomReadError(f"{path} cannot be read as DICOM: {type(error).__name__}.") from error
    row["pixel_offset"], row["pixel_length"], row["pixel_vr"] = -1, -1, ""
    return row


def _set_from(row: dict[str, Any], data: Any, tag: int, kind: str, name: Any) -> None:
    """Put the value that pydicom has of `tag` into its column; one that cannot be converted counts as absent."""
    try:
        if kind == "text":
            row[name] = _joined(data[tag].value)
        elif kind == "SQ":
            row[name] = 1 if len(data[tag].value) else None
        elif kind == "IS":
            _set_whole(row, tag, name, _number_text(data, tag))
        elif kind == "DS":
            _set_number(row, tag, name, _number_text(data, tag))
        elif kind == "vector":
            _set_vector(row, tag, name, _number_text(data, tag))
        elif data[tag].value not in (None, ""):
            value = int(data[tag].value) if kind == "US" else float(data[tag].value)
            if kind == "US" and not -_INT64 <= value < _INT64:  # written with another VR
                raise OverflowError
            row[name] = value
    except Exception:  # pydicom raises what it likes at a value
        _mark(row, tag)
        if kind == "SQ":  # present, but unreadable
            row[name] = 1
        elif kind == "text":
            raw = data.get_item(tag).value
            row[name] = raw.decode("latin-1").strip(" \0") if isinstance(raw, bytes) else ""


def _number_text(data: Any, tag: int) -> str:
    """Return the text of a number as it is written; pydicom refuses some that can be read, such as 1.0 for 1."""
    item = data.get_item(tag)
    if isinstance(item.value, bytes) and item.VR not in _BINARY_VRS:
        return str(item.value.decode("latin-1").strip(" \0"))
    return _joined(data[tag].value).strip(" \0")


def _joined(value: Any) -> str:
    if value is None:
        return ""
    many = not isinstance(value, str) and isinstance(value, Sequence)
    return "\\".join(map(str, value)) if many else str(value)
