"""What pixels tell of phases: enhancement of aorta, portal vein and liver against what each phase should show.

The expected enhancement follows a bolus-tracking study of 171 patients (American Journal of Roentgenology) and usual
values; its spread is wider than between the patients of one study, as protocols, hearts and livers differ. Each
measurement may also be plain wrong (another structure, metal, a tumour that fills the liver): that limits how much
any of them can say.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.phases.enhancement import Enhancement
from hcc_tace_data.phases.names import KNOWN
from hcc_tace_data.phases.organ_masks import OrganMasks, measure_masked
from hcc_tace_data.phases.planes import heights, read_planes
from hcc_tace_data.system.parallel import in_threads

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNREAD", "describe", "enhancement_evidence", "measure_volume", "measure_volumes"]

logger = logging.getLogger(__name__)

#: Begins the reason of a volume whose pixels could not be read.
UNREAD = "not looked at"

#: Mean and standard deviation, HU, in the order of KNOWN.
_EXPECTED: dict[str, tuple[tuple[float, float], ...]] = {
    "aorta": ((43, 9), (320, 60), (165, 30), (114, 20)),
    "portal_vein": ((43, 9), (125, 35), (165, 30), (113, 20)),
    "liver": ((57, 11), (78, 13), (113, 17), (92, 12)),
}
#: Probability that a measurement is of something else, with masks and without, and how widely such values lie, HU.
_WRONG = {True: 0.005, False: 0.015}
_LIVER_WRONG = {True: 0.02, False: 0.10}
_RANGE = 400.0
# Organs enhance together: two measurements of one volume are worth less than two of two.
_TOGETHER = 0.85

# Slices read of a volume: this far apart without masks, so many for each organ with them.
_STEP_MM, _LEAST, _MOST = 25.0, 6, 16
_PER_ORGAN = 3

Array = npt.NDArray[np.float64]


def enhancement_evidence(found: Enhancement) -> Array:
    """Return the log-likelihood (4,) of each phase; zeros where nothing was measured."""
    evidence = np.zeros(len(KNOWN))
    for organ, expected in _EXPECTED.items():
        value = getattr(found, organ)
        if value != value:
            continue
        mean, spread = np.array(expected, dtype=float).T
        density = np.exp(-0.5 * ((value - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        wrong = (_LIVER_WRONG if organ == "liver" else _WRONG)[found.masks]
        evidence += _TOGETHER * np.log((1 - wrong) * density + wrong / _RANGE)
    return np.asarray(evidence - evidence.max())


def describe(found: Enhancement) -> str:
    """Return the measurement in words."""
    parts = [
        f"{organ.replace('_', ' ')} {getattr(found, organ):.0f}"
        for organ in _EXPECTED
        if getattr(found, organ) == getattr(found, organ)
    ]
    if not parts:
        return found.reason
    how = "in the segmentation's masks" if found.masks else "found without masks"
    return f"{', '.join(parts)} HU {how}" + (f" ({found.reason})" if found.reason else "")


def measure_volume(rows: pd.DataFrame, root: Path, masks: OrganMasks | None = None) -> Enhancement:
    """Measure the enhancement of one volume from a few of its slices.

    Parameters
    ----------
    rows : pandas.DataFrame
        The volume's rows of the instance table, by position.
    root : pathlib.Path
        Folder their paths are relative to.
    masks : OrganMasks, optional
        Organs of the same study; used where they share the volume's frame of reference and region.

    Returns
    -------
    Enhancement
        Its `reason` says why something is missing; pixels that cannot be read are a reason, not an error.
    """
    place = heights(rows)
    rows, place = rows[~np.isnan(place)], place[~np.isnan(place)]
    if len(rows) < 3:
        return Enhancement(reason="too few slices")
    try:
        masked = _with_masks(rows, root, masks, place) if masks is not None else Enhancement()
        if all(getattr(masked, organ) == getattr(masked, organ) for organ in ("aorta", "liver")):
            return masked
        from hcc_tace_data.phases.organs import measure_organs  # noqa: PLC0415 - its libraries are slow to import

        free = measure_organs(read_planes(rows, root, _spread_out(place)))
    except (HccTaceError, OSError) as error:
        # the error names a file, and the file perhaps a person: what it says is in the evidence
        logger.warning("pixels of series %s were not looked at: %s", rows["series_uid"].iloc[0], type(error).__name__)
        return Enhancement(reason=f"{UNREAD}: {error}".replace(f"{root}/", ""))
    if not masked.masks:
        return free
    missing = {organ: getattr(free, organ) for organ in ("aorta", "liver") if not getattr(masked, organ) < np.inf}
    return replace(masked, masks=False, reason="in part without masks", **missing)


def measure_volumes(
    volumes: Sequence[tuple[pd.DataFrame, Path, OrganMasks | None]], *, workers: int = 2
) -> list[Enhancement]:
    """Measure several volumes, in threads: reading and filtering leave the interpreter free."""
    return list(in_threads(measure_volume, volumes, workers))


def _with_masks(rows: pd.DataFrame, root: Path, masks: OrganMasks, place: Array) -> Enhancement:
    own = str(rows["frame_of_reference_uid"].iloc[0])
    if own and masks.frame_of_reference_uid and own != masks.frame_of_reference_uid:
        return Enhancement(reason="the segmentation is in another frame of reference")
    step = float(np.median(np.abs(np.diff(place))))
    wanted = {int(np.abs(place - height).argmin()) for height in masks.best_heights(_PER_ORGAN)}
    low, high = masks.span()
    wanted = {k for k in wanted if low - step <= place[k] <= high + step}
    if not wanted:
        return Enhancement(reason="the segmentation lies elsewhere")
    return measure_masked(read_planes(rows, root, sorted(wanted)), masks)


def _spread_out(place: Array) -> list[int]:
    """Return indices of slices spread evenly over the volume."""
    count = max(_LEAST, min(_MOST, round(float(np.ptp(place)) / _STEP_MM) + 1))
    goals = np.linspace(place.min(), place.max(), min(count, len(place)))
    return sorted({int(np.abs(place - goal).argmin()) for goal in goals})
