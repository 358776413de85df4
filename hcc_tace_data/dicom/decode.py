"""Pixels of a slice that are compressed, big endian or otherwise not plain, as the stored values they encode.

pydicom decodes what it can: run-length and deflate by itself, JPEG 2000 and HTJ2K with pylibjpeg and
pylibjpeg-openjpeg, JPEG-LS with pyjpegls. GDCM decodes the rest, such as JPEG Lossless, in a process of its own.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.gdcm import GdcmProcess
from hcc_tace_data.dicom.inflate import for_pydicom
from hcc_tace_data.dicom.stream_size import refuse_pixel_claims
from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["by_pydicom", "decode_pixels", "decode_slice", "open_for_pixels"]

_RLE = "1.2.840.10008.1.2.5"
#: Of pydicom, the best first. Pillow takes the sign of JPEG 2000 from the stream, not from the header.
_PLUGINS = ("pydicom", "pylibjpeg", "pyjpegls", "pillow")


def decode_slice(row: dict[str, Any], shape: tuple[int, ...], gdcm: GdcmProcess | None = None) -> npt.NDArray[Any]:
    """Decode the one frame of a file.

    Parameters
    ----------
    row : dict
        Its header, with a `path` that can be opened.
    shape : tuple of int
        Rows and columns.
    gdcm : GdcmProcess or None
        Decodes what pydicom cannot; by default a process is started where one is needed.

    Returns
    -------
    ndarray of integer, shape `shape`
        Stored values in the machine's byte order, without bits above BitsStored.

    Raises
    ------
    DicomReadError
        They cannot be decoded, or are not what the header says.
    """
    path = row["path"]
    try:
        data = open_for_pixels(path)
        syntax = data.file_meta.TransferSyntaxUID
        stored = decode_pixels(data, path, gdcm)
    except DicomReadError:
        raise
    except Exception as error:  # a decoder may raise anything on a broken stream
        raise DicomReadError(
            f"The pixels of {path} (transfer syntax {row['transfer_syntax_uid'] or 'missing'}) cannot be decoded: "
            f"{type(error).__name__}: {error}. Fetch the file again, or save it uncompressed."
        ) from error
    if stored.shape != shape or stored.dtype.kind not in "iu":
        raise DicomReadError(f"{path} decodes to {stored.shape} {stored.dtype}, not to {shape} whole numbers.")
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return _within(row, stored, masked=not syntax.is_compressed or syntax == _RLE)


def open_for_pixels(path: str | os.PathLike[str]) -> Dataset:
    """Read a file with its pixels; one without file meta information gets the transfer syntax it is written in."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(for_pydicom(path), force=True)
        if getattr(data, "file_meta", None) is None:
            data.file_meta = FileMetaDataset()
        if not data.file_meta.get("TransferSyntaxUID"):
            implicit = data.original_encoding[0]
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return data


def decode_pixels(data: Dataset, path: str | os.PathLike[str], gdcm: GdcmProcess | None = None) -> npt.NDArray[Any]:
    """Return all pixels of a data set, decoded by pydicom or GDCM, within a bound on the memory they take.

    Parameters
    ----------
    data : pydicom.Dataset
        See :func:`open_for_pixels`.
    path : path-like
        Its file.
    gdcm : GdcmProcess or None
        As for :func:`decode_slice`.

    Raises
    ------
    DicomReadError
        The file claims more than it can hold. Decoders raise many other kinds on a broken stream.
    """
    refuse_pixel_claims(data, path, Path(path).stat().st_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not data.file_meta.TransferSyntaxUID.is_encapsulated or _plugin(data):
            return by_pydicom(data)
        if gdcm is not None:
            return gdcm.decode(data)
        with GdcmProcess() as process:
            return process.decode(data)


def by_pydicom(data: Dataset) -> npt.NDArray[Any]:
    """Return all pixels of a data set as the best of pydicom's plugins decodes them, never GDCM.

    Where ``python-gdcm`` is installed, pydicom would hand it what other plugins refuse; a damaged stream then ends the
    process.
    """
    if data.file_meta.TransferSyntaxUID.is_encapsulated:
        plugin = _plugin(data)
        if not plugin:
            raise ValueError("nothing installed decodes this transfer syntax")
        data.pixel_array_options(decoding_plugin=plugin)
    return np.asarray(data.pixel_array)


def _plugin(data: Dataset) -> str:
    """Return which of pydicom's plugins decodes these pixels; "" for none."""
    from pydicom.pixels.decoders.base import get_decoder

    try:
        available = get_decoder(data.file_meta.TransferSyntaxUID).available_plugins
    except NotImplementedError:  # a syntax that pydicom does not know
        return ""
    return next((name for name in _PLUGINS if name in available), "")


def _within(row: dict[str, Any], stored: npt.NDArray[Any], *, masked: bool) -> npt.NDArray[Any]:
    """Return values as BitsStored and PixelRepresentation say they are.

    Of native and run-length encoded pixels, bits above are cut off: they are no part of the value. A codec encodes
    values, so one that does not fit contradicts the header.
    """
    bits, signed = int(row["bits_stored"]), row["pixel_representation"] == 1
    width = 8 * stored.dtype.itemsize
    if bits > width:
        raise DicomReadError(f"{row['path']} has BitsStored {bits}, but its pixels have {count(width, 'bit')}.")
    stored = stored.view(np.dtype(f"{'i' if signed else 'u'}{stored.dtype.itemsize}"))
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not stored.size or (stored.min() >= low and stored.max() <= high):
        return stored
    if not masked:
        raise DicomReadError(
            f"{row['path']} decodes to values from {stored.min()} to {stored.max()}, more than its "
            f"{count(bits, 'bit')} stored."
        )
    spare = width - bits
    return np.asarray((stored << spare) >> spare)
