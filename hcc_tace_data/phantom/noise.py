"""From tissues to stored pixel values: brightness, texture, blur of the scanner, correlated noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.canvas import Array

__all__ = ["Grain", "Texture", "grain", "render"]

#: Slices of noise that are drawn for a patient; every slice gets one of them, moved and turned.
_BANK = 12
#: Points of a texture along each axis, and their distance in mm; it repeats beyond.
_POINTS, _APART = 64, 2.0


def _smooth(image: NDArray[np.float32], side: float) -> NDArray[np.float32]:
    """Blur the last two axes with the kernel (side, 1, side), normalised; edges are repeated."""
    centre = np.float32(1.0 / (1.0 + 2.0 * side))
    wing = np.float32(side)
    out = np.empty_like(image)
    out[..., 1:-1, :] = image[..., :-2, :] + image[..., 2:, :]
    out[..., 0, :] = image[..., 0, :] + image[..., 1, :]
    out[..., -1, :] = image[..., -1, :] + image[..., -2, :]
    out *= wing
    out += image
    both = np.empty_like(image)
    both[..., 1:-1] = out[..., :-2] + out[..., 2:]
    both[..., 0] = out[..., 0] + out[..., 1]
    both[..., -1] = out[..., -1] + out[..., -2]
    both *= wing
    both += out
    both *= centre * centre
    return both


@dataclass(frozen=True, slots=True)
class Grain:
    """Noise of standard deviation 1, correlated between neighbouring pixels: (slices, rows, columns)."""

    bank: Array

    def slices(self, rng: np.random.Generator, count: int) -> Array:
        """Return noise for `count` slices."""
        rows, columns = self.bank.shape[1:]
        out = np.empty((count, rows, columns), np.float32)
        for k in range(count):
            one = self.bank[rng.integers(len(self.bank)), :: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
            out[k] = np.roll(one, (int(rng.integers(rows)), int(rng.integers(columns))), (0, 1))
        return out


def grain(rng: np.random.Generator, pixels: int) -> Grain:
    """Draw noise as filtered back-projection gives it: grainy, a blurred field with its local mean taken off."""
    white = rng.standard_normal((_BANK, pixels, pixels), dtype=np.float32)
    blurred = _smooth(white, 0.6)
    blurred -= np.float32(0.4) * _smooth(blurred, 1.0)
    blurred /= max(float(blurred.std()), 1e-6)
    return Grain(blurred)


class Texture:
    """What is uneven within liver and tumour, in reference coordinates: the same in all sweeps.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of it.
    size : float
        Size of its lumps, mm.
    mosaic : float
        0 for a smooth field, up to 1 for nodules of two kinds, as many tumours have.
    """

    def __init__(self, rng: np.random.Generator, size: float, mosaic: float = 0.0) -> None:
        from scipy.ndimage import gaussian_filter

        field = rng.standard_normal((_POINTS,) * 3, dtype=np.float32)
        field = gaussian_filter(field, size / 2.355 / _APART, mode="wrap")
        field /= max(float(field.std()), 1e-6)
        if mosaic:
            field = (1.0 - mosaic) * field + mosaic * np.tanh(4.0 * field)
            field /= max(float(field.std()), 1e-6)
        self._field = np.ascontiguousarray(field, np.float32).ravel()

    def at(self, x: Array, y: Array, z: Array) -> Array:
        """Return the texture at places, standard deviation 1; arrays of one dimension."""
        scale = np.float32(1.0 / _APART)
        i, j, k = ((axis * scale).astype(np.int32) & (_POINTS - 1) for axis in (x, y, z))
        return np.asarray(self._field[(k * _POINTS + j) * _POINTS + i])


def render(
    tissue: NDArray[np.uint8],
    table: NDArray[np.float32],
    uneven: tuple[NDArray[np.int64], Array],
    noise: Array,
    *,
    sigma: float,
    blur: float,
) -> NDArray[np.int16]:
    """Return HU of slices.

    Parameters
    ----------
    tissue : numpy.ndarray
        uint8 (slices, rows, columns).
    table : numpy.ndarray
        HU of each tissue.
    uneven : tuple of numpy.ndarray
        Flat indices of pixels, and what the texture adds to them in HU.
    noise : numpy.ndarray
        float32 of the shape of `tissue`, standard deviation 1; overwritten.
    sigma : float
        Standard deviation of the noise, HU.
    blur : float
        Weight of a neighbour in the scanner's blur against 1 of the pixel itself.

    Returns
    -------
    numpy.ndarray
        int16, the shape of `tissue`, clipped to -1024..3071.
    """
    hu = table[tissue]
    hu.ravel()[uneven[0]] += uneven[1]
    hu = _smooth(hu, blur)
    noise *= np.float32(sigma)
    hu += noise
    np.rint(hu, out=hu)
    np.clip(hu, -1024, 3071, out=hu)
    return hu.astype(np.int16)
