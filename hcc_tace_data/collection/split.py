"""Splitting a CT series into phase volumes.

48 series of the collection hold the slices of several contrast phases (Moawad et al. 2023: an export error). They are
separated by what the scanner wrote, strongest first (:mod:`hcc_tace_data.collection.split_marks`):

1. AcquisitionNumber,
2. AcquisitionTime, then ContentTime: a pause between sweeps over the same region,
3. another size, place in the plane or thickness,
4. the order of InstanceNumber: a sweep that starts again, or runs back,
5. the order of InstanceNumber among slices at the same position.

A split is accepted only if its parts cover the same region; what is left is split again by the same rules. A missing
slice, two slice thicknesses in a row, or a chest and an abdomen scanned one after the other are one volume. Where
slices lie upon one another and nothing separates them, they stay together: a guess would mix two phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hcc_tace_data.collection.split_marks import (
    SAME_MM,
    Floats,
    Groups,
    Slices,
    cluster,
    earliest,
    groups_of,
    seconds_of_day,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["parts_at", "places_of", "positions_along_normal", "seconds_of_day", "split_series"]

# Parts are phases of one region if the shorter of two lies at least so far inside the longer one ...
_OVERLAP = 0.5
# ... and parts of one sweep over two regions if they share no more than this.
_ABUT = 0.15
_FEWEST = 3
# Slices that lie where another one of the same volume does, as a share: a few copies do not forbid a split.
_COPIES = 0.1
# Changes of spacing, as a share of all slices, up to which parts look like sweeps: one missing slice makes two.
_UNEVEN = {True: 0.3, False: 0.2}  # by a strong mark, by a weak one
# cosine between the normals of slices of one stack: anything else, a scout for example, has no place in it
_PARALLEL = 0.99
# and how far components of such normals may lie apart
_SAME_NORMAL = 0.005


def positions_along_normal(instances: pd.DataFrame) -> Floats:
    """Return each slice's position along the normal of most of them, in mm.

    NaN without position or orientation, and for a slice that is not parallel to the others.
    """
    orientation = instances[[f"orientation_{i}" for i in range(6)]].to_numpy(float)
    normals = np.cross(orientation[:, :3], orientation[:, 3:])
    known = np.flatnonzero(~np.isnan(normals).any(axis=1))
    if not len(known):
        return np.full(len(instances), np.nan)
    # of the directions, the one that most slices share, to within what rounding in a file may change
    among = np.column_stack([cluster(normals[known, axis], _SAME_NORMAL) for axis in range(3)])
    _, kind, counts = np.unique(among, axis=0, return_inverse=True, return_counts=True)
    normal = normals[known[int(np.flatnonzero(kind.reshape(-1) == counts.argmax())[0])]]
    along = instances[["position_x", "position_y", "position_z"]].to_numpy(float) @ normal
    return np.asarray(np.where(normals @ normal >= _PARALLEL, along, np.nan))


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
        them; rows that have no place in a stack (no position, a scout) come last in the volume of their
        AcquisitionNumber, else in the first.
    """
    if not len(instances):
        return []
    position = positions_along_normal(instances)
    slices = Slices.of(instances, position)
    placed = np.flatnonzero(~np.isnan(position))
    parts = _partition(slices, placed) if len(placed) else [placed]
    ordered = [part[np.argsort(position[part], kind="stable")] for part in _in_time(slices, parts)]
    for row in np.flatnonzero(np.isnan(position)):
        own = [k for k, part in enumerate(ordered) if slices.acquisition[row] in slices.acquisition[part]]
        home = own[0] if own else 0
        ordered[home] = np.append(ordered[home], row)
    return [instances.iloc[part] for part in ordered]


def places_of(rows: pd.DataFrame, parts: Sequence[pd.DataFrame]) -> list[list[int]] | None:
    """Return which rows each part holds; None where two rows have the same label."""
    if not rows.index.is_unique:
        return None
    return [rows.index.get_indexer(part.index).tolist() for part in parts]


def parts_at(rows: pd.DataFrame, places: Sequence[Sequence[int]]) -> tuple[pd.DataFrame, ...]:
    """Return the parts of :func:`places_of`.

    Raises
    ------
    ValueError
        Some row is in none of them, or in several.
    """
    if sorted(place for part in places for place in part) != list(range(len(rows))):
        raise ValueError("the parts are not those of the series")
    return tuple(rows.iloc[list(part)] for part in places)


def _partition(slices: Slices, rows: Groups, *, first: bool = True) -> list[Groups]:
    """Split `rows` by the first mark that leaves no two slices of a volume at one place, or else the fewest.

    What was split before (not `first`) and looks like one sweep is split again only by a strong mark.
    """
    best, fewest = [rows], _copies(slices, rows)
    if len(rows) < 2 * _FEWEST:
        return best
    doubled = _doubled(slices.position[rows])
    tried: set[bytes] = set()
    for strong, groups in groups_of(slices, rows, weak=first or doubled):
        key = groups.tobytes()
        if key in tried:
            continue
        tried.add(key)
        parts = _regions(slices, rows, groups)
        if len(parts) < 2 or not (doubled or _even([slices.position[part] for part in parts], _UNEVEN[strong])):
            continue
        final = [piece for part in parts for piece in _partition(slices, part, first=False)]
        if not _overlap(slices, final):
            continue
        copies = sum(_copies(slices, part) for part in final)
        if copies == 0:
            return final
        if copies < fewest and copies <= _COPIES * len(rows):
            best, fewest = final, copies
    return best


def _regions(slices: Slices, rows: Groups, groups: Groups) -> list[Groups]:
    """Join what was scanned in a row, and give slices without a mark, or with one of their own, to where they lack."""
    named = [rows[groups == name] for name in np.unique(groups[groups >= 0])]
    joined: list[Groups] = []
    for part in _in_time(slices, named):
        if joined and _shared(slices, joined[-1], part) <= _ABUT:
            joined[-1] = np.concatenate([joined[-1], part])
        else:
            joined.append(part)
    parts = [part for part in joined if len(part) >= _FEWEST]
    loose = np.setdiff1d(rows, np.concatenate(parts)) if parts else rows
    if len(parts) < 2 or len(loose) > len(rows) // 2:
        return []
    for row in loose[np.lexsort((loose, np.nan_to_num(slices.number[loose])))]:
        room = [np.abs(slices.position[part] - slices.position[row]).min() for part in parts]
        home = next(k for k, mm in enumerate(room) if mm >= max(room) - SAME_MM / 2)
        parts[home] = np.append(parts[home], row)
    return parts


def _in_time(slices: Slices, parts: list[Groups]) -> list[Groups]:
    """Sort by time, by AcquisitionNumber, by InstanceNumber: by the first that all parts have and that differs."""
    keys = []
    for values in (slices.acquired, slices.content, slices.acquisition, slices.number):
        firsts = [earliest(values[part]) for part in parts]
        if None not in firsts:
            keys.append(firsts)
    order = sorted(range(len(parts)), key=lambda place: (*(key[place] for key in keys), place))
    return [parts[place] for place in order]


def _shared(slices: Slices, one: Groups, two: Groups) -> float:
    """Share of the shorter of two parts that lies inside the other; 0 where they only abut."""
    a, b = slices.position[one], slices.position[two]
    low, high = max(a.min(), b.min()), min(a.max(), b.max())
    shorter = a if np.ptp(a) <= np.ptp(b) else b
    inside = ((shorter >= low - SAME_MM) & (shorter <= high + SAME_MM)).sum()
    return 0.0 if inside <= 1 and len(shorter) > 1 else float(inside / len(shorter))


def _overlap(slices: Slices, parts: list[Groups]) -> bool:
    """Whether all parts are sweeps over one region."""
    return all(len(part) >= _FEWEST for part in parts) and all(
        _shared(slices, parts[one], parts[two]) >= _OVERLAP for one in range(len(parts)) for two in range(one)
    )


def _copies(slices: Slices, rows: Groups) -> int:
    """Count slices that lie where the one before does."""
    return int((np.diff(np.sort(slices.position[rows])) < SAME_MM).sum())


def _doubled(position: Floats) -> bool:
    """Whether slices lie so close that they cannot belong to one volume.

    Within one volume neighbours keep their distance. Where several sweeps lie on one another, steps are far
    smaller than the region's length over the number of slices in a sweep would allow.
    """
    steps = np.diff(np.sort(position))
    typical = float(np.median(steps[steps > SAME_MM])) if (steps > SAME_MM).any() else 0.0
    close = steps < max(SAME_MM, 0.45 * typical)
    # sweeps 0.5 mm apart make steps alternate between short and long: compare with the sum of two neighbours
    pairs = steps[:-1] + steps[1:]
    uneven = len(pairs) > 2 and float(np.median(np.minimum(steps[:-1], steps[1:]) / np.maximum(pairs, 1e-9))) < 0.3
    return int(close.sum()) >= _FEWEST or uneven


def _even(parts: list[Floats], most: float) -> bool:
    """Whether the spacing hardly changes along each part, as in sweeps, and unlike in slices picked at random."""
    changes = 0
    for position in parts:
        steps = np.diff(np.sort(position))
        changes += int((np.abs(np.diff(steps)) > SAME_MM + 0.1 * float(np.median(steps))).sum())
    return changes <= most * sum(len(position) for position in parts)
