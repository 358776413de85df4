"""Pixels of one CT slice, straight into the final array, as HU."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import DicomReadError

__all__ = ["read_slice"]


def read_slice(row: dict[str, Any], out: npt.NDArray[Any]) -> None:
    """Read the slice of `row` (see :func:`hcc_tace_data.headers.read_header`) into `out`, in HU.

    Parameters
    ----------
    row : dict
        A header; `path` is a path that can be opened.
    out : ndarray of int16 or float32, shape (rows, columns), C-contiguous

    Raises
    ------
    DicomReadError
        The pixels are cut short or cannot be decoded, or do not fit int16.
    """
    path = row["path"]
    slope = 1.0 if math.isnan(row["rescale_slope"]) else row["rescale_slope"]
    intercept = 0.0 if math.isnan(row["rescale_intercept"]) else row["rescale_intercept"]
    stored = _stored(row, out)
    if out.dtype == np.int16:
        if slope != int(slope) or intercept != int(intercept):
            raise DicomReadError(
                f"{path} has RescaleSlope {slope:g} and RescaleIntercept {intercept:g}: HU are not whole numbers; "
                "read with dtype='float32'."
            )
        ends = [int(stored.min()) * int(slope) + int(intercept), int(stored.max()) * int(slope) + int(intercept)]
        if min(ends) < -32768 or max(ends) > 32767:
            raise DicomReadError(
                f"{path} holds HU from {min(ends)} to {max(ends)}, more than int16 can; read with dtype='float32'."
            )
        if stored.dtype == np.int16 and stored.base is not None and np.shares_memory(stored, out):
            if slope == 1 and intercept:
                out += np.int16(int(intercept)) if -32768 <= intercept <= 32767 else 0
                if not -32768 <= intercept <= 32767:
                    raise DicomReadError(f"{path} has RescaleIntercept {intercept:g}; read with dtype='float32'.")
            elif slope != 1:
                out[...] = stored.astype(np.int64) * int(slope) + int(intercept)
        elif slope == 1 and stored.dtype == np.uint16 and np.shares_memory(stored, out):
            # modulo 2^16 the sum is the same, and the range was checked
            np.add(stored, np.uint16(int(intercept) % 65536), out=stored)
        else:
            out[...] = stored.astype(np.int64) * int(slope) + int(intercept)
        return
    if slope == int(slope) and intercept == int(intercept) and abs(slope) < 64:
        np.multiply(stored, np.float32(slope), out=out, casting="unsafe", dtype=np.float32)
        out += np.float32(intercept)
    else:
        out[...] = stored.astype(np.float64) * slope + intercept


def _stored(row: dict[str, Any], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the stored values; they lie in `out` itself where its type allows."""
    path, bits, signed = row["path"], row["bits_stored"], row["pixel_representation"] == 1
    native = row["pixel_offset"] >= 0 and row["bits_allocated"] == 16 and row["pixel_vr"] in ("", "OW")
    if not native:
        return _decode(row, out.shape)
    kind = np.dtype("<i2" if signed else "<u2")
    need = out.shape[0] * out.shape[1] * 2
    if not need <= row["pixel_length"] <= need + 1:
        raise DicomReadError(
            f"{path} claims {out.shape[0]} x {out.shape[1]} pixels but holds {row['pixel_length']} bytes."
        )
    target = out.view(kind) if out.dtype == np.int16 else np.empty(out.shape, dtype=kind)
    handle = os.open(path, os.O_RDONLY)
    try:
        got = os.preadv(handle, [memoryview(target).cast("B")], row["pixel_offset"])
    finally:
        os.close(handle)
    if got != need:
        raise DicomReadError(f"{path} is cut short: {got} of {need} bytes of pixels; fetch it again.")
    if bits < 16:
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        if target.min() < low or target.max() > high:  # bits above bits_stored are not part of the value
            target <<= 16 - bits
            target >>= 16 - bits
    return target


def _decode(row: dict[str, Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Let pydicom decode compressed, big endian or otherwise unusual pixels."""
    from pydicom import dcmread

    path = row["path"]
    try:
        stored: npt.NDArray[Any] = dcmread(path).pixel_array
    except Exception as error:  # a decoder may raise anything on a broken stream
        raise DicomReadError(f"The pixels of {path} cannot be decoded: {type(error).__name__}: {error}") from error
    if stored.shape != shape or stored.dtype.kind not in "iu":
        raise DicomReadError(f"{path} decodes to {stored.shape} {stored.dtype}, not to {shape} whole numbers.")
    return stored
