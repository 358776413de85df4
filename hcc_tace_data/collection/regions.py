"""Regions of a CT volume: stretches of slices that were scanned one after the other.

A sweep over a long stretch may come as two acquisitions in one series: upper abdomen and pelvis of one phase. Their
slices need not lie on one grid: in HCC_085 the last slice of one lies 1.75 mm from the first of the other, and all
others 2.5 mm apart. A segmentation may cover one of the two alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hcc_tace_data.collection.split import positions_along_normal
from hcc_tace_data.dicom.tolerance import SHARE, base_step

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["regions_of"]

#: Fewer slices are no region: a slice out of place is a defect.
_FEWEST = 3


def regions_of(volume: pd.DataFrame) -> list[pd.DataFrame]:
    """Separate the regions of one CT volume.

    A region ends where AcquisitionNumber changes, and where the distance to the next slice is no multiple of the
    spacing.

    Parameters
    ----------
    volume : pandas.DataFrame
        Rows of the instance table, of one volume of :func:`~hcc_tace_data.collection.split.split_series`.

    Returns
    -------
    list of pandas.DataFrame
        By position along +normal; `volume` alone where it is one region. Rows without a position are in none of
        several regions.
    """
    along = positions_along_normal(volume)
    placed = np.flatnonzero(~np.isnan(along))
    order = placed[np.argsort(along[placed], kind="stable")]
    rows, along = volume.iloc[order], along[order]
    if len(rows) < 2 * _FEWEST or np.diff(along).min() <= 0:
        return [volume]
    steps = np.diff(along) / base_step(along)
    off_grid = np.abs(steps - np.rint(steps)) > 2 * SHARE
    numbers = rows["acquisition_number"].astype("Float64").fillna(-1).to_numpy(float)
    changed = numbers[1:] != numbers[:-1]
    if changed.sum() + 1 != len(np.unique(numbers)):  # numbers that alternate, or come back, are no regions
        changed[:] = False
    for ends in (off_grid | changed, off_grid, changed):
        parts = np.split(np.arange(len(rows)), np.flatnonzero(ends) + 1)
        if min(len(part) for part in parts) >= _FEWEST:
            return [rows.iloc[part] for part in parts] if len(parts) > 1 else [volume]
    return [volume]
