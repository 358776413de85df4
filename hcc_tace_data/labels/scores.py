"""Scores of a predicted mask against the true one, in mm where they are distances.

Definitions
-----------
Surface
    The voxels of a mask that have a face neighbour outside it (outside the image counts as outside).
HD95
    Distances from each surface voxel of one mask to the nearest surface voxel of the other; the 95th percentile of
    each direction, and the larger of the two (Metrics Reloaded, Maier-Hein et al. 2024; MONAI).
Pooled HD95
    The 95th percentile of the distances of both directions together, as MedPy has it. It is smaller: the many voxels of
    a good surface can hide a false positive far away.
ASSD
    Mean of the pooled distances (Heimann et al. 2009).
Surface Dice
    Share of surface voxels, of both masks together, that are within the tolerance of the other surface. Each voxel
    counts the same, and distances are between voxel centres.
Surface Dice by surfels
    As Nikolov et al. (2021) define it: surface elements between voxels, weighted by their area. Computed by DeepMind's
    ``surface-distance`` where that is installed.
Empty masks
    Both empty: overlap scores 1, distances 0. One empty: overlap scores 0, distances the diagonal of the image. Such
    cases count; they are never left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.words import count

__all__ = ["EMPTY_POLICY", "MaskScores", "dice", "lesion_detection", "score_masks", "surface"]

Mask = npt.NDArray[np.bool_]

#: Written into every result.
EMPTY_POLICY = (
    "both masks empty: Dice, IoU, surface Dice 1 and distances 0; one empty: 0 and the diagonal of the image in mm"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskScores:
    """Scores of one mask.

    Attributes
    ----------
    dice, iou : float
        Overlap, 0 to 1.
    hd95_mm, hd95_pooled_mm, assd_mm : float
        Surface distances.
    surface_dice : float
        At the tolerance asked for, 0 to 1, by voxel centres.
    surface_dice_surfels : float or None
        The same by surface elements; None where it was not asked for or ``surface-distance`` is not installed.
    volume_ml, predicted_ml : float
        True and predicted volume.
    volume_error_ml : float
        Predicted minus true.
    """

    dice: float
    iou: float
    hd95_mm: float
    hd95_pooled_mm: float
    assd_mm: float
    surface_dice: float
    surface_dice_surfels: float | None
    volume_ml: float
    predicted_ml: float
    volume_error_ml: float

    def plain(self) -> dict[str, float | None]:
        """The scores as a dict."""
        return asdict(self)


def _two_masks(predicted: npt.NDArray[Any], true: npt.NDArray[Any]) -> tuple[Mask, Mask]:
    if predicted.shape != true.shape:
        raise UsageError(f"masks of shapes {predicted.shape} and {true.shape} cannot be compared; resample one first.")
    return predicted.astype(bool, copy=False), true.astype(bool, copy=False)


def dice(predicted: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    """Dice coefficient of two masks of one shape; 1 where both are empty.

    Examples
    --------
    >>> import numpy as np
    >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]))
    0.6666666666666666
    """
    a, b = _two_masks(predicted, true)
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 1.0 if total == 0 else 2 * int(np.count_nonzero(a & b)) / total


def surface(mask: Mask) -> Mask:
    """Return the voxels of `mask` that have a face neighbour outside it."""
    from scipy.ndimage import binary_erosion, generate_binary_structure

    eroded: Mask = binary_erosion(mask, generate_binary_structure(mask.ndim, 1), border_value=0)
    return mask & ~eroded


def score_masks(
    predicted: npt.NDArray[Any],
    true: npt.NDArray[Any],
    spacing: npt.ArrayLike,
    *,
    tolerance_mm: float = 2.0,
    surfels: bool = False,
) -> MaskScores:
    """Score a predicted mask against the true one.

    Parameters
    ----------
    predicted, true : ndarray, shape (D, H, W)
        Non-zero is inside.
    spacing : array-like of float, shape (3,)
        mm along each axis.
    tolerance_mm : float
        Of the surface Dice.
    surfels : bool
        Also compute the surface Dice by surface elements, of volumes (three dimensions) and where ``surface-distance``
        is installed.

    Raises
    ------
    UsageError
        Shapes differ, or the spacing is not positive.
    """
    a, b = _two_masks(predicted, true)
    step = np.asarray(spacing, dtype=float)
    if step.shape != (a.ndim,) or not (step > 0).all():
        raise UsageError(f"spacing is {spacing!r}; use {count(a.ndim, 'positive length')} in mm.")
    millilitre = float(np.prod(step)) / 1000
    predicted_ml, volume_ml = np.count_nonzero(a) * millilitre, np.count_nonzero(b) * millilitre
    overlap = dice(a, b)
    hd95, pooled, assd, surface_dice = _surface_scores(a, b, step, tolerance_mm)
    return MaskScores(
        dice=overlap,
        iou=overlap / (2 - overlap),
        hd95_mm=hd95,
        hd95_pooled_mm=pooled,
        assd_mm=assd,
        surface_dice=surface_dice,
        surface_dice_surfels=_surfel_dice(a, b, step, tolerance_mm) if surfels else None,
        volume_ml=volume_ml,
        predicted_ml=predicted_ml,
        volume_error_ml=predicted_ml - volume_ml,
    )


def _surface_scores(
    a: Mask, b: Mask, step: npt.NDArray[np.float64], tolerance: float
) -> tuple[float, float, float, float]:
    if not a.any() and not b.any():
        return 0.0, 0.0, 0.0, 1.0
    if not a.any() or not b.any():
        diagonal = float(np.linalg.norm(step * a.shape))
        return diagonal, diagonal, diagonal, 0.0
    from scipy.ndimage import distance_transform_edt

    box = _box_of(a | b)  # distances depend on the two surfaces alone
    surface_a, surface_b = surface(a[box]), surface(b[box])
    to_b = distance_transform_edt(~surface_b, sampling=step)[surface_a]
    to_a = distance_transform_edt(~surface_a, sampling=step)[surface_b]
    both = np.concatenate([to_b, to_a])
    return (
        max(float(np.percentile(to_b, 95)), float(np.percentile(to_a, 95))),
        float(np.percentile(both, 95)),
        float(both.mean()),
        float((both <= tolerance).mean()),
    )


def _surfel_dice(a: Mask, b: Mask, step: npt.NDArray[np.float64], tolerance: float) -> float | None:
    if a.ndim != 3 or find_spec("surface_distance") is None:
        return None
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    from surface_distance import (  # noqa: PLC0415 - optional
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )

    box = _box_of(a | b)
    distances = compute_surface_distances(b[box], a[box], step.tolist())
    return float(compute_surface_dice_at_tolerance(distances, tolerance))


def _box_of(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box that holds a mask that is not empty."""
    return tuple(
        slice(int(where[0]), int(where[-1]) + 1)
        for where in (
            np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
            for axis in range(mask.ndim)
        )
    )


def lesion_detection(
    predicted: npt.NDArray[Any], true: npt.NDArray[Any], *, min_overlap: float = 0.1
) -> dict[str, int | float]:
    """Count lesions found: connected components (26 neighbours) of the true mask.

    Parameters
    ----------
    predicted, true : ndarray, shape (D, H, W)
        Tumour masks.
    min_overlap : float
        Intersection over union from which a true and a predicted component match; each matches once, the largest
        overlap first.

    Returns
    -------
    dict
        ``lesions``, ``found``, ``false_positives``, and ``sensitivity`` and ``precision`` (1 where there was nothing
        to find or nothing predicted).
    """
    from scipy.ndimage import label

    a, b = _two_masks(predicted, true)
    everywhere = np.ones((3,) * a.ndim, dtype=int)
    parts_a, count_a = label(a, everywhere)
    parts_b, count_b = label(b, everywhere)
    joint = np.zeros((count_a + 1, count_b + 1), dtype=np.int64)
    np.add.at(joint, (parts_a.ravel(), parts_b.ravel()), 1)
    sizes_a, sizes_b = joint.sum(axis=1)[1:], joint.sum(axis=0)[1:]
    common = joint[1:, 1:]
    union = sizes_a[:, None] + sizes_b[None, :] - common
    ratio = np.divide(common, union, out=np.zeros(common.shape), where=union > 0)
    found = 0
    while ratio.size and ratio.max() >= min_overlap and ratio.max() > 0:
        row, column = np.unravel_index(int(ratio.argmax()), ratio.shape)
        ratio[row, :], ratio[:, column] = 0, 0
        found += 1
    return {
        "lesions": count_b,
        "found": found,
        "false_positives": count_a - found,
        "sensitivity": found / count_b if count_b else 1.0,
        "precision": found / count_a if count_a else 1.0,
    }
