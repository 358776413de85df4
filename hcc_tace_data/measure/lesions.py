"""Lesions of a label map: its connected parts, each with its size, shape and place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcc_tace_data.errors import UsageError
from hcc_tace_data.measure.diameters import axial_diameters, longest_3d
from hcc_tace_data.measure.surface import outline_surface

__all__ = ["Lesion", "find_lesions", "measure_lesion", "split_lesions"]

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One lesion: a part of a mask that hangs together, corners included (26 neighbours).

    Attributes
    ----------
    lesion : int
        Number from 1, largest first.
    voxels : int
        Number of voxels.
    volume_ml : float
        Voxels times the volume of one.
    diameter_mm, perpendicular_mm : float
        Longest axial diameter (RECIST) and the longest extent across it in the same slice (WHO).
    diameter_slice : int
        Index of that slice along D.
    diameter_3d_mm : float
        Longest distance between two points of the surface.
    surface_mm2 : float
        Surface of the outline (:func:`~hcc_tace_data.measure.surface.outline_surface`).
    sphericity : float
        Surface of a ball that holds as much as the outline, over `surface_mm2`; some 0.92 for a ball, whose outline
        goes in steps.
    centre_x_mm, centre_y_mm, centre_z_mm : float
        Centre of mass, LPS.
    box_min_x_mm ... box_max_z_mm : float
        Bounding box of the voxels' centres, LPS.
    slice_first, slice_last : int
        Indices of the first and last slice along D.
    """

    lesion: int
    voxels: int
    volume_ml: float
    diameter_mm: float
    perpendicular_mm: float
    diameter_slice: int
    diameter_3d_mm: float
    surface_mm2: float
    sphericity: float
    centre_x_mm: float
    centre_y_mm: float
    centre_z_mm: float
    box_min_x_mm: float
    box_min_y_mm: float
    box_min_z_mm: float
    box_max_x_mm: float
    box_max_y_mm: float
    box_max_z_mm: float
    slice_first: int
    slice_last: int

    def row(self) -> dict[str, Any]:
        """Return the measurements as a row of a table."""
        return asdict(self)


def split_lesions(mask: Mask) -> tuple[npt.NDArray[np.int32], int]:
    """Number the lesions of a mask, largest first.

    Parameters
    ----------
    mask : ndarray of bool, shape (D, H, W)

    Returns
    -------
    numbers : ndarray of int32, shape (D, H, W)
        0 outside, 1 for the largest lesion. Lesions of equal size keep their order in the array.
    count : int
        How many there are.
    """
    numbers = np.zeros(mask.shape, dtype=np.int32)
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return numbers, 0
    # what lies around the mask would only take time
    parts, count = ndimage.label(mask[boxes[0]], structure=np.ones((3, 3, 3), dtype=bool))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    numbers[boxes[0]] = rank[parts]
    return numbers, int(count)


def find_lesions(mask: Mask, affine: npt.ArrayLike) -> list[Lesion]:
    """Measure every lesion of a mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (D, H, W)
    affine : array-like, shape (4, 4)
        Index (d, h, w) -> LPS mm.

    Returns
    -------
    list of Lesion
        Largest first; empty for an empty mask.
    """
    numbers, _ = split_lesions(mask)
    return [
        measure_lesion(numbers[box] == number, affine, number=number, corner=[part.start for part in box])
        for number, box in enumerate(ndimage.find_objects(numbers), start=1)
    ]


def measure_lesion(mask: Mask, affine: npt.ArrayLike, *, number: int = 1, corner: Sequence[int] = (0, 0, 0)) -> Lesion:
    """Measure one lesion.

    Parameters
    ----------
    mask : ndarray of bool, shape (D, H, W)
        The lesion, or a box around it.
    affine : array-like, shape (4, 4)
        Index (d, h, w) of the whole image -> LPS mm.
    number : int
        Number of the lesion.
    corner : sequence of int
        Index in the whole image of the first voxel of `mask`.

    Raises
    ------
    UsageError
        An empty mask, or an affine that is not invertible.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not mask.any():
        raise UsageError("the mask of the lesion is empty; measure lesions that have voxels.")
    unit = abs(float(np.linalg.det(matrix[:3, :3])))
    if not np.isfinite(matrix).all() or unit == 0:
        raise UsageError(f"the affine {matrix.tolist()} does not map voxels to space.")
    places = np.argwhere(mask) + np.asarray(corner)
    points = places @ matrix[:3, :3].T + matrix[:3, 3]
    low, high, centre = points.min(axis=0), points.max(axis=0), points.mean(axis=0)
    axial = axial_diameters(mask, spacing)
    volume = len(places) * unit
    surface, within = outline_surface(mask, spacing)
    return Lesion(
        lesion=number,
        voxels=len(places),
        volume_ml=volume / 1000,
        diameter_mm=axial.longest_mm,
        perpendicular_mm=axial.perpendicular_mm,
        diameter_slice=axial.slice + int(corner[0]),
        diameter_3d_mm=longest_3d(mask, spacing),
        surface_mm2=surface,
        sphericity=float(np.cbrt(36 * np.pi * within**2)) / surface,
        centre_x_mm=float(centre[0]), centre_y_mm=float(centre[1]), centre_z_mm=float(centre[2]),
        box_min_x_mm=float(low[0]), box_min_y_mm=float(low[1]), box_min_z_mm=float(low[2]),
        box_max_x_mm=float(high[0]), box_max_y_mm=float(high[1]), box_max_z_mm=float(high[2]),
        slice_first=int(places[:, 0].min()), slice_last=int(places[:, 0].max()),
    )  # fmt: skip
