"""Pixels of CT slices, straight into the final array, as HU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.decode import decode_slice
from hcc_tace_data.dicom.gdcm import GdcmProcess
from hcc_tace_data.dicom.rescale import rescales_of
from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.parallel import thread_pool

__all__ = ["read_slices"]

_THREADED_FROM = 8
Row = dict[str, Any]


def read_slices(rows: Sequence[Row], out: npt.NDArray[Any]) -> None:
    """Read slices into `out`, in HU.

    Parameters
    ----------
    rows : sequence of dict
        One header a slice (see :func:`hcc_tace_data.dicom.headers.read_header`); `path` is a path that can be opened.
    out : ndarray of int16 or float32, shape (slices, rows, columns), C-contiguous

    Raises
    ------
    DicomReadError
        Pixels are cut short or cannot be decoded, their HU are unknown, or they do not fit int16.
    """
    scales = rescales_of(rows)  # before unusable pixels are read
    if len(rows) < _THREADED_FROM or not all(_is_native(row) for row in rows):
        _read_part(rows, scales, out)
        return
    # Two threads: reading and rescaling both leave the interpreter free, and two already fill the memory bus.
    half = len(rows) // 2
    with thread_pool(1) as pool:
        other = pool.submit(_read_part, rows[half:], scales[half:], out[half:])
        _read_part(rows[:half], scales[:half], out[:half])
        other.result()


def _read_part(rows: Sequence[Row], scales: Sequence[tuple[float, float]], out: npt.NDArray[Any]) -> None:
    """Read slices one after the other, with one buffer for what is not yet HU."""
    scratch = np.empty(out.shape[1:] if out.dtype != np.int16 else (0, 0), dtype="<u2")
    with GdcmProcess() as gdcm:
        for row, scale, plane in zip(rows, scales, out, strict=True):
            if not _is_native(row):
                _rescale(row, decode_slice(row, plane.shape, gdcm), plane, scale)
                continue
            kind = np.dtype("<i2" if row["pixel_representation"] == 1 else "<u2")
            stored = plane.view(kind) if out.dtype == np.int16 else scratch.view(kind)
            _read_native(row, stored)
            _rescale(row, stored, plane, scale)


def _is_native(row: Row) -> bool:
    return row["pixel_offset"] >= 0 and row["bits_allocated"] == 16 and row["pixel_vr"] in ("", "OW")


def _read_native(row: Row, target: npt.NDArray[Any]) -> None:
    """Read 16-bit pixels as stored into `target`, which may be the final array itself."""
    path, need = row["path"], target.nbytes
    if not need <= row["pixel_length"] <= need + 1:
        raise DicomReadError(
            f"{path} claims {target.shape[0]} x {target.shape[1]} pixels but holds {row['pixel_length']} bytes."
        )
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        if hasattr(os, "preadv"):
            got = os.preadv(handle, [_bytes_of(target)], row["pixel_offset"])
        else:  # Windows
            os.lseek(handle, row["pixel_offset"], os.SEEK_SET)
            part = os.read(handle, need)
            got = len(part)
            _bytes_of(target)[:got] = part
    finally:
        os.close(handle)
    if got != need:
        raise DicomReadError(f"{path} is cut short: {got} of {need} bytes of pixels; fetch it again.")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return memoryview(array.view(np.uint8).reshape(-1))  # type: ignore[arg-type]  # numpy 1.26 types it no buffer


def _rescale(row: Row, stored: npt.NDArray[Any], out: npt.NDArray[Any], scale: tuple[float, float]) -> None:
    """Turn stored values into HU in `out`; they may share memory if both have two bytes."""
    path = row["path"]
    slope, intercept = scale
    whole = slope == int(slope) and intercept == int(intercept)
    _cut_to_bits_stored(row, stored)
    if out.dtype != np.int16:
        if whole and abs(slope) < 64:
            np.copyto(out, stored, casting="unsafe")  # then in place: faster than one pass that converts as it goes
            if slope != 1:
                out *= np.float32(slope)
            out += np.float32(intercept)
        else:
            out[...] = stored.astype(np.float64) * slope + intercept
        return
    if not whole:
        raise DicomReadError(
            f"{path} has RescaleSlope {slope:g} and RescaleIntercept {intercept:g}: HU are not whole numbers; "
            "read with dtype='float32'."
        )
    lowest, highest = int(stored.min()), int(stored.max())
    ends = sorted((lowest * int(slope) + int(intercept), highest * int(slope) + int(intercept)))
    if ends[0] < -32768 or ends[1] > 32767:
        raise DicomReadError(
            f"{path} holds HU from {ends[0]} to {ends[1]}, more than int16 can; read with dtype='float32'."
        )
    if slope == 1 and stored.itemsize == 2:
        # modulo 2^16 the sum is the same, and its range was checked
        np.add(stored.view(np.uint16), np.uint16(int(intercept) % 65536), out=out.view(np.uint16))
    else:
        out[...] = stored.astype(np.int64) * int(slope) + int(intercept)


def _cut_to_bits_stored(row: Row, stored: npt.NDArray[Any]) -> None:
    """Cut off, in place, bits that are not part of a value (an overlay, or rubbish)."""
    spare = 16 - int(row["bits_stored"])
    if spare <= 0 or not _is_native(row):  # decode_slice has done it
        return
    signed = stored.dtype.kind == "i"
    highest = (1 << (15 - spare if signed else 16 - spare)) - 1
    if stored.max() > highest or (signed and stored.min() < -highest - 1):
        stored <<= spare
        stored >>= spare
