"""The 3D U-Net of the preset `3d`: an encoder of residual blocks, a decoder of plain ones.

Isensee et al. (Nat Methods 2021, MICCAI 2024): instance normalisation, leaky ReLU, a strided convolution between
levels, transposed convolutions on the way up, two convolutions a level there, and a head at every level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hcc_tace_data.baseline.heads import DeeplySupervised
from hcc_tace_data.errors import UsageError

__all__ = ["ResidualUNet3d"]

Triple = tuple[int, int, int]
_SLOPE = 0.01


def _convolution(inputs: int, outputs: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> list[nn.Module]:
    """Return convolution and normalisation; borders are padded so that only the stride changes the size."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return [
        nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding),
        nn.InstanceNorm3d(outputs, affine=True),
    ]


def _plain(inputs: int, outputs: int, kernel: Triple) -> nn.Sequential:
    """Return two convolutions, each with leaky ReLU."""
    return nn.Sequential(
        *_convolution(inputs, outputs, kernel),
        nn.LeakyReLU(_SLOPE, inplace=True),
        *_convolution(outputs, outputs, kernel),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


class _Residual(nn.Module):
    """Two convolutions around which the input passes; where size or width change, through one of 1x1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, outputs, kernel, stride),
            nn.LeakyReLU(_SLOPE, inplace=True),
            *_convolution(outputs, outputs, kernel),
        )
        changes = inputs != outputs or stride != (1, 1, 1)
        self.past = nn.Sequential(*_convolution(inputs, outputs, (1, 1, 1), stride)) if changes else nn.Identity()
        self.last = nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.last(self.body(features) + self.past(features))
        return result


class ResidualUNet3d(DeeplySupervised):
    """A 3D U-Net with a residual encoder.

    Parameters
    ----------
    in_channels : int
        Channels of the input, one for each contrast phase.
    classes : int
        Classes of the output, background included.
    widths, blocks : sequence of int
        Feature maps and residual blocks of each level, from the finest.
    strides : sequence of (int, int, int)
        From each level to the next, along (D, H, W), 1 or 2. Where slices are not halved, convolutions of the level
        above do not reach across them.
    deep_supervision : bool
        Give each coarser level of the decoder a head of its own. In training mode the network then returns a list of
        logits, finest first; in evaluation mode the finest alone.

    Examples
    --------
    >>> model = ResidualUNet3d(in_channels=1, classes=3, widths=(4, 8), blocks=(1, 1), strides=[(1, 2, 2)])
    >>> model.steps
    (1, 2, 2)
    """

    def __init__(
        self,
        *,
        in_channels: int,
        classes: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[Triple],
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or len(blocks) != len(widths) or len(strides) != len(widths) - 1:
            raise UsageError(
                f"{len(widths)} widths, {len(blocks)} numbers of blocks and {len(strides)} strides; give two levels at "
                "least, a number of blocks for each, and a stride between every two."
            )
        self.check_channels(in_channels, classes)
        self.in_channels = in_channels
        first, second, third = (math.prod(stride[axis] for stride in strides) for axis in range(3))
        self.steps: Triple = (first, second, third)
        kernels = [_kernel(stride) for stride in strides] + [(3, 3, 3)]
        self.down = nn.ModuleList()
        inputs = in_channels
        for width, count, kernel, stride in zip(widths, blocks, kernels, [(1, 1, 1), *strides], strict=True):
            level: list[nn.Module] = [_Residual(inputs, width, kernel, stride)]
            level += [_Residual(width, width, kernel, (1, 1, 1)) for _ in range(count - 1)]
            self.down.append(nn.Sequential(*level))
            inputs = width
        self.wider, self.up = nn.ModuleList(), nn.ModuleList()
        for width, kernel, stride in zip(widths[-2::-1], kernels[-2::-1], strides[::-1], strict=True):
            self.wider.append(nn.ConvTranspose3d(inputs, width, stride, stride=stride))
            self.up.append(_plain(2 * width, width, kernel))
            inputs = width
        self.add_heads(nn.Conv3d, widths, classes, coarse=deep_supervision)

    @property
    def step(self) -> int:
        """Rows and columns of a patch must be multiples of this."""
        return self.steps[1]

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return logits (N, classes, D, H, W) of `image` (N, in_channels, D, H, W); when supervised deeply, a list."""
        if any(side % step for side, step in zip(image.shape[2:], self.steps, strict=True)):
            raise UsageError(f"patch of {tuple(image.shape[2:])} voxels; its sides must be multiples of {self.steps}.")
        skips: list[Tensor] = []
        features = image
        for block in self.down:
            features = block(features)
            skips.append(features)
        skips.pop()
        coarse: list[Tensor] = []
        for level, (wider, block) in enumerate(zip(self.wider, self.up, strict=True)):
            features = block(torch.cat([skips.pop(), wider(features)], dim=1))
            if self.training and level < len(self.coarse_heads):
                coarse.append(self.coarse_heads[level](features))
        return self.logits(features, coarse)


def _kernel(stride: Triple) -> Triple:
    """Return the kernel of a level: neighbours that are too far apart to be halved do not belong together."""
    d, h, w = (3 if step > 1 else 1 for step in stride)
    return d, h, w
