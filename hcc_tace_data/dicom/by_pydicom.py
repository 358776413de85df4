"""The one fallback: what the walk of :mod:`~hcc_tace_data.dicom.elements` does not vouch for, pydicom reads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from hcc_tace_data.dicom.inflate import for_pydicom
from hcc_tace_data.errors import DicomReadError

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["read_by_pydicom"]


def read_by_pydicom(
    source: str | os.PathLike[str] | BinaryIO, *, tags: Sequence[int] | None = None, pixels: bool = False
) -> Dataset:
    """Read a data set with pydicom.

    Parameters
    ----------
    source : path-like or binary file
    tags : sequence of int, optional
        The only elements wanted; default all.
    pixels : bool
        Whether to read the pixel data too.

    Raises
    ------
    DicomReadError
        It cannot be read, whatever pydicom raised; values that cannot be decoded may still raise when asked for.
    OSError
        The file cannot be opened.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = for_pydicom(source) if isinstance(source, (str, os.PathLike)) else source
            return pydicom.dcmread(
                plain, stop_before_pixels=not pixels, specific_tags=None if tags is None else list(tags)
            )
    except (OSError, DicomReadError):
        raise
    except Exception as error:  # pydicom raises many kinds on broken files
        raise DicomReadError(f"{source} cannot be read as DICOM: {type(error).__name__}.") from error
