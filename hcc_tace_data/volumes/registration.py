"""Bringing the phases of a study onto the annotated volume's grid: affine registration and resampling.

As in the data descriptor (Moawad et al. 2023), other phases are registered to the annotated one by an affine
transform and interpolated linearly. The engine is greedy (PyPI ``picsl-greedy``, of the family of ITK-SNAP and
Convert3D); where it is not installed, SimpleITK does the work. Both see images averaged in plane to about 3 mm: that
is faster, and noise weighs less.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import NotAVolumeError, RegistrationError, UsageError
from hcc_tace_data.system.claims import refuse_claim
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import atomic_path, atomic_write_text
from hcc_tace_data.volumes.deformable import Field, register_deformably
from hcc_tace_data.volumes.engines import ENGINES, THIN_BELOW, Engine, Search, choose_engine
from hcc_tace_data.volumes.judgement import Judge, Verdict
from hcc_tace_data.volumes.similarity import (
    AIR_HU,
    body_mask,
    coarse_image,
    coarse_mask,
    moved_by,
    place_roughly,
    rough_image,
)

if TYPE_CHECKING:
    import highdicom

__all__ = ["ENGINES", "Registration", "register", "resample"]

logger = logging.getLogger(__name__)

# In-plane size of the voxels that are registered, mm.
_COARSE_MM = 3.0
# A rigid registration the other way round sees voxels of at most this size; on the twin's deformable breathing it leads
# back to within 4 mm where the transform is good.
_BACK_MM, _INVERSE_MM = 9.5, 5.0
# Stored values this far below air are a scanner's filling outside its reconstruction circle.
_FILLING_HU = -1200
# Voxels resampled at a time: bounds the memory of coordinates.
_SLAB_VOXELS = 4_000_000

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Registration:
    """An affine transform between two volumes, and what it achieved.

    Attributes
    ----------
    matrix : ndarray of float64, shape (4, 4)
        From a point of the fixed volume (LPS, mm) to the point of the moving volume that shows the same place; the
        direction in which ITK resamples.
    engine : str
        "greedy" or "simpleitk"; with " (rigid)" where the affine transform was not plausible and a rigid one is.
    similarity_before, similarity_after : float
        Normalised mutual information (1 to 2) of the two images at their own coordinates, and after the transform.
    plausible : bool
        False where the transform is not one that a body undergoes between two phases, or the images are less alike
        than before.
    reason : str
        Why it is not plausible; empty where it is.
    doubts : tuple of str
        What makes it doubtful although it is plausible: look at the result before relying on it.
    inverse_mm : float
        How far points of the liver (or, where no liver was given, of the body) come to lie from where they were, after
        this transform and a rigid one that was found independently the other way round, mm. None
        for a transform that was refused. Of a deformable registration: after one that was found the other way round.
    field : Field or None
        Displacements that come before `matrix`, where a deformable registration was asked for and passed.
    """

    matrix: Matrix
    engine: str
    similarity_before: float
    similarity_after: float
    plausible: bool
    reason: str = ""
    doubts: tuple[str, ...] = ()
    inverse_mm: float | None = None
    field: Field | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the transform as an ITK text file, and how it came about as JSON beside it.

        Parameters
        ----------
        path : path-like
            For example ``arterial.txt``; the JSON becomes ``arterial.txt.json``. Displacements, if any,
            become ``arterial.txt.field.mha``, an ITK image of vectors: they come before the affine transform.
        """
        numbers = [*self.matrix[:3, :3].ravel(), *self.matrix[:3, 3]]
        lines = (
            "#Insight Transform File V1.0",
            "#Transform 0",
            "Transform: AffineTransform_double_3_3",
            "Parameters: " + " ".join(repr(float(number)) for number in numbers),
            "FixedParameters: 0 0 0",
        )
        atomic_write_text(Path(path), "\n".join(lines) + "\n")
        notes = {name: getattr(self, name) for name in _NOTES}
        if self.field is not None:
            import SimpleITK as sitk

            with atomic_path(_field_path(path)) as temporary:
                sitk.WriteImage(
                    sitk.Cast(self.field.image(), sitk.sitkVectorFloat32), str(temporary), useCompression=True
                )
        atomic_write_text(
            _notes_path(path), json.dumps({**notes, "deformable": self.field is not None}, indent=1) + "\n"
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        RegistrationError
            A file is missing, or is not such a file.
        """
        try:
            fields = dict(
                line.split(":", 1) for line in Path(path).read_text(encoding="ascii").splitlines() if ":" in line
            )
            numbers = np.array(fields["Parameters"].split(), dtype=float)
            centre = np.array(fields["FixedParameters"].split(), dtype=float)
            notes = read_json_object(_notes_path(path))
            if not fields["Transform"].strip().startswith("AffineTransform") or not np.isfinite(numbers).all():
                raise ValueError("no affine transform of finite numbers")
            linear = numbers[:9].reshape(3, 3)
            matrix = np.eye(4)
            matrix[:3, :3], matrix[:3, 3] = linear, numbers[9:].reshape(3) + centre - linear @ centre
            known = {name: notes[name] for name in _NOTES if name in notes}
            field = _read_field(path) if notes.get("deformable") else None
            return cls(matrix=matrix, **known | {"doubts": tuple(notes.get("doubts", ())), "field": field})
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise RegistrationError(
                f"{path} is not a stored registration ({error}). Delete it; it is re-created."
            ) from error


_NOTES = ("engine", "similarity_before", "similarity_after", "plausible", "reason", "doubts", "inverse_mm")


def _notes_path(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.json")


def _field_path(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.field.mha")


def _read_field(path: str | os.PathLike[str]) -> Field:
    import SimpleITK as sitk

    file = _field_path(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()  # a missing file is a RuntimeError
    claimed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * 8  # no type is wider
    refuse_claim(file, claimed, file.stat().st_size, RegistrationError)
    return Field.of(reader.Execute())


def register(
    fixed: highdicom.Volume,
    moving: highdicom.Volume,
    *,
    engine: str = "auto",
    threads: int = 1,
    liver: npt.NDArray[Any] | None = None,
    deformable: bool = False,
) -> Registration:
    """Find the affine transform that lays `moving` over `fixed`.

    Parameters
    ----------
    fixed, moving : highdicom.Volume
        CT in HU, of two slices at least. Two frames of reference are laid over each other roughly first.
    engine : {"auto", "greedy", "simpleitk"}
        "auto" is greedy where ``picsl-greedy`` is installed.
    threads : int
        Threads of the engine. With one, the result is the same, bit by bit, in every run.
    liver : ndarray, shape (D, H, W), optional
        Mask of the liver on the grid of `fixed`: the transform is then judged there, and not by the body as a whole.
    deformable : bool
        Follow what the affine transform leaves by greedy's deformable registration. If that fails or is not plausible,
        the affine transform is returned, and its `doubts` say so.

    Returns
    -------
    Registration
        Look at its `plausible` before using it, and at its `doubts`.

    Raises
    ------
    UsageError
        An engine that does not exist or is not installed.
    NotAVolumeError
        A single slice: it has no affine transform in space.
    RegistrationError
        The engine failed.

    Notes
    -----
    Engines draw their samples with a fixed seed. Several threads save less than half of the time, and add numbers in
    another order each time: results of two runs then lay the liver up to 0.1 mm apart.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; use one of {', '.join(ENGINES)}.")
    if threads < 1:
        raise UsageError(f"threads is {threads}; use 1 or more.")
    for name, volume in (("fixed", fixed), ("moving", moving)):
        if min(volume.array.shape) < 2:
            raise NotAVolumeError(f"The {name} volume has shape {volume.array.shape}; registering needs two slices.")
    chosen = choose_engine(engine)
    if deformable and chosen.name != "greedy":
        raise UsageError("deformable=True needs the engine greedy: pip install picsl-greedy.")
    still, moved = coarse_image(fixed, _COARSE_MM), coarse_image(moving, _COARSE_MM)
    organ = None if liver is None or not liver.any() else coarse_mask(liver, fixed.affine, _COARSE_MM)
    same_frame = fixed.frame_of_reference_uid == moving.frame_of_reference_uid
    shift = np.zeros(3) if same_frame else place_roughly(still, moved)
    start = np.eye(4)
    start[:3, 3] = shift
    body = body_mask(still)
    judge = Judge(still, moved, body, organ)
    before = judge.likeness(np.eye(4))
    least = before if same_frame else max(before, judge.likeness(start))
    search = _Search(chosen, judge, start, threads)
    back = search.back()

    def judged(own: Matrix, name: str) -> tuple[Registration, Verdict]:
        verdict = judge.verdict(start, own, least)
        away = None if verdict.reason else round(judge.there_and_back(start @ own, back), 3)
        doubts = verdict.doubts
        if away is not None and away > _INVERSE_MM:
            doubts = (*doubts, f"a registration the other way round misses the {judge.organ_name} by {away:.1f} mm")
        return Registration(
            matrix=start @ own,
            engine=name,
            similarity_before=round(before, 6),
            similarity_after=round(verdict.likeness, 6),
            plausible=not verdict.reason,
            reason=verdict.reason,
            doubts=doubts,
            inverse_mm=away,
        ), verdict

    affine, rigid = search.run(chosen.search)
    found, verdict = judged(affine, chosen.name)
    thin = min(still.GetSize()) < THIN_BELOW
    if chosen.thorough is not None and not thin and (found.doubts or not found.plausible):
        affine, rigid = search.run(chosen.thorough)
        again, second = judged(affine, chosen.name)
        if (again.plausible, again.similarity_after) >= (found.plausible, found.similarity_after):
            found, verdict = again, second
    if not found.plausible:
        other, fallback = judged(rigid, f"{chosen.name} (rigid)")
        # Where images are most alike when stretched as bodies are not, a rigid transform hides what is wrong with them.
        if other.plausible and not (verdict.stretched and verdict.likeness > fallback.likeness):
            found = replace(
                other, doubts=(*other.doubts, f"it is rigid: the affine transform was refused, as {verdict.reason}")
            )
    if deformable and found.plausible:
        try:
            field, away = search.attempt(lambda: register_deformably(judge, found.matrix, threads))
            name = f"{chosen.name} (deformable)"
            found = replace(found, engine=name, field=field, inverse_mm=round(away, 3))
        except RegistrationError as error:
            found = replace(found, doubts=(*found.doubts, f"the deformable registration was refused: {error}"))
    if not found.plausible:
        logger.warning("registration is not plausible: %s", found.reason)
    elif found.doubts:
        logger.warning("registration is doubtful: %s", "; ".join(found.doubts))
    return found


@dataclass(frozen=True, slots=True)
class _Search:
    """An engine on one pair of images."""

    engine: Engine
    judge: Judge
    start: Matrix
    threads: int

    def run(self, search: Search) -> tuple[Matrix, Matrix]:
        """Return an affine and a rigid matrix to come after `start`."""
        judge = self.judge
        affine, rigid = self.attempt(
            lambda: search(judge.fixed, moved_by(judge.moving, self.start), judge.body, self.threads)
        )
        return affine, rigid

    def back(self) -> Matrix:
        """Return a rigid matrix from the moving image's points to the fixed image's, found on its own, coarsely."""
        judge, home = self.judge, np.asarray(np.linalg.inv(self.start), np.float64)
        moving, fixed, body = (
            rough_image(one, _BACK_MM) for one in (judge.moving, moved_by(judge.fixed, home), judge.moving_body)
        )
        return np.asarray(home @ self.attempt(lambda: self.engine.rigid(moving, fixed, body, self.threads)))

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Return what a call of the engine gives.

        Raises
        ------
        RegistrationError
            It failed.
        """
        try:
            return call()
        except RegistrationError:
            raise
        except Exception as error:  # engines raise RuntimeError, and greedy its own C++ exceptions
            raise RegistrationError(f"{self.engine.name} failed: {type(error).__name__}: {error}") from error


def resample(
    moving: highdicom.Volume, *, like: highdicom.Volume, registration: Registration | None = None
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Interpolate `moving` linearly on the grid of `like`.

    Parameters
    ----------
    moving : highdicom.Volume
        HU.
    like : highdicom.Volume
        Whose grid; its voxels are not looked at.
    registration : Registration, optional
        From ``register(like, moving)``; default is no motion.

    Returns
    -------
    image : ndarray of int16, shape (D, H, W)
        HU, rounded to whole numbers; -1024 where there are no data.
    valid : ndarray of uint8, shape (D, H, W)
        1 where a voxel has data: it lies within half a voxel of the moving volume's outermost voxel centres, and no
        filling of the scanner (below -1200 HU) reaches it.
    """
    shape = tuple(int(length) for length in like.array.shape)
    matrix = np.eye(4) if registration is None else registration.matrix
    field = None if registration is None else registration.field
    to_index = np.linalg.inv(moving.affine) @ matrix @ like.affine
    shift_to_index = (np.linalg.inv(moving.affine) @ matrix)[:3, :3]
    source, size = moving.array, np.array(moving.array.shape)
    image, valid = np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.uint8)
    if field is None and shape == source.shape and np.allclose(to_index, np.eye(4), atol=1e-6):
        filling = source < _FILLING_HU
        image[...] = np.rint(source)
        image[filling] = AIR_HU
        return image, (~filling).astype(np.uint8)
    empty = source < _FILLING_HU
    layers: list[Any] = [np.where(empty, AIR_HU, source).astype(np.float32)]
    if empty.any():
        layers.append(empty.astype(np.float32))
    if field is None:
        layers = [_bordered(layer) for layer in layers]
    slab = max(1, (_SLAB_VOXELS if field is None else _SLAB_VOXELS // 4) // (shape[1] * shape[2]))
    for first in range(0, shape[0], slab):
        part = slice(first, min(first + slab, shape[0]))
        offset = to_index[:3, 3] + to_index[:3, 0] * first
        count = (part.stop - part.start, *shape[1:])
        places: list[Any] = [
            sum(
                (
                    np.arange(count[k]).reshape([-1 if k == j else 1 for j in range(3)]) * to_index[axis, k]
                    for k in range(3)
                ),
                offset[axis],
            )
            for axis in range(3)
        ]
        if field is None:
            look_up = partial(_by_matrix, matrix=to_index[:3, :3], offset=offset, shape=count)
        else:
            begin = like.affine.copy()
            begin[:3, 3] += first * begin[:3, 0]
            shifts = field.on(begin, count)
            places = [place + np.tensordot(shift_to_index[axis], shifts, 1) for axis, place in enumerate(places)]
            look_up = partial(_by_place, places=places)
        values, *shares = (look_up(layer) for layer in layers)
        inside = np.ones(count, dtype=bool)
        for axis, place in enumerate(places):
            inside &= (place >= -0.5 - 1e-6) & (place <= size[axis] - 0.5 + 1e-6)
        for share in shares:
            inside &= share < 1e-3
        values[~inside] = AIR_HU
        image[part] = np.rint(values)
        valid[part] = inside
    return image, valid


def _bordered(array: npt.NDArray[np.float32]) -> Any:
    """Return a SimpleITK image of an array in its own indices, its outermost values once more around it."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.pad(array, 1, mode="edge"))
    image.SetOrigin([-1.0, -1.0, -1.0])
    return image


def _by_matrix(image: Any, *, matrix: Matrix, offset: Matrix, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Look up an image of :func:`_bordered` where a matrix and an offset lead; ITK takes a third of SciPy's time."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[::-1, ::-1].ravel().tolist())
    transform.SetTranslation(offset[::-1].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetTransform(transform)
    resampler.SetSize(shape[::-1])
    return np.asarray(sitk.GetArrayFromImage(resampler.Execute(image)))


def _by_place(values: npt.NDArray[np.float32], *, places: list[Any]) -> npt.NDArray[np.float32]:
    from scipy import ndimage

    return np.asarray(ndimage.map_coordinates(values, places, order=1, mode="nearest", output=np.float32))
