"""Every value of a DICOM header: file meta, any depth, private elements, and values that hide behind VR UN.

A header is walked as bytes where it is plain Explicit or Implicit VR Little Endian; pydicom reads the rest. What
cannot be read is said, never left out in silence.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hcc_tace_data.dicom.elements import NeedMore, UnusualFile, transfer_syntax

__all__ = [
    "TEXT_VRS", "Header", "Key", "Leaf", "creator_of", "header_values", "leaf_values", "parse_header",
    "read_header_bytes", "tag_of", "value_text",
]  # fmt: skip

#: Tag path, VR, raw value. A path is tags joined by "/": "00400275/00400007"; a private element carries its creator
#: in brackets: "0013[CTP]10". "PREAMBLE" is the 128 bytes before the prefix.
Key = tuple[str, str, bytes]

#: VRs whose values are text; UN is text more often than not.
TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UN", "UR", "UT"}
)
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_IMPLICIT, _DEFLATED, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_MAX_DEPTH = 16
_MAX_INFLATED = 1 << 26
_FIRST = 1 << 16
_LARGEST = 1 << 29
_LAST_TAG = re.compile(r"(?:[0-9A-F]{4}\[[^]]*\][0-9A-F]{2}|[0-9A-F]{8})$")

_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}

_head = struct.Struct("<HH2sH").unpack_from
_tag = struct.Struct("<HHI").unpack_from
_u32 = struct.Struct("<I").unpack_from


class Leaf(NamedTuple):
    """An element that is no sequence: where its value lies."""

    path: str
    vr: str
    start: int
    end: int


class Header(NamedTuple):
    """One header taken apart: its leaves, where it ends, and what could not be read (empty if nothing)."""

    leaves: list[Leaf]
    end: int
    problem: str


class _Short(Exception):
    """The buffer ends before the header."""


class _Damaged(Exception):
    """The bytes are no data set."""


def tag_of(path: str) -> str:
    """Return the last tag of a path: "00400007", "0013[CTP]10".

    Examples
    --------
    >>> tag_of("00400275/00400007"), tag_of("00081115/0043[dcm4che/archive]14")
    ('00400007', '0043[dcm4che/archive]14')
    """
    found = _LAST_TAG.search(path)
    return found.group() if found else path


def creator_of(tag: str) -> str | None:
    """Return the creator of a private tag, empty if none was given; None for a public tag.

    Examples
    --------
    >>> creator_of("0013[CTP]10"), creator_of("0019[]D9"), creator_of("00080060")
    ('CTP', '', None)
    """
    if "[" in tag:
        return tag[tag.index("[") + 1 : tag.rindex("]")]
    return "" if len(tag) == 8 and tag[:4] != "PREA" and int(tag[3], 16) & 1 else None


@lru_cache(maxsize=1 << 14)
def _dictionary_vr(tag: int) -> str:
    """Return the VR that the DICOM dictionary gives a public tag; "UN" if it has none."""
    from pydicom.datadict import dictionary_VR

    if tag & 0xFFFF == 0:
        return "UL"
    try:
        return dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return "UN"


def parse_header(data: bytes, position: int, *, explicit: bool = True, whole: bool = False) -> Header:
    """Take a data set apart, from `position` up to its pixel data.

    Parameters
    ----------
    data : bytes
        The start of a file.
    position : int
        Where the data set begins.
    explicit : bool
        Whether elements carry their VR.
    whole : bool
        Whether `data` is all there is: then an element that reaches past it is a problem, not a reason to read on.

    Raises
    ------
    NeedMore
        The header goes on behind `data`.
    """
    leaves: list[Leaf] = []
    problem = ""
    try:
        position = _walk(data, position, len(data), "", leaves, explicit, 0)
    except (_Short, struct.error):
        if not whole:
            raise NeedMore(len(data) * 2) from None
        problem = "an element reaches past the end"
    except _Damaged as error:
        problem = str(error)
    return Header(leaves, position, problem)


def _walk(
    data: bytes, position: int, end: int, prefix: str, out: list[Leaf], explicit: bool, depth: int, item: bool = False
) -> int:
    """Append the leaves between `position` and `end`; return where the data set or item ended."""
    if depth > _MAX_DEPTH:
        raise _Damaged("sequences nested too deep")
    creators: dict[int, str] = {}
    while position < end:
        if position + 8 > end:
            raise _Short
        group, element, vr, length = _head(data, position)
        start = position + 8
        if group == 0xFFFE:
            if item and element == 0xE00D:
                return start
            raise _Damaged("a delimiter outside a sequence")
        tag = group << 16 | element
        if (tag == 0x7FE00010 and not item) or (group == 0x7FE0 and element in (8, 9) and not item):
            return position
        if explicit:
            if vr in _LONG:
                if start + 4 > end:
                    raise _Short
                length, start = _u32(data, start)[0], start + 4
            elif vr not in _SHORT:
                raise _Damaged("an element without a known VR")
            kind = vr.decode()
        else:
            length = _u32(data, position + 4)[0]
            kind = "UN" if group & 1 else _dictionary_vr(tag)
        name = f"{prefix}{tag:08X}"
        if group & 1:
            if 0x10 <= element <= 0xFF:
                if kind in ("LO", "UN"):
                    kind = "LO"
                    creators[element] = _creator(data[start : start + length])
            elif element >= 0x1000:
                name = f"{prefix}{group:04X}[{creators.get(element >> 8, '')}]{element & 0xFF:02X}"
        if kind == "SQ" or length == _UNDEFINED:
            # a UN of undefined length is a sequence in implicit VR (PS3.5, 6.2.2)
            inner = explicit and kind != "UN"
            position = _sequence(data, start, end, length, name + "/", out, inner, depth)
            continue
        position = start + length
        if position > end:
            raise _Short
        out.append(Leaf(name, kind, start, position))
    return position


def _creator(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0").replace("]", ")").replace("[", "(")


def _sequence(
    data: bytes, position: int, end: int, length: int, prefix: str, out: list[Leaf], explicit: bool, depth: int
) -> int:
    open_ended = length == _UNDEFINED
    stop = end if open_ended else position + length
    if stop > end:
        raise _Short
    while position < stop:
        if position + 8 > stop:
            raise _Short
        group, element, size = _tag(data, position)
        position += 8
        if group != 0xFFFE or element not in (0xE000, 0xE0DD):
            raise _Damaged("a sequence with something else than items")
        if element == 0xE0DD:
            return position
        if size == _UNDEFINED:
            position = _walk(data, position, stop, prefix, out, explicit, depth + 1, item=True)
        elif position + size > stop:
            raise _Short
        else:
            try:
                _walk(data, position, position + size, prefix, out, explicit, depth + 1, item=True)
            except (_Short, struct.error):
                raise _Damaged("an element reaches past its item") from None
            position += size
    if open_ended:
        raise _Short
    return position


@lru_cache(maxsize=1 << 15)
def leaf_values(path: str, vr: str, raw: bytes) -> tuple[Key, ...]:
    """Return what one element holds: itself, or what its unknown value turns out to be.

    A value with VR UN is read as its tag's dictionary says; where it holds items, they are read at any depth.

    Examples
    --------
    >>> leaf_values("00100010", "UN", b"A^B ")
    (('00100010', 'PN', b'A^B '),)
    """
    if vr != "UN" or not raw:
        return ((path, vr, raw),)
    if raw[:4] == _ITEM:
        for explicit in (False, True):
            leaves: list[Leaf] = []
            try:
                _sequence(raw, 0, len(raw), len(raw), path + "/", leaves, explicit, 0)
            except (_Short, _Damaged, struct.error):
                continue
            return tuple(key for leaf in leaves for key in leaf_values(leaf.path, leaf.vr, raw[leaf.start : leaf.end]))
    tag = tag_of(path)
    known = "UN"
    if "[" not in tag and creator_of(tag) is None and tag != "PREAMBLE":
        known = _dictionary_vr(int(tag, 16))
    elif creator := creator_of(tag):
        known = _private_vr(creator, tag)
    return ((path, known if known != "SQ" else "UN", raw),)


@lru_cache(maxsize=4096)
def _private_vr(creator: str, tag: str) -> str:
    from pydicom.datadict import private_dictionary_VR

    try:
        return private_dictionary_VR(int(tag[:4], 16) << 16 | 0x1000 | int(tag[-2:], 16), creator).split(" ")[0]
    except (KeyError, ValueError):
        return "UN"


def header_values(path: Path) -> tuple[list[Key], str]:
    """Return all values of one file's header, and what could not be read of it (empty if nothing).

    Pixel data are left out; what follows native pixel data is not.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        header, data = read_header_bytes(lambda count: stream.read(count), size)
    if header is None:
        return _by_pydicom(path)
    keys = [key for leaf in header.leaves for key in leaf_values(leaf.path, leaf.vr, data[leaf.start : leaf.end])]
    if not header.problem:
        return keys, ""
    # What the walk could not reach, pydicom may; what both reached is counted once.
    walked = {key[0] for key in keys}
    return [*keys, *(key for key in _by_pydicom(path)[0] if key[0] not in walked)], header.problem


def read_header_bytes(read: Callable[[int], bytes], size: int, first: int = _FIRST) -> tuple[Header | None, bytes]:
    """Read and take apart a header; None where the walk does not know the transfer syntax.

    Parameters
    ----------
    read : callable
        Returns the next `n` bytes of the file.
    size : int
        Size of the file in bytes.
    first : int
        How many bytes to read at first.
    """
    data = read(min(first, size))
    while True:
        try:
            syntax, start = transfer_syntax(data)
            if syntax == _BIG:
                return None, data
            meta: list[Leaf] = [Leaf("PREAMBLE", "OB", 0, 128)] if data[:128].strip(b"\0") else []
            _walk(data, 132, start, "", meta, True, 0)
            if syntax == _DEFLATED:
                data += read(size)
                inflated = zlib.decompressobj(-15).decompress(data[start:], _MAX_INFLATED)
                data = data[:start] + inflated
                size = len(data)
            header = parse_header(data, start, explicit=syntax != _IMPLICIT, whole=len(data) >= size)
            return Header(meta + header.leaves, header.end, header.problem), data
        except NeedMore:
            if len(data) >= _LARGEST:
                return Header([], 0, f"the header is larger than {_LARGEST >> 20} MiB"), data
            more = read(max(len(data), 1))
            if not more:
                return Header([], 0, "the file ends inside its header"), data
            data += more
        except (UnusualFile, _Damaged, _Short, struct.error, zlib.error):
            return None, data


def _by_pydicom(path: Path) -> tuple[list[Key], str]:
    import pydicom

    out: list[Key] = []
    problem = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            for part in (dataset.file_meta, dataset):
                problem = _collect(part, "", out) or problem
    except Exception as error:  # pydicom raises many kinds on broken files
        return out, f"pydicom: {type(error).__name__}"
    return out, problem


def _encoded(vr: str, value: Any) -> bytes:
    """Return a value that pydicom decoded as its bytes in little endian."""
    if isinstance(value, bytes):
        return value
    if value is None or value == "":
        return b""
    many = list(value) if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    if vr == "AT":
        return b"".join(struct.pack("<HH", int(one) >> 16, int(one) & 0xFFFF) for one in many)
    if vr in _NUMBERS:
        return struct.pack(f"<{len(many)}{_NUMBERS[vr]}", *many)
    return "\\".join(str(one) for one in many).encode("utf-8", "replace")


def value_text(vr: str, raw: bytes) -> str:
    """Return a raw value as text: numbers in decimal, bytes that are no text by their number.

    Examples
    --------
    >>> value_text("US", b"\\x01\\x00\\x02\\x00"), value_text("LO", b"LIVER "), value_text("OB", b"\\x00\\x01")
    ('1\\\\2', 'LIVER', '<2 bytes>')
    """
    if vr in _NUMBERS and raw and len(raw) % struct.calcsize(_NUMBERS[vr]) == 0:
        count = len(raw) // struct.calcsize(_NUMBERS[vr])
        return "\\".join(
            f"{one:g}" if vr in ("FL", "FD") else str(one) for one in struct.unpack(f"<{count}{_NUMBERS[vr]}", raw)
        )
    if vr == "AT" and raw and len(raw) % 4 == 0:
        parts = struct.unpack(f"<{len(raw) // 2}H", raw)
        return "\\".join(f"({a:04X},{b:04X})" for a, b in zip(parts[::2], parts[1::2], strict=True))
    if vr not in TEXT_VRS and vr != "UI" and not raw.startswith(b"<"):
        return f"<{len(raw)} bytes>" if raw else ""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.strip(" \0\r\n\t")
    if vr == "UN" and any(ord(c) < 32 and c not in "\r\n\t\f\x1b" for c in text):
        return f"<{len(raw)} bytes>"
    return text


def _collect(dataset: Any, prefix: str, out: list[Key]) -> str:
    problem = ""
    for tag in dataset.keys():  # noqa: SIM118 - iterating would decode, and one bad element would end the loop
        try:
            element = dataset[tag]
            name = f"{prefix}{int(element.tag):08X}"
            if element.tag.is_private and element.tag.element >= 0x1000:
                creator = _creator((element.private_creator or "").encode())
                name = f"{prefix}{element.tag.group:04X}[{creator}]{element.tag.element & 0xFF:02X}"
            if element.VR == "SQ":
                for child in element.value:
                    problem = _collect(child, name + "/", out) or problem
            else:
                vr = element.VR.split(" ")[0]
                out.extend(leaf_values(name, vr, _encoded(vr, element.value)))
        except Exception as error:  # an element that cannot be decoded must not hide the others
            problem = f"pydicom: {type(error).__name__} at an element"
    return problem
