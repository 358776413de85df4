"""Augmentation of a batch of slices on whatever device it lies: flips, affine, intensity, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Augment", "nearest_sample", "noise_like"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """One random transform for each sample, drawn from a generator, applied by one batched grid sample.

    Attributes
    ----------
    flip : float
        Probability of a left-right flip.
    rotate : float
        Largest rotation, degrees.
    scale : float
        Largest relative change of size.
    shift : float
        Largest shift, as a share of the image.
    contrast, brightness : float
        Largest relative change of contrast, and shift of brightness in units of the scaled image.
    noise : float
        Largest standard deviation of added noise, in units of the scaled image.
    """

    flip: float = 0.0
    rotate: float = 12.0
    scale: float = 0.12
    shift: float = 0.05
    contrast: float = 0.15
    brightness: float = 0.1
    noise: float = 0.03

    def __call__(self, image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Transform `image` (N, C, H, W), scaled to about 0 ... 1, and `label` (N, H, W) alike.

        The label may have other sides of the same ratio: that of a shrunk image.
        Labels are sampled to the nearest neighbour; what comes from outside is background, and the edge's value in
        the image.
        """
        moved, moved_label, _ = self._apply(image, label, None, generator)
        return moved, moved_label

    def with_mask(
        self, image: Tensor, label: Tensor, valid: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Transform alike, and move `valid` uint8 (N, C, H, W) along; what comes from outside is not valid."""
        moved, moved_label, moved_valid = self._apply(image, label, valid, generator)
        if moved_valid is None:
            raise TypeError("no mask was given")
        return moved, moved_label, moved_valid

    def _apply(
        self, image: Tensor, label: Tensor, valid: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        count, height, width = len(image), image.shape[-2], image.shape[-1]

        limits = (
            (-self.rotate, self.rotate),
            (-self.scale, self.scale),
            (0, 1),
            (-self.shift, self.shift),
            (-self.shift, self.shift),
            (-self.contrast, self.contrast),
            (-self.brightness, self.brightness),
            (0, self.noise),
        )
        # drawn on the generator's device and moved in one piece: a seed gives the same transforms on any device
        drawn = [
            low + (high - low) * torch.rand(count, generator=generator, device=generator.device) for low, high in limits
        ]
        turn, change, flip, right, down, contrast, brightness, spread = torch.stack(drawn).to(image.device)
        angle = turn * (math.pi / 180)
        size = 1 + change
        mirror = torch.where(flip < self.flip, -1.0, 1.0)
        cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
        # normalised coordinates run -1 ... 1 along both sides, so a rotation must undo the sides' ratio
        theta = torch.stack(
            [
                torch.stack([mirror * cosine, -sine * (height / width), right * 2], dim=1),
                torch.stack([mirror * sine * (width / height), cosine, down * 2], dim=1),
            ],
            dim=1,
        )
        grid = torch.nn.functional.affine_grid(theta, [count, 1, height, width], align_corners=False)
        moved = torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
        if label.shape[1:] == (height, width):
            flat = label[:, None] if valid is None else torch.cat([label[:, None], valid], dim=1)
            nearest = nearest_sample(flat, grid, image.dtype)
            moved_label = nearest[:, 0].to(label.dtype)
            moved_valid = None if valid is None else nearest[:, 1:].to(valid.dtype)
        else:
            finer = torch.nn.functional.affine_grid(theta, [count, 1, *label.shape[1:]], align_corners=False)
            moved_label = nearest_sample(label[:, None], finer, image.dtype)[:, 0].to(label.dtype)
            moved_valid = None if valid is None else nearest_sample(valid, grid, image.dtype).to(valid.dtype)
        gain, offset, spread = (value[:, None, None, None] for value in (1 + contrast, brightness, spread))
        return moved * gain + offset + spread * noise_like(moved, generator), moved_label, moved_valid


def noise_like(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal noise, drawn where the image is: as large as a batch, it would take long to copy.

    On another device than the generator's it comes from a generator there, seeded by the given one: the same seed gives
    the same noise on the same kind of device.
    """
    if generator.device.type != image.device.type:
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        generator = torch.Generator(device=image.device).manual_seed(seed)
    return torch.randn(image.shape, generator=generator, device=image.device)


def nearest_sample(values: Tensor, grid: Tensor, dtype: torch.dtype) -> Tensor:
    """Return class numbers at the places of a grid, 0 beyond the image, as floating-point numbers."""
    return torch.nn.functional.grid_sample(
        values.to(dtype), grid, mode="nearest", padding_mode="zeros", align_corners=False
    ).round()
