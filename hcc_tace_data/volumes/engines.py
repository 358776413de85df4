"""The engines that find transforms between coarse images: greedy, and SimpleITK where it is not installed."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.volumes.similarity import crop_to, moved_by

__all__ = ["ENGINES", "FLIP", "THIN_BELOW", "Engine", "affine_by_greedy", "choose_engine", "run_greedy"]

logger = logging.getLogger(__name__)

ENGINES = ("auto", "greedy", "simpleitk")
#: An image of fewer voxels along any axis is thin: no longer search is better there.
THIN_BELOW = 24
#: Between LPS and greedy's RAS coordinates.
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_STDOUT_LOCK = threading.Lock()
_ITK_LOCK = threading.Lock()
# A line search that ends early is usual at the end of a level; the result is judged by its likeness.
_COMPLAINT = re.compile(r"\s*IFLAG= *-1\s+LINE SEARCH FAILED.*?INCORRECT TOLERANCES\s*", re.DOTALL)

Matrix = npt.NDArray[np.float64]
Search = Callable[[Any, Any, Any, int], tuple[Matrix, Matrix]]


@dataclass(frozen=True, slots=True)
class Engine:
    """How transforms are found.

    Attributes
    ----------
    name : str
        "greedy" or "simpleitk".
    search : callable
        (fixed, moving, body, threads) -> affine and rigid matrix, (4, 4), LPS mm.
    rigid : callable
        (fixed, moving, body, threads) -> rigid matrix alone, quickly.
    thorough : callable or None
        A longer search, for where the first was in doubt.
    """

    name: str
    search: Search
    rigid: Callable[[Any, Any, Any, int], Matrix]
    thorough: Search | None = None


def choose_engine(name: str) -> Engine:
    """Return an engine by its name.

    Raises
    ------
    UsageError
        greedy was asked for and is not installed.
    """
    if name != "simpleitk":
        try:
            import picsl_greedy  # noqa: F401

            return Engine("greedy", _by_greedy, _rigid_by_greedy, _by_greedy_thoroughly)
        except ImportError:
            if name == "greedy":
                raise UsageError("engine 'greedy' needs picsl-greedy: pip install picsl-greedy.") from None
    return Engine("simpleitk", _by_simpleitk, _rigid_by_simpleitk)


def run_greedy(words: str, wanted: str, **images: Any) -> Any:
    """Run greedy in memory with a fixed seed, and return what it made under the name `wanted`.

    Parameters
    ----------
    words : str
        Its options; names among them are those of `images`.
    wanted : str
        Name of the output.
    **images : SimpleITK.Image or ndarray
        Images, and matrices (4, 4) in RAS coordinates.
    """
    from picsl_greedy import Greedy3D

    said = io.StringIO()
    engine = Greedy3D()
    with _quiet_stdout():
        engine.execute(f"{words} -o {wanted} -V 0 -seed 1", out=said, err=said, **images, **{wanted: None})
    found = engine[wanted]
    return np.array(found) if isinstance(found, np.ndarray) else found  # a matrix is a view of the engine's memory


def affine_by_greedy(words: str, fixed: Any, moving: Any, mask: Any) -> Matrix:
    """Return the matrix (4, 4), LPS mm, that greedy finds in its affine mode, from where the images lie."""
    found = run_greedy(
        f"-i fixed moving -gm mask -a -ia-identity {words}", "affine", fixed=fixed, moving=moving, mask=mask
    )
    return np.asarray(FLIP @ np.array(found, dtype=float) @ FLIP)


def _by_greedy(
    fixed: Any, moving: Any, body: Any, threads: int, rigid_levels: str = "60x0", levels: str = "30x10"
) -> tuple[Matrix, Matrix]:
    # the scanner's table does not breathe: only the body counts
    still, mask = crop_to(fixed, body), crop_to(body, body)
    # Two levels: at a third, slices of 5 mm become slices of 20 mm, too few for a histogram, and the search runs away.
    # A stretch along the body can hide a shift, so the body first moves as a whole. Local correlation sees edges move
    # where contrast agent fills vessels, mutual information does not; but the few voxels of a thin image make too poor
    # a histogram.
    metric = "MI"
    if min(still.GetSize()) < THIN_BELOW:
        metric, rigid_levels, levels = "WNCC 2x2x2", "60x30", "30x30"
    words = f"-m {metric} -threads {threads}"
    rigid = affine_by_greedy(f"{words} -dof 6 -n {rigid_levels}", still, moving, mask)
    affine = rigid @ affine_by_greedy(f"{words} -dof 12 -n {levels}", still, moved_by(moving, rigid), mask)
    return affine, rigid


def _rigid_by_greedy(fixed: Any, moving: Any, body: Any, threads: int) -> Matrix:
    return affine_by_greedy(f"-m MI -threads {threads} -dof 6 -n 30", crop_to(fixed, body), moving, crop_to(body, body))


def _by_greedy_thoroughly(fixed: Any, moving: Any, body: Any, threads: int) -> tuple[Matrix, Matrix]:
    return _by_greedy(fixed, moving, body, threads, "60x30", "30x30")


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
    import SimpleITK as sitk

    rigid = _rigid_by_simpleitk(fixed, moving, body, threads)
    return rigid @ _climb(fixed, moved_by(moving, rigid), sitk.AffineTransform(3), threads), rigid


def _rigid_by_simpleitk(fixed: Any, moving: Any, body: Any, threads: int) -> Matrix:
    import SimpleITK as sitk

    return _climb(fixed, moving, sitk.Euler3DTransform(), threads)


def _climb(fixed: Any, moving: Any, transform: Any, threads: int) -> Matrix:
    """Climb Mattes' mutual information over three levels, and return the matrix (4, 4)."""
    import SimpleITK as sitk

    middle = [float(count) / 2 for count in fixed.GetSize()]
    centre = fixed.TransformContinuousIndexToPhysicalPoint(middle)
    transform.SetCenter(centre)
    with _work_units(threads):
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
        method.Execute(fixed, moving)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ np.array(centre)
    return matrix


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
