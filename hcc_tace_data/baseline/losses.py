"""Losses of the baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hcc_tace_data.baseline.config import LossConfig
from hcc_tace_data.errors import UsageError

__all__ = ["cross_entropy", "segmentation_loss", "soft_dice_loss", "widen"]


def soft_dice_loss(logits: Tensor, label: Tensor, *, squared: bool = True, smooth: float = 1e-5) -> Tensor:
    """Mean over classes of one minus the soft Dice of the batch.

    Parameters
    ----------
    logits : Tensor, shape (N, classes, H, W) or (N, classes, D, H, W)
        Network output before softmax.
    label : Tensor of integer, shape (N, H, W) or (N, D, H, W)
        Class numbers.
    squared : bool
        Square the terms of the denominator (Milletari et al. 2016), as the paper's baseline does.
    smooth : float
        Added to both sides of the fraction; a class absent from both counts as found.

    Returns
    -------
    Tensor, shape ()
        Between 0 and 1.
    """
    if logits.ndim not in (4, 5) or label.shape != (logits.shape[0], *logits.shape[2:]):
        raise UsageError(f"logits {tuple(logits.shape)} and label {tuple(label.shape)} do not belong together.")
    probability = torch.softmax(logits.float(), dim=1)
    target = torch.nn.functional.one_hot(label.long(), logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    over = (0, *range(2, logits.ndim))
    overlap = (probability * target).sum(over)
    sizes = (probability**2 if squared else probability).sum(over) + target.sum(over)
    return 1 - ((2 * overlap + smooth) / (sizes + smooth)).mean()


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Mean cross-entropy of all pixels, as :func:`torch.nn.functional.cross_entropy` gives it.

    That one has no deterministic form on a GPU; this one has.

    Parameters
    ----------
    logits : Tensor, shape (N, classes, ...)
        Network output before softmax.
    label : Tensor of integer, shape (N, ...)
        Class numbers.
    """
    return -torch.log_softmax(logits.float(), dim=1).gather(1, label.long()[:, None]).mean()


def widen(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate logits (N, classes, h, w) to (H, W), where the network saw shrunk images; patches are not shrunk."""
    if logits.shape[2:] == tuple(size):
        return logits
    return nn.functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def segmentation_loss(output: Tensor | list[Tensor], target: Tensor, config: LossConfig) -> Tensor:
    """Weighted sum of soft Dice and cross-entropy, over all heads of a deeply supervised network.

    Parameters
    ----------
    output : Tensor or list of Tensor, shape (N, classes, H, W) or (N, classes, D, H, W)
        Logits; of several, finest first, each counts half of the one before, and all weights sum to one. The finest
        are widened to the target's size.
    target : Tensor of integer, shape (N, H, W) or (N, D, H, W)
        Class numbers; coarser heads see it at the nearest pixel.
    config : LossConfig
        Weights.
    """
    heads = output if isinstance(output, list) else [output]
    weights = [0.5**level for level in range(len(heads))]
    total = torch.zeros((), device=target.device)
    for weight, logits in zip(weights, heads, strict=True):
        part = target
        if logits is heads[0]:
            logits = widen(logits, target.shape[1:])
        elif logits.shape[2:] != target.shape[1:]:
            sized = nn.functional.interpolate(target[:, None].float(), size=logits.shape[2:], mode="nearest")
            part = sized[:, 0].long()
        loss = config.dice * soft_dice_loss(logits, part, squared=config.squared)
        if config.cross_entropy:
            loss = loss + config.cross_entropy * cross_entropy(logits, part)
        total = total + weight / sum(weights) * loss
    return total
