"""Bringing the phases of a study onto the annotated volume's grid: affine registration and resampling.

As in the data descriptor (Moawad et al. 2023), other phases are registered to the annotated one by an affine
transform and interpolated linearly. The engine is greedy (PyPI ``picsl-greedy``, of the family of ITK-SNAP and
Convert3D); where it is not installed, SimpleITK does the work. Both see images averaged in plane to about 3 mm: that
is faster, and noise weighs less.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import NotAVolumeError, RegistrationError, UsageError
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.volumes.judgement import Judge, Verdict
from hcc_tace_data.volumes.similarity import (
    AIR_HU,
    body_mask,
    coarse_image,
    crop_to,
    moved_by,
    place_roughly,
)

if TYPE_CHECKING:
    import highdicom

__all__ = ["ENGINES", "Registration", "register", "resample"]

logger = logging.getLogger(__name__)

ENGINES = ("auto", "greedy", "simpleitk")
# In-plane size of the voxels that are registered, mm.
_COARSE_MM = 3.0
# Stored values this far below air are a scanner's filling outside its reconstruction circle.
_FILLING_HU = -1200
# Voxels resampled at a time: bounds the memory of coordinates.
_SLAB_VOXELS = 4_000_000
# Images thinner than this have no level that is shrunken by four.
_THREE_LEVELS_FROM = 40
_STDOUT_LOCK = threading.Lock()
_ITK_LOCK = threading.Lock()
# A line search that ends early is usual at the end of a level; the result is judged by its likeness.
_COMPLAINT = re.compile(r"\s*IFLAG= *-1\s+LINE SEARCH FAILED.*?INCORRECT TOLERANCES\s*", re.DOTALL)

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
    """

    matrix: Matrix
    engine: str
    similarity_before: float
    similarity_after: float
    plausible: bool
    reason: str = ""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the transform as an ITK text file, and how it came about as JSON beside it.

        Parameters
        ----------
        path : path-like
            For example ``arterial.txt``; the JSON becomes ``arterial.txt.json``.
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
        atomic_write_text(_notes_path(path), json.dumps(notes, indent=1) + "\n")

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
            return cls(matrix=matrix, **{name: notes[name] for name in _NOTES})
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise RegistrationError(
                f"{path} is not a stored registration ({error}). Delete it; it is re-created."
            ) from error


_NOTES = ("engine", "similarity_before", "similarity_after", "plausible", "reason")


def _notes_path(path: str | os.PathLike[str]) -> Path:
    return Path(f"{os.fspath(path)}.json")


def register(
    fixed: highdicom.Volume, moving: highdicom.Volume, *, engine: str = "auto", threads: int = 1
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

    Returns
    -------
    Registration
        Look at its `plausible` before using it.

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
    run, engine = _engine(engine)
    still, moved = coarse_image(fixed, _COARSE_MM), coarse_image(moving, _COARSE_MM)
    same_frame = fixed.frame_of_reference_uid == moving.frame_of_reference_uid
    shift = np.zeros(3) if same_frame else place_roughly(still, moved)
    start = np.eye(4)
    start[:3, 3] = shift
    body = body_mask(still)
    try:
        candidates = run(still, moved_by(moved, start), body, threads)
    except Exception as error:  # engines raise RuntimeError, and greedy its own C++ exceptions
        raise RegistrationError(f"{engine} failed: {type(error).__name__}: {error}") from error
    judge = Judge(still, moved, body)
    before = judge.likeness(np.eye(4))
    least = before if same_frame else max(before, judge.likeness(start))

    def judged(own: Matrix, name: str) -> tuple[Registration, Verdict]:
        verdict = judge.verdict(start, own, least)
        return Registration(
            matrix=start @ own,
            engine=name,
            similarity_before=round(before, 6),
            similarity_after=round(verdict.likeness, 6),
            plausible=not verdict.reason,
            reason=verdict.reason,
        ), verdict

    affine, rigid = candidates
    found, verdict = judged(affine, engine)
    if not found.plausible:
        other, fallback = judged(rigid, f"{engine} (rigid)")
        # Where images are most alike when stretched as bodies are not, a rigid transform hides what is wrong with them.
        if other.plausible and not (verdict.stretched and verdict.likeness > fallback.likeness):
            found = other
    if not found.plausible:
        logger.warning("registration is not plausible: %s", found.reason)
    return found


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
    from scipy import ndimage

    shape = tuple(int(length) for length in like.array.shape)
    matrix = np.eye(4) if registration is None else registration.matrix
    to_index = np.linalg.inv(moving.affine) @ matrix @ like.affine
    source, size = moving.array, np.array(moving.array.shape)
    image, valid = np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.uint8)
    if shape == source.shape and np.allclose(to_index, np.eye(4), atol=1e-6):
        filling = source < _FILLING_HU
        image[...] = np.rint(source)
        image[filling] = AIR_HU
        return image, (~filling).astype(np.uint8)
    empty = source < _FILLING_HU
    has_filling = bool(empty.any())
    source = np.where(empty, AIR_HU, source).astype(np.float32)
    slab = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for first in range(0, shape[0], slab):
        part = slice(first, min(first + slab, shape[0]))
        offset = to_index[:3, 3] + to_index[:3, 0] * first
        count = (part.stop - part.start, *shape[1:])
        values = ndimage.affine_transform(
            source, to_index[:3, :3], offset, output_shape=count, order=1, mode="nearest", output=np.float32
        )
        inside = np.ones(count, dtype=bool)
        for axis in range(3):
            place = offset[axis] + sum(
                np.arange(count[k]).reshape([-1 if k == j else 1 for j in range(3)]) * to_index[axis, k]
                for k in range(3)
            )
            inside &= (place >= -0.5 - 1e-6) & (place <= size[axis] - 0.5 + 1e-6)
        if has_filling:
            reached = ndimage.affine_transform(
                empty.astype(np.float32), to_index[:3, :3], offset, output_shape=count, order=1, mode="nearest"
            )
            inside &= reached < 1e-3
        values[~inside] = AIR_HU
        image[part] = np.rint(values)
        valid[part] = inside
    return image, valid


def _engine(name: str) -> tuple[Callable[[Any, Any, Any, int], tuple[Matrix, Matrix]], str]:
    if name == "simpleitk":
        return _by_simpleitk, name
    try:
        import picsl_greedy  # noqa: F401
    except ImportError:
        if name == "greedy":
            raise UsageError("engine 'greedy' needs picsl-greedy: pip install picsl-greedy.") from None
        return _by_simpleitk, "simpleitk"
    return _by_greedy, "greedy"


def _by_greedy(fixed: Any, moving: Any, body: Any, threads: int) -> tuple[Matrix, Matrix]:
    """Run greedy; its matrices are in RAS coordinates."""
    from picsl_greedy import Greedy3D

    # the scanner's table does not breathe: only the body counts
    still, mask = crop_to(fixed, body), crop_to(body, body)
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])

    def run(moved: Any, freedom: int, metric: str, levels: str) -> Matrix:
        words = (
            f"-i fixed moving -gm mask -a -dof {freedom} -m {metric} -n {levels} -ia-identity -o affine -V 0 "
            f"-seed 1 -threads {threads}"
        )
        said = io.StringIO()
        engine = Greedy3D()
        with _quiet_stdout():
            engine.execute(words, out=said, err=said, fixed=still, moving=moved, mask=mask, affine=None)
        return np.asarray(flip @ np.asarray(engine["affine"], dtype=float) @ flip)

    # few slices leave no third level, and a stretch along them can hide a shift: the body first moves as a whole
    deep = min(still.GetSize()) >= _THREE_LEVELS_FROM
    # local correlation sees edges move where contrast agent fills vessels, mutual information does not; but few voxels
    # make too poor a histogram, and the search then runs away
    metric = "MI" if deep else "WNCC 2x2x2"
    rigid = run(moving, 6, metric, "60x30x0" if deep else "60x30")
    levels = "30x30x10" if deep else "30x30"
    affine = rigid @ run(moved_by(moving, rigid), 12, metric, levels)
    return affine, rigid


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep what greedy's optimiser prints past Python off the standard output, where a command prints its JSON.

    What anything else of this process prints meanwhile is printed afterwards.
    """
    with _STDOUT_LOCK, tempfile.TemporaryFile() as caught:
        sys.stdout.flush()
        kept = os.dup(1)
        try:
            os.dup2(caught.fileno(), 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            caught.seek(0)
            said = caught.read().decode("utf-8", "replace")
            others, count = _COMPLAINT.subn("", said)
            if count:
                logger.debug("greedy's optimiser ended its line search early, %d times", count)
            if others.strip():
                sys.stdout.write(others)


def _by_simpleitk(fixed: Any, moving: Any, body: Any, threads: int) -> tuple[Matrix, Matrix]:
    """Climb Mattes' mutual information over three levels."""
    import SimpleITK as sitk

    middle = [float(count) / 2 for count in fixed.GetSize()]
    centre = fixed.TransformContinuousIndexToPhysicalPoint(middle)

    def run(moved: Any, transform: Any) -> Matrix:
        transform.SetCenter(centre)
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.1, 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 80, 0.6)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2, 1, 0])
        method.SetInitialTransform(transform, inPlace=True)
        method.SetNumberOfThreads(threads)
        method.Execute(fixed, moved)
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
        matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ np.array(centre)
        return matrix

    with _work_units(threads):
        rigid = run(moving, sitk.Euler3DTransform())
        return rigid @ run(moved_by(moving, rigid), sitk.AffineTransform(3)), rigid


@contextmanager
def _work_units(count: int) -> Iterator[None]:
    """Have ITK's metrics, which take no number of threads of their own, add in the order of so many."""
    import SimpleITK as sitk

    with _ITK_LOCK:
        usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)
