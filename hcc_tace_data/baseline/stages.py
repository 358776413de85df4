"""The stages of the cascade: what each sees and what it must say.

All work on stored labels of the standard set (1 liver, 2 tumour, 3 portal vein, 4 aorta). The whole liver is 1, 2
and 3: readers drew tumour and intrahepatic portal vein out of the liver.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hcc_tace_data.baseline.config import STAGES, InputConfig, Stage, TrainConfig
from hcc_tace_data.errors import BaselineError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.volumes.similarity import AIR_HU

__all__ = [
    "ALL_STAGES",
    "STAGES",
    "Stage",
    "StageBatch",
    "crop_batch",
    "grow",
    "liver_windows",
    "pad_inside",
    "pad_to_multiple",
    "prepare_batch",
    "scale_image",
    "see_liver",
    "shrink_image",
    "shrink_mask",
    "stages_of",
    "standardise_inside",
    "whole_liver",
]

#: Every stage there is.
ALL_STAGES: tuple[Stage, ...] = ("liver", "joint", "tumour")
#: Sides of cropped images are multiples of this at least, so that few different sizes occur.
_SIDES = 8


class StageBatch(NamedTuple):
    """What a network learns from; slices, or patches with an axis more.

    Attributes
    ----------
    image : Tensor of float32, shape (N, C, h, w)
        Scaled and shrunk; h = H / shrink.
    target : Tensor of int64, shape (N, H, W)
        1 is the whole liver, or the tumour; of the joint stage 1 is the liver around the tumour, and 2 the tumour. Not
        shrunk: the network's answer is widened before it is compared.
    inside : Tensor of bool, shape (N, h, w), or None
        The liver that the tumour network sees.
    """

    image: Tensor
    target: Tensor
    inside: Tensor | None


def whole_liver(label: Tensor) -> Tensor:
    """Return the mask (bool) of the whole liver of a standard label map."""
    return reduce(torch.logical_or, [label == number for number in load_catalog().vocabulary.liver_classes])


def scale_image(image: Tensor, window: tuple[float, float] | None) -> Tensor:
    """Map the window of HU to 0 ... 1, clipped; without a window only change the unit to 1000 HU.

    What is below air, the scanner's filling outside its circle of reconstruction, becomes air: it is -2048 HU in some
    series and -1024 in others.
    """
    if window is None:
        return image.float().clamp(min=AIR_HU) / 1000
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


def grow(mask: Tensor, pixels: int) -> Tensor:
    """Widen a mask (N, ..., H, W) of bool by so many pixels along rows, columns, diagonals; narrow it when below 0."""
    found = mask if pixels >= 0 else ~mask
    for axis in (-2, -1):  # a square is wide in one direction, then in the other; shifting is faster than pooling
        wide, length = found.clone(), found.shape[axis]
        for shift in range(1, min(abs(pixels), length - 1) + 1):
            wide.narrow(axis, shift, length - shift).logical_or_(found.narrow(axis, 0, length - shift))
            wide.narrow(axis, 0, length - shift).logical_or_(found.narrow(axis, shift, length - shift))
        found = wide
    return found if pixels >= 0 else ~found


def standardise_inside(image: Tensor, inside: Tensor) -> Tensor:
    """Give each slice of (N, C, H, W) mean 0 and standard deviation 1 within a mask (N, H, W).

    Pixels at the mask's edge do not count unless most are: fat beside a liver would make it look uneven.
    """
    mask = inside[:, None].to(image.dtype)
    core = grow(inside, -1)[:, None].to(image.dtype)
    enough = 2 * core.sum(dim=(2, 3), keepdim=True) >= mask.sum(dim=(2, 3), keepdim=True)
    mask = torch.where(enough, core, mask)
    count = mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    mean = (image * mask).sum(dim=(2, 3), keepdim=True) / count
    spread = (((image - mean) * mask) ** 2).sum(dim=(2, 3), keepdim=True) / count
    return (image - mean) / (spread.sqrt() + 1e-3)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad (N, C, H, W) at the ends of rows and columns to multiples, with the values at the edge."""
    pad = (0, -image.shape[-1] % multiple, 0, -image.shape[-2] % multiple)
    return nn.functional.pad(image, pad, mode="replicate") if any(pad) else image


def see_liver(image: Tensor, inside: Tensor, settings: InputConfig) -> tuple[Tensor, Tensor]:
    """Return what the tumour network sees of scaled slices (N, C, h, w), and the mask of the liver on their grid.

    The image is standardised where the settings ask for it and not yet blanked outside `inside` (N, H, W).
    """
    seen = shrink_mask(inside, settings.shrink)
    return (standardise_inside(image, seen) if settings.standardise else image), seen


def prepare_batch(
    stage: Stage, image: Tensor, label: Tensor, settings: InputConfig, *, liver: Tensor | None = None
) -> StageBatch:
    """Scale slices or patches and make the target of a stage.

    Parameters
    ----------
    stage : {"liver", "tumour", "joint"}
        Which network.
    image : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        HU.
    label : Tensor of uint8, shape (N, H, W) or (N, D, H, W)
        Standard classes.
    settings : InputConfig
        Window, shrinking, standardisation.
    liver : Tensor of bool, shape of `label`, optional
        The liver that the tumour stage sees; default the true one.

    Returns
    -------
    StageBatch
        Sides are multiples of `settings.shrink`. What lies outside the liver is blanked by :func:`crop_batch`, after
        augmentation, which would fill it.
    """
    if stage not in ALL_STAGES:
        raise BaselineError(f"stage is {stage!r}; use {' or '.join(map(repr, ALL_STAGES))}.")
    scaled = shrink_image(scale_image(image, settings.window), settings.shrink)
    whole = whole_liver(label)
    if stage != "tumour":
        target = whole.long() if stage == "liver" else whole.long() + (whole & (label == 2)).long()
        return StageBatch(scaled, _pad_ends(target, settings.shrink), None)
    inside = whole if liver is None else liver.bool()
    scaled, seen = see_liver(scaled, inside, settings)
    return StageBatch(scaled, _pad_ends(((label == 2) & inside).long(), settings.shrink), seen)


def liver_windows(inside: Tensor, multiple: int = 1, *, room: float = 0) -> list[tuple[slice, slice]]:
    """Return rows and columns around the mask of each slice (N, H, W), all of one size, with sides that are multiples.

    Sides are those of the largest mask and, on both ends, `room` times as much. Each is centred on its mask as far as
    the image reaches. Where the sides do not fit into it they end beyond it.
    """
    starts: list[list[int]] = []
    sides: list[int] = []
    for axis in (2, 1):
        shown = inside.any(dim=axis)
        length = shown.shape[1]
        first = shown.int().argmax(dim=1)
        last = torch.where(shown.any(dim=1), length - shown.flip(1).int().argmax(dim=1), first)
        extent = math.ceil(int((last - first).max()) * (1 + 2 * room))
        side = max(1, -(-extent // multiple)) * multiple
        start = first - (side - (last - first)) // 2
        starts.append(start.clamp(max=max(0, length - side)).clamp(min=0).tolist())
        sides.append(side)
    height, width = sides
    return [(slice(row, row + height), slice(column, column + width)) for row, column in zip(*starts, strict=True)]


def crop_batch(batch: StageBatch, settings: InputConfig, multiple: int) -> tuple[Tensor, Tensor]:
    """Blank what lies outside the liver, cut each slice to it where the settings ask for it, and pad to multiples.

    Returns
    -------
    image : Tensor of float32, shape (N, C, h, w)
    target : Tensor of int64, shape (N, h * shrink, w * shrink)
    """
    image, target, inside = batch
    if inside is None:
        image = pad_to_multiple(image, multiple)
    else:
        image = torch.where(inside[:, None], image, 0.0)
        if settings.crop:
            windows = liver_windows(inside, max(multiple, _SIDES))
            image = torch.stack([image[n, :, rows, columns] for n, (rows, columns) in enumerate(windows)])
            wider = [tuple(_wider(part, settings.shrink) for part in window) for window in windows]
            target = torch.stack([target[n, rows, columns] for n, (rows, columns) in enumerate(wider)])
        image = _pad_ends(image, multiple)
    rows_missing = image.shape[-2] * settings.shrink - target.shape[-2]
    columns_missing = image.shape[-1] * settings.shrink - target.shape[-1]
    return image, nn.functional.pad(target, (0, columns_missing, 0, rows_missing))


def pad_inside(image: Tensor, inside: Tensor | None, multiple: int) -> Tensor:
    """Blank (N, C, H, W) outside a mask (N, H, W) and pad to multiples; without a mask the edge's values go on."""
    if inside is None:
        return pad_to_multiple(image, multiple)
    return _pad_ends(torch.where(inside[:, None], image, 0.0), multiple)


def _wider(part: slice, factor: int) -> slice:
    return slice(part.start * factor, part.stop * factor)


def _pad_ends(values: Tensor, multiple: int) -> Tensor:
    """Pad rows and columns with zeros to multiples."""
    pad = (0, -values.shape[-1] % multiple, 0, -values.shape[-2] % multiple)
    return nn.functional.pad(values, pad) if any(pad) else values


def stages_of(stage: str, config: TrainConfig) -> tuple[Stage, ...]:
    """Return the stages that an option names; "both" are those of the configuration.

    Raises
    ------
    UsageError
        No such stage, or none that the configuration's network can learn.
    """
    if stage == "both":
        return config.stages
    possible: tuple[Stage, ...] = STAGES if config.input.patches is None else ALL_STAGES
    if stage not in possible:
        raise UsageError(f"stage is {stage!r}; use {', '.join(possible)} or both.")
    return (stage,)
