"""Random 3D patches from stored cases, with a chosen share of them on the tumour or the liver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError

__all__ = ["OUTSIDE_HU", "PatchPlan", "cut", "middle_corner", "patch_corner", "place_box"]


class Bounded(Protocol):
    """What has a shape (C, D, H, W) and the bounds of tumour and liver."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    @property
    def liver(self) -> tuple[tuple[int, int], ...] | None: ...

    @property
    def tumour(self) -> tuple[tuple[int, int], ...] | None: ...


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


def patch_corner(case: Bounded, plan: PatchPlan, *, sample: int, epoch: int) -> tuple[int, int, int]:
    """Return the first voxel (d, h, w) of a patch; it may be negative where the volume is smaller than the patch.

    Parameters
    ----------
    case : StoredCase, or whatever has its shape and bounds
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


def middle_corner(extent: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Return where a box of `size` begins that lies in the middle of an array of `extent`; negative if it is larger.

    Examples
    --------
    >>> middle_corner((10, 4), (6, 8))
    (2, -2)
    """
    return tuple((full - part) // 2 for full, part in zip(extent, size, strict=True))


def place_box(array: npt.NDArray[Any], corner: Sequence[int], out: npt.NDArray[Any], outside: int) -> None:
    """Copy the box that begins at `corner`, as large as `out`, out of the last axes of `array` into `out`.

    Leading axes, which `corner` does not name, are taken whole. Voxels outside `array` get the value `outside`. It
    converts as it copies.
    """
    axes = len(corner)
    inside: list[Any] = []
    into: list[Any] = []
    whole = True
    for start, length, extent in zip(corner, out.shape[-axes:], array.shape[-axes:], strict=True):
        first, last = max(start, 0), min(start + length, extent)
        inside.append(slice(first, max(first, last)))
        into.append(slice(first - start, max(first, last) - start))
        whole = whole and last - first == length
    if whole:
        np.copyto(out, array[(Ellipsis, *inside)])
        return
    out[...] = outside
    out[(Ellipsis, *into)] = array[(Ellipsis, *inside)]


def cut(
    array: npt.NDArray[np.generic], corner: Sequence[int], size: Sequence[int], *, outside: int
) -> npt.NDArray[np.generic]:
    """Copy a patch out of the last three axes of `array`; voxels outside it get the value `outside`.

    Examples
    --------
    >>> cut(np.arange(8).reshape(2, 2, 2), (1, 0, 0), (2, 1, 1), outside=-1).ravel().tolist()
    [4, -1]
    """
    patch = np.empty((*array.shape[: array.ndim - 3], *size), dtype=array.dtype)
    place_box(array, corner, patch, outside)
    return patch
