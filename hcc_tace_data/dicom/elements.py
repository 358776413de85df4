"""A validated walk over the elements of a DICOM header.

Only plain Explicit and Implicit VR Little Endian are walked. Whatever looks unusual raises :class:`UnusualFile`, and
the caller asks pydicom instead: the walk never guesses. See DICOM PS3.5, sections 7.1 and 7.5.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from typing import NamedTuple

__all__ = [
    "ITEM", "ITEM_END", "SEQUENCE_END", "UNDEFINED", "CutShort", "NeedMore", "SequenceEnds", "Span", "Trace",
    "UnusualFile", "element_at", "end_of_sequence", "spans", "transfer_syntax", "walk",
]  # fmt: skip

_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
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


class Trace:
    """Where a walk found values; all bytes outside them are structure, on which alone the walk's way depends.

    Attributes
    ----------
    values : list of (int, int)
        First byte of each value, and the byte after it, in order; also inside sequences that were entered.
    places : dict of int to (int, int)
        The same by tag, for top-level elements.
    """

    __slots__ = ("places", "values")

    def __init__(self) -> None:
        self.values: list[tuple[int, int]] = []
        self.places: dict[int, tuple[int, int]] = {}


def transfer_syntax(data: bytes, trace: Trace | None = None) -> tuple[str, int]:
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
        if element != 0x10:
            if trace is not None:
                trace.values.append((start, position))
        else:  # what it says decides how the rest is walked: it stays part of the structure
            uid = data[start:position].rstrip(b"\0 ").decode("ascii", "replace")
    return uid, position


def walk(
    data: bytes, size: int, wanted: Container[int], trace: Trace | None = None
) -> tuple[str, dict[int, tuple[bytes, bytes]], int, int, bytes]:
    """Collect the raw values of `wanted` top-level elements, up to the pixel data.

    Parameters
    ----------
    data : bytes
        The start of the file (or all of it).
    size : int
        Size of the whole file in bytes.
    wanted : container of int
        Tags as ``group << 16 | element``.
    trace : Trace, optional
        Filled with where values lie.

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
    syntax, position = transfer_syntax(data, trace)
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
            if length == UNDEFINED:
                return syntax, values, -1, -1, vr
            if vr not in (b"", b"OW", b"OB") or syntax not in (_EXPLICIT, _IMPLICIT):
                raise UnusualFile("pixel data are neither native nor encapsulated")
            if start + length > size:
                raise CutShort
            return syntax, values, start, length, vr
        if length == UNDEFINED:
            if explicit and vr != b"SQ":
                raise UnusualFile("undefined length outside a sequence")
            position = _skip_sequence(data, start, size, explicit, 0, None if trace is None else trace.values)
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
        if trace is not None:
            trace.values.append((start, position))
            trace.places[tag] = start, position


def _more(needed: int, end: int, size: int) -> None:
    """Ask for more bytes where the file has them."""
    if needed > size:
        raise CutShort
    if needed > end:
        raise NeedMore(needed)


def _skip_sequence(
    data: bytes, position: int, size: int, explicit: bool, depth: int, values: list[tuple[int, int]] | None = None
) -> int:
    """Return the position after the delimiter of a sequence of undefined length."""
    if depth > _MAX_DEPTH:
        raise UnusualFile("sequences nested too deep")
    while True:
        _more(position + 8, len(data), size)
        group, element, length = _tag(data, position)
        tag, position = group << 16 | element, position + 8
        if tag == SEQUENCE_END and length == 0:
            return position
        if tag != ITEM:
            raise UnusualFile("not an item")
        if length == UNDEFINED:
            position = _skip_item(data, position, size, explicit, depth, values)
        else:
            if values is not None:
                values.append((position, position + length))
            position += length
            if position > size:
                raise CutShort


def _skip_item(
    data: bytes, position: int, size: int, explicit: bool, depth: int, values: list[tuple[int, int]] | None = None
) -> int:
    """Return the position after the delimiter of an item of undefined length."""
    while True:
        _more(position + 8, len(data), size)
        group, element, length = _tag(data, position)
        start, vr = position + 8, b""
        if group == 0xFFFE:
            if group << 16 | element != ITEM_END or length:
                raise UnusualFile("not the end of an item")
            return start
        if explicit:
            _, _, vr, length = _head(data, position)
            if vr in _LONG:
                _more(start + 4, len(data), size)
                length, start = _u32(data, start)[0], start + 4
            elif vr not in _SHORT:
                raise UnusualFile(f"unknown VR {vr!r}")
        if length == UNDEFINED:
            if explicit and vr != b"SQ":
                raise UnusualFile("undefined length outside a sequence")
            position = _skip_sequence(data, start, size, explicit, depth + 1, values)
        else:
            if values is not None:
                values.append((start, start + length))
            position = start + length
            if position > size:
                raise CutShort


class Span(NamedTuple):
    """Where an element lies in a file: first byte of its tag, first byte of its value, the byte after its end."""

    begin: int
    value: int
    end: int


def spans(data: bytes, *, begin: int = 0, until: int = _PIXELS) -> tuple[bool, dict[int, Span]]:
    """Find top-level elements of a whole file, up to and with its pixel data.

    Parameters
    ----------
    data : bytes
        The whole file.
    begin : int
        Where to begin: the first byte of an element, or 0 for the start of the data set.
    until : int
        The tag after which to stop. If that is a sequence of undefined length its end is given as -1, not looked for.

    Returns
    -------
    explicit : bool
        Whether elements carry their VR.
    spans : dict of int to Span
        By tag; the end of a sequence of undefined length is after its delimiter.

    Raises
    ------
    UnusualFile, CutShort
        See there; also for pixel data that are not native.
    """
    syntax, first = transfer_syntax(data)
    if syntax not in (_EXPLICIT, _IMPLICIT):
        raise UnusualFile(f"transfer syntax {syntax}")
    explicit, size, last = syntax == _EXPLICIT, len(data), 0
    position = begin or first
    found: dict[int, Span] = {}
    while position < size:
        tag, vr, length, value = element_at(data, position, explicit)
        if tag <= last or tag >> 16 in (0, 0xFFFE):
            raise UnusualFile("elements out of order")
        last = tag
        if length == UNDEFINED:
            if tag == _PIXELS or vr not in (b"SQ", b""):
                raise UnusualFile("undefined length outside a sequence")
            end = -1 if tag == until else end_of_sequence(data, value, explicit)
        else:
            end = value + length
        if end > size:
            raise CutShort
        found[tag] = Span(position, value, end)
        if tag in (until, _PIXELS):
            break
        position = end
    return explicit, found


def element_at(data: bytes, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """Return tag, VR (empty for implicit VR and delimiters), length, and where the value begins.

    Raises
    ------
    UnusualFile
        The VR is unknown.
    CutShort
        The file ends inside the element's head.
    """
    try:
        group, element, vr, length = _head(data, position)
        tag = group << 16 | element
        if explicit and group != 0xFFFE:
            if vr in _SHORT:
                return tag, vr, length, position + 8
            if vr in _LONG:
                return tag, vr, _u32(data, position + 8)[0], position + 12
            raise UnusualFile(f"unknown VR {vr!r}")
        return tag, b"", _u32(data, position + 4)[0], position + 8
    except struct.error:
        raise CutShort from None


def end_of_sequence(data: bytes, position: int, explicit: bool) -> int:
    """Return where a sequence of undefined length, whose items begin at `position`, ends: after its delimiter."""
    return _skip_sequence(data, position, len(data), explicit, 0)


class SequenceEnds:
    """Ends of sequences of undefined length, found once for all that have the same structure.

    The end follows from the tags, representations and lengths alone. Where these bytes are those of a sequence that
    was walked before, so is its extent; only the values between them differ.

    Parameters
    ----------
    data : bytes
        The whole file.
    explicit : bool
        Whether elements carry their VR.
    """

    _KEPT = 4

    def __init__(self, data: bytes, explicit: bool) -> None:
        self._data, self._explicit = data, explicit
        # by tag: (extent, structural stretches as (from, to, bytes)), all counted from the first item
        self._known: dict[int, list[tuple[int, list[tuple[int, int, bytes]]]]] = {}

    def end(self, tag: int, position: int) -> int:
        """Return where the sequence `tag`, whose items begin at `position`, ends: after its delimiter."""
        data = self._data
        known = self._known.setdefault(tag, [])
        for extent, structure in known:
            for first, last, expected in structure:
                if data[position + first : position + last] != expected:
                    break
            else:
                return position + extent
        values: list[tuple[int, int]] = []
        end = _skip_sequence(data, position, len(data), self._explicit, 0, values)
        stretches, at = [], position
        for first, last in values:
            stretches.append((at - position, first - position, data[at:first]))
            at = last
        stretches.append((at - position, end - position, data[at:end]))
        known.insert(0, (end - position, stretches))
        del known[self._KEPT :]
        return end
