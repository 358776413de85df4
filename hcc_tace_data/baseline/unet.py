"""The 2D U-Net of the paper's baseline.

Moawad et al. (Sci Data 2023) and Morshid et al. (Radiol Artif Intell 2019): 3x3 convolutions, batch
normalisation before each of them, ReLU after; levels 64-128-256-512-1024; nearest-neighbour up-sampling and skip
concatenation; dropout of whole feature maps (p = 0.5) before each convolution of the up-sampling limb; a 1x1 head.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hcc_tace_data.baseline.heads import DeeplySupervised
from hcc_tace_data.baseline.unet3d import ResidualUNet3d
from hcc_tace_data.errors import UsageError

__all__ = ["PAPER_WIDTHS", "Layer", "UNet2d", "count_parameters", "layer_table"]

PAPER_WIDTHS = (64, 128, 256, 512, 1024)


def _convolution(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Batch normalisation, dropout of whole maps where asked for, 3x3 convolution, ReLU."""
    layers: list[nn.Module] = [nn.BatchNorm2d(inputs)]
    if dropout:
        layers.append(nn.Dropout2d(dropout))
    layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet2d(DeeplySupervised):
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
    deep_supervision : bool
        Give each coarser level of the up-sampling limb a head of its own. In training mode the network then returns
        a list of logits, finest first; in evaluation mode the finest alone.

    Examples
    --------
    >>> model = UNet2d(in_channels=2, classes=6)
    >>> sum(p.numel() for p in model.parameters())
    31392266
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        widths: Sequence[int] = PAPER_WIDTHS,
        dropout: float = 0.5,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths, default=0) < 1:
            raise UsageError(f"widths is {tuple(widths)}; a U-Net needs two levels of at least one feature map.")
        self.check_channels(in_channels, classes)
        self.widths = tuple(widths)
        self.in_channels = in_channels
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
        self.add_heads(nn.Conv2d, self.widths, classes, coarse=deep_supervision)

    @property
    def step(self) -> int:
        """The sides of an image must be multiples of this."""
        return int(2 ** (len(self.widths) - 1))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return logits (N, classes, H, W) of `image` (N, in_channels, H, W); a list of them when supervised deeply."""
        step = self.step
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
        coarse: list[Tensor] = []
        for level, block in enumerate(self.up):
            features = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([skips.pop(), features], dim=1))
            if self.training and level < len(self.coarse_heads):
                coarse.append(self.coarse_heads[level](features))
        return self.logits(features, coarse)


class Layer(NamedTuple):
    """One row of :func:`layer_table`."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained values of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def layer_table(model: UNet2d | ResidualUNet3d, side: int | Sequence[int] = 512) -> list[Layer]:
    """Return the layers of a network in the order in which an image passes them.

    Parameters
    ----------
    model : UNet2d or ResidualUNet3d
        Any; its weights are not touched.
    side : int or sequence of int
        Height and width of the image; or each side of it.

    Returns
    -------
    list of Layer
        Name, kind, shape of the output (C, H, W), or (C, D, H, W), and number of trained values.

    Examples
    --------
    >>> layer_table(UNet2d(in_channels=1, classes=2), side=64)[-1]
    Layer(name='head', kind='Conv2d', output=(2, 64, 64), parameters=130)
    """
    twin = deepcopy(model).to("meta").eval()
    rows: list[Layer] = []
    names = {module: name for name, module in twin.named_modules()}

    def add(module: nn.Module, _: object, output: Tensor) -> None:
        rows.append(Layer(names[module], type(module).__name__, tuple(output.shape[1:]), count_parameters(module)))

    for module in twin.modules():
        if not any(True for _ in module.children()) and not isinstance(module, nn.ModuleList):
            module.register_forward_hook(add)
    sides = (side, side) if isinstance(side, int) else tuple(side)
    with torch.inference_mode():
        twin(torch.empty(1, twin.in_channels, *sides, device="meta"))
    return rows
