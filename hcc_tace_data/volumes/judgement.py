"""Whether a registration can be true: what a body can do, and whether another explanation fits the images better.

A volume whose slices are in the wrong order, or whose spacing is wrong, still finds some transform that makes it more
alike than before. So the transform found must beat what would explain such errors: the same images mirrored along an
axis, or stretched.

What passes may still be worse than no registration at all. So three more things are asked: whether the liver (where
it is unknown, the body) became more alike by as much as it was moved, whether soft tissue lies under the liver, and
whether a registration the other way round leads back. An unclear answer is a doubt: the transform is kept, and marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.volumes.similarity import (
    NOTHING,
    blurred,
    body_mask,
    body_overlap,
    likeness,
    looked_up,
    rough_image,
    transformed,
)

__all__ = ["Judge", "Verdict"]

Matrix = npt.NDArray[np.float64]

# A motion that is smaller than this, mm, does no harm even where it is wrong.
_MOVED_MM = 2.0
# By how much (normalised mutual information) the organ becomes more alike for each mm that it is moved. On the twin's
# deformable breathing good transforms gain 0.003 to 0.04, useless ones mostly 0.002 and less.
_LEAST_GAIN = 0.0025
# Of a liver where it is drawn, nearly all is soft tissue; where it lies 10 mm wrong, a tenth is lung or fat.
_SOFT_HU, _LEAST_SOFT, _LESS_SOFT = (-30.0, 260.0), 0.7, 0.02
# What surrounds the liver and shows where it ends, mm; points of it that are followed.
_AROUND_MM, _POINTS = 12.0, 500

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
    doubts : tuple of str
        What speaks against it without refusing it.
    """

    reason: str
    likeness: float
    stretched: bool
    doubts: tuple[str, ...] = ()


class _Organ:
    """Where transforms are compared with none: the liver and what is around it, or the body."""

    def __init__(self, image: Any, mask: Any, is_liver: bool) -> None:
        import SimpleITK as sitk
        from scipy import ndimage

        self.name = "liver" if is_liver else "body"
        whole = sitk.GetArrayFromImage(mask) > 0.5
        around = _AROUND_MM if is_liver else 0.0
        steps_mm = image.GetSpacing()[::-1]
        box = tuple(
            slice(max(0, part.start - int(around / step) - 1), part.stop + int(around / step) + 1)
            for part, step in zip(ndimage.find_objects(whole.astype(np.uint8))[0], steps_mm, strict=True)
        )
        self.image = image[
            tuple(slice(part.start, min(part.stop, n)) for part, n in zip(box, whole.shape, strict=True))[::-1]
        ]
        self.inside = whole[box]
        self.around = self.inside
        if is_liver:
            self.around = ndimage.distance_transform_edt(~self.inside, sampling=steps_mm) <= around
        places = np.argwhere(self.inside)
        places = places[:: max(1, len(places) // _POINTS), ::-1].astype(float)
        steps = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
        self.points: Matrix = places @ steps.T + np.array(self.image.GetOrigin())


class Judge:
    """Judges transforms between two coarse images.

    Parameters
    ----------
    fixed, moving : SimpleITK.Image
        From :func:`~hcc_tace_data.volumes.similarity.coarse_image`.
    body : SimpleITK.Image
        :func:`~hcc_tace_data.volumes.similarity.body_mask` of `fixed`.
    liver : SimpleITK.Image, optional
        :func:`~hcc_tace_data.volumes.similarity.coarse_mask` of the liver in `fixed`.
    """

    def __init__(self, fixed: Any, moving: Any, body: Any, liver: Any = None) -> None:
        self.fixed, self.moving, self.body, self._liver = fixed, moving, body, liver
        self._blurred = blurred(fixed), blurred(moving)
        self._rough = rough_image(fixed, _ROUGH_MM), rough_image(moving, _ROUGH_MM)

    @cached_property
    def moving_body(self) -> Any:
        """The body in the moving image."""
        return body_mask(self.moving)

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
        stretched = strained.startswith("it stretches")
        if reason:
            return Verdict(reason=reason, likeness=after, stretched=stretched)
        reason, doubts = self._of_the_organ(start, matrix)
        return Verdict(reason=reason, likeness=after, stretched=stretched, doubts=doubts)

    def there_and_back(self, matrix: Matrix, back: Matrix) -> float:
        """Return how far points of the organ come to lie from where they were, mm, after a transform and one back."""
        points = self._organ.points
        return float(np.linalg.norm(transformed(points, back @ matrix) - points, axis=1).mean())

    def organ_likeness(self, matrix: Matrix, field: Any = None) -> float:
        """Return :meth:`likeness` in the liver and around it, or in the body; with a transform before the matrix."""
        return likeness(self._organ.image, self._blurred[1], matrix, self._organ.around, field)

    @property
    def organ_points(self) -> Matrix:
        """Points of the organ, (N, 3), LPS mm."""
        return self._organ.points

    @property
    def organ_name(self) -> str:
        """ "liver", or "body" where no liver is known."""
        return self._organ.name

    @cached_property
    def _organ(self) -> _Organ:
        import SimpleITK as sitk

        # a liver of less than half a coarse voxel leaves nothing
        is_liver = self._liver is not None and float(sitk.GetArrayViewFromImage(self._liver).max()) > 0.5
        return _Organ(self._blurred[0], self._liver if is_liver else self.body, is_liver)

    def _of_the_organ(self, start: Matrix, matrix: Matrix) -> tuple[str, tuple[str, ...]]:
        """Compare with no registration, in the liver or body: why to refuse, and doubts."""
        organ, doubts = self._organ, []
        moved = float(
            np.linalg.norm(transformed(organ.points, matrix) - transformed(organ.points, start), axis=1).mean()
        )
        before, after = (self.organ_likeness(one) for one in (start, matrix))
        said = f"moves the {organ.name} by {moved:.1f} mm"
        numbers = f"(normalised mutual information {before:.4f}, then {after:.4f})"
        if moved > _MOVED_MM and after < before - 1e-3:
            return f"it {said}, which is then less alike than before {numbers}", ()
        if moved > _MOVED_MM and after < before + _LEAST_GAIN * moved:
            doubts.append(f"{said}, which is hardly more alike for it {numbers}")
        if organ.name == "liver":
            share = self._soft(organ, matrix)
            if share < _LEAST_SOFT:
                return f"only {share:.0%} of the liver lies on soft tissue (at least {_LEAST_SOFT:.0%} expected)", ()
            if moved > _MOVED_MM and share < self._soft(organ, start) - _LESS_SOFT:
                doubts.append(f"less of the liver lies on soft tissue ({share:.0%}) than without registration")
        return "", tuple(doubts)

    def _soft(self, organ: _Organ, matrix: Matrix) -> float:
        """Return the share of the organ that lies on soft tissue, where the moving image has data; 0 where nowhere."""
        values = looked_up(self.moving, organ.image, matrix)[organ.inside]
        values = values[values < NOTHING / 2]
        return float(np.mean((values > _SOFT_HU[0]) & (values < _SOFT_HU[1]))) if len(values) else 0.0

    def _centre(self) -> Matrix:
        middle = [(float(count) - 1) / 2 for count in self.fixed.GetSize()]
        return np.array(self.fixed.TransformContinuousIndexToPhysicalPoint(middle))

    def _elsewhere(self, matrix: Matrix) -> str:
        """Return what explains the images better than `matrix`, or ''."""
        overlap = body_overlap(self.body, self.moving_body, matrix)
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

        body = np.argwhere(sitk.GetArrayFromImage(self.body) > 0.5)
        centre = self._centre()
        if len(body):  # a mirrored body was laid over this one, whatever its place in the image
            middle = [float(value) for value in body.mean(axis=0)[::-1]]
            centre[:2] = self.fixed.TransformContinuousIndexToPhysicalPoint(middle)[:2]
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
