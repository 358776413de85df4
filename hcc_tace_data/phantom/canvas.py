"""Slices to paint shapes on, in the coordinates of a body that has moved."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.enhancement import Tissue

__all__ = ["Array", "Bend", "Canvas", "Mask", "ellipsoid", "is_any", "oval"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def ellipsoid(x: Array, y: Array, z: Array, c: tuple[float, float, float], r: tuple[float, float, float]) -> Array:
    """Squared radius in units of the surface: below 1 inside."""
    return np.asarray(((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((z - c[2]) / r[2]) ** 2, np.float32)


def oval(x: Array, y: Array, a: float, b: float, square: float) -> Array:
    """A slightly squarish ellipse, as a trunk is: below 1 inside; `square` 2 is an ellipse, 0 nearly a rectangle."""
    u, v = (x / a) ** 2, (y / b) ** 2
    return np.asarray(u * u + v * v + square * u * v, np.float32)


def _tube(x: Array, y: Array, z: Array, start: Array, end: Array, r0: float, r1: float) -> Mask:
    """Inside of a round cone with spherical ends."""
    axis = end - start
    px, py, pz = x - start[0], y - start[1], z - start[2]
    along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / float(axis @ axis), 0.0, 1.0)
    distance = (px - along * axis[0]) ** 2 + (py - along * axis[1]) ** 2 + (pz - along * axis[2]) ** 2
    return np.asarray(distance <= (r0 + (r1 - r0) * along) ** 2)


#: What breathing adds to reference coordinates y and z at places x, y, z.
Bend = Callable[[Array, Array, Array], tuple[Array, Array]]


def is_any(tissue: NDArray[np.uint8], of: tuple[Tissue, ...]) -> Mask:
    """Return where the tissue is one of `of`."""
    chosen = np.zeros(256, np.bool_)
    chosen[[int(one) for one in of]] = True
    return np.asarray(chosen[tissue])


def _part(values: Array, window: tuple[slice, ...]) -> Array:
    own = tuple(one if count > 1 else slice(None) for one, count in zip(window, values.shape, strict=True))
    return values[own]


class Canvas:
    """The slices being painted, with the reference coordinates of their voxels.

    Parameters
    ----------
    xs, ys, zs : numpy.ndarray
        Ascending LPS coordinates of columns, rows and slices, mm.
    motion : numpy.ndarray
        (4, 4) affine from reference coordinates to those; it turns about z alone.
    bend : callable, optional
        Gives what is added to the reference coordinates y and z of any place x, y, z: breathing that is not affine.

    Attributes
    ----------
    x, y, z : numpy.ndarray
        Reference coordinates that broadcast to the slices' shape.
    tissue, label : numpy.ndarray
        uint8 (slices, rows, columns): codes of tissues and of segments.
    """

    def __init__(
        self, xs: Array, ys: Array, zs: Array, motion: NDArray[np.float64], bend: Bend | None = None
    ) -> None:  # fmt: skip
        self.axes = (zs, ys, xs)
        self.motion = motion
        inverse = np.linalg.inv(motion)
        across, down = xs[None, None, :].astype(np.float64), ys[None, :, None].astype(np.float64)
        self.x, self.y = (
            (row[0] * across + row[1] * down + row[3]).astype(np.float32) for row in inverse[:2]
        )  # (1, rows, columns)
        self.z = (inverse[2, 2] * zs[:, None, None] + inverse[2, 3]).astype(np.float32)
        self.reach = 0.0
        if bend is not None:
            dy, dz = bend(self.x, self.y, self.z)
            self.y, self.z = self.y + dy, self.z + dz
            self.reach = float(max(np.abs(dy).max(), np.abs(dz).max()))
        shape = (zs.size, ys.size, xs.size)
        self.tissue = np.zeros(shape, np.uint8)
        self.label = np.zeros(shape, np.uint8)

    def places(self, window: tuple[slice, ...]) -> tuple[Array, Array, Array]:
        """Return the reference coordinates of a part of the canvas, which broadcast to its shape."""
        return (_part(self.x, window), _part(self.y, window), _part(self.z, window))

    def at(self, flat: NDArray[np.int64]) -> tuple[Array, Array, Array]:
        """Return the reference coordinates of voxels given by flat index."""
        k, j, i = np.unravel_index(flat, self.tissue.shape)
        x, y, z = (a[k if a.shape[0] > 1 else 0, j if a.shape[1] > 1 else 0, i if a.shape[2] > 1 else 0]
                   for a in (self.x, self.y, self.z))  # fmt: skip
        return x, y, z

    def box(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple[slice, ...] | None:
        """Part of the canvas that can hold the reference box `low` to `high` (x, y, z), or None."""
        more = self.reach
        corners = np.array(
            [
                [x, y, z, 1.0]
                for x in (low[0], high[0])
                for y in (low[1] - more, high[1] + more)
                for z in (low[2] - more, high[2] + more)
            ]
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
        mask = inside(*self.places(window))
        here = self.tissue[window]
        if over is not None:
            mask = mask & is_any(here, over)
        elif mask.shape != here.shape:
            mask = np.broadcast_to(mask, here.shape)
        here[mask] = tissue
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
