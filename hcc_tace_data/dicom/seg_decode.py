"""Frames of a SEG that are compressed one by one, in transfer syntaxes that pydicom does not decode, too."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.decode import by_pydicom
from hcc_tace_data.dicom.stream_size import refuse_pixel_claims
from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.boundary import foreign_errors
from hcc_tace_data.system.claims import refuse_claim

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

__all__ = ["decode_frames", "transfer_syntax_of"]

#: Deflated Image Frame Compression (PS3.5, A.4.13): each frame a raw deflate stream.
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_RLE = "1.2.840.10008.1.2.5"
_RLE_HEAD = 64


def transfer_syntax_of(header: Dataset, path: Path) -> UID:
    """Return the transfer syntax of a data set; a missing one follows from how it is written.

    Raises
    ------
    DicomReadError
        Several, one that is not a UID, or one that is not known.
    """
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    value = header.file_meta.get("TransferSyntaxUID") if getattr(header, "file_meta", None) is not None else None
    if not value:
        implicit, little = header.original_encoding
        if implicit:
            return ImplicitVRLittleEndian
        return ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian
    if not isinstance(value, str) or not value.replace(".", "").isdigit():
        raise DicomReadError(f"{path}: TransferSyntaxUID is not one UID; its pixels cannot be read. Fetch it again.")
    syntax = UID(value)
    # pydicom asks unknown syntaxes whether they are encapsulated, and raises
    if syntax != _DEFLATED_FRAMES and (syntax.is_private or not syntax.is_transfer_syntax):
        raise DicomReadError(f"{path}: its transfer syntax {syntax} is not known; save it uncompressed.")
    return syntax


def decode_frames(header: Dataset, path: Path, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Decode compressed frames.

    Parameters
    ----------
    header : pydicom.Dataset
        With its encapsulated pixel data.
    path : pathlib.Path
        For messages.
    shape : tuple of int
        Frames, rows, columns.

    Raises
    ------
    DicomReadError
        An unknown transfer syntax, or damaged frames.
    """
    syntax = transfer_syntax_of(header, path)
    bits = int(header.BitsAllocated)
    refuse_claim(path, math.prod(shape) * max(1, bits // 8), path.stat().st_size, DicomReadError)
    with foreign_errors(path, DicomReadError, "has frames that cannot be decoded", hint="Fetch it again."):
        if syntax == _DEFLATED_FRAMES:
            return _assembled((_inflated(frame, _bytes(shape, bits)) for frame in _frames(header, shape)), shape, bits)
        if syntax == _RLE and bits == 1:
            return _assembled((_run_lengths(frame, shape) for frame in _frames(header, shape)), shape, bits)
        header.file_meta.TransferSyntaxUID = syntax
        refuse_pixel_claims(header, path, path.stat().st_size)
        return by_pydicom(header).reshape(shape)


def _frames(header: Dataset, shape: tuple[int, int, int]) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    return generate_frames(header["PixelData"].value, number_of_frames=shape[0])


def _bytes(shape: tuple[int, int, int], bits: int) -> int:
    return -(-shape[1] * shape[2] * bits // 8)


def _inflated(frame: bytes, wanted: int) -> bytes:
    # never more than a frame: a stream may claim anything
    return zlib.decompressobj(-15).decompress(frame, wanted)


def _run_lengths(frame: bytes, shape: tuple[int, int, int]) -> bytes:
    """Return the packed bits of a frame; writers encode a byte for each pixel, or bits that are packed already."""
    pixels, packed = shape[1] * shape[2], _bytes(shape, 1)
    decoded = _unpacked(frame, pixels + 1)
    if len(decoded) in (pixels, pixels + 1) and pixels > packed + 1:
        values = np.frombuffer(decoded, np.uint8, pixels)
        if not np.isin(values, (0, 1, 255)).all():
            raise ValueError("pixels of one bit with other values than 0 and 1")
        return np.packbits(values != 0, bitorder="little").tobytes()
    if len(decoded) not in (packed, packed + 1):
        raise ValueError(f"{len(decoded)} bytes for {pixels} pixels of one bit")
    return decoded


def _unpacked(frame: bytes, most: int) -> bytes:
    """Undo run-length encoding of one segment (PS3.5, annex G)."""
    if int.from_bytes(frame[:4], "little") != 1 or int.from_bytes(frame[4:8], "little") != _RLE_HEAD:
        raise ValueError("a run-length frame of one bit has one segment")
    out = bytearray()
    at = _RLE_HEAD
    while at < len(frame) - 1 and len(out) < most:
        count = frame[at]
        if count < 128:
            out += frame[at + 1 : at + 2 + count]
            at += 2 + count
        elif count > 128:
            out += frame[at + 1 : at + 2] * (257 - count)
            at += 2
        else:
            at += 1
    return bytes(out[:most])


def _assembled(frames: Iterator[bytes], shape: tuple[int, int, int], bits: int) -> npt.NDArray[Any]:
    if bits not in (1, 8, 16):
        raise ValueError(f"{bits} bits a pixel")
    count, rows, columns = shape
    result = np.zeros(shape, np.uint16 if bits == 16 else np.uint8)
    number = 0
    for number, frame in enumerate(frames, start=1):
        if number > count:
            break
        if len(frame) < _bytes(shape, bits):
            raise ValueError(f"frame {number} has {len(frame)} of {_bytes(shape, bits)} bytes")
        if bits == 1:
            flat = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[: rows * columns]
        else:
            flat = np.frombuffer(frame, "<u2" if bits == 16 else np.uint8, rows * columns)
        result[number - 1] = flat.reshape(rows, columns)
    if number != count:
        raise ValueError(f"{number} of {count} frames")
    return result
