"""Random 3D patches from stored cases, with a chosen share of them on the tumour or the liver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["PatchPlan", "cut", "patch_corner"]

#: What lies outside the volume, HU: air.
OUTSIDE_HU = -1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPlan:
    """How patches are drawn.

    Attributes
    ----------
    size : tuple of int
        (D, H, W) voxels.
    per_volume : int
        Patches of each volume in an epoch.
    foreground : float
        Share of patches centred in the box of the tumour (of the liver, where a case has no tumour); the others are
        drawn anywhere in the volume.
    seed : int
        The same seed, epoch and sample give the same patch, whichever process cuts it.
    """

    size: tuple[int, int, int] = (96, 96, 96)
    per_volume: int = 4
    foreground: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.size) != 3 or min(self.size) < 1:
            raise UsageError(f"patch size is {self.size}; use three whole numbers of at least 1.")
        if self.per_volume < 1 or not 0 <= self.foreground <= 1:
            raise UsageError(
                f"per_volume is {self.per_volume} and foreground {self.foreground}; use at least 1, and 0 to 1."
            )


def patch_corner(case: StoredCase, plan: PatchPlan, *, sample: int, epoch: int) -> tuple[int, int, int]:
    """Return the first voxel (d, h, w) of a patch; it may be negative where the volume is smaller than the patch.

    Parameters
    ----------
    case : StoredCase
        Where to cut.
    plan : PatchPlan
        How.
    sample : int
        Number of the patch in the data set.
    epoch : int
        Another epoch, another patch.
    """
    rng = np.random.default_rng([plan.seed, epoch, sample])
    shape = case.shape[1:]
    box = case.tumour or case.liver
    # Every per_volume patches hold their exact share of foreground, not a share on average.
    slot = sample % plan.per_volume
    wants = int((slot + 1) * plan.foreground + 1e-9) > int(slot * plan.foreground + 1e-9)
    corner = []
    for axis, (length, size) in enumerate(zip(shape, plan.size, strict=True)):
        if length <= size:
            corner.append((length - size) // 2)  # centred; the rest is outside
            continue
        if wants and box is not None:
            first, last = box[axis]
            start = int(rng.integers(first, last)) - size // 2
        else:
            start = int(rng.integers(0, length - size + 1))
        corner.append(min(max(start, 0), length - size))
    return corner[0], corner[1], corner[2]


def cut(
    array: npt.NDArray[np.generic], corner: Sequence[int], size: Sequence[int], *, outside: int
) -> npt.NDArray[np.generic]:
    """Copy a patch out of the last three axes of `array`; voxels outside it get the value `outside`.

    Examples
    --------
    >>> cut(np.arange(8).reshape(2, 2, 2), (1, 0, 0), (2, 1, 1), outside=-1).ravel().tolist()
    [4, -1]
    """
    inside, into = [], []
    for start, length, extent in zip(corner, size, array.shape[-3:], strict=True):
        first, last = max(start, 0), min(start + length, extent)
        inside.append(slice(first, max(first, last)))
        into.append(slice(first - start, max(first, last) - start))
    lead = (slice(None),) * (array.ndim - 3)
    if all(part.stop - part.start == length for part, length in zip(inside, size, strict=True)):
        return np.array(array[(*lead, *inside)])
    patch = np.full((*array.shape[:-3], *size), outside, dtype=array.dtype)
    patch[(*lead, *into)] = array[(*lead, *inside)]
    return patch
