"""Measures of the masks of one SEG on the CT they were drawn on: volumes and places. Reads pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.annotated import annotated_volumes
from hcc_tace_data.validators.facts.segs import seg_facts

__all__ = ["MaskFacts", "MaskJob", "mask_facts", "measure", "segment_key"]

Mask = npt.NDArray[np.bool_]
_KIND = Kind("mask facts", ("validators",))

#: Above this many HU there is something; lungs, which lie lower, are filled from around.
_SOMETHING = -300
#: Pixels of a slice that are enough to tell a body from air.
_ENOUGH = 128
#: Where more frames lie off the grid than this share of those on it, what is left of the masks says nothing.
_LOST = 0.1
#: Parts of a mask smaller than this (ml) are specks of fusing, no findings.
_SPECK_ML = 1.0


@dataclass(frozen=True, slots=True)
class MaskJob:
    """A SEG, the files of the CT volume it was drawn on, and why they are missing."""

    seg: str
    ct: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """Measures by segment key ("liver", "tumour" ...).

    Attributes
    ----------
    error : str
        Why nothing was measured.
    volume_ml : mapping
        Of every described segment; 0 where its mask is empty.
    voxels : mapping
        The same as voxels of the CT.
    slices : int
        Slices of the CT.
    off_grid : int
        Frames with voxels that lie off the CT's grid and are in none of the masks.
    outside_body : mapping
        Share of the mask's voxels outside the patient.
    liver_in_air : float
        Share of the whole liver's voxels that are air or lung; 0 without a liver.
    from_liver_mm : mapping
        Gap between the liver and the farthest part (of 1 ml or more) of the tumour, or the nearest of the portal vein;
        0 for neighbouring voxels; missing where there is no liver.
    off_midline_mm, depth_share : mapping
        Where the mask's centre lies: mm to the patient's left of the body's middle, and from the front of the body (0)
        to its back (1). Also of "whole_liver", the liver with the tumour and the portal vein within it.
    """

    error: str = ""
    volume_ml: Mapping[str, float] = field(default_factory=dict)
    voxels: Mapping[str, int] = field(default_factory=dict)
    slices: int = 0
    off_grid: int = 0
    outside_body: Mapping[str, float] = field(default_factory=dict)
    liver_in_air: float = 0.0
    from_liver_mm: Mapping[str, float] = field(default_factory=dict)
    off_midline_mm: Mapping[str, float] = field(default_factory=dict)
    depth_share: Mapping[str, float] = field(default_factory=dict)


def segment_key(label: str, type_code: str) -> str:
    """Return the catalogue's key of a segment by its label, else by its coded type; empty for any other.

    Examples
    --------
    >>> segment_key("mass", ""), segment_key("Segment 1", "SCT:10200004"), segment_key("Spleen", "SCT:78961009")
    ('tumour', 'liver', '')
    """
    return load_catalog().vocabulary.key_of(label, type_code) or ""


def mask_facts(context: Context) -> list[tuple[int, MaskFacts]]:
    """Return row of the instance table and measures of the masks, of every SEG; reads pixels."""
    segs, jobs, files = context.fact(seg_facts), [], []
    for (row, facts), found in zip(segs, context.fact(annotated_volumes), strict=True):
        paths = () if found is None or found.volume is None else tuple(map(str, found.paths))
        reason = facts.error if found is None else found.reason
        own = str(context.instances["path"].iloc[row])
        jobs.append(MaskJob(str(context.root / own), paths, reason))
        scans = () if found is None else found.paths
        files.append([own, *(path.relative_to(context.root).as_posix() for path in scans)])
    measured = context.kept_map(
        _KIND,
        measure,
        jobs,
        files,
        encode=lambda facts: None if facts.error else asdict(facts),
        decode=lambda value: MaskFacts(**{one.name: value[one.name] for one in fields(MaskFacts)}),
    )
    return list(zip([row for row, _ in segs], measured, strict=True))


def measure(job: MaskJob) -> MaskFacts:
    """Measure the masks of one SEG."""
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    if not job.ct:
        return MaskFacts(error=f"its CT volume cannot be determined: {job.reason}")
    try:
        volume = read_ct(list(job.ct), on_gap="fill", on_tilt="keep")
        seg = read_seg(job.seg, volume, on_off_grid="drop")
    except (HccTaceError, OSError) as error:
        return MaskFacts(error=str(error).replace(job.seg, "the SEG"))
    if len(seg.lost) > _LOST * max(1, len(seg.paintings)):
        return MaskFacts(
            error=f"{count(len(seg.lost), 'frame')} with voxels {verb(len(seg.lost), 'lies')} off its CT's grid (HT404)"
        )
    masks: dict[str, Mask] = {}
    for info, mask in zip(seg.segments, seg.array, strict=True):
        key = segment_key(info.label, ":".join((info.type[1], info.type[0]))) or f"segment {info.number}"
        masks[key] = masks[key] | (mask >= 0.5) if key in masks else mask >= 0.5
    affine = np.asarray(volume.affine, dtype=np.float64)
    hu = np.asarray(volume.array)
    body = _body(hu)
    parts = [masks[key] for key in load_catalog().vocabulary.whole_liver if key in masks]
    whole = np.logical_or.reduce(parts or [np.zeros(hu.shape, np.bool_)])
    placed = {**masks, "whole_liver": whole}
    centres = {key: _centre(mask, body, affine) for key, mask in placed.items() if mask.any()}
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    voxels = {key: int(np.count_nonzero(mask)) for key, mask in masks.items()}
    return MaskFacts(
        volume_ml={key: count * voxel_ml for key, count in voxels.items()},
        voxels=voxels,
        slices=len(job.ct),
        off_grid=len(seg.lost),
        outside_body={key: _outside(mask, body) for key, mask in masks.items() if mask.any()},
        liver_in_air=float(np.mean(hu[whole] < _SOMETHING)) if whole.any() else 0.0,
        from_liver_mm=_from_liver(masks, affine, voxel_ml),
        off_midline_mm={key: place[0] for key, place in centres.items()},
        depth_share={key: place[1] for key, place in centres.items()},
    )


@dataclass(frozen=True, slots=True)
class _Body:
    """The patient, on every `step`-th pixel of the slices."""

    mask: Mask
    step: int


def _body(hu: npt.NDArray[Any]) -> _Body:
    from scipy import ndimage

    step = max(1, hu.shape[1] // _ENOUGH)
    coarse = hu[:, ::step, ::step]
    result = np.zeros(coarse.shape, dtype=np.bool_)
    for filled, plane in zip(result, coarse, strict=True):
        parts, count = ndimage.label(plane > _SOMETHING)
        if count:
            largest = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
            filled[...] = ndimage.binary_dilation(ndimage.binary_fill_holes(largest))
    return _Body(result, step)


def _outside(mask: Mask, body: _Body) -> float:
    coarse = mask[:, :: body.step, :: body.step]
    total = int(np.count_nonzero(coarse))
    return float(np.count_nonzero(coarse & ~body.mask)) / total if total else 0.0


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds a mask: the rest of the volume only costs time."""
    spans = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    d, h, w = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return d, h, w


def _centre(mask: Mask, body: _Body, affine: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return how far left of the body's middle the mask lies (mm), and how deep (0 front, 1 back)."""
    box = _box(mask)
    index = np.argwhere(mask[box]).mean(axis=0) + [one.start for one in box]
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    places = np.argwhere(body.mask[slices])
    if not len(places):
        return float("nan"), float("nan")
    places = places * (1, body.step, body.step)
    places[:, 0] = slices[places[:, 0]]
    corners = places @ affine[:3, :3].T + affine[:3, 3]
    x, y = (affine[:3, :3] @ index + affine[:3, 3])[:2]
    # the scanner's table may count as body: middles and quantiles, not extremes
    low, high = np.quantile(corners[:, 0], (0.01, 0.99))
    front, back = np.quantile(corners[:, 1], (0.01, 0.99))
    return float(x - (low + high) / 2), float((y - front) / max(back - front, 1.0))


def _from_liver(masks: Mapping[str, Mask], affine: npt.NDArray[np.float64], voxel_ml: float) -> dict[str, float]:
    """Return the distance of the tumour's farthest part and of the portal vein from the liver, mm."""
    from scipy import ndimage
    from scipy.spatial import cKDTree

    liver = masks.get("liver")
    if liver is None or not liver.any():
        return {}
    lesions = [masks[key] for key in ("tumour", "necrosis") if key in masks]
    # necrosis lies within the tumour: together they touch the liver
    lesion = np.logical_or.reduce(lesions) if lesions else None
    tree = cKDTree(_points(liver, affine))
    neighbours = float(np.linalg.norm(np.linalg.norm(affine[:3, :3], axis=0)))  # centres of voxels that touch
    found: dict[str, float] = {}
    for key, mask in (("tumour", lesion), ("portal_vein", masks.get("portal_vein"))):
        if mask is None or not mask.any():
            continue
        box = _box(mask)
        parts, count = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        moved = _cropped(affine, box)
        nearest = [
            float(tree.query(_points(parts == number + 1, moved))[0].min())
            for number in range(count)
            if sizes[number] * voxel_ml >= _SPECK_ML or sizes[number] == sizes.max()
        ]
        gap = min(nearest) if key == "portal_vein" else max(nearest)
        found[key] = max(0.0, gap - neighbours)
    return found


def _cropped(affine: npt.NDArray[np.float64], box: tuple[slice, slice, slice]) -> npt.NDArray[np.float64]:
    """Return the affine of a box of a volume."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [one.start for one in box]
    return moved


def _points(mask: Mask, affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the border voxels of a mask in LPS mm."""
    from scipy import ndimage

    box = _box(mask)
    cropped = mask[box]
    border = np.argwhere(cropped & ~ndimage.binary_erosion(cropped))
    moved = _cropped(affine, box)
    return np.asarray(border @ moved[:3, :3].T + moved[:3, 3])
