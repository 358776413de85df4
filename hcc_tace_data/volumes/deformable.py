"""Deformable registration by greedy, and what a field of displacements may do to a body.

greedy represents a deformation as many compositions of one small step (a stationary velocity field), so that what it
finds can be inverted. Images are compared by local correlation: unlike mutual information it has enough to go by in a
small neighbourhood, and a neighbourhood small enough sees little of what contrast agent changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import RegistrationError
from hcc_tace_data.volumes.engines import run_greedy
from hcc_tace_data.volumes.judgement import Judge
from hcc_tace_data.volumes.similarity import LOWEST_HU, NOTHING, crop_to, looked_up, rough_image, transformed

__all__ = ["Field", "register_deformably"]

Matrix = npt.NDArray[np.float64]

# Voxels of at most this size: a liver bends over centimetres. Smoothing of each step and of the whole field, mm.
_VOXEL_MM, _STEP_MM, _FIELD_MM = 6.5, 20.0, 3.0
_METRIC, _LEVELS = "WNCC 2x2x2", "40x30"
# Tissue hardly changes its volume, lungs and bowel do; a larger factor, or less than its inverse, is a failed search.
_MOST_VOLUME = 3.0
# On the twin's deformable breathing two fields found on their own lead back to within 1 to 3.5 mm.
_INVERSE_MM = 4.0


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Displacements on a grid, linear between its points and constant beyond them.

    Attributes
    ----------
    shifts : ndarray of float32, shape (D, H, W, 3)
        LPS mm, to be added to a point of the fixed volume before the affine transform.
    affine : ndarray of float64, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    """

    shifts: npt.NDArray[np.float32]
    affine: Matrix

    def at(self, points: Matrix) -> Matrix:
        """Return the displacements (N, 3) at points (N, 3), LPS mm."""
        from scipy import ndimage

        back = np.linalg.inv(self.affine)
        places = (points @ back[:3, :3].T + back[:3, 3]).T
        parts = [
            ndimage.map_coordinates(self.shifts[..., axis], places, order=1, mode="nearest", output=np.float64)
            for axis in range(3)
        ]
        return np.stack(parts, axis=1)

    def on(self, affine: Matrix, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the displacements (3, D, H, W) on a grid of `shape` with `affine`, index -> LPS mm."""
        from scipy import ndimage

        steps = np.linalg.inv(self.affine) @ affine
        result = np.empty((3, *shape), np.float32)
        for axis in range(3):
            ndimage.affine_transform(
                self.shifts[..., axis],
                steps[:3, :3],
                steps[:3, 3],
                output_shape=shape,
                order=1,
                mode="nearest",
                output=result[axis],
            )
        return result

    @classmethod
    def of(cls, image: Any) -> Self:
        """Return the displacements in a SimpleITK image of vectors."""
        import SimpleITK as sitk

        affine = np.eye(4)
        affine[:3, :3] = (np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing()))[:, ::-1]
        affine[:3, 3] = image.GetOrigin()
        return cls(sitk.GetArrayFromImage(image).astype(np.float32), affine)

    def image(self) -> Any:
        """Return a SimpleITK image of vectors, float64."""
        import SimpleITK as sitk

        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        image = sitk.GetImageFromArray(self.shifts.astype(np.float64), isVector=True)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetOrigin(self.affine[:3, 3].tolist())
        image.SetDirection((self.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
        return image

    def transform(self) -> Any:
        """Return the SimpleITK transform, which moves nothing beyond the grid."""
        import SimpleITK as sitk

        return sitk.DisplacementFieldTransform(self.image())

    def within(self, mask: Any) -> npt.NDArray[np.bool_]:
        """Return where the grid lies in a mask (a SimpleITK image), (D, H, W)."""
        import SimpleITK as sitk

        here = sitk.Resample(mask, self.image(), sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        return np.asarray(sitk.GetArrayFromImage(here) > 0.5)

    def jacobian(self) -> npt.NDArray[np.float64]:
        """Return the determinant of the derivative of point + displacement, (D, H, W): 1 where volume is kept."""
        parts = [np.gradient(self.shifts[..., axis].astype(np.float64)) for axis in range(3)]
        slopes = np.stack([np.stack(tuple(along), -1) for along in parts], -2) @ np.linalg.inv(self.affine[:3, :3])
        return np.asarray(np.linalg.det(slopes + np.eye(3)))


def register_deformably(judge: Judge, matrix: Matrix, threads: int) -> tuple[Field, float]:
    """Find displacements for what an affine transform leaves, and check them.

    Parameters
    ----------
    judge : Judge
        Of the two coarse images.
    matrix : ndarray of float64, shape (4, 4)
        The affine transform, LPS mm.
    threads : int
        With one, the result is the same in every run.

    Returns
    -------
    field : Field
    there_and_back : float
        How far points of the organ come to lie from where they were, after this and a field found the other way round
        on its own, mm.

    Raises
    ------
    RegistrationError
        A body cannot do this, or the images are no more alike for it.
    """
    there = _find(judge.fixed, judge.moving, judge.body, matrix, threads)
    volume = there.jacobian() * np.linalg.det(matrix[:3, :3])
    inside = there.within(judge.body)
    low, high = float(volume[inside].min()), float(volume[inside].max())
    if low < 1 / _MOST_VOLUME or high > _MOST_VOLUME:
        raise RegistrationError(
            f"it changes volumes in the body {low:.2f} to {high:.2f} times ({1 / _MOST_VOLUME:.2f} to {_MOST_VOLUME} "
            "allowed)"
        )
    before, after = judge.organ_likeness(matrix), judge.organ_likeness(matrix, there.transform())
    if after < before:
        raise RegistrationError(f"the {judge.organ_name} is less alike with it ({before:.4f}, then {after:.4f})")
    home = np.asarray(np.linalg.inv(matrix), np.float64)
    back = _find(judge.moving, judge.fixed, judge.moving_body, home, threads)
    points = judge.organ_points
    moved = transformed(points + there.at(points), matrix)
    away = float(np.linalg.norm(transformed(moved + back.at(moved), home) - points, axis=1).mean())
    if away > _INVERSE_MM:
        raise RegistrationError(f"one the other way round misses the {judge.organ_name} by {away:.1f} mm")
    return there, away


def _find(fixed: Any, moving: Any, body: Any, matrix: Matrix, threads: int) -> Field:
    import SimpleITK as sitk

    fixed, moving, body = (rough_image(image, _VOXEL_MM) for image in (fixed, moving, body))
    still, mask = crop_to(fixed, body), crop_to(body, body)
    values = looked_up(moving, still, matrix)
    values[values > NOTHING / 2] = LOWEST_HU
    laid = sitk.GetImageFromArray(values)
    laid.CopyInformation(still)
    warp = run_greedy(
        f"-i fixed moving -gm mask -m {_METRIC} -n {_LEVELS} -s {_STEP_MM}mm {_FIELD_MM}mm -sv -wp 0 -noise 0 "
        f"-threads {threads}",
        "warp",
        fixed=still,
        moving=laid,
        mask=mask,
    )
    return Field.of(warp)
