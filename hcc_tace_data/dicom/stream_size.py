"""What a compressed image says of its own size, before a decoder takes memory for it."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.claims import refuse_claim

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["refuse_pixel_claims", "stream_size"]

_J2K = b"\xff\x4f\xff\x51"
_JP2 = b"\0\0\0\x0cjP  "
#: Start of frame of any JPEG process, and of JPEG-LS; not DHT, JPG and DAC, which lie between them.
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def stream_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 stream states.

    Returns
    -------
    tuple of int or None
        None where the bytes are no such stream.

    Examples
    --------
    >>> stream_size(bytes.fromhex("ffd8 ffc3 000b 10 0200 0100 01 00 11 00"))
    (512, 256, 1)
    """
    try:
        if frame[:8] == _JP2:
            frame = frame[max(frame.find(_J2K), 0) :]
        if frame[:4] == _J2K:
            width, height, left, top = struct.unpack_from(">4I", frame, 8)
            return height - top, width - left, struct.unpack_from(">H", frame, 40)[0]
        return _jpeg_size(frame) if frame[:2] == b"\xff\xd8" else None
    except (struct.error, IndexError):
        return None


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    at = 2
    while True:
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in _FRAMES:
            height, width, components = struct.unpack_from(">HHB", frame, at + 5)
            return height, width, components
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]


def refuse_pixel_claims(data: Dataset, path: str | os.PathLike[str], size: int) -> None:
    """Refuse a data set whose pixels would take more memory than a file of its size can need.

    Parameters
    ----------
    data : pydicom.Dataset
        With its pixel data.
    path : path-like
        For messages.
    size : int
        Bytes of the file.

    Raises
    ------
    DicomReadError
        Header or compressed frames claim too much, or frames are larger than the header says.
    """
    from pydicom.encaps import generate_frames

    rows, columns = int(data.Rows), int(data.Columns)
    samples, frames = int(data.get("SamplesPerPixel") or 1), int(data.get("NumberOfFrames") or 1)
    width = -(-int(data.BitsAllocated) // 8)  # a bit is decoded to a byte
    refuse_claim(path, rows * columns * samples * frames * width, size, DicomReadError)
    if "PixelData" not in data or not data["PixelData"].is_undefined_length:
        return
    for number, frame in enumerate(generate_frames(data["PixelData"].value, number_of_frames=frames), start=1):
        stated = stream_size(frame)
        if stated is not None and stated != (rows, columns, samples):
            raise DicomReadError(
                f"{os.fspath(path)}: compressed frame {number} is of {stated[0]} x {stated[1]} pixels with {stated[2]} "
                f"components, the header says {rows} x {columns} with {samples}. Fetch it again."
            )
