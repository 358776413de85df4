"""Phases from headers: contrast agent and route, and the order and time of a visit's sweeps.

The collection's files have no acquisition, content or series times. Their AcquisitionNumber counts the sweeps of an
examination, and their InstanceCreationTime is when an image was reconstructed, which usually follows the sweeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.split_marks import clock
from hcc_tace_data.phases.names import KNOWN

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["agent_evidence", "gap_evidence", "visit_orders", "visit_times"]

# How much a contrast agent in the header speaks against 'pre-contrast'. A protocol may name it in advance.
_AGENT = 2.5
# Seconds between two sweeps of one injection, earlier and later phase: the collection's arterial sweep follows the
# trigger by 17 s, the porto-venous by 60 s (Moawad et al. 2023); a delayed one comes minutes later. Between an
# unenhanced sweep and the next lie the injection and at least the way of the bolus to the aorta.
_GAPS = {
    ("pre_contrast", "arterial"): (45.0, 3600.0),
    ("pre_contrast", "portal_venous"): (80.0, 3600.0),
    ("pre_contrast", "delayed"): (180.0, 7200.0),
    ("arterial", "portal_venous"): (10.0, 110.0),
    ("arterial", "delayed"): (90.0, 1800.0),
    ("portal_venous", "delayed"): (60.0, 1800.0),
}
_UNFIT = -2.5
_INTRAVENOUS = r"\bI\.?V\b|\bINTRAVENOUS"
#: Times of one kind are compared only with each other: a content time is later than the acquisition it belongs to.
_CLOCKS = (
    ("acquisition_time", "acquisition_date"),
    ("content_time", "acquisition_date"),
    ("series_time", "series_date"),
)

# How often these follow the order of acquisition in a visit: numbers restart with each examination of a session, and
# a sweep may be reconstructed again later.
_NUMBERS_RIGHT, _CREATION_RIGHT = 0.9, 0.8

Array = npt.NDArray[np.float64]


def visit_times(parts: Sequence[pd.DataFrame]) -> list[float]:
    """Return when each volume of a visit began, in seconds on one clock, over midnight too.

    All times are of one kind, AcquisitionTime before ContentTime before SeriesTime: the first that most volumes have.
    NaN where a volume does not have it. Volumes stacked in one series may share one time, which then tells nothing of
    their order.
    """
    best: list[tuple[str, str]] = [("", "")] * len(parts)
    for time, date in _CLOCKS:
        firsts = [_first(part, time, date) for part in parts]
        if sum(bool(text) for text, _ in firsts) > sum(bool(text) for text, _ in best):
            best = firsts
    return [float(value) for value in clock([text for text, _ in best], [day for _, day in best])]


def visit_orders(parts: Sequence[pd.DataFrame]) -> list[tuple[list[float], float]]:
    """Return what else rises with acquisition, and how often it does.

    Returns
    -------
    list of (list of float, float)
        AcquisitionNumber and InstanceCreationTime of each volume, NaN where unknown, with the probability that they
        follow the order of the sweeps. Only differences mean anything.
    """
    numbers = [_lowest(part, "acquisition_number") for part in parts]
    first = [_first(part, "instance_creation_time", "instance_creation_date") for part in parts]
    made = [float(value) for value in clock([text for text, _ in first], [day for _, day in first])]
    orders = [(numbers, _NUMBERS_RIGHT), (made, _CREATION_RIGHT)]
    return [(values, right) for values, right in orders if len({value for value in values if value == value}) > 1]


def _lowest(part: pd.DataFrame, name: str) -> float:
    """Return the smallest value of a column; NaN where it has none."""
    if name not in part:
        return float("nan")
    values = part[name].to_numpy(float, na_value=np.nan)
    return float(np.nanmin(values)) if not np.isnan(values).all() else float("nan")


def _first(part: pd.DataFrame, time: str, date: str) -> tuple[str, str]:
    """Return the time and date of the slice of a volume that was made first; empty where no slice has one."""
    if time not in part:
        return "", ""
    days = part[date].astype(str).tolist() if date in part else [""] * len(part)
    texts = part[time].astype(str).tolist()
    when = clock(texts, days)
    if np.isnan(when).all():
        return "", ""
    place = int(np.nanargmin(when))
    return texts[place], days[place]


def agent_evidence(parts: Sequence[pd.DataFrame]) -> tuple[Array, list[str]]:
    """Return log-likelihoods (V, 4) from ContrastBolusAgent and ContrastBolusRoute, and the reasons.

    Only a difference within the visit counts: where no volume has an agent, it was perhaps removed. Of the route only
    intravenous contrast counts: oral contrast is given before any sweep.
    """
    agents = [_has(part, "contrast_agent", r"\S") or _has(part, "contrast_route", _INTRAVENOUS) for part in parts]
    evidence = np.zeros((len(parts), len(KNOWN)))
    if len(set(agents)) < 2:
        return evidence, [""] * len(parts)
    pre = KNOWN.index("pre_contrast")
    for place, agent in enumerate(agents):
        if agent:
            evidence[place, pre] = -_AGENT
        else:
            evidence[place, [k for k in range(len(KNOWN)) if k != pre]] = -_AGENT
    return evidence, ["contrast agent" if agent else "no contrast agent" for agent in agents]


def _has(part: pd.DataFrame, name: str, pattern: str) -> bool:
    return name in part and bool(part[name].astype(str).str.contains(pattern, case=False, regex=True).any())


def gap_evidence(times: Sequence[float]) -> Array:
    """Return log-likelihoods (V, V, 4, 4) of two volumes' phases from the time between them."""
    pairs = np.zeros((len(times), len(times), len(KNOWN), len(KNOWN)))
    for early, first in enumerate(times):
        for late, second in enumerate(times):
            gap = second - first
            if not gap > 0:
                continue
            for (one, two), (least, most) in _GAPS.items():
                if not least <= gap <= most:
                    pairs[early, late, KNOWN.index(one), KNOWN.index(two)] = _UNFIT
    return pairs
