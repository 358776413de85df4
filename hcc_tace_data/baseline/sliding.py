"""Prediction of a volume by a 3D network: a window slides over it, and what overlaps is averaged."""

from __future__ import annotations

from itertools import chain, combinations

import torch
from torch import Tensor, nn

from hcc_tace_data.baseline.config import InputConfig, PatchConfig
from hcc_tace_data.baseline.stages import scale_image
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, bounds

__all__ = ["slide", "window_count"]

#: Windows predicted at once. Narrow 3D convolutions of a single one are several times slower on a CPU: PyTorch then
#: leaves its fast library for a general form.
_AT_ONCE = 2


def slide(
    model: nn.Module,
    image: Tensor,
    settings: InputConfig,
    patches: PatchConfig,
    *,
    liver: Tensor | None = None,
    flips: bool = False,
) -> Tensor:
    """Return the probability, float32 (classes, D, H, W), that each voxel is of each class.

    Windows count most in their middle (a Gaussian). Where one window holds the whole volume, the result is that of one
    pass of the network.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    image : Tensor, shape (C, D, H, W)
        HU.
    settings : InputConfig
        As in training.
    patches : PatchConfig
        Size and overlap of the windows.
    liver : Tensor of bool, shape (D, H, W), optional
        The network sees this alone, in the box around it; outside it everything is background.
    flips : bool
        Average over the image mirrored along every set of axes where training mirrors patches, else left to right.
    """
    # its import takes seconds
    from monai.inferers.utils import sliding_window_inference  # noqa: PLC0415 - slow to import

    device = next(model.parameters()).device
    classes = _classes(model)
    result = torch.zeros((classes, *image.shape[1:]), dtype=torch.float32)
    result[0] = 1
    where: tuple[slice, ...] = (slice(None),) * 3
    if liver is not None:
        box = bounds(liver.numpy())
        if box is None:
            return result
        where = tuple(slice(first, last) for first, last in box)
    scaled = scale_image(image[(slice(None), *where)], settings.window)
    outside = 0.0
    if liver is None:
        outside = float(scale_image(torch.tensor([OUTSIDE_HU]), settings.window))
    else:
        scaled = torch.where(liver[where], scaled, 0.0)
    axes = (2, 3, 4) if patches.mirror else (4,)
    mirrored = list(chain.from_iterable(combinations(axes, length) for length in range(len(axes) + 1)))
    if not flips:
        mirrored = [()]

    def probability(windows: Tensor) -> Tensor:
        count = len(windows)
        if count == 1 and device.type == "cpu":
            windows = windows.expand(_AT_ONCE, *windows.shape[1:])
        total = torch.zeros((), device=windows.device)
        for way in mirrored:
            logits: Tensor = model(windows.flip(way)).float()
            total = total + logits.softmax(dim=1).flip(way)
        return total[:count] / len(mirrored)

    with torch.inference_mode():
        found = sliding_window_inference(
            scaled[None],
            roi_size=patches.size,
            sw_batch_size=_AT_ONCE,
            predictor=probability,
            overlap=patches.overlap,
            mode="gaussian",
            padding_mode="constant",
            cval=outside,
            sw_device=device,
            device=torch.device("cpu"),
        )
    result[(slice(None), *where)] = found[0]
    if liver is not None:
        result[1:] *= liver
        result[0] = torch.where(liver, result[0], 1.0)
    return result


def _classes(model: nn.Module) -> int:
    head = model.get_submodule("head")
    return int(next(head.parameters()).shape[0])


def window_count(extent: tuple[int, ...], patches: PatchConfig) -> int:
    """Return how many windows a volume of (D, H, W) takes.

    Examples
    --------
    >>> window_count((90, 512, 512), PatchConfig(size=(64, 192, 192)))
    50
    """
    total = 1
    for full, side in zip(extent, patches.size, strict=True):
        step = max(1, int(side * (1 - patches.overlap)))
        total *= 1 if full <= side else -(-(full - side) // step) + 1
    return total
