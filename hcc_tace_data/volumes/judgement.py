"""Whether a registration can be true: what a body can do, and whether another explanation fits the images better.

A volume whose slices are in the wrong order, or whose spacing is wrong, still finds some transform that makes it more
alike than before. So the transform found must beat what would explain such errors: the same images mirrored along an
axis, or stretched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.volumes.similarity import blurred, body_mask, body_overlap, likeness, rough_image

__all__ = ["Judge", "Verdict"]

Matrix = npt.NDArray[np.float64]

# What breathing and lying down again can do to a body between two phases; more is a failed registration. The scale
# and shear are singular values and the angle of the best rotation, the shift is that of the image's centre.
_MAX_SCALE, _MAX_DEGREES, _MAX_SHIFT_MM = 1.15, 15.0, 60.0
# Normalised mutual information of two scans of one body is about 1.1 to 1.4, of unrelated images 1.00.
_LEAST_LIKENESS = 1.03
# Bodies of one patient overlap by a Dice of 0.9 and more where both volumes have data; with a pixel spacing wrong by
# 1.3, by 0.79 at most.
_LEAST_BODY = 0.85
# By how much (normalised mutual information) another explanation must fit better to be believed; voxels, mm.
_CLEARLY, _ROUGH_MM = 0.005, 10.0
_MIRRORS = ("right to left", "front to back", "head to feet")
# Slices that are nearer or farther apart than the header says; a wrong pixel spacing shows in the bodies' overlap.
_STRETCHES = (0.77, 0.85, 1.18, 1.3)
# Shifts that are tried with each, mm: the place of the mirror is not known.
_ACROSS, _ALONG = tuple(range(-24, 25, 8)), tuple(range(-48, 49, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found of one transform.

    Attributes
    ----------
    reason : str
        Why it is not plausible; empty where it is.
    likeness : float
        Normalised mutual information of the images after it.
    stretched : bool
        Whether it was refused because it stretches too much.
    """

    reason: str
    likeness: float
    stretched: bool


class Judge:
    """Judges transforms between two coarse images.

    Parameters
    ----------
    fixed, moving : SimpleITK.Image
        From :func:`~hcc_tace_data.volumes.similarity.coarse_image`.
    body : SimpleITK.Image
        :func:`~hcc_tace_data.volumes.similarity.body_mask` of `fixed`.
    """

    def __init__(self, fixed: Any, moving: Any, body: Any) -> None:
        self._fixed, self._moving, self._body = fixed, moving, body
        self._blurred = blurred(fixed), blurred(moving)
        self._rough = rough_image(fixed, _ROUGH_MM), rough_image(moving, _ROUGH_MM)

    @cached_property
    def _moving_body(self) -> Any:
        return body_mask(self._moving)

    def likeness(self, matrix: Matrix) -> float:
        """Return the normalised mutual information of the images after a transform, (4, 4)."""
        return likeness(*self._blurred, matrix)

    def verdict(self, start: Matrix, own: Matrix, least: float) -> Verdict:
        """Return what speaks against a transform.

        Parameters
        ----------
        start, own : ndarray of float64, shape (4, 4)
            The transform is `start` @ `own`; `start` lays one body on the other.
        least : float
            Normalised mutual information that it must reach: that of the images as they lay.
        """
        matrix = start @ own
        if not np.isfinite(matrix).all():
            return Verdict(reason="the transform is not finite", likeness=1.0, stretched=False)
        after = self.likeness(matrix)
        strained = _strain(own, self._centre())
        reason = strained or _unlike(after, least) or self._elsewhere(matrix)
        return Verdict(reason=reason, likeness=after, stretched=strained.startswith("it stretches"))

    def _centre(self) -> Matrix:
        middle = [(float(count) - 1) / 2 for count in self._fixed.GetSize()]
        return np.array(self._fixed.TransformContinuousIndexToPhysicalPoint(middle))

    def _elsewhere(self, matrix: Matrix) -> str:
        """Return what explains the images better than `matrix`, or ''."""
        overlap = body_overlap(self._body, self._moving_body, matrix)
        if overlap < _LEAST_BODY:
            return f"the bodies do not lie on each other (Dice {overlap:.2f}, at least {_LEAST_BODY} expected)"
        here = likeness(*self._rough, matrix)
        best, said = max((likeness(*self._rough, matrix @ other), said) for other, said in self._others())
        if best > here + _CLEARLY:
            return f"the images are more alike when one is {said}: check its orientation and spacing"
        return ""

    def _others(self) -> Iterator[tuple[Matrix, str]]:
        """Yield transforms of the fixed image's space that wrong headers amount to."""
        import SimpleITK as sitk

        body = np.argwhere(sitk.GetArrayFromImage(self._body) > 0.5)
        centre = self._centre()
        if len(body):  # a mirrored body was laid over this one, whatever its place in the image
            middle = [float(value) for value in body.mean(axis=0)[::-1]]
            centre[:2] = self._fixed.TransformContinuousIndexToPhysicalPoint(middle)[:2]
        for axis, said in enumerate(_MIRRORS):
            for shift in _ALONG if axis == 2 else _ACROSS:
                yield _scaled(axis, -1.0, centre, shift), f"turned {said}"
        for factor in _STRETCHES:
            for shift in _ALONG[::2]:
                yield _scaled(2, factor, centre, shift), "stretched along the body"


def _scaled(axis: int, factor: float, centre: Matrix, shift: float) -> Matrix:
    """Return the scaling (4, 4) of one axis round a point, and a shift along it."""
    matrix = np.eye(4)
    matrix[axis, axis] = factor
    matrix[axis, 3] = (1 - factor) * centre[axis] + shift
    return matrix


def _unlike(after: float, least: float) -> str:
    """Return why images are too unlike after a transform, or ''."""
    if after < _LEAST_LIKENESS:
        return f"the images have nothing in common (normalised mutual information {after:.4f})"
    if after < least - 1e-3:
        return f"the images are less alike than before (normalised mutual information {least:.4f}, then {after:.4f})"
    return ""


def _strain(matrix: Matrix, centre: Matrix) -> str:
    """Return why a body cannot do what the transform asks, or ''."""
    left, scales, right = np.linalg.svd(matrix[:3, :3])
    rotation = left @ right
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))
    shift = float(np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - centre))
    if np.linalg.det(matrix[:3, :3]) <= 0:
        return "the transform mirrors"
    if scales[0] > _MAX_SCALE or scales[-1] < 1 / _MAX_SCALE:
        return f"it stretches from {scales[-1]:.2f} to {scales[0]:.2f} (at most {_MAX_SCALE} allowed)"
    if degrees > _MAX_DEGREES:
        return f"it turns by {degrees:.0f} degrees (at most {_MAX_DEGREES:.0f} allowed)"
    if shift > _MAX_SHIFT_MM:
        return f"it moves the centre by {shift:.0f} mm (at most {_MAX_SHIFT_MM:.0f} allowed)"
    return ""
