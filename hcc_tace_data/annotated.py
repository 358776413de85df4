"""Which CT volume a segmentation was drawn on.

The SEG cites SOP Instance UIDs; what it cites is checked against geometry, because citations can be missing, name
another series than the one that fits, or name several acquisitions.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.phase_split import positions_along_normal, split_series
from hcc_tace_data.records import PhaseVolume

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection import Series, Study

__all__ = ["AnnotatedVolume", "find_annotated"]

logger = logging.getLogger(__name__)

# A frame lies on a slice if it is no farther from it than this, in mm along the normal ...
_ON_SLICE_MM = 0.1
# ... and no farther across, in mm: rounding of positions and flipped corners aside, grids agree.
_IN_PLANE_MM = 1.0
# Share of frames on the grid that makes a volume fit: a few empty frames off the grid are known.
_FITS = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedVolume:
    """The volume that a SEG was drawn on.

    Attributes
    ----------
    volume : PhaseVolume or None
        None where it cannot be told.
    paths : tuple of pathlib.Path
        Files of its slices, along +normal.
    reason : str
        What it was concluded from, or why it cannot be told.
    """

    volume: PhaseVolume | None
    paths: tuple[Path, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    series: Series
    number: int
    rows: pd.DataFrame
    cited: int
    fit: float


def find_annotated(study: Study, segmentation: Series | None = None) -> AnnotatedVolume:
    """Find the CT volume that a study's SEG annotates.

    Parameters
    ----------
    study : Study
        Where to look.
    segmentation : Series, optional
        Default: the study's own.
    """
    from hcc_tace_data.loaders.seg_file import open_seg

    seg = segmentation or study.segmentation
    if seg is None:
        return AnnotatedVolume(volume=None, paths=(), reason="the study has no segmentation")
    opened = open_seg(seg.paths[0], pixels=False, cited=True)
    cited = opened.frames.cited + Counter(opened.referenced)
    frames = np.unique(opened.frames.positions, axis=0)
    candidates = [
        _candidate(series, number, rows, cited, frames, opened.frame_of_reference_uid)
        for series in study.series
        if series.modality == "CT"
        for number, rows in enumerate(split_series(series.instances))
    ]
    return _choose([c for c in candidates if c is not None], bool(cited), len(frames) > 0)


def _choose(candidates: list[_Candidate], cites: bool, placed: bool) -> AnnotatedVolume:
    if not candidates:
        return AnnotatedVolume(volume=None, paths=(), reason="no CT in the segmentation's frame of reference")
    if not placed:
        return AnnotatedVolume(volume=None, paths=(), reason="the segmentation's frames have no positions")
    fitting = [c for c in candidates if c.fit >= _FITS]
    named = sorted((c for c in fitting if c.cited), key=lambda c: -c.cited)
    if named and (len(named) == 1 or named[0].cited > named[1].cited):
        return _found(named[0], f"cites {named[0].cited} of its {len(named[0].rows)} slices; frames lie on its grid")
    if named:
        return _cannot_tell(named, "it cites as many slices of each of")
    why = "what it cites does not fit its frames" if cites else "it cites no image"
    if len(fitting) == 1:
        return _found(fitting[0], f"{why}; this is the only volume of the study whose grid its frames lie on")
    return _cannot_tell(
        fitting, f"{why}, and its frames lie on each of" if fitting else f"{why}, nor does any other volume"
    )


def _found(candidate: _Candidate, reason: str) -> AnnotatedVolume:
    volume = PhaseVolume(
        patient_id=candidate.series.patient_id,
        study_uid=candidate.series.study_uid,
        series_uid=candidate.series.series_uid,
        volume=candidate.number,
        annotated=True,
        sop_uids=tuple(candidate.rows["sop_uid"]),
    )
    paths = tuple(candidate.series.root / path for path in candidate.rows["path"])
    return AnnotatedVolume(volume=volume, paths=paths, reason=reason)


def _cannot_tell(candidates: list[_Candidate], reason: str) -> AnnotatedVolume:
    names = ", ".join(f"series {c.series.number} volume {c.number}" for c in candidates)
    return AnnotatedVolume(volume=None, paths=(), reason=f"{reason} {names}".strip())


def _candidate(
    series: Series,
    number: int,
    rows: pd.DataFrame,
    cited: Counter[str],
    frames: npt.NDArray[np.float64],
    frame_of_reference: str,
) -> _Candidate | None:
    own = str(rows["frame_of_reference_uid"].iloc[0])
    if frame_of_reference and own and own != frame_of_reference:
        return None
    count = sum(cited[uid] > 0 for uid in rows["sop_uid"])
    return _Candidate(series=series, number=number, rows=rows, cited=count, fit=_fit(rows, frames))


def _fit(rows: pd.DataFrame, frames: npt.NDArray[np.float64]) -> float:
    """Share of distinct frame positions that lie on a slice of the volume, corners of flipped frames included."""
    position = positions_along_normal(rows)
    if not len(frames) or np.isnan(position).any():
        return 0.0
    first = rows.iloc[0]
    orientation = np.array([first[f"orientation_{i}"] for i in range(6)], dtype=float)
    row, column = orientation[:3], orientation[3:]
    origin = np.array([first[f"position_{axis}"] for axis in "xyz"], dtype=float)
    offset = frames - origin
    along = frames @ np.cross(row, column)
    distance = np.abs(along[:, None] - position[None, :]).min(axis=1)
    on_grid = distance <= _ON_SLICE_MM
    for direction, spacing, extent in (
        (row, first["spacing_column"], first["columns"]),
        (column, first["spacing_row"], first["rows"]),
    ):
        across = offset @ direction
        length = float(spacing) * (int(extent) - 1)
        # the corner of a frame is the grid's, or the opposite one where the frame is flipped
        on_grid &= np.minimum(np.abs(across), np.abs(across - length)) <= _IN_PLANE_MM
    return float(on_grid.mean())
