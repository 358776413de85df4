"""The 2D U-Net of the paper's baseline.

Moawad et al. (Sci Data 2023) and Morshid et al. (Radiol Artif Intell 2019): 3x3 convolutions, batch
normalisation before each of them, ReLU after; levels 64-128-256-512-1024; nearest-neighbour up-sampling and skip
concatenation; dropout of whole feature maps (p = 0.5) before each convolution of the up-sampling limb; a 1x1 head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hcc_tace_data.errors import UsageError

__all__ = ["PAPER_WIDTHS", "UNet2d"]

PAPER_WIDTHS = (64, 128, 256, 512, 1024)


def _convolution(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Batch normalisation, dropout of whole maps where asked for, 3x3 convolution, ReLU."""
    layers: list[nn.Module] = [nn.BatchNorm2d(inputs)]
    if dropout:
        layers.append(nn.Dropout2d(dropout))
    layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet2d(nn.Module):
    """A 2D U-Net with batch normalisation before each convolution.

    Parameters
    ----------
    in_channels : int
        Channels of the input, one for each contrast phase.
    classes : int
        Classes of the output, background included.
    widths : sequence of int
        Feature maps of each level, from the finest. The image side must be divisible by ``2 ** (len(widths) - 1)``.
    dropout : float
        Probability that a feature map is dropped before a convolution of the up-sampling limb.

    Examples
    --------
    >>> model = UNet2d(in_channels=2, classes=6)
    >>> sum(p.numel() for p in model.parameters())
    31392266
    """

    def __init__(
        self, *, in_channels: int, classes: int, widths: Sequence[int] = PAPER_WIDTHS, dropout: float = 0.5
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths, default=0) < 1:
            raise UsageError(f"widths is {tuple(widths)}; a U-Net needs two levels of at least one feature map.")
        if in_channels < 1 or classes < 2:
            raise UsageError(f"in_channels is {in_channels} and classes {classes}; use at least 1 and 2.")
        self.widths = tuple(widths)
        self.down = nn.ModuleList()
        inputs = in_channels
        for width in self.widths:
            self.down.append(nn.Sequential(_convolution(inputs, width, 0), _convolution(width, width, 0)))
            inputs = width
        self.up = nn.ModuleList()
        for width in reversed(self.widths[:-1]):
            self.up.append(
                nn.Sequential(_convolution(inputs + width, width, dropout), _convolution(width, width, dropout))
            )
            inputs = width
        self.head = nn.Conv2d(inputs, classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of `image` (N, in_channels, H, W)."""
        step = 2 ** (len(self.widths) - 1)
        if image.shape[-1] % step or image.shape[-2] % step:
            raise UsageError(
                f"image of {image.shape[-2]} x {image.shape[-1]} pixels; with {len(self.widths)} levels both must be "
                f"multiples of {step}. Pad or resample it."
            )
        skips: list[Tensor] = []
        features = image
        for level, block in enumerate(self.down):
            if level:
                features = nn.functional.max_pool2d(features, 2)
            features = block(features)
            skips.append(features)
        skips.pop()
        for block in self.up:
            features = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([skips.pop(), features], dim=1))
        logits: Tensor = self.head(features)
        return logits
