"""Every text-like value of a DICOM header, at any depth, private and unknown elements included."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from hcc_tace_data.elements import UnusualFile, transfer_syntax
from hcc_tace_data.errors import DicomReadError

__all__ = ["Key", "header_values"]

#: Tag path ("00080060", "00400275/00400007"; private: creator in brackets), VR, raw value.
Key = tuple[str, str, bytes]

_TEXT = frozenset(b"AE AS CS DA DT LO LT PN SH ST TM UC UI UN UR UT".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_EXPLICIT = "1.2.840.10008.1.2.1"
# Groups of frames repeat positions and source UIDs by the thousand; linkage rules read those.
_PER_FRAME = 0x52009230
_head = struct.Struct("<HH2sH").unpack_from
_u32 = struct.Struct("<I").unpack_from
_FIRST = 1 << 16
_MAX_DEPTH = 16


class _Short(Exception):
    """The buffer ends before the header."""


def header_values(path: Path) -> list[Key]:
    """Return the text-like values of one file's header, file meta excluded, pixel data excluded.

    Raises
    ------
    DicomReadError
        Neither the walk nor pydicom can read the header.
    """
    with path.open("rb") as stream:
        data = stream.read(_FIRST)
        for _ in range(2):
            try:
                syntax, start = transfer_syntax(data)
                if syntax != _EXPLICIT:
                    break
                out: list[Key] = []
                _walk(data, start, len(data), "", out, 0)
                return out
            except _Short:
                data += stream.read()
            except (UnusualFile, struct.error, IndexError):
                break
            except Exception as error:
                if type(error).__name__ != "NeedMore":
                    raise
                data += stream.read()
    return _by_pydicom(path)


def _walk(data: bytes, position: int, end: int, prefix: str, out: list[Key], depth: int, item: bool = False) -> int:
    """Append the values between `position` and `end`; return where the data set or item ended."""
    if depth > _MAX_DEPTH:
        raise UnusualFile("nested too deep")
    creators: dict[int, str] = {}
    while position < end:
        if position + 8 > end:
            raise _Short
        group, element, vr, length = _head(data, position)
        if item and group == 0xFFFE and element == 0xE00D:
            return position + 8
        if group >= 0x7FE0 and element == 0x10 and not item:
            return position
        start = position + 8
        if vr in _LONG:
            if start + 4 > end:
                raise _Short
            length, start = _u32(data, start)[0], start + 4
        elif vr not in _SHORT:
            raise UnusualFile("unknown VR")
        tag = group << 16 | element
        name = f"{prefix}{tag:08X}"
        if group & 1:
            if 0x10 <= element <= 0xFF:
                creators[element] = data[start : start + length].decode("ascii", "replace").strip(" \0")
            elif element >= 0x1000:
                name = f"{prefix}{group:04X}[{creators.get(element >> 8, '')}]{element & 0xFF:02X}"
        if vr == b"SQ":
            position = _sequence(data, start, end, length, name + "/", out, depth, tag == _PER_FRAME)
            continue
        if length == 0xFFFFFFFF:
            raise UnusualFile("undefined length outside a sequence")
        position = start + length
        if position > end:
            raise _Short
        if vr in _TEXT and length:
            out.append((name, vr.decode(), data[start:position]))
    return position


def _sequence(
    data: bytes, position: int, end: int, length: int, prefix: str, out: list[Key], depth: int, skip: bool
) -> int:
    open_ended = length == 0xFFFFFFFF
    stop = end if open_ended else position + length
    if stop > end:
        raise _Short
    if skip and not open_ended:
        return stop
    while position < stop:
        if position + 8 > stop:
            raise _Short
        group, element = struct.unpack_from("<HH", data, position)
        size = _u32(data, position + 4)[0]
        position += 8
        if group != 0xFFFE:
            raise UnusualFile("not an item")
        if element == 0xE0DD:
            return position
        if size == 0xFFFFFFFF:
            position = _walk(data, position, stop, prefix, out, depth + 1, item=True)
        elif position + size > stop:
            raise _Short
        else:
            _walk(data, position, position + size, prefix, out, depth + 1, item=True)
            position += size
    return position


def _by_pydicom(path: Path) -> list[Key]:
    import pydicom

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        out: list[Key] = []
        _collect(dataset, "", out)
    except Exception as error:  # pydicom raises many kinds on broken files
        raise DicomReadError(f"{path}: the header cannot be read ({type(error).__name__}). Fetch it again.") from error
    return out


def _collect(dataset: Any, prefix: str, out: list[Key]) -> None:
    for element in dataset:
        name = f"{prefix}{int(element.tag):08X}"
        if element.tag.is_private and element.tag.element >= 0x1000:
            name = f"{prefix}{element.tag.group:04X}[{element.private_creator or ''}]{element.tag.element & 0xFF:02X}"
        if element.VR == "SQ":
            if int(element.tag) != _PER_FRAME:
                for child in element.value:
                    _collect(child, name + "/", out)
        elif element.VR.encode() in _TEXT and element.value not in (None, "", b""):
            value = element.value
            if not isinstance(value, bytes):
                many = value if element.VM > 1 else [value]
                value = "\\".join(str(one) for one in many).encode("utf-8", "replace")
            out.append((name, element.VR, value))
