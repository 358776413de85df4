"""A validated walk over the elements of a DICOM header.

Only plain Explicit and Implicit VR Little Endian are walked. Whatever looks unusual raises :class:`UnusualFile`, and
the caller asks pydicom instead: the walk never guesses. See DICOM PS3.5, sections 7.1 and 7.5.
"""

from __future__ import annotations

import struct
from collections.abc import Container

__all__ = ["CutShort", "NeedMore", "UnusualFile", "transfer_syntax", "walk"]

_SHORT = frozenset(
    v.encode()
    for v in [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "FL",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)
_LONG = frozenset(v.encode() for v in ["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = 0x7FE00010
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_ENCAPSULATED = "1.2.840.10008.1.2.4."
_RLE = "1.2.840.10008.1.2.5"
_MAX_DEPTH = 16

_head = struct.Struct("<HH2sH").unpack_from
_tag = struct.Struct("<HHI").unpack_from
_u32 = struct.Struct("<I").unpack_from


class UnusualFile(Exception):
    """The walk met something it does not vouch for; pydicom has to read this file."""


class CutShort(Exception):
    """An element reaches past the end of the file."""


class NeedMore(Exception):
    """The buffer ends before the header does; `args[0]` bytes are needed."""


def transfer_syntax(data: bytes) -> tuple[str, int]:
    """Return the transfer syntax UID and where the data set starts.

    Parameters
    ----------
    data : bytes
        The start of the file, preamble included.
    """
    if data[128:132] != b"DICM":
        raise UnusualFile("no DICM prefix")
    position, uid, last = 132, "", -1
    while True:
        if position + 12 > len(data):
            raise NeedMore(position + 12)
        group, element, vr, length = _head(data, position)
        if group != 2:
            break
        start = position + 8
        if vr in _LONG:
            length, start = _u32(data, start)[0], position + 12
        elif vr not in _SHORT:
            raise UnusualFile("file meta information is not explicit VR")
        if length & 1 or element <= last:
            raise UnusualFile("file meta information out of order")
        last, position = element, start + length
        if position > len(data):
            raise NeedMore(position)
        if element == 0x10:
            uid = data[start:position].rstrip(b"\0 ").decode("ascii", "replace")
    return uid, position


def walk(data: bytes, size: int, wanted: Container[int]) -> tuple[str, dict[int, tuple[bytes, bytes]], int, int, bytes]:
    """Collect the raw values of `wanted` top-level elements, up to the pixel data.

    Parameters
    ----------
    data : bytes
        The start of the file (or all of it).
    size : int
        Size of the whole file in bytes.
    wanted : container of int
        Tags as ``group << 16 | element``.

    Returns
    -------
    syntax : str
        Transfer syntax UID.
    values : dict of int to (bytes, bytes)
        VR (empty for implicit VR) and value.
    pixel_offset, pixel_length : int
        Where the native pixel data lie in the file; -1 if absent or encapsulated.
    pixel_vr : bytes
        VR of the pixel data; empty for none or implicit VR.

    Raises
    ------
    UnusualFile, CutShort, NeedMore
        See there.
    """
    syntax, position = transfer_syntax(data)
    explicit = syntax in (_EXPLICIT, _RLE) or syntax.startswith(_ENCAPSULATED)
    if not explicit and syntax != _IMPLICIT:
        raise UnusualFile(f"transfer syntax {syntax}")
    values: dict[int, tuple[bytes, bytes]] = {}
    end, last = len(data), 0
    while True:
        if position + 12 > end:
            if position == size:
                return syntax, values, -1, -1, b""
            _more(position + 12 if position + 12 <= size else position + 8, end, size)
        if explicit:
            group, element, vr, length = _head(data, position)
            if vr in _SHORT:
                start = position + 8
            elif vr in _LONG:
                if position + 12 > end:
                    raise CutShort
                start, length = position + 12, _u32(data, position + 8)[0]
            else:
                raise UnusualFile(f"unknown VR {vr!r}")
        else:
            group, element, length = _tag(data, position)
            start, vr = position + 8, b""
        tag = group << 16 | element
        if tag <= last or group < 8 or group == 0xFFFE:
            raise UnusualFile("elements out of order")
        last = tag
        if tag >= _PIXELS:
            if tag != _PIXELS:  # an object without pixels, or a damaged tag that jumps over the elements to come
                raise UnusualFile("an element after the place of the pixel data, which are absent")
            if length == _UNDEFINED:
                return syntax, values, -1, -1, vr
            if vr not in (b"", b"OW", b"OB") or syntax not in (_EXPLICIT, _IMPLICIT):
                raise UnusualFile("pixel data are neither native nor encapsulated")
            if start + length > size:
                raise CutShort
            return syntax, values, start, length, vr
        if length == _UNDEFINED:
            if explicit and vr != b"SQ":
                raise UnusualFile("undefined length outside a sequence")
            position = _skip_sequence(data, start, size, explicit, 0)
            continue
        if length & 1:
            raise UnusualFile("odd length")
        position = start + length
        if position > size:
            raise CutShort
        if tag in wanted:
            if position > end:
                raise NeedMore(position)
            values[tag] = vr, data[start:position]


def _more(needed: int, end: int, size: int) -> None:
    """Ask for more bytes where the file has them."""
    if needed > size:
        raise CutShort
    if needed > end:
        raise NeedMore(needed)


def _skip_sequence(data: bytes, position: int, size: int, explicit: bool, depth: int) -> int:
    """Return the position after the delimiter of a sequence of undefined length."""
    if depth > _MAX_DEPTH:
        raise UnusualFile("sequences nested too deep")
    while True:
        _more(position + 8, len(data), size)
        group, element, length = _tag(data, position)
        tag, position = group << 16 | element, position + 8
        if tag == _SEQUENCE_END and length == 0:
            return position
        if tag != _ITEM:
            raise UnusualFile("not an item")
        if length == _UNDEFINED:
            position = _skip_item(data, position, size, explicit, depth)
        else:
            position += length
            if position > size:
                raise CutShort


def _skip_item(data: bytes, position: int, size: int, explicit: bool, depth: int) -> int:
    """Return the position after the delimiter of an item of undefined length."""
    while True:
        _more(position + 8, len(data), size)
        group, element, length = _tag(data, position)
        start, vr = position + 8, b""
        if group == 0xFFFE:
            if group << 16 | element != _ITEM_END or length:
                raise UnusualFile("not the end of an item")
            return start
        if explicit:
            _, _, vr, length = _head(data, position)
            if vr in _LONG:
                _more(start + 4, len(data), size)
                length, start = _u32(data, start)[0], start + 4
            elif vr not in _SHORT:
                raise UnusualFile(f"unknown VR {vr!r}")
        if length == _UNDEFINED:
            if explicit and vr != b"SQ":
                raise UnusualFile("undefined length outside a sequence")
            position = _skip_sequence(data, start, size, explicit, depth + 1)
        else:
            position = start + length
            if position > size:
                raise CutShort
