"""Random 3D patches from stored cases, with a chosen share of them on the tumour or the liver."""

from __future__ import annotations

from hashlib import blake2b
from struct import unpack
from typing import Protocol

from hcc_tace_data.loaders.units import Patches

__all__ = ["patch_corner"]


class Bounded(Protocol):
    """What has a shape (C, D, H, W) and the bounds of tumour and liver."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    @property
    def liver(self) -> tuple[tuple[int, int], ...] | None: ...

    @property
    def tumour(self) -> tuple[tuple[int, int], ...] | None: ...


def patch_corner(
    case: Bounded, patches: Patches, *, sample: int, epoch: int, liver_only: bool = False
) -> tuple[int, int, int]:
    """Return the first voxel (d, h, w) of a patch; it may be negative where the volume is smaller than the patch.

    Parameters
    ----------
    case : StoredCase, or anything with its shape and bounds
        Where to cut.
    patches : Patches
        How.
    sample : int
        Number of the patch in the data set.
    epoch : int
        Another epoch, another patch.
    liver_only : bool
        Centre the others in the bounding box of the liver instead of anywhere.
    """
    # a digest is as good as a generator for three numbers, the same everywhere, and needs no state to be filled first
    drawn = unpack("<3Q", blake2b(f"{patches.seed} {epoch} {sample}".encode(), digest_size=24).digest())
    shape = case.shape[1:]
    # Every per_volume patches hold their exact share of foreground, not a share on average.
    slot = sample % patches.per_volume
    wants = int((slot + 1) * patches.foreground + 1e-9) > int(slot * patches.foreground + 1e-9)
    box = (case.tumour or case.liver) if wants else case.liver if liver_only else None
    corner = []
    for axis, (length, size) in enumerate(zip(shape, patches.size, strict=True)):
        if length <= size:
            corner.append((length - size) // 2)  # centred; the rest is outside
            continue
        if box is not None:
            first, last = box[axis]
            start = first + (drawn[axis] * (last - first) >> 64) - size // 2
        else:
            start = drawn[axis] * (length - size + 1) >> 64
        corner.append(min(max(start, 0), length - size))
    return corner[0], corner[1], corner[2]
