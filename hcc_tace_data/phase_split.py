"""Splitting a CT series into phase volumes.

48 series of the collection hold the slices of several contrast phases (Moawad et al. 2023: an export error). They are
told apart by what the scanner wrote, strongest first:

1. AcquisitionNumber,
2. AcquisitionTime, then ContentTime, where one jump in time separates sweeps over the same region,
3. the order of InstanceNumber: a sweep that starts again from the other end,
4. the order of InstanceNumber among slices at the same position.

A split is accepted only if its parts cover the same region. A missing slice, two slice thicknesses in a row, or a
chest and an abdomen scanned one after the other are one volume.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["positions_along_normal", "seconds_of_day", "split_series"]

# Two slices nearer than this lie at the same position: positions are rounded to 0.1 mm or worse by some exporters.
_SAME_MM = 0.2
# Parts are phases of one region if the shorter one lies at least so far inside the longer one.
_OVERLAP = 0.5
_FEWEST = 3

Groups = npt.NDArray[np.int64]


def positions_along_normal(instances: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return each slice's position along the normal of the first, in mm; NaN without position or orientation."""
    orientation = instances[[f"orientation_{i}" for i in range(6)]].to_numpy(float)
    known = np.flatnonzero(~np.isnan(orientation).any(axis=1))
    if not len(known):
        return np.full(len(instances), np.nan)
    normal = np.cross(orientation[known[0], :3], orientation[known[0], 3:])
    return np.asarray(instances[["position_x", "position_y", "position_z"]].to_numpy(float) @ normal)


def seconds_of_day(value: object) -> float:
    """Return a DICOM time (HHMMSS.FFFFFF) in seconds; NaN where it is none.

    Examples
    --------
    >>> seconds_of_day("081530.5"), seconds_of_day("")
    (29730.5, nan)
    """
    text = str(value).strip()
    try:
        return int(text[:2]) * 3600 + int(text[2:4]) * 60 + float(text[4:] or 0)
    except ValueError:
        return float("nan")


def split_series(instances: pd.DataFrame) -> list[pd.DataFrame]:
    """Split the instances of one CT series into phase volumes.

    Parameters
    ----------
    instances : pandas.DataFrame
        Rows of the instance table, of one series.

    Returns
    -------
    list of pandas.DataFrame
        One for each volume, in order of acquisition, its rows by position along +normal. Every row is in exactly one of
        them; rows without a position stay with the first.
    """
    if not len(instances):
        return []
    position = positions_along_normal(instances)
    groups = _groups(instances, position)
    parts = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        parts.append(instances.iloc[rows[np.argsort(position[rows], kind="stable")]])
    return parts


def _groups(instances: pd.DataFrame, position: npt.NDArray[np.float64]) -> Groups:
    one = np.zeros(len(instances), dtype=np.int64)
    if np.isnan(position).any() or not _doubled(position):
        return one
    number = instances["instance_number"].to_numpy(float, na_value=np.nan)
    for guess in (
        _by_acquisition(instances, number),
        _by_time(instances["acquisition_time"], position),
        _by_time(instances["content_time"], position),
        _by_sweep(number, position),
        _by_rank(number, position),
    ):
        if guess is not None and _are_phases(guess, position):
            return guess
    return one


def _doubled(position: npt.NDArray[np.float64]) -> bool:
    """Whether slices lie so close that they cannot belong to one volume.

    Within one volume neighbours keep their distance. Where several sweeps lie on one another, steps are far
    smaller than the region's length over the number of slices in a sweep would allow.
    """
    if len(position) < 2 * _FEWEST:
        return False
    steps = np.diff(np.sort(position))
    typical = float(np.median(steps[steps > _SAME_MM])) if (steps > _SAME_MM).any() else 0.0
    close = steps < max(_SAME_MM, 0.45 * typical)
    # sweeps 0.5 mm apart make steps alternate between short and long: compare with the sum of two neighbours
    pairs = steps[:-1] + steps[1:]
    uneven = len(pairs) > 2 and float(np.median(np.minimum(steps[:-1], steps[1:]) / np.maximum(pairs, 1e-9))) < 0.3
    return int(close.sum()) >= _FEWEST or uneven


def _by_acquisition(instances: pd.DataFrame, number: npt.NDArray[np.float64]) -> Groups | None:
    acquisition = instances["acquisition_number"].to_numpy(float, na_value=np.nan)
    if np.isnan(acquisition).any() or len(np.unique(acquisition)) < 2:
        return None
    return _ranked(acquisition, _when(instances["acquisition_time"]), number)


def _when(times: Iterable[Any]) -> npt.NDArray[np.float64]:
    """Return DICOM times (HHMMSS.FFFFFF) in seconds; NaN where there is none."""
    return np.array([seconds_of_day(value) for value in times], dtype=float)


def _ranked(values: npt.NDArray[np.float64], *keys: npt.NDArray[np.float64]) -> Groups:
    """Number the groups of equal `values` by the smallest of the first key, then of the next, then by value."""
    distinct = np.unique(values)

    def order(value: float) -> tuple[float, ...]:
        rows = values == value
        firsts = [float(np.nanmin(key[rows])) if not np.isnan(key[rows]).all() else 0.0 for key in keys]
        return (*firsts, value)

    ranks = {value: rank for rank, value in enumerate(sorted(distinct.tolist(), key=order))}
    return np.array([ranks[value] for value in values.tolist()], dtype=np.int64)


def _by_time(times: Iterable[Any], position: npt.NDArray[np.float64]) -> Groups | None:
    """Cut the slices, in order of time, where the time jumps most; as often as needed for single sweeps."""
    when = _when(times)
    if np.isnan(when).any() or len(np.unique(when)) < 2:
        return None
    order = np.argsort(when, kind="stable")
    jumps = np.diff(when[order])
    most = max(1, round(len(position) / max(1, len(np.unique(np.round(position / _SAME_MM)))))) + 2
    for cuts in range(1, most + 1):
        where = np.sort(np.argsort(-jumps, kind="stable")[:cuts])
        where = where[jumps[where] > 0]
        groups = np.zeros(len(position), dtype=np.int64)
        groups[order] = np.searchsorted(where, np.arange(len(position)), side="left")
        if _are_phases(groups, position):
            return groups
    return None


def _by_sweep(number: npt.NDArray[np.float64], position: npt.NDArray[np.float64]) -> Groups | None:
    """Cut the slices, in order of InstanceNumber, where the table moves back against the sweep's direction."""
    if np.isnan(number).any() or len(np.unique(number)) < len(number):
        return None
    order = np.argsort(number, kind="stable")
    steps = np.diff(position[order])
    direction = np.sign(np.median(np.sign(steps)))
    jumps = steps * direction < -_SAME_MM
    if not jumps.any():
        return None
    groups = np.zeros(len(position), dtype=np.int64)
    groups[order] = np.concatenate([[0], np.cumsum(jumps)])
    return groups


def _by_rank(number: npt.NDArray[np.float64], position: npt.NDArray[np.float64]) -> Groups | None:
    """Give the n-th slice at a position, by InstanceNumber, to the n-th volume."""
    if np.isnan(number).any():
        return None
    groups = np.zeros(len(position), dtype=np.int64)
    for place in (cells := np.round((position - position.min()) / _SAME_MM).astype(np.int64)):
        rows = np.flatnonzero(cells == place)
        groups[rows[np.argsort(number[rows], kind="stable")]] = np.arange(len(rows))
    return groups


def _are_phases(groups: Groups, position: npt.NDArray[np.float64]) -> bool:
    """Whether the groups are sweeps over one region, each with one slice at a position."""
    names = np.unique(groups)
    if len(names) < 2:
        return False
    ranges = []
    for name in names:
        inside = np.sort(position[groups == name])
        if len(inside) < _FEWEST or _doubled(inside) or (np.diff(inside) < _SAME_MM).any():
            return False
        ranges.append((inside[0], inside[-1]))
    longest = max(ranges, key=lambda pair: pair[1] - pair[0])
    for first, last in ranges:
        shared = min(last, longest[1]) - max(first, longest[0])
        if shared < _OVERLAP * min(last - first, longest[1] - longest[0]):
            return False
    return True
