"""Every value of a DICOM header: file meta, any depth, private elements, and values that hide behind VR UN.

A header is walked as bytes where it is plain Explicit or Implicit VR Little Endian; pydicom reads the rest. What
cannot be read is said, never left out in silence.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from hcc_tace_data.dicom.by_pydicom import read_by_pydicom
from hcc_tace_data.dicom.elements import (
    CutShort,
    Damaged,
    Leaf,
    NeedMore,
    UnusualFile,
    creator_name,
    dictionary_vr,
    transfer_syntax,
    walk_leaves,
)
from hcc_tace_data.errors import DicomReadError

__all__ = [
    "TEXT_VRS", "Header", "Key", "creator_of", "header_values", "leaf_values", "parse_header", "read_header_bytes",
    "tag_of", "value_text",
]  # fmt: skip

#: Tag path (see :class:`~hcc_tace_data.dicom.elements.Leaf`), VR, raw value. "PREAMBLE" is the 128 bytes before the
#: prefix.
Key = tuple[str, str, bytes]

#: VRs whose values are text; UN is text more often than not.
TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UN", "UR", "UT"}
)
_IMPLICIT, _DEFLATED, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_ITEM = b"\xfe\xff\x00\xe0"
#: Unknown values in unknown values that are looked into.
_MAX_HIDDEN = 256
_MAX_INFLATED = 1 << 26
_FIRST = 1 << 16
_LARGEST = 1 << 29
_LAST_TAG = re.compile(r"(?:[0-9A-F]{4}\[[^]]*\][0-9A-F]{2}|[0-9A-F]{8})$")

_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "SV": "q", "UV": "Q"}


class Header(NamedTuple):
    """One header taken apart: its leaves, where it ends, and what could not be read (empty if nothing)."""

    leaves: list[Leaf]
    end: int
    problem: str


@lru_cache(maxsize=8192)
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
        position = walk_leaves(data, position, len(data), leaves, explicit=explicit)
    except CutShort:
        if not whole:
            raise NeedMore(len(data) * 2) from None
        problem = "an element reaches past the end"
    except Damaged as error:
        problem = str(error)
    return Header(leaves, position, problem)


@lru_cache(maxsize=1 << 15)
def leaf_values(path: str, vr: str, raw: bytes) -> tuple[Key, ...]:
    """Return what one element holds: itself, or what its unknown value turns out to be.

    A value with VR UN is read as its tag's dictionary says; where it holds items, they are read at any depth.

    Raises
    ------
    Damaged
        Unknown values nest in unknown values without end.

    Examples
    --------
    >>> leaf_values("00100010", "UN", b"A^B ")
    (('00100010', 'PN', b'A^B '),)
    """
    if vr != "UN" or not raw:
        return ((path, vr, raw),)
    found: list[Key] = []
    waiting = [(path, vr, raw, 0)]
    while waiting:
        path, vr, raw, depth = waiting.pop()
        if vr != "UN" or not raw:
            found.append((path, vr, raw))
            continue
        leaves = _hidden(path, raw) if raw[:4] == _ITEM else None
        if leaves is None:
            found.append((path, _known_vr(path), raw))
            continue
        if depth == _MAX_HIDDEN:
            raise Damaged("unknown values nested too deep")
        waiting += [(one.path, one.vr, raw[one.start : one.end], depth + 1) for one in reversed(leaves)]
    return tuple(found)


def _hidden(path: str, raw: bytes) -> list[Leaf] | None:
    """Return the leaves of the items that an unknown value holds; None if they are not items."""
    for explicit in (False, True):
        leaves: list[Leaf] = []
        try:
            walk_leaves(raw, 0, len(raw), leaves, explicit=explicit, prefix=f"{path}/", items=True)
        except (CutShort, Damaged):
            continue
        return leaves
    return None


def _known_vr(path: str) -> str:
    """Return the VR that a dictionary gives an element; "UN" if none does."""
    tag, known = tag_of(path), "UN"
    if "[" not in tag and creator_of(tag) is None and tag != "PREAMBLE":
        known = dictionary_vr(int(tag, 16))
    elif creator := creator_of(tag):
        known = _private_vr(creator, tag)
    return known if known != "SQ" else "UN"


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
    keys: list[Key] = []
    problem = header.problem
    for leaf in header.leaves:
        raw = data[leaf.start : leaf.end]
        try:
            keys += leaf_values(leaf.path, leaf.vr, raw)
        except Damaged as error:
            keys.append((leaf.path, leaf.vr, raw))
            problem = problem or str(error)
    if not header.problem:
        return keys, problem
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
            walk_leaves(data, 132, start, meta)
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
        except (UnusualFile, Damaged, CutShort, struct.error, zlib.error):
            return None, data


def _by_pydicom(path: Path) -> tuple[list[Key], str]:
    out: list[Key] = []
    problem = ""
    try:
        dataset = read_by_pydicom(path)
        for part in (dataset.file_meta, dataset):
            problem = _collect(part, "", out) or problem
    except DicomReadError as error:
        return out, f"pydicom: {type(error.__cause__).__name__}"
    except Exception as error:  # a value that cannot be decoded raises anything
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
    """Return a raw value as text: numbers in decimal, other bytes by their number.

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
                creator = creator_name((element.private_creator or "").encode())
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
