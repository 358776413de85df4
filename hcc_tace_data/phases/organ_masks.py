"""Where a segmentation says that aorta, portal vein and liver are, for measuring their enhancement in any phase.

Masks are used by patient coordinates, on whatever volume of the same frame of reference. They were drawn on one
breath-hold and the other phases are another: only the inside of an organ counts, medians are taken, and the height
that fits the volume best is looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.seg_file import open_seg
from hcc_tace_data.phases.enhancement import Enhancement
from hcc_tace_data.phases.planes import Planes

if TYPE_CHECKING:
    import os

    from hcc_tace_data.dicom.seg_file import SegFile, SegmentInfo

__all__ = ["OrganMasks", "load_masks", "measure_masked"]

#: Coded type (SNOMED CT) and words of the label of what is measured.
_ORGANS = {
    "aorta": ({"7832008", "15825003"}, re.compile(r"\baort", re.I)),
    "portal_vein": ({"32764006"}, re.compile(r"\bportal", re.I)),
    "liver": ({"10200004"}, re.compile(r"\bliver\b|\bhepar\b", re.I)),
}
# Distance from an organ's edge that counts as its inside, mm, and at least one pixel: partial volume, breathing.
_INSIDE_MM = {"aorta": 3.0, "portal_vein": 1.5, "liver": 8.0}
_MOST = 300  # points of a slice that are kept of one organ
_FEWEST = 4  # pixels that a median needs
# Breathing moves the liver up and down by about a centimetre between two held breaths.
_SHIFTS_MM = (0.0, -2.5, 2.5, -5.0, 5.0, -7.5, 7.5, -10.0, 10.0)
# A worse fit than in place by less than this is no reason to shift.
_BETTER = 0.95

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganMasks:
    """Points inside organs.

    Attributes
    ----------
    frame_of_reference_uid : str
    z : ndarray of float64, shape (S,)
        Ascending heights of the slices that hold points, mm.
    points : dict of str to list of ndarray, shape (P, 2)
        For each organ and slice the x and y of points inside it, LPS mm.
    """

    frame_of_reference_uid: str
    z: Points
    points: dict[str, list[Points]]

    def span(self) -> tuple[float, float]:
        """Return the lowest and the highest point, mm."""
        return float(self.z[0]), float(self.z[-1])

    def best_heights(self, count: int) -> list[float]:
        """Return heights at which much of every organ is inside, at most `count` an organ."""
        chosen: set[float] = set()
        for slices in self.points.values():
            sizes = np.array([len(one) for one in slices])
            if not sizes.any():
                continue
            full = np.flatnonzero(sizes >= 0.5 * sizes.max())
            chosen.update(self.z[full[np.linspace(0, len(full) - 1, min(count, len(full))).astype(int)]].tolist())
        return sorted(chosen)


def load_masks(file: str | os.PathLike[str]) -> OrganMasks | None:
    """Read the organs of an axial SEG; None if it has none of them.

    Raises
    ------
    DicomReadError, SegmentationError, OSError
        See :func:`~hcc_tace_data.dicom.seg_file.open_seg`.
    """
    seg = open_seg(file)
    found: dict[str, dict[float, list[Points]]] = {organ: {} for organ in _ORGANS}
    organ_of = {segment.number: organ for segment in seg.segments if (organ := _organ(segment)) is not None}
    if seg.pixels is None or seg.kind == "LABELMAP":
        return None
    for frame, number in enumerate(seg.frames.segments.tolist()):
        organ = organ_of.get(number)
        inside = _inside(seg, frame, _INSIDE_MM[organ]) if organ is not None else None
        if organ is not None and inside is not None and len(inside):
            height = round(float(seg.frames.positions[frame, 2]), 1)
            found[organ].setdefault(height, []).append(inside)
    z = np.array(sorted({height for slices in found.values() for height in slices}))
    if not len(z):
        return None
    nothing = np.zeros((0, 2))
    points = {
        organ: [np.concatenate(slices[height]) if height in slices else nothing for height in z.tolist()]
        for organ, slices in found.items()
    }
    return OrganMasks(frame_of_reference_uid=seg.frame_of_reference_uid, z=z, points=points)


def _organ(segment: SegmentInfo) -> str | None:
    for organ, (codes, words) in _ORGANS.items():
        if segment.type[0] in codes or words.search(segment.label):
            return organ
    return None


def _inside(seg: SegFile, frame: int, margin: float) -> Points | None:
    """Return x and y of the pixels of a frame that lie inside by `margin` mm or, in small ones, by a pixel."""
    from scipy import ndimage

    patch = seg.pixels.patch(frame) if seg.pixels is not None else None
    if patch is None:
        return None
    across, down = seg.frames.orientations[frame, :3], seg.frames.orientations[frame, 3:]
    if abs(across[0]) < 0.97 or abs(down[1]) < 0.97:
        return None
    spacing = seg.frames.spacings[frame]
    step = max(1, int(margin / 3 / spacing.max()))  # a large organ needs no fine grid
    mask = np.pad(np.asarray(patch.pixels)[::step, ::step] >= max(1.0, 0.5 * seg.full), 1)
    depth = ndimage.distance_transform_edt(mask, sampling=step * spacing)
    pixel = float(step * spacing.max())
    if depth.max() < margin or pixel > margin:
        margin = min(pixel * 1.01, float(depth.max()))
    rows, columns = np.nonzero(depth >= margin)
    if not len(rows):
        return None
    keep = np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).astype(int)
    row = (step * (rows[keep] - 1) + patch.row) * spacing[0]
    column = (step * (columns[keep] - 1) + patch.column) * spacing[1]
    place = seg.frames.positions[frame] + column[:, None] * across + row[:, None] * down
    return np.asarray(place[:, :2])


def measure_masked(planes: Planes, masks: OrganMasks) -> Enhancement:
    """Measure the organs that the masks hold in slices of another volume.

    Parameters
    ----------
    planes : Planes
        Slices near :meth:`OrganMasks.best_heights`.
    masks : OrganMasks
        In the same frame of reference.
    """
    reach = max(2.5, 0.6 * float(np.median(np.diff(masks.z)))) if len(masks.z) > 1 else 5.0
    best: tuple[float, dict[str, float]] | None = None
    for shift in _SHIFTS_MM:
        found = {organ: _values(planes, masks, organ, shift, reach) for organ in _ORGANS}
        enough = {organ: hu for organ, hu in found.items() if len(hu) >= _FEWEST}
        if not enough:
            continue
        medians = {organ: float(np.median(hu)) for organ, hu in enough.items()}
        # where masks lie right, an organ is even
        spread = [float(np.median(np.abs(hu - medians[organ]))) for organ, hu in enough.items()]
        cost = float(np.mean(spread)) + 1000.0 * (len(_ORGANS) - len(enough))
        if best is None or cost < _BETTER * best[0]:
            best = cost, medians
    if best is None:
        return Enhancement(reason="the segmentation lies elsewhere")
    values = best[1]
    nothing = float("nan")
    return Enhancement(
        aorta=values.get("aorta", nothing),
        portal_vein=values.get("portal_vein", nothing),
        liver=values.get("liver", nothing),
        masks=True,
    )


def _values(planes: Planes, masks: OrganMasks, organ: str, shift: float, reach: float) -> Points:
    """Return the HU at an organ's points, the masks moved up by `shift` mm."""
    found = []
    for number, height in enumerate(planes.z.tolist()):
        near = int(np.abs(masks.z + shift - height).argmin())
        if abs(masks.z[near] + shift - height) > reach:
            continue
        points = masks.points[organ][near]
        columns = np.rint((points[:, 0] - planes.x[0]) / planes.pixel).astype(int)
        rows = np.rint((points[:, 1] - planes.y[0]) / planes.pixel).astype(int)
        within = (columns >= 0) & (columns < len(planes.x)) & (rows >= 0) & (rows < len(planes.y))
        found.append(planes.hu[number, rows[within], columns[within]])
    return np.concatenate(found).astype(np.float64) if found else np.zeros(0)
