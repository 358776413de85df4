"""From stored values to HU: whether a header says how, and how.

HU are served only where they are known. A CT image has RescaleSlope and RescaleIntercept (type 1 in PS3.3 C.8.2.1); its
output is HU unless RescaleType says otherwise (C.11.1.1.2). Whatever leaves the HU open is a reason to refuse the file;
one slice of a series read with an assumed slope would differ from its neighbours without notice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.words import count

__all__ = ["JUDGED", "hu_doubt", "hu_problem", "rescale_of", "rescales_of"]

_WIDEST = 65535.0
_BITS = ("bits_allocated", "bits_stored", "high_bit", "pixel_representation")
#: All that :func:`hu_problem` looks at.
JUDGED = (
    "rescale_slope", "rescale_intercept", "rescale_type", "modality_lut", "photometric_interpretation", *_BITS,
)  # fmt: skip


def hu_problem(row: Mapping[str, Any]) -> str:
    """Return why the HU of a slice are unknown; empty if they are known.

    Parameters
    ----------
    row : mapping
        A header (see :func:`hcc_tace_data.dicom.headers.read_header`) or a row of the instance table.

    Examples
    --------
    >>> header = {"rescale_slope": 1.0, "rescale_intercept": -1024.0, "bits_allocated": 16, "bits_stored": 12}
    >>> hu_problem(header), hu_problem(header | {"rescale_slope": 0.0})
    ('', 'RescaleSlope is 0, which makes all pixels one value')
    """
    return _problem(
        _number(row.get("rescale_slope")),
        _number(row.get("rescale_intercept")),
        _text(row.get("rescale_type")),
        _whole(row.get("modality_lut")),
        _text(row.get("photometric_interpretation")),
        tuple(_whole(row.get(name)) for name in _BITS),
    )


def hu_doubt(row: Mapping[str, Any]) -> str:
    """Return why the values of a slice may not be HU although they can be served; empty if there is no doubt.

    GDCM and ITK write RescaleType US, "unspecified", into any CT that they rewrite.
    """
    return "RescaleType is 'US' (unspecified)" if _text(row.get("rescale_type")).upper() == "US" else ""


def rescale_of(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return RescaleSlope and RescaleIntercept of a slice whose HU are known.

    Parameters
    ----------
    row : mapping
        A header, with `path`.

    Raises
    ------
    DicomReadError
        The HU are unknown.
    """
    problem = hu_problem(row)
    if problem:
        raise DicomReadError(
            f"{row['path']}: its HU are unknown: {problem}. Fetch the file again, or leave the slice out."
        )
    return float(row["rescale_slope"]), float(row["rescale_intercept"])


def rescales_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return :func:`rescale_of` of each slice; headers that say the same are judged once.

    Parameters
    ----------
    rows : sequence of mapping
        Headers, with `path`.

    Raises
    ------
    DicomReadError
        The HU of a slice are unknown.
    """
    known: dict[tuple[Any, ...], tuple[float, float]] = {}
    scales = []
    for row in rows:
        key = tuple(map(row.get, JUDGED))
        scale = known.get(key)
        if scale is None:
            scale = known[key] = rescale_of(row)
        scales.append(scale)
    return scales


@lru_cache(maxsize=1024)
def _problem(
    slope: float, intercept: float, kind: str, lut: int, photometric: str, bits: tuple[int, int, int, int]
) -> str:
    allocated, stored, high, signed = bits
    for name, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        if math.isnan(value):
            return f"{name} is missing, empty or not a number"
        if math.isinf(value):
            return f"{name} is infinite"
    if slope == 0:
        return "RescaleSlope is 0, which makes all pixels one value"
    # the step from one stored value to the next must survive in the float32 that is served
    with np.errstate(over="ignore"):
        largest = np.float32(abs(slope) * _WIDEST + abs(intercept))
    if not np.isfinite(largest) or float(np.spacing(largest)) > abs(slope):
        return f"RescaleSlope {slope:g} and RescaleIntercept {intercept:g} are beyond what CT values can be"
    if kind.upper() not in ("", "HU", "US"):
        return f"RescaleType is {kind[:16]!r}, not HU"
    if lut > 0:
        return "it has a ModalityLUTSequence in place of, or besides, slope and intercept"
    if photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        return f"PhotometricInterpretation is {photometric[:16]!r}: pixels are not intensities"
    if stored >= 0 and not 1 <= stored <= max(allocated, 1):
        return f"BitsStored is {stored}, BitsAllocated {allocated}"
    if high >= 0 and stored >= 0 and high != stored - 1:
        return f"HighBit is {high} with {count(stored, 'bit')} stored; where the value begins is open"
    if signed not in (-1, 0, 1):
        return f"PixelRepresentation is {signed}"
    return ""


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _whole(value: Any) -> int:
    """Return a whole number, -1 if missing (None, NaN, pandas.NA)."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return -1


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
