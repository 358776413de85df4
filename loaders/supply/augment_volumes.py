"""Augmentation of a batch of 3D patches, as strong as nnU-Net's, on whatever device the batch lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hcc_tace_data.loaders.supply.augment import nearest_sample, noise_like

__all__ = ["AugmentVolumes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentVolumes:
    """Random transforms of each patch, drawn from a generator: each is done or left out by chance.

    Chances and ranges are those of nnU-Net's default trainer, which see, but that the turns about rows and columns are
    smaller: a body lies on its back. One batched grid sample does all of turn, size and mirror.

    Attributes
    ----------
    mirror : bool
        Mirror along each axis for half of the patches.
    intensity : bool
        Also change values: noise, blur, brightness, contrast, resolution, gamma. Otherwise only turn, size and mirror.
    rotate : float
        Largest rotation in the slice, degrees.
    tilt : float
        Largest rotation out of it, degrees.
    scale : (float, float)
        Smallest and largest size, relative.
    noise : float
        Largest standard deviation of added noise, in units of the scaled image.
    blur : (float, float)
        Standard deviations of the Gaussian, pixels; in the slice.
    gain : (float, float)
        Factors of brightness, and of contrast.
    coarsest : float
        Smallest resolution in the slice that a patch is reduced to and brought back from, relative.
    gamma : (float, float)
        Exponents.
    """

    mirror: bool = True
    intensity: bool = True
    rotate: float = 30.0
    tilt: float = 10.0
    scale: tuple[float, float] = (0.7, 1.4)
    noise: float = 0.08
    blur: tuple[float, float] = (0.5, 1.0)
    gain: tuple[float, float] = (0.75, 1.25)
    coarsest: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.5)

    def __call__(
        self, image: Tensor, label: Tensor, spacing: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Transform `image` (N, C, D, H, W), scaled to about 0 ... 1, and `label` (N, D, H, W) alike.

        Parameters
        ----------
        image, label : Tensor
            Labels are sampled to the nearest neighbour; what comes from outside is background, and the edge's value in
            the image.
        spacing : Tensor, shape (N, 3)
            mm along (D, H, W): a rotation is one of the body, not of its voxels.
        generator : torch.Generator
            The same seed draws the same transforms on any device.
        """
        moved, nearest = self._moved(image, label[:, None], spacing, generator)
        return self._changed(moved, generator), nearest[:, 0].to(label.dtype)

    def with_mask(
        self, image: Tensor, label: Tensor, mask: Tensor, spacing: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Transform alike, and move `mask` (N, D, H, W) of bool along; what comes from outside is not in it."""
        flat = torch.stack([label, mask.to(label.dtype)], dim=1)
        moved, nearest = self._moved(image, flat, spacing, generator)
        return self._changed(moved, generator), nearest[:, 0].to(label.dtype), nearest[:, 1] > 0.5

    def _moved(self, image: Tensor, flat: Tensor, spacing: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        draw = _Drawn(len(image), image, generator)
        turned, sized = draw.happens(0.2), draw.happens(0.2)
        limits = torch.tensor([self.rotate, self.tilt, self.tilt], device=image.device) * (math.pi / 180)
        angles = torch.stack([draw.between(-1, 1) for _ in range(3)], dim=1) * limits * turned[:, None]
        # as often larger as smaller
        size = torch.where(draw.happens(0.5), draw.between(self.scale[0], 1), draw.between(1, self.scale[1]))
        size = torch.where(sized, size, 1.0)
        mirror = torch.stack([torch.where(draw.happens(0.5), -1.0, 1.0) for _ in range(3)], dim=1)
        # grid_sample counts axes from the last: x, y, z; a place in mm is a normalised one times half the extent
        extent = torch.tensor(image.shape[:1:-1], dtype=image.dtype, device=image.device) * spacing.flip(1)
        matrix = _rotations(angles) / size[:, None, None]
        if self.mirror:
            matrix = matrix * mirror[:, None, :]
        matrix = matrix * extent[:, None, :] / extent[:, :, None]
        theta = torch.cat([matrix, torch.zeros_like(matrix[:, :, :1])], dim=2)
        shape = [len(image), 1, *image.shape[2:]]
        grid = nn.functional.affine_grid(theta, shape, align_corners=False)
        moved = nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
        return moved, nearest_sample(flat, grid, image.dtype)

    def _changed(self, image: Tensor, generator: torch.Generator) -> Tensor:
        if not self.intensity:
            return image
        draw = _Drawn(len(image), image, generator)

        def some(chance: float, change: Callable[[Tensor], Tensor]) -> None:
            nonlocal image
            chosen = draw.happens(chance)
            image = torch.where(chosen.view(-1, 1, 1, 1, 1), change(image), image)

        def low(values: Tensor, factor: float) -> Tensor:
            sides = [max(1, round(side * factor)) for side in values.shape[-2:]]
            small = nn.functional.interpolate(values, size=(values.shape[2], *sides), mode="nearest")
            return nn.functional.interpolate(small, size=values.shape[2:], mode="trilinear", align_corners=False)

        def contrast(values: Tensor, factor: Tensor) -> Tensor:
            over = (2, 3, 4)
            mean = values.mean(dim=over, keepdim=True)
            least, most = values.amin(dim=over, keepdim=True), values.amax(dim=over, keepdim=True)
            return torch.clamp((values - mean) * factor + mean, min=least, max=most)

        def gamma(values: Tensor, power: Tensor, inverted: bool) -> Tensor:
            over = (2, 3, 4)
            least, most = values.amin(dim=over, keepdim=True), values.amax(dim=over, keepdim=True)
            part = ((values - least) / (most - least).clamp(min=1e-6)).clamp(0, 1)
            bent = 1 - (1 - part) ** power if inverted else part**power
            return bent * (most - least) + least

        def wide(low_end: float, high_end: float) -> Tensor:
            return draw.between(low_end, high_end).view(-1, 1, 1, 1, 1)

        # nnU-Net draws the variance
        spread = self.noise * wide(0, 1).sqrt()
        some(0.1, lambda values: values + spread * noise_like(values, generator))
        sigma = draw.one(*self.blur)
        some(0.2, lambda values: _blurred(values, sigma))
        factor = wide(*self.gain)
        some(0.15, lambda values: values * factor)
        other = wide(*self.gain)
        some(0.15, lambda values: contrast(values, other))
        coarse = draw.one(self.coarsest, 1)
        some(0.25, lambda values: low(values, coarse))
        for chance, inverted in ((0.1, True), (0.3, False)):
            power = wide(*self.gamma)
            some(chance, lambda values, power=power, inverted=inverted: gamma(values, power, inverted))  # type: ignore[misc]
        return image


class _Drawn:
    """Random numbers, one for each patch, drawn on the generator's device and moved to the image's."""

    def __init__(self, count: int, like: Tensor, generator: torch.Generator) -> None:
        self.count, self.like, self.generator = count, like, generator

    def between(self, low: float, high: float) -> Tensor:
        """Return numbers between two."""
        drawn = torch.rand(self.count, generator=self.generator, device=self.generator.device)
        return (low + (high - low) * drawn).to(self.like)

    def one(self, low: float, high: float) -> float:
        """Return one number for the whole batch: sizes and kernels are of a batch."""
        return low + (high - low) * float(torch.rand(1, generator=self.generator, device=self.generator.device))

    def happens(self, chance: float) -> Tensor:
        """Return which patches something of that chance happens to."""
        return self.between(0, 1) < chance


def _rotations(angles: Tensor) -> Tensor:
    """Return rotations (N, 3, 3) of (x, y, z) about z, y and x by angles (N, 3)."""
    result = torch.eye(3, dtype=angles.dtype, device=angles.device).expand(len(angles), 3, 3)
    for column, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        turn = torch.eye(3, dtype=angles.dtype, device=angles.device).repeat(len(angles), 1, 1)
        cosine, sine = torch.cos(angles[:, column]), torch.sin(angles[:, column])
        turn[:, i, i], turn[:, j, j], turn[:, i, j], turn[:, j, i] = cosine, cosine, -sine, sine
        result = result @ turn
    return result


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Blur rows and columns of (N, C, D, H, W) by a Gaussian; the border's values go on beyond it."""
    reach = max(1, math.ceil(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    count, channels, depth, height, width = image.shape
    flat = image.reshape(count * channels * depth, 1, height, width)
    for shape, pad in (((1, 1, -1, 1), (0, 0, reach, reach)), ((1, 1, 1, -1), (reach, reach, 0, 0))):
        flat = nn.functional.conv2d(nn.functional.pad(flat, pad, mode="replicate"), kernel.view(shape))
    return flat.view(image.shape)
