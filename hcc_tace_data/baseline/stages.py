"""The two stages of the cascade: what each sees and what it must say.

Both work on stored labels of the standard set (1 liver, 2 tumour, 3 portal vein, 4 aorta). The whole liver is 1, 2
and 3: readers drew tumour and intrahepatic portal vein out of the liver.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from hcc_tace_data.errors import BaselineError

__all__ = [
    "STAGES",
    "Stage",
    "keep_inside",
    "pad_to_multiple",
    "prepare_batch",
    "scale_image",
    "shrink_image",
    "shrink_mask",
    "whole_liver",
]

Stage = Literal["liver", "tumour"]
#: In the order in which they are trained and run.
STAGES: tuple[Stage, ...] = ("liver", "tumour")


def whole_liver(label: Tensor) -> Tensor:
    """Return the mask (bool) of the whole liver of a standard label map."""
    return (label == 1) | (label == 2) | (label == 3)


def scale_image(image: Tensor, window: tuple[float, float] | None) -> Tensor:
    """Map the window of HU to 0 ... 1, clipped; without a window only change the unit to 1000 HU."""
    if window is None:
        return image.float() / 1000
    low, high = window
    if not low < high:
        raise BaselineError(f"input.window is [{low}, {high}]; its first value must be below its second.")
    return ((image.float() - low) / (high - low)).clamp(0, 1)


def shrink_image(image: Tensor, factor: int) -> Tensor:
    """Average blocks of `factor` x `factor` pixels of (N, C, H, W); sides that do not divide are padded first."""
    return nn.functional.avg_pool2d(pad_to_multiple(image, factor), factor) if factor > 1 else image


def shrink_mask(mask: Tensor, factor: int) -> Tensor:
    """Shrink a mask (N, H, W) of bool alike: a block is inside when half of it is."""
    return shrink_image(mask[:, None].float(), factor)[:, 0] >= 0.5 if factor > 1 else mask


def keep_inside(image: Tensor, inside: Tensor, *, standardise: bool) -> Tensor:
    """Blank (N, C, H, W) outside a mask (N, H, W), after giving what is inside mean 0 and deviation 1 if asked to."""
    mask = inside[:, None]
    if standardise:
        count = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        mean = (image * mask).sum(dim=(2, 3), keepdim=True) / count
        spread = (((image - mean) * mask) ** 2).sum(dim=(2, 3), keepdim=True) / count
        image = (image - mean) / (spread.sqrt() + 1e-3)
    return torch.where(mask, image, torch.zeros_like(image))


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (N, C, H, W) at the ends of rows and columns to multiples, with the values at the edge."""
    pad = (0, -image.shape[-1] % multiple, 0, -image.shape[-2] % multiple)
    return nn.functional.pad(image, pad, mode="replicate") if any(pad) else image


def prepare_batch(
    stage: Stage,
    image: Tensor,
    label: Tensor,
    *,
    window: tuple[float, float] | None,
    liver: Tensor | None = None,
    shrink: int = 1,
    multiple: int = 1,
    standardise: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return network input and target of a stage.

    Parameters
    ----------
    stage : {"liver", "tumour"}
        Which network.
    image : Tensor, shape (N, C, H, W)
        HU.
    label : Tensor of uint8, shape (N, H, W)
        Standard classes.
    window : tuple of float, optional
        HU that become 0 and 1.
    liver : Tensor of bool, shape (N, H, W), optional
        The liver that the tumour stage sees; default the true one. What lies outside it is blanked.
    shrink : int
        Blocks of so many pixels along rows and columns are averaged.
    multiple : int
        Sides are padded to multiples of this, the target with background.
    standardise : bool
        Whether the tumour stage sees the liver with mean 0 and standard deviation 1.

    Returns
    -------
    image : Tensor of float32, shape (N, C, H, W)
    target : Tensor of int64, shape (N, H, W)
        1 is the whole liver, or the tumour.
    """
    if stage not in STAGES:
        raise BaselineError(f"stage is {stage!r}; use {' or '.join(map(repr, STAGES))}.")
    scaled = shrink_image(scale_image(image, window), shrink)
    if stage == "liver":
        target = shrink_mask(whole_liver(label), shrink)
    else:
        inside = whole_liver(label) if liver is None else liver.bool()
        target = shrink_mask((label == 2) & inside, shrink)
        scaled = keep_inside(scaled, shrink_mask(inside, shrink), standardise=standardise)
    height, width = scaled.shape[-2:]
    rows, columns = -height % multiple, -width % multiple
    if rows or columns:
        scaled = pad_to_multiple(scaled, multiple)
        target = nn.functional.pad(target, (0, columns, 0, rows))
    return scaled, target.long()
