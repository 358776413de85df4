"""Losses of the baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from hcc_tace_data.errors import UsageError

__all__ = ["soft_dice_loss"]


def soft_dice_loss(logits: Tensor, label: Tensor, *, squared: bool = True, smooth: float = 1e-5) -> Tensor:
    """Mean over classes of one minus the soft Dice of the batch.

    Parameters
    ----------
    logits : Tensor, shape (N, classes, H, W)
        Network output before softmax.
    label : Tensor of integer, shape (N, H, W)
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
    if logits.ndim != 4 or label.shape != (logits.shape[0], *logits.shape[2:]):
        raise UsageError(f"logits {tuple(logits.shape)} and label {tuple(label.shape)} do not belong together.")
    probability = torch.softmax(logits.float(), dim=1)
    target = torch.nn.functional.one_hot(label.long(), logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    over = (0, 2, 3)
    overlap = (probability * target).sum(over)
    sizes = (probability**2 if squared else probability).sum(over) + target.sum(over)
    return 1 - ((2 * overlap + smooth) / (sizes + smooth)).mean()
