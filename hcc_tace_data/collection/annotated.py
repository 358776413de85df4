"""Which CT volume a segmentation was drawn on.

The SEG cites SOP Instance UIDs; what it cites is checked against geometry, because citations can be missing, name
another series than the one that fits, or name several acquisitions:

1. of the volumes whose grid its frames lie on, the one that its frames cite, else that its list of images cites;
2. where it cites none of them, or several alike, the only one whose grid the frames lie on, else the only one whose
   slices and frames match one to one;
3. else it cannot be determined. So it is too where what is cited fits by its coordinates but is in another frame of
   reference than the SEG: one of the two is wrong, and nothing says which.

Of a volume of several regions (:mod:`~hcc_tace_data.collection.regions`), the annotated one is what counts, if the SEG
covers one region alone: nothing is known of the liver in the others.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.collection.model import PhaseVolume
from hcc_tace_data.collection.regions import regions_of
from hcc_tace_data.collection.split import positions_along_normal
from hcc_tace_data.dicom.seg_file import SegFile, open_seg
from hcc_tace_data.dicom.tolerance import SHARE, base_step
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.model import Series, Study

__all__ = [
    "ANNOTATED", "AnnotatedVolume", "annotated_files", "annotated_from_plain", "find_annotated", "plain_annotated",
]  # fmt: skip

logger = logging.getLogger(__name__)

#: Kind of entry: the CT volume that a SEG was drawn on.
ANNOTATED = Kind("annotated")
# A frame lies on a slice if it is no farther from it than a tenth of the step along the normal, and no farther across
# than this, in mm: rounding of positions and flipped corners aside, grids agree.
_IN_PLANE_MM = 1.0
# Share of frames on the grid that makes a volume fit: a few empty frames off the grid are known.
_FITS = 0.8
# Of two volumes that are cited, the one with less than this share of the other's citations does not count.
_CLEARLY = 0.5
# Share of slices that have a frame, and of frames on a slice, in a match of one to one; another volume has fewer.
_MATCHES, _MISSES = 0.98, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedVolume:
    """The volume that a SEG was drawn on.

    Attributes
    ----------
    volume : PhaseVolume or None
        None where it cannot be determined.
    paths : tuple of pathlib.Path
        Files of its slices, along +normal; of a volume of several regions, those of the annotated one.
    reason : str
        What it was concluded from, or why it cannot be determined.
    cited : bool
        Whether the SEG cites the volume; False where only geometry was used, and where nothing did.
    """

    volume: PhaseVolume | None
    paths: tuple[Path, ...]
    reason: str
    cited: bool = False

    def __repr__(self) -> str:
        if self.volume is None:
            return f"<AnnotatedVolume: unknown, {self.reason}>"
        return (
            f"<AnnotatedVolume: volume {self.volume.volume} of series {self.volume.series_uid}, "
            f"{count(len(self.paths), 'slice')}; {self.reason}>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A volume: its slices that frames cite and that the list cites, how well frames and slices match, whose frame."""

    series: Series
    number: int
    rows: pd.DataFrame
    framed: int
    listed: int
    fit: float
    covered: float
    foreign: bool

    @property
    def cited(self) -> int:
        return max(self.framed, self.listed)

    @property
    def name(self) -> str:
        return f"series {self.series.number} volume {self.number}"


def find_annotated(study: Study, segmentation: Series | None = None) -> AnnotatedVolume:
    """Find the CT volume that a study's SEG annotates.

    Parameters
    ----------
    study : Study
        Where to look.
    segmentation : Series, optional
        Default: the study's own.
    """
    seg = segmentation or study.segmentation
    if seg is None:
        return AnnotatedVolume(volume=None, paths=(), reason="the study has no segmentation")
    files = annotated_files(study, seg)
    return study.kept.fact(
        ANNOTATED,
        files,
        lambda: _find(study, seg),
        encode=lambda found: plain_annotated(found, study.root),
        decode=lambda value: annotated_from_plain(value, study.root),
        read=files[:1],
    )


def annotated_files(study: Study, seg: Series) -> list[str]:
    """Return the files, below the root, that :func:`find_annotated` depends on: the SEG first, then all CT."""
    scans = [path for one in study.series if one.modality == "CT" for path in one.instances["path"]]
    return [*seg.instances["path"].tolist()[:1], *scans]


def _find(study: Study, seg: Series) -> AnnotatedVolume:
    opened = open_seg(seg.paths[0], pixels=False, cited=True)
    listed = Counter(opened.referenced)
    frames = np.unique(opened.frames.positions, axis=0)
    candidates = []
    for series in study.series:
        if series.modality != "CT":
            continue
        for number, rows in enumerate(series.volumes):
            own = str(rows["frame_of_reference_uid"].iloc[0])
            fit, covered = _fit(rows, frames)
            candidates.append(
                _Candidate(
                    series=series,
                    number=number,
                    rows=rows,
                    framed=sum(opened.frames.cited[uid] > 0 for uid in rows["sop_uid"]),
                    listed=sum(listed[uid] > 0 for uid in rows["sop_uid"]),
                    fit=fit,
                    covered=covered,
                    foreign=bool(opened.frame_of_reference_uid and own and own != opened.frame_of_reference_uid),
                )
            )
    found = _choose(candidates, bool(opened.frames.cited or listed), len(frames) > 0)
    return found if found.volume is None else _on_region(found, found.volume, candidates, opened)


def plain_annotated(found: AnnotatedVolume, root: Path) -> dict[str, Any]:
    """Return JSON-ready values."""
    return {
        "volume": None if found.volume is None else asdict(found.volume),
        "paths": [path.relative_to(root).as_posix() for path in found.paths],
        "reason": found.reason,
        "cited": found.cited,
    }


def annotated_from_plain(value: Any, root: Path) -> AnnotatedVolume:
    """Return what :func:`plain_annotated` was given.

    Raises
    ------
    TypeError, KeyError
        It is something else.
    """
    volume = value["volume"]
    if volume is not None:
        volume = PhaseVolume(**{**volume, "evidence": tuple(volume["evidence"]), "sop_uids": tuple(volume["sop_uids"])})
    paths = tuple(root / path for path in value["paths"])
    return AnnotatedVolume(volume=volume, paths=paths, reason=value["reason"], cited=value["cited"])


def _choose(candidates: list[_Candidate], cites: bool, placed: bool) -> AnnotatedVolume:
    near = [c for c in candidates if not c.foreign]
    if not near:
        return AnnotatedVolume(volume=None, paths=(), reason="no CT in the segmentation's frame of reference")
    if not placed:
        return AnnotatedVolume(volume=None, paths=(), reason="the segmentation's frames have no positions")
    elsewhere = [c for c in candidates if c.foreign and c.cited]
    conflict = [c for c in elsewhere if c.fit >= _FITS]
    if conflict:
        return _cannot_tell(
            conflict, "it lies in another frame of reference than what it cites and fits by coordinates,"
        )
    fitting = [c for c in near if c.fit >= _FITS]
    for kind in ("framed", "listed"):
        named = sorted((c for c in fitting if getattr(c, kind)), key=lambda c: -getattr(c, kind))
        if named and (len(named) == 1 or getattr(named[1], kind) <= _CLEARLY * getattr(named[0], kind)):
            cited = getattr(named[0], kind)
            return _found(
                named[0], f"cites {cited} of its {count(len(named[0].rows), 'slice')}; frames lie on its grid"
            )
    named = [c for c in fitting if c.cited]
    if named:
        why, fitting = "it cites slices of several volumes alike", named
    elif elsewhere:
        why = "what it cites is in another frame of reference"
    else:
        why = "what it cites does not fit its frames" if cites else "it cites no image"
    if len(fitting) == 1:
        return _found(fitting[0], f"{why}; this is the only volume of the study whose grid its frames lie on")
    exact = [c for c in fitting if min(c.fit, c.covered) >= _MATCHES]
    if len(exact) == 1 and all(min(c.fit, c.covered) < _MISSES for c in fitting if c is not exact[0]):
        return _found(exact[0], f"{why}; of those whose grid its frames lie on only this has a frame for each slice")
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
    return AnnotatedVolume(volume=volume, paths=paths, reason=reason, cited=candidate.cited > 0)


def _on_region(
    found: AnnotatedVolume, volume: PhaseVolume, candidates: list[_Candidate], seg: SegFile
) -> AnnotatedVolume:
    """Leave out the regions that the segmentation says nothing of."""
    chosen = next(c for c in candidates if (c.series.series_uid, c.number) == (volume.series_uid, volume.volume))
    regions = regions_of(chosen.rows)
    if len(regions) < 2:
        return found
    own = _only(regions, seg.frames.positions)
    if own is None:
        # frames of all regions: on several grids they make one array only if one region alone was drawn on
        pixels = open_seg(seg.path).pixels
        drawn = [k for k in range(len(seg.frames.positions)) if pixels is not None and pixels.patch(k) is not None]
        along = positions_along_normal(chosen.rows)
        if _one_grid(np.sort(along[~np.isnan(along)])):
            return found
        own = _only(regions, seg.frames.positions[drawn], whole=False)
    if own is None:
        return found
    return replace(
        found,
        volume=replace(volume, sop_uids=tuple(own["sop_uid"])),
        paths=tuple(chosen.series.root / path for path in own["path"]),
        reason=f"{found.reason}, in one of its {count(len(regions), 'region')}",
    )


def _only(
    regions: list[pd.DataFrame], positions: npt.NDArray[np.float64], *, whole: bool = True
) -> pd.DataFrame | None:
    """Return the one region that frames lie in, each of its slices with one if `whole`; else None."""
    covered = [_fit(region, np.unique(positions, axis=0))[1] for region in regions]
    best = int(np.argmax(covered))
    others = [share for place, share in enumerate(covered) if place != best]
    return regions[best] if covered[best] >= (_MATCHES if whole else 1e-9) and not any(others) else None


def _one_grid(along: npt.NDArray[np.float64]) -> bool:
    steps = np.diff(along) / base_step(along)
    return bool((np.abs(steps - np.rint(steps)) <= 2 * SHARE).all())


def _cannot_tell(candidates: list[_Candidate], reason: str) -> AnnotatedVolume:
    names = ", ".join(c.name for c in candidates)
    return AnnotatedVolume(volume=None, paths=(), reason=f"{reason} {names}".strip())


def _fit(rows: pd.DataFrame, frames: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the share of distinct frame positions that lie on a slice, and of slices that have a frame.

    The corner of a flipped frame is the grid's opposite one.
    """
    along = positions_along_normal(rows)
    rows, along = rows[~np.isnan(along)], along[~np.isnan(along)]
    if not len(frames) or not len(rows):
        return 0.0, 0.0
    first = rows.iloc[0]
    orientation = np.array([first[f"orientation_{i}"] for i in range(6)], dtype=float)
    row, column = orientation[:3], orientation[3:]
    origin = np.array([first[f"position_{axis}"] for axis in "xyz"], dtype=float)
    offset = frames - origin
    distance = np.abs((frames @ np.cross(row, column))[:, None] - along[None, :])
    in_plane = np.ones(len(frames), dtype=bool)
    for direction, spacing, extent in (
        (row, first["spacing_column"], first["columns"]),
        (column, first["spacing_row"], first["rows"]),
    ):
        across = offset @ direction
        length = float(spacing) * (int(extent) - 1)
        in_plane &= np.minimum(np.abs(across), np.abs(across - length)) <= _IN_PLANE_MM
    if not in_plane.any():
        return 0.0, 0.0
    near = SHARE * (float(np.median(np.diff(np.sort(along)))) if len(along) > 1 else 1.0)
    on_grid = in_plane & (distance.min(axis=1) <= near)
    return float(on_grid.mean()), float((distance[in_plane].min(axis=0) <= near).mean())
