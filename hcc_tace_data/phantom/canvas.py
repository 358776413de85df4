"""Slices to paint shapes on, in the coordinates of a body that has moved."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.enhancement import Tissue

__all__ = ["Array", "Canvas", "Mask", "ellipsoid", "oval"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def ellipsoid(x: Array, y: Array, z: Array, c: tuple[float, float, float], r: tuple[float, float, float]) -> Array:
    """Squared radius in units of the surface: below 1 inside."""
    return np.asarray(((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((z - c[2]) / r[2]) ** 2, np.float32)


def oval(x: Array, y: Array, a: float, b: float) -> Array:
    """A slightly squarish ellipse, as a trunk is: below 1 inside."""
    u, v = (x / a) ** 2, (y / b) ** 2
    return np.asarray(u * u + v * v + 1.25 * u * v, np.float32)


def _tube(x: Array, y: Array, z: Array, start: Array, end: Array, r0: float, r1: float) -> Mask:
    """Inside of a round cone with spherical ends."""
    axis = end - start
    px, py, pz = x - start[0], y - start[1], z - start[2]
    along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / float(axis @ axis), 0.0, 1.0)
    distance = (px - along * axis[0]) ** 2 + (py - along * axis[1]) ** 2 + (pz - along * axis[2]) ** 2
    return np.asarray(distance <= (r0 + (r1 - r0) * along) ** 2)


class Canvas:
    """The slices being painted, with the reference coordinates of every voxel."""

    def __init__(self, xs: Array, ys: Array, zs: Array, motion: NDArray[np.float64]) -> None:
        self.axes = (zs, ys, xs)
        self.motion = motion
        inverse = np.linalg.inv(motion)
        grid_z, grid_y, grid_x = (
            zs[:, None, None].astype(np.float64), ys[None, :, None].astype(np.float64),
            xs[None, None, :].astype(np.float64),
        )  # fmt: skip
        self.x, self.y, self.z = (
            (row[0] * grid_x + row[1] * grid_y + row[2] * grid_z + row[3]).astype(np.float32) for row in inverse[:3]
        )
        self.tissue = np.zeros(self.x.shape, np.uint8)
        self.label = np.zeros(self.x.shape, np.uint8)

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple[slice, ...] | None:
        """Part of the canvas that can hold the reference box `low` to `high` (x, y, z), or None."""
        corners = np.array(
            [[x, y, z, 1.0] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])]
        )
        moved = corners @ self.motion.T
        window = []
        for axis, column in zip(self.axes, (2, 1, 0), strict=True):
            first = int(np.searchsorted(axis, moved[:, column].min(), "left"))
            last = int(np.searchsorted(axis, moved[:, column].max(), "right"))
            if first >= last:
                return None
            window.append(slice(first, last))
        return tuple(window)

    def draw(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        inside: Callable[[Array, Array, Array], Mask],
        tissue: Tissue,
        *,
        label: int | None = 0,
        over: tuple[Tissue, ...] | None = None,
    ) -> None:
        """Paint where `inside`; only over certain tissues if given; `label` None keeps the labels."""
        window = self.box(low, high)
        if window is None:
            return
        mask = inside(self.x[window], self.y[window], self.z[window])
        if over is not None:
            mask = mask & np.isin(self.tissue[window], [int(t) for t in over])
        self.tissue[window][mask] = tissue
        if label is not None:
            self.label[window][mask] = label

    def ellipsoid(
        self,
        c: tuple[float, float, float],
        r: tuple[float, float, float],
        tissue: Tissue,
        *,
        label: int | None = 0,
        over: tuple[Tissue, ...] | None = None,
    ) -> None:
        """Paint an ellipsoid."""
        low = (c[0] - r[0], c[1] - r[1], c[2] - r[2])
        high = (c[0] + r[0], c[1] + r[1], c[2] + r[2])
        self.draw(low, high, lambda x, y, z: ellipsoid(x, y, z, c, r) <= 1, tissue, label=label, over=over)

    def tube(
        self,
        points: list[tuple[float, float, float]],
        radii: list[float],
        tissue: Tissue,
        *,
        label: int | None = 0,
        over: tuple[Tissue, ...] | None = None,
    ) -> None:
        """Paint a chain of round cones."""
        for (a, b), (ra, rb) in zip(pairwise(points), pairwise(radii), strict=True):
            start, end = np.array(a, np.float32), np.array(b, np.float32)
            pad = max(ra, rb)
            low = tuple(float(v) - pad for v in np.minimum(start, end))
            high = tuple(float(v) + pad for v in np.maximum(start, end))
            self.draw(
                (low[0], low[1], low[2]),
                (high[0], high[1], high[2]),
                lambda x, y, z, s=start, e=end, p=ra, q=rb: _tube(x, y, z, s, e, p, q),  # type: ignore[misc]
                tissue,
                label=label,
                over=over,
            )
