"""From tissues to stored pixel values: brightness, blur of the scanner, correlated noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_noise", "render"]


def _smooth(image: NDArray[np.float32], side: float) -> NDArray[np.float32]:
    """Blur the last two axes with the kernel (side, 1, side), normalised; edges are repeated."""
    centre = np.float32(1.0 / (1.0 + 2.0 * side))
    wing = np.float32(side) * centre
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (0, 0)], mode="edge")
    image = centre * image + wing * (padded[..., :-2, :] + padded[..., 2:, :])
    padded = np.pad(image, [(0, 0)] * (image.ndim - 1) + [(1, 1)], mode="edge")
    return np.asarray(centre * image + wing * (padded[..., :-2] + padded[..., 2:]), np.float32)


def add_noise(hu: NDArray[np.float32], rng: np.random.Generator, sigma: float) -> None:
    """Add noise of standard deviation `sigma` HU, correlated between neighbouring pixels, in place.

    Filtered back-projection gives grainy noise, not white noise: a blurred field with its local mean taken off.
    """
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    grain = _smooth(white, 0.6)
    grain -= np.float32(0.4) * _smooth(grain, 1.0)
    grain *= np.float32(sigma / max(float(grain.std()), 1e-6))
    hu += grain


def render(
    tissue: NDArray[np.uint8], table: NDArray[np.float32], rng: np.random.Generator, *, sigma: float, blur: float
) -> NDArray[np.int16]:
    """Return HU of slices.

    Parameters
    ----------
    tissue : numpy.ndarray
        uint8 (slices, rows, columns).
    table : numpy.ndarray
        HU of each tissue.
    rng : numpy.random.Generator
        Source of the noise.
    sigma : float
        Standard deviation of the noise, HU.
    blur : float
        Weight of a neighbour in the scanner's blur against 1 of the pixel itself.

    Returns
    -------
    numpy.ndarray
        int16, the shape of `tissue`, clipped to -1024..3071.
    """
    hu = _smooth(table[tissue], blur)
    add_noise(hu, rng, sigma)
    return np.asarray(np.clip(np.rint(hu), -1024, 3071), np.int16)
