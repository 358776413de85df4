"""A validated walk over the elements of a DICOM header.

Only plain Explicit and Implicit VR Little Endian are walked. Whatever looks unusual raises :class:`UnusualFile`, and
the caller asks pydicom instead: the walk never guesses. See DICOM PS3.5, sections 7.1 and 7.5.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "ITEM", "ITEM_END", "MAX_DEPTH", "SEQUENCE_END", "UNDEFINED", "CutShort", "Damaged", "Leaf", "NeedMore",
    "SequenceEnds", "Span", "Trace", "UnusualFile", "creator_name", "dictionary_vr", "element_at", "end_of_sequence",
    "spans", "transfer_syntax", "walk", "walk_leaves",
]  # fmt: skip

_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = 0x7FE00010
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_ENCAPSULATED = "1.2.840.10008.1.2.4."
_RLE = "1.2.840.10008.1.2.5"
#: Sequences in sequences that the walk of leaves goes down; real headers have six levels at most.
MAX_DEPTH = 256

_head = struct.Struct("<HH2sH").unpack_from
_tag = struct.Struct("<HHI").unpack_from
_u32 = struct.Struct("<I").unpack_from


class UnusualFile(Exception):
    """The walk met something it does not vouch for; pydicom has to read this file."""


class CutShort(Exception):
    """An element reaches past the end of the file."""


class NeedMore(Exception):
    """The buffer ends before the header does; `args[0]` bytes are needed."""


class Damaged(Exception):
    """The bytes are not a data set."""


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
            position = _skip_sequence(data, start, size, explicit, None if trace is None else trace.values)
            if tag in wanted:
                values[tag] = vr, data[start:position]
                if trace is not None:
                    trace.places[tag] = start, position
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
    data: bytes, position: int, size: int, explicit: bool, values: list[tuple[int, int]] | None = None
) -> int:
    """Return the position after the delimiter of a sequence of undefined length, however deep others nest in it.

    Sequences and items of known length are stepped over. Those that a delimiter ends alternate: a sequence is open, or
    one of its items is.
    """
    depth, in_item = 1, False
    while True:
        _more(position + 8, len(data), size)
        group, element, length = _tag(data, position)
        start = position + 8
        if group == 0xFFFE:
            if in_item:
                if element != 0xE00D or length:
                    raise UnusualFile("not the end of an item")
                in_item, position = False, start
                continue
            if element == 0xE0DD and not length:
                depth -= 1
                if not depth:
                    return start
                in_item, position = True, start
                continue
            if element != 0xE000:
                raise UnusualFile("not an item")
            if length == UNDEFINED:
                in_item, position = True, start
                continue
        elif not in_item:
            raise UnusualFile("not an item")
        else:
            vr = b"SQ"
            if explicit:
                _, _, vr, length = _head(data, position)
                if vr in _LONG:
                    _more(start + 4, len(data), size)
                    length, start = _u32(data, start)[0], start + 4
                elif vr not in _SHORT:
                    raise UnusualFile(f"unknown VR {vr!r}")
            if length == UNDEFINED:
                if vr != b"SQ":
                    raise UnusualFile("undefined length outside a sequence")
                depth, in_item, position = depth + 1, False, start
                continue
        position = start + length
        if values is not None:
            values.append((start, position))
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
    return _skip_sequence(data, position, len(data), explicit)


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
        end = _skip_sequence(data, position, len(data), self._explicit, values)
        stretches, at = [], position
        for first, last in values:
            stretches.append((at - position, first - position, data[at:first]))
            at = last
        stretches.append((at - position, end - position, data[at:end]))
        known.insert(0, (end - position, stretches))
        del known[self._KEPT :]
        return end


class Leaf(NamedTuple):
    """A non-sequence element at any depth.

    Attributes
    ----------
    path : str
        Tags joined by "/": "00400275/00400007"; a private element carries its creator: "0013[CTP]10".
    vr : str
        As written; by the dictionary for implicit VR.
    start, end : int
        First byte of the value, and the byte after it.
    """

    path: str
    vr: str
    start: int
    end: int


class _Level:
    """A data set or item that the walk of leaves is in, or the sequence around items (`creators` is None then)."""

    __slots__ = ("bounded", "creators", "end", "explicit", "open_ended", "prefix")

    def __init__(
        self, end: int, *, open_ended: bool, prefix: str, explicit: bool, items: bool, bounded: bool = False
    ) -> None:
        self.end = end
        self.open_ended = open_ended
        self.prefix = prefix
        self.explicit = explicit
        self.creators: dict[int, str] | None = None if items else {}
        self.bounded = bounded  # an item of known length is around: what reaches past it is damage

    def short(self) -> Exception:
        """Return what to raise where bytes are missing."""
        return Damaged("an element reaches past its item") if self.bounded else CutShort()


def walk_leaves(
    data: bytes,
    position: int,
    end: int,
    out: list[Leaf],
    *,
    explicit: bool = True,
    prefix: str = "",
    items: bool = False,
) -> int:
    """Append all leaves of a data set, at any depth, up to its pixel data; return where the walk ended.

    Parameters
    ----------
    data : bytes
        A file, or a value.
    position, end : int
        Where the data set begins and ends.
    out : list of Leaf
        Filled with what was found, also where the walk fails.
    explicit : bool
        Whether elements carry their VR. A UN of undefined length holds items in implicit VR (PS3.5, 6.2.2).
    prefix : str
        Put before every path.
    items : bool
        Whether `position` is the first item of a sequence, not the first element of a data set.

    Raises
    ------
    CutShort
        An element reaches past `end`.
    Damaged
        The bytes are not a data set, or sequences nest deeper than :data:`MAX_DEPTH`.
    """
    stack = [_Level(end, open_ended=False, prefix=prefix, explicit=explicit, items=items)]
    while stack:
        level = stack[-1]
        if position >= level.end:
            if level.creators is None and level.open_ended:
                raise level.short()
            stack.pop()
            continue
        if position + 8 > level.end:
            raise level.short()
        if level.creators is None:
            position = _enter_item(data, position, stack)
            continue
        group, element, vr, length = _head(data, position)
        start, tag = position + 8, group << 16 | element
        if group == 0xFFFE:
            if len(stack) == 1 or element != 0xE00D or (not level.open_ended and start != level.end):
                raise Damaged("a delimiter outside a sequence")
            stack.pop()
            position = start
            continue
        if len(stack) == 1 and (tag == _PIXELS or (group == 0x7FE0 and element in (8, 9))):
            return position
        if level.explicit:
            if vr in _LONG:
                if start + 4 > level.end:
                    raise level.short()
                length, start = _u32(data, start)[0], start + 4
            elif vr not in _SHORT:
                raise Damaged("an element without a known VR")
            kind = vr.decode()
        else:
            length = _u32(data, position + 4)[0]
            kind = "UN" if group & 1 else dictionary_vr(tag)
        name = f"{level.prefix}{tag:08X}"
        if group & 1:
            if 0x10 <= element <= 0xFF:
                if kind in ("LO", "UN"):
                    kind = "LO"
                    level.creators[element] = creator_name(data[start : min(start + length, level.end)])
            elif element >= 0x1000:
                name = f"{level.prefix}{group:04X}[{level.creators.get(element >> 8, '')}]{element & 0xFF:02X}"
        position = start
        if kind == "SQ" or length == UNDEFINED:
            if len(stack) > 2 * MAX_DEPTH:
                raise Damaged("sequences nested too deep")
            stop = level.end if length == UNDEFINED else start + length
            if stop > level.end:
                raise level.short()
            stack.append(
                _Level(
                    stop,
                    open_ended=length == UNDEFINED,
                    prefix=name + "/",
                    explicit=level.explicit and kind != "UN",
                    items=True,
                    bounded=level.bounded,
                )
            )
            continue
        position = start + length
        if position > level.end:
            raise level.short()
        out.append(Leaf(name, kind, start, position))
    return position


def _enter_item(data: bytes, position: int, stack: list[_Level]) -> int:
    """Go into the item at `position` of the innermost sequence, or leave that at its delimiter."""
    level = stack[-1]
    group, element, length = _tag(data, position)
    position += 8
    if group != 0xFFFE or element not in (0xE000, 0xE0DD):
        raise Damaged("a sequence with something else than items")
    if element == 0xE0DD:
        if not level.open_ended and position != level.end:
            raise Damaged("a delimiter inside a sequence of known length")
        stack.pop()
        return position
    known = length != UNDEFINED
    if known and position + length > level.end:
        raise level.short()
    stack.append(
        _Level(
            position + length if known else level.end,
            open_ended=not known,
            prefix=level.prefix,
            explicit=level.explicit,
            items=False,
            bounded=level.bounded or known,
        )
    )
    return position


def creator_name(raw: bytes) -> str:
    """Return a private creator as it stands in tag paths: without the brackets that paths use."""
    return raw.decode("ascii", "replace").strip(" \0").replace("]", ")").replace("[", "(")


@lru_cache(maxsize=1 << 14)
def dictionary_vr(tag: int) -> str:
    """Return the VR that the DICOM dictionary gives a public tag; "UN" if it has none."""
    from pydicom.datadict import dictionary_VR

    if tag & 0xFFFF == 0:
        return "UL"
    try:
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return "UN"
