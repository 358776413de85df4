"""What marks the sweeps of a series: acquisition numbers, times, reconstruction, the order of instances.

A mark proposes groups of slices; :mod:`hcc_tace_data.collection.split` decides whether they are phases. Slices that a
mark
says nothing of are numbered -1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SAME_MM", "Floats", "Groups", "Slices", "clock", "cluster", "earliest", "groups_of", "seconds_of_day"]

#: Two slices nearer than this lie at the same position: positions are rounded to 0.1 mm or worse by some exporters.
SAME_MM = 0.2
# Places in the plane (mm) and sizes (mm, pixels) that differ by more than this belong to different reconstructions.
_SAME_PLACE, _SAME_SIZE = 0.5, 0.005
_DAY = 86400.0
# So many of the longest pauses are tried as the one between two sweeps.
_PAUSES = 6
# A mark that is missing on more than this share of the slices does not count.
_MISSING = 0.4

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]


def seconds_of_day(value: object) -> float:
    """Return a DICOM time (HHMMSS.FFFFFF) in seconds; NaN if it is not one.

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


def clock(times: Iterable[object], dates: Iterable[object] | None = None) -> Floats:
    """Return DICOM times on one clock, in seconds, also where they run over midnight.

    Parameters
    ----------
    times : iterable of str
        HHMMSS.FFFFFF.
    dates : iterable of str, optional
        YYYYMMDD of the same events. Without them, or where they do not help, an examination is taken to last less
        than half a day: times that leave a longer gap in the middle of the day lie on both sides of midnight.

    Returns
    -------
    ndarray of float64
        NaN where there is no time. Only differences mean anything.

    Examples
    --------
    >>> clock(["235950", "000010"]).tolist()
    [86390.0, 86410.0]
    """
    seconds = np.array([seconds_of_day(value) for value in times], dtype=np.float64)
    known = seconds[~np.isnan(seconds)]
    if not len(known) or np.ptp(known) < _DAY / 2:
        return seconds
    if dates is not None:
        days = [str(value).strip() for value in dates]
        distinct = sorted(set(days))
        if len(distinct) == 2 and "" not in distinct:
            dated = seconds + _DAY * np.array([day == distinct[1] for day in days])
            if np.nanmax(dated) - np.nanmin(dated) < _DAY / 2:
                return np.asarray(dated)
    ordered = np.sort(known)
    gaps = np.diff(ordered)
    widest = int(gaps.argmax())
    if gaps[widest] < _DAY / 2:
        return seconds
    return np.where(seconds <= ordered[widest], seconds + _DAY, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """The slices of a series as arrays, one entry a slice.

    Attributes
    ----------
    position : ndarray of float64
        Along the normal, mm; NaN for what has no place in a stack.
    number, acquisition : ndarray of float64
        InstanceNumber and AcquisitionNumber; NaN where absent.
    acquired, content : ndarray of float64
        AcquisitionTime and ContentTime on one clock, seconds; NaN where absent.
    grid : ndarray of int64
        Slices of equal size, pixel spacing, place in the plane and thickness have equal numbers.
    """

    position: Floats
    number: Floats
    acquisition: Floats
    acquired: Floats
    content: Floats
    grid: Groups

    @classmethod
    def of(cls, instances: pd.DataFrame, position: Floats) -> Slices:
        """Take what is needed from rows of the instance table."""
        dates = instances.get("acquisition_date")
        return cls(
            position=position,
            number=_column(instances, "instance_number"),
            acquisition=_column(instances, "acquisition_number"),
            acquired=clock(instances["acquisition_time"], dates),
            content=clock(instances["content_time"]),
            grid=_grids(instances),
        )


def _column(instances: pd.DataFrame, name: str) -> Floats:
    return np.asarray(instances[name].to_numpy(float, na_value=np.nan))


def _grids(instances: pd.DataFrame) -> Groups:
    """Number the in-plane grids and thicknesses of a series."""
    names = ("rows", "columns", "spacing_row", "spacing_column", "slice_thickness", "position_x", "position_y")
    here = [name for name in names if name in instances]
    marks = [
        cluster(_column(instances, name), _SAME_PLACE if name.startswith("position") else _SAME_SIZE) for name in here
    ]
    _, grid = np.unique(np.column_stack(marks), axis=0, return_inverse=True)
    return np.asarray(grid, dtype=np.int64).reshape(-1)


def cluster(values: Floats, tolerance: float) -> Groups:
    """Number values so that neighbours no further apart than `tolerance` share a number; NaN are one group.

    Rounding would separate 100.4999 from 100.5001.

    Examples
    --------
    >>> cluster(np.array([100.4999, 100.5001, 103.0]), 0.5).tolist()
    [0, 0, 1]
    """
    order = np.argsort(values, kind="stable")  # NaN last
    steps = np.diff(values[order]) > tolerance
    steps |= np.diff(np.isnan(values[order]))
    groups = np.zeros(len(values), dtype=np.int64)
    groups[order] = np.concatenate([[0], np.cumsum(steps)]) if len(values) else groups
    return groups


def groups_of(slices: Slices, rows: Groups, *, weak: bool = True) -> Iterator[tuple[bool, Groups]]:
    """Yield groupings of `rows` (indices into `slices`), the strongest mark first.

    Parameters
    ----------
    slices : Slices
    rows : ndarray of int64
    weak : bool
        Whether marks count that chance may make of a single sweep: numbers missing in part, the order of instances.

    Yields
    ------
    strong : bool
    groups : ndarray of int64, shape of `rows`
        Numbers of groups; -1 for slices whose mark is missing.
    """
    acquisition = slices.acquisition[rows]
    absent = np.isnan(acquisition)
    distinct = np.unique(acquisition[~absent])
    place = np.searchsorted(distinct, np.where(absent, 0, acquisition))
    if len(distinct) > 1 and absent.mean() <= _MISSING:
        yield True, np.where(absent, -1, place)
    for when in (slices.acquired[rows], slices.content[rows]):
        for groups in _by_pause(when):
            yield True, groups
    if not weak:
        return
    if len(distinct) and absent.any():  # the number may have been lost for one sweep only
        yield False, np.where(absent, len(distinct), place)
    grid = slices.grid[rows]
    if 1 < len(np.unique(grid)) <= 4:
        yield False, grid
    position, number = slices.position[rows], slices.number[rows]
    for guess in (_by_sweep(number, position), _by_rank(number, position)):
        if guess is not None:
            yield False, guess


def _by_pause(when: Floats) -> Iterator[Groups]:
    """Cut the slices, in order of time, at one of the longest pauses."""
    absent = np.isnan(when)
    if absent.mean() > _MISSING:
        return
    known = np.sort(when[~absent])
    pauses = np.diff(known)
    for place in np.argsort(-pauses, kind="stable")[:_PAUSES]:
        if pauses[place] > 0:
            late = np.where(absent, known[0], when) > known[place]
            yield np.where(absent, -1, late.astype(np.int64))


def _by_sweep(number: Floats, position: Floats) -> Groups | None:
    """Cut the slices, in order of InstanceNumber, where the table turns or jumps back."""
    if np.isnan(number).any() or len(np.unique(number)) < len(number):
        return None
    order = np.argsort(number, kind="stable")
    steps = np.diff(position[order])
    runs = np.zeros(len(order), dtype=np.int64)
    way = 0.0
    for place, step in enumerate(steps.tolist()):
        sign = 0.0 if abs(step) < SAME_MM else float(np.sign(step))
        turned = sign == 0.0 or (way != 0.0 and sign != way)
        runs[place + 1] = runs[place] + turned
        way = 0.0 if turned else sign
    if not 1 < runs[-1] + 1 <= max(4, len(order) // 6):  # shuffled numbers turn at every other slice
        return None
    for start in np.flatnonzero(np.diff(runs)) + 1:
        # where the table turns and the next sweep lies half a step further, its first slice looks like the last of
        # the one before, but for the short step to it
        inside = np.abs(steps[:-1][runs[1:-1] == runs[start - 1]]) if start > 1 else steps[:0]
        if len(inside) > 2 and abs(steps[start - 2]) < 0.75 * np.median(inside) and runs[start - 2] == runs[start - 1]:
            runs[start - 1] = runs[start]
    groups = np.zeros(len(order), dtype=np.int64)
    groups[order] = runs
    return groups


def _by_rank(number: Floats, position: Floats) -> Groups | None:
    """Give the n-th slice at a position, by InstanceNumber, to the n-th sweep, if each sweep then runs one way."""
    if np.isnan(number).any():
        return None
    order = np.lexsort((number, position))
    place = np.concatenate([[0], np.cumsum(np.diff(position[order]) > SAME_MM)])
    groups = np.zeros(len(position), dtype=np.int64)
    for spot in np.unique(place):
        here = order[place == spot]
        here = here[np.argsort(number[here], kind="stable")]
        if len(np.unique(number[here])) < len(here):
            return None  # numbers that do not tell two slices apart
        groups[here] = np.arange(len(here))
    for name in np.unique(groups):
        inside = np.flatnonzero(groups == name)
        steps = np.diff(number[inside[np.argsort(position[inside], kind="stable")]])
        if len(np.unique(number[inside])) < len(inside) or (
            len(steps) and max((steps > 0).mean(), (steps < 0).mean()) < 0.9
        ):
            return None
    return groups


def earliest(values: Floats) -> float | None:
    """Return the smallest known value, or None."""
    known = values[~np.isnan(values)]
    return float(known.min()) if len(known) else None
