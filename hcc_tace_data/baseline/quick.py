"""A short training of a small U-Net on axial slices: shows that data, labels and network fit together.

Not the reference baseline: no schedule, no augmentation, minutes on a CPU.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hcc_tace_data.baseline.losses import soft_dice_loss
from hcc_tace_data.baseline.unet import UNet2d
from hcc_tace_data.errors import UsageError

__all__ = ["QuickResult", "predict_volume", "scale_hu", "train_quickly"]

logger = logging.getLogger(__name__)

#: HU that become 0 and 1: narrow, because a tumour differs from the liver by some 25 HU.
WINDOW = (-50.0, 250.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickResult:
    """A trained model and how it got there.

    Attributes
    ----------
    model : UNet2d
        In evaluation mode, on the CPU.
    losses : tuple of float
        Mean training loss of each epoch.
    steps : int
        Optimisation steps.
    seconds : float
        Wall time of the training.
    """

    model: UNet2d
    losses: tuple[float, ...]
    steps: int
    seconds: float


def scale_hu(image: Tensor) -> Tensor:
    """Map the soft-tissue window of HU to 0 ... 1, clipped."""
    low, high = WINDOW
    return ((image - low) / (high - low)).clamp(0, 1)


def train_quickly(
    dataset: Dataset[Any] | Sequence[Mapping[str, Any]],
    *,
    classes: int,
    seconds: float = 60.0,
    batch_size: int = 8,
    widths: tuple[int, ...] = (16, 32, 64),
    lr: float = 3e-3,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> QuickResult:
    """Train a small U-Net on slices for about `seconds`.

    Parameters
    ----------
    dataset : Dataset or sequence of mapping
        Slices, each with ``image`` (C, H, W) in HU and ``label`` (H, W), as
        :func:`hcc_tace_data.load_hcc_tace` serves them with ``unit="slice"``.
    classes : int
        Classes, background included.
    seconds : float
        Budget of wall time; the epoch under way is broken off at its end.
    batch_size, widths, lr, seed
        Of the training. The learning rate falls to nothing over the budget.
    progress : callable, optional
        Called with the share of the budget used, 0 to 1.
    """
    count = len(dataset)  # type: ignore[arg-type]  # torch's Dataset does not promise a length, ours has one
    if not count:
        raise UsageError("no slices to train on.")
    # Decoding again in every epoch would eat the budget: scaled slices are small, so keep them.
    scaled = [(scale_hu(sample["image"]), sample["label"].long()) for sample in (dataset[i] for i in range(count))]
    torch.manual_seed(seed)
    model = UNet2d(in_channels=scaled[0][0].shape[0], classes=classes, widths=widths, dropout=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(scaled, batch_size=batch_size, shuffle=True, generator=generator)  # type: ignore[arg-type, var-annotated]
    losses: list[float] = []
    start, steps = time.monotonic(), 0
    while not losses or time.monotonic() - start < seconds:
        epoch = []
        model.train()
        for image, label in loader:
            share = min(1.0, (time.monotonic() - start) / seconds)
            for group in optimizer.param_groups:
                group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * share)) + 1e-5
            optimizer.zero_grad()
            logits = model(image)
            loss = soft_dice_loss(logits, label) + torch.nn.functional.cross_entropy(logits, label)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
            optimizer.step()
            epoch.append(float(loss.detach()))
            steps += 1
            if progress is not None:
                progress(share)
            if time.monotonic() - start > seconds:
                break
        losses.append(float(np.mean(epoch)))
        logger.info("epoch %d: loss %.4f", len(losses), losses[-1])
    return QuickResult(model=model.eval(), losses=tuple(losses), steps=steps, seconds=time.monotonic() - start)


def predict_volume(model: UNet2d, image: Tensor, *, batch_size: int = 8) -> npt.NDArray[np.uint8]:
    """Return class numbers (D, H, W) for `image` (C, D, H, W) in HU, slice by slice."""
    slices = scale_hu(image).movedim(1, 0)
    with torch.inference_mode():
        parts = [model(batch).argmax(dim=1).to(torch.uint8) for batch in torch.split(slices, batch_size)]
    result: npt.NDArray[np.uint8] = torch.cat(parts).numpy()
    return result
