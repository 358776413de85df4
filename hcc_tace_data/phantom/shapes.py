"""Organs of irregular outline: a smooth function of the place that is positive inside, sampled on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.canvas import Array

__all__ = ["Lattice", "Shape", "lattice", "level", "rough"]

_OUTSIDE = -100.0


@dataclass(frozen=True, slots=True)
class Lattice:
    """Points on which a shape is computed: coordinates along x, y and z, `step` mm apart, reference coordinates."""

    x: Array
    y: Array
    z: Array
    step: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along z, y and x."""
        return self.z.size, self.y.size, self.x.size

    @property
    def mesh(self) -> tuple[Array, Array, Array]:
        """Coordinates that broadcast to (z, y, x)."""
        return self.x[None, None, :], self.y[None, :, None], self.z[:, None, None]

    @property
    def millilitres(self) -> float:
        """What one point stands for."""
        return self.step**3 / 1000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Values on a lattice, about mm from the surface and positive inside."""

    on: Lattice
    values: Array

    @property
    def low(self) -> tuple[float, float, float]:
        """Lower corner, mm."""
        return float(self.on.x[0]), float(self.on.y[0]), float(self.on.z[0])

    @property
    def high(self) -> tuple[float, float, float]:
        """Upper corner, mm."""
        return float(self.on.x[-1]), float(self.on.y[-1]), float(self.on.z[-1])

    def at(self, x: Array, y: Array, z: Array) -> Array:
        """Return values at any places, interpolated; far outside of the lattice they are negative."""
        from scipy.ndimage import map_coordinates

        low, step = self.low, np.float32(1.0 / self.on.step)
        index = np.stack(
            [(z - np.float32(low[2])) * step, (y - np.float32(low[1])) * step, (x - np.float32(low[0])) * step]
        )
        out: Array = map_coordinates(
            self.values, index, output=np.float32, order=1, mode="constant", cval=_OUTSIDE, prefilter=False
        )
        return out

    def beyond(self, threshold: float) -> Shape:
        """Return the part where the values exceed a threshold."""
        return Shape(self.on, self.values - np.float32(threshold))


def lattice(low: NDArray[np.float64], high: NDArray[np.float64], step: float) -> Lattice:
    """Return a lattice that covers a box."""
    x, y, z = (np.arange(a, b + step, step, dtype=np.float32) for a, b in zip(low, high, strict=True))
    return Lattice(x, y, z, step)


def _spline(fine: int, scale: float) -> Array:
    """Return the weights (fine points, coarse points) of a cubic spline whose knots are `scale` points apart."""
    at = np.arange(fine) / scale + 1.5
    apart = np.abs(at[:, None] - np.arange(int(at[-1]) + 3)[None, :])
    near = 2.0 / 3.0 - apart**2 + apart**3 / 2.0
    far = np.clip(2.0 - apart, 0.0, None) ** 3 / 6.0
    return np.where(apart < 1.0, near, far).astype(np.float32)


def rough(rng: np.random.Generator, on: Lattice, size: float) -> Array:
    """Return a random field with mean 0, standard deviation 1 and lumps of about `size` mm."""
    weights = [_spline(count, max(size / on.step, 1.0)) for count in on.shape]
    field: Array = rng.standard_normal([one.shape[1] for one in weights], dtype=np.float32)
    for one in weights:  # each pass enlarges the first axis and moves it to the end
        field = np.tensordot(field, one, axes=(0, 1))
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def level(values: Array, points: float) -> float:
    """Return the value that about `points` of all points exceed."""
    count = int(min(max(points, 1), values.size - 1))
    return float(np.partition(values, values.size - count, axis=None)[values.size - count])
