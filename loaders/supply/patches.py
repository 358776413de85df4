"""Random 3D patches from stored cases, with a chosen share of them on the tumour or the liver."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from struct import unpack
from typing import Protocol

from hcc_tace_data.errors import UsageError

__all__ = ["PatchPlan", "patch_corner"]


class Bounded(Protocol):
    """What has a shape (C, D, H, W) and the bounds of tumour and liver."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    @property
    def liver(self) -> tuple[tuple[int, int], ...] | None: ...

    @property
    def tumour(self) -> tuple[tuple[int, int], ...] | None: ...


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
    # a digest is as good as a generator for three numbers, the same everywhere, and needs no state to be filled first
    drawn = unpack("<3Q", blake2b(f"{plan.seed} {epoch} {sample}".encode(), digest_size=24).digest())
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
            start = first + (drawn[axis] * (last - first) >> 64) - size // 2
        else:
            start = drawn[axis] * (length - size + 1) >> 64
        corner.append(min(max(start, 0), length - size))
    return corner[0], corner[1], corner[2]
