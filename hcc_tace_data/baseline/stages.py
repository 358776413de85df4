"""The two stages of the cascade: what each sees and what it must say.

Both work on stored labels of the standard set (1 liver, 2 tumour, 3 portal vein, 4 aorta). The whole liver is 1, 2
and 3: readers drew tumour and intrahepatic portal vein out of the liver.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hcc_tace_data.errors import BaselineError

__all__ = ["STAGES", "Stage", "prepare_batch", "scale_image", "whole_liver"]

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


def prepare_batch(
    stage: Stage, image: Tensor, label: Tensor, *, window: tuple[float, float] | None, liver: Tensor | None = None
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

    Returns
    -------
    image : Tensor of float32, shape (N, C, H, W)
    target : Tensor of int64, shape (N, H, W)
        1 is the whole liver, or the tumour.
    """
    scaled = scale_image(image, window)
    if stage == "liver":
        return scaled, whole_liver(label).long()
    if stage != "tumour":
        raise BaselineError(f"stage is {stage!r}; use {' or '.join(map(repr, STAGES))}.")
    inside = whole_liver(label) if liver is None else liver
    return torch.where(inside[:, None], scaled, torch.zeros_like(scaled)), ((label == 2) & inside).long()
