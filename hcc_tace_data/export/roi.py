"""Crops: the part of a case around its lesions or its liver."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from hcc_tace_data.loaders.cases import CaseArrays

__all__ = ["ROIS", "Roi", "crop_arrays"]

Roi = Literal["lesions", "liver"]
ROIS: tuple[Roi, ...] = get_args(Roi)


def crop_arrays(arrays: CaseArrays, roi: Roi, margin_mm: float) -> CaseArrays | None:
    """Cut a case to the box around all its lesions, or its liver, and `margin_mm` around that.

    Returns
    -------
    CaseArrays or None
        Positions in space stay as they are. None where nothing is drawn.
    """
    box = arrays.tumour if roi == "lesions" else arrays.liver
    if box is None:
        return None
    steps = np.ceil(margin_mm / arrays.spacing - 1e-9).astype(int)
    wider = [
        (max(0, first - step), min(size, last + step))
        for (first, last), step, size in zip(box, steps.tolist(), arrays.label.shape, strict=True)
    ]
    down, rows, columns = (slice(*ends) for ends in wider)
    corner = [first for first, _ in wider]
    affine = arrays.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ corner

    def moved(ends: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...] | None:
        if ends is None:
            return None
        return tuple(
            (max(a - start, 0), min(b - start, last - start)) for (a, b), (start, last) in zip(ends, wider, strict=True)
        )

    return replace(
        arrays,
        image=np.ascontiguousarray(arrays.image[..., down, rows, columns]),
        label=np.ascontiguousarray(arrays.label[down, rows, columns]),
        valid=None if arrays.valid is None else np.ascontiguousarray(arrays.valid[..., down, rows, columns]),
        affine=affine,
        liver=moved(arrays.liver),
        tumour=moved(arrays.tumour),
    )
