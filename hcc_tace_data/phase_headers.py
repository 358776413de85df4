"""What the headers tell of phases: contrast agent, and the time between the sweeps of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.phase_model import KNOWN
from hcc_tace_data.phase_split import seconds_of_day

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["acquired_at", "agent_evidence", "gap_evidence"]

# How much a contrast agent in the header speaks against 'pre-contrast'. A protocol may name it in advance.
_AGENT = 2.5
# Seconds between two sweeps of one injection, earlier and later phase: the collection's arterial sweep follows the
# trigger by 17 s, the porto-venous by 60 s (Moawad et al. 2023); a delayed one comes minutes later.
_GAPS = {
    ("pre_contrast", "arterial"): (10.0, 3600.0),
    ("pre_contrast", "portal_venous"): (40.0, 3600.0),
    ("pre_contrast", "delayed"): (120.0, 7200.0),
    ("arterial", "portal_venous"): (10.0, 110.0),
    ("arterial", "delayed"): (90.0, 1800.0),
    ("portal_venous", "delayed"): (60.0, 1800.0),
}
_UNFIT = -2.5

Array = npt.NDArray[np.float64]


def acquired_at(rows: pd.DataFrame) -> float:
    """Return when a volume's first slice was acquired, in seconds of its day; NaN where the headers do not tell.

    Volumes of a stacked series may share one time; then it tells nothing of their order.
    """
    for column in ("acquisition_time", "content_time"):
        seconds = [seconds_of_day(value) for value in rows[column]]
        known = [value for value in seconds if value == value]
        if known:
            return min(known)
    return float("nan")


def agent_evidence(parts: Sequence[pd.DataFrame]) -> tuple[Array, list[str]]:
    """Return log-likelihoods (V, 4) from ContrastBolusAgent, and the reasons.

    Only a difference within the visit speaks: where no volume has an agent, it was perhaps removed.
    """
    agents = [bool(part["contrast_agent"].astype(str).str.strip().ne("").any()) for part in parts]
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
