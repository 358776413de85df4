"""Data sets that are deflated as a whole, inflated within a bound before pydicom sees them.

pydicom inflates whatever a stream claims: a file of 1 MB can take gigabytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO

from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.claims import MOST_PER_BYTE, refuse_claim

__all__ = ["DEFLATED", "for_pydicom", "inflated"]

DEFLATED = "1.2.840.10008.1.2.1.99"
_EXPLICIT = "1.2.840.10008.1.2.1"
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_FIRST = 1 << 16
#: Bytes that any deflated data set may have: a SEG of 4,096 frames of 512 x 512.
_SURELY_FINE = 128 << 20


def for_pydicom(path: str | os.PathLike[str]) -> str | os.PathLike[str] | BytesIO:
    """Return what pydicom is to read of a file: the file itself, or a deflated one inflated.

    Parameters
    ----------
    path : path-like
        The file.

    Raises
    ------
    DicomReadError
        It is deflated and damaged, or would take more memory than its size allows.
    OSError
        It cannot be opened.
    """
    with open(path, "rb") as handle:
        data = handle.read(_FIRST)
        place, end = _syntax(data)
        if end > len(data):  # file meta information of that length is rare
            data += handle.read()
            place, end = _syntax(data)
        if place is None:
            return path
        data += handle.read()
    return BytesIO(_inflate(path, data, place, end))


def inflated(path: str | os.PathLike[str], data: bytes) -> bytes:
    """Return the bytes of a file, a deflated data set inflated; see :func:`for_pydicom`."""
    place, end = _syntax(data)
    return data if place is None else _inflate(path, data, place, end)


def _syntax(data: bytes) -> tuple[slice | None, int]:
    """Return where the UID of a deflated transfer syntax is (None for another), and where the data set begins."""
    at = 132 if data[128:132] == b"DICM" else 0
    found = None
    while at + 8 <= len(data):
        group, element, vr, length = struct.unpack_from("<HH2sH", data, at)
        start = at + 8
        if group != 2:
            break
        if vr in _LONG:
            if start + 4 > len(data):
                return found, start + 4
            length, start = struct.unpack_from("<I", data, start)[0], start + 4
        elif not (vr.isalpha() and vr.isupper()):
            length = struct.unpack_from("<I", data, at + 4)[0]
        at = start + length
        if element == 0x10:
            text = data[start:at].rstrip(b"\0 ")
            found = slice(start, at) if text == DEFLATED.encode() else None
    return found, at


def _inflate(path: str | os.PathLike[str], data: bytes, place: slice, end: int) -> bytes:
    most = max(_SURELY_FINE, MOST_PER_BYTE * len(data))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = stream.decompress(data[end:], most + 1)
    except zlib.error as error:
        raise DicomReadError(f"{os.fspath(path)} is deflated and damaged ({error}). Fetch it again.") from error
    refuse_claim(path, len(body), len(data), DicomReadError, free=_SURELY_FINE)
    uid = _EXPLICIT.encode().ljust(place.stop - place.start, b"\0")
    return b"".join([data[: place.start], uid, data[place.stop : end], body])
