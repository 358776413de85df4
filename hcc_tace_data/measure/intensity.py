"""HU within a mask, in one phase."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FIELD_OF_VIEW_HU", "PERCENTILES", "hu_statistics"]

#: Pixels below this are outside the scanner's field of view (stored as -2048 HU) and belong to no tissue.
FIELD_OF_VIEW_HU = -1024
PERCENTILES = (10, 50, 90)


def hu_statistics(
    image: npt.NDArray[np.int16], mask: npt.NDArray[np.bool_], valid: npt.NDArray[np.uint8] | None = None
) -> dict[str, float]:
    """Return mean, standard deviation and percentiles of HU within a mask.

    Parameters
    ----------
    image : ndarray of int16, shape (D, H, W)
        HU.
    mask : ndarray of bool, shape (D, H, W)
    valid : ndarray of uint8, shape (D, H, W), optional
        0 where the phase has no data (outside its field of view after registration).

    Returns
    -------
    dict of str to float
        `mean`, `sd`, `p10`, `p50`, `p90` in HU and `share`, the part of the mask that has data. NaN without data.
    """
    inside = mask if valid is None else mask & (valid != 0)
    values = image[inside]
    values = values[values >= FIELD_OF_VIEW_HU].astype(np.float64)
    total = int(mask.sum())
    names = [f"p{level}" for level in PERCENTILES]
    if not len(values):
        return {**dict.fromkeys(["mean", "sd", *names], float("nan")), "share": 0.0 if total else float("nan")}
    levels = np.percentile(values, PERCENTILES)
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        **{name: float(level) for name, level in zip(names, levels, strict=True)},
        "share": len(values) / total,
    }
