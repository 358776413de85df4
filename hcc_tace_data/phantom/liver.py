"""Liver and tumour of one patient as sampled shapes that have the volumes, places and outlines of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.canvas import Array
from hcc_tace_data.phantom.person import Person
from hcc_tace_data.phantom.seeding import generator
from hcc_tace_data.phantom.shapes import Lattice, Shape, lattice, level, rough

__all__ = ["Lesions", "Room", "draw_lesions", "draw_liver"]

#: Where an organ may be: a function of x, y, z in mm, positive inside.
Room = Callable[[Array, Array, Array], Array]
_STEP = 3.0
#: What vessels take of the liver's volume.
_VESSELS = 1.05
#: How far lobes are bent, as a share of the liver's half extent, and over what length in mm.
_BENT, _BEND = 0.11, 70.0


@dataclass(frozen=True, slots=True)
class Lesions:
    """The tumour at one visit.

    `mass` is positive inside of all its parts; `core` in what is necrotic; `capsule` its thickness in mm, 0 for none.
    """

    mass: Shape
    core: Shape
    capsule: float

    @property
    def shares(self) -> tuple[float, float]:
        """Return what part of the volume is necrotic, and what part is capsule."""
        inside = self.mass.values > 0
        dead = inside & (self.core.values > 0)
        rim = inside & ~dead & (self.mass.values < self.capsule)
        every = max(int(np.count_nonzero(inside)), 1)
        return np.count_nonzero(dead) / every, np.count_nonzero(rim) / every


def _ball(
    x: Array, y: Array, z: Array, centre: NDArray[np.float64], radii: NDArray[np.float64], power: float = 2.0
) -> Array:
    """Return 1 in the centre of a rounded box, 0 on its surface, negative outside."""
    u, v, w = (np.abs(a - c) / r for a, c, r in zip((x, y, z), centre, radii, strict=True))
    return np.asarray(1.0 - (u**power + v**power + w**power) ** (1.0 / power), np.float32)


def _walled(values: Array, limit: Array) -> Array:
    """Return values that fall to 0 at the wall itself, and not in steps at the lattice's points nearest to it."""
    return np.asarray(np.minimum(values, np.where(limit > 0, limit, 2.0 * limit)), np.float32)


def draw_lesions(
    person: Person, centre: NDArray[np.float64], room: Room, *, growth: float, necrosis: tuple[float, float]
) -> tuple[Lesions, Lesions]:
    """Return the tumour at baseline and at follow-up.

    Parameters
    ----------
    person : Person
        Whose.
    centre : numpy.ndarray
        Origin of the reference coordinates in the scanner's, mm.
    room : callable
        Where it may grow.
    growth : float
        Volume at follow-up over the one at baseline.
    necrosis : tuple of float
        Necrotic share of the volume at either visit.
    """
    g = generator("lesions", person.seed, person.patient_id)
    box = person.tumour
    low, size = np.array(box.low) - centre, np.array(box.size)
    middle = np.array(person.tumour_centre) - centre
    rest = float(g.uniform(0.08, 0.22)) if person.parts > 1 else 0.0
    ball = (0.75 * person.tumour_ml * 1000.0 * (1 - rest) / np.pi) ** (1 / 3)
    reach = np.maximum(size / 2, 0.5 * ball)
    if person.parts > 1:
        reach = 0.5 * reach + 0.5 * ball  # its parts fill the box together
    radii = reach * (ball**3 / np.prod(reach)) ** (1 / 3)
    step = float(np.clip(radii.min() / 9.0, 1.0, _STEP))
    pad = 0.35 * radii.max() + 6.0
    if person.parts > 1:
        pad += 0.25 * size.max()
    on = lattice(np.minimum(low, middle - radii) - pad, np.maximum(low + size, middle + radii) + pad, step)
    x, y, z = on.mesh
    lumps = (1.0 - person.sphericity) * 0.42 * ball
    field = _ball(x, y, z, middle, radii) * ball + lumps * rough(g, on, max(0.55 * ball, 5.0))
    field += 0.25 * lumps * rough(g, on, max(0.2 * ball, 3.0))
    field = _with_satellites(g, on, field, room, low, size, middle, radii, person, rest)
    limit, whole = room(x, y, z), field
    field = np.where(limit > 0, field, np.float32(-50.0)).astype(np.float32)
    inside = float(np.count_nonzero(field > -50.0)) * on.millilitres
    inner = field + min(6.0, 0.25 * ball) * rough(g, on, max(0.4 * ball, 4.0))
    capsule = float(g.uniform(1.2, 2.4)) if g.random() < 0.45 else 0.0
    visits = []
    for volume, share in ((person.tumour_ml, necrosis[0]), (person.tumour_ml * growth, necrosis[1])):
        edge = level(field, min(volume, 0.9 * inside) / on.millilitres)
        deep = np.where(field > edge, inner, np.float32(-50.0))
        count = share * np.count_nonzero(field > edge)
        threshold = level(deep, count) if count >= 1.0 else float(inner.max()) + 1.0
        mass = Shape(on, _walled(whole - np.float32(edge), limit))
        visits.append(Lesions(mass, Shape(on, inner).beyond(threshold), capsule))
    return visits[0], visits[1]


def _with_satellites(
    g: np.random.Generator, on: Lattice, field: Array, room: Room, low: NDArray[np.float64], size: NDArray[np.float64],
    middle: NDArray[np.float64], radii: NDArray[np.float64], person: Person, rest: float,
) -> Array:  # fmt: skip
    """Add the smaller parts of a tumour of several, clear of each other where there is room."""
    x, y, z = on.mesh
    placed: list[tuple[NDArray[np.float64], float]] = []
    shares = g.dirichlet(np.full(max(person.parts - 1, 1), 2.0)) * rest * person.tumour_ml
    for share in shares[: person.parts - 1]:
        radius = max(float((0.75 * share * 1000.0 / np.pi) ** (1 / 3)), 3.5)

        def clear(at: NDArray[np.float64], own: float = radius) -> float:
            # the largest part is lumpy
            gap = float((np.sqrt((((at - middle) / radii) ** 2).sum()) - 1.2) * radii.mean()) - own
            wall = float(room(*(np.float32(one) for one in at))) - own  # type: ignore[arg-type]  # of one place
            return min([gap, wall, *(float(np.linalg.norm(at - other)) - r - own for other, r in placed)])

        more = 12.0 + 0.25 * size
        spread = np.maximum(size + 2 * more - 2 * radius, 1.0)
        tried = [low - more + radius + g.random(3) * spread for _ in range(120)]
        best = max(tried, key=clear)
        placed.append((best, radius))
        field = np.maximum(field, _ball(x, y, z, best, np.full(3, radius)) * np.float32(radius))
    return field


def draw_liver(person: Person, centre: NDArray[np.float64], room: Room, lesions: Lesions) -> Shape:
    """Return the liver, tumour included.

    Parameters
    ----------
    person : Person
        Whose.
    centre : numpy.ndarray
        Origin of the reference coordinates in the scanner's, mm.
    room : callable
        Where it may be.
    lesions : Lesions
        The tumour at baseline, which it holds.
    """
    from scipy.ndimage import label

    g = generator("liver", person.seed, person.patient_id)
    low, half = np.array(person.liver.low) - centre, np.array(person.liver.size) / 2
    on = lattice(low - 12.0, low + 2 * half + 12.0, _STEP)
    x, y, z = on.mesh
    u, v, w = ((a - c) / h for a, c, h in zip((x, y, z), low + half, half, strict=True))
    # Without this, two patients with similar boxes get nearly the same liver, turned by a few degrees.
    bend = generator("liver bend", person.seed, person.patient_id)
    u, v, w = (a + np.float32(_BENT) * rough(bend, on, _BEND) for a in (u, v, w))
    one = np.ones(3)
    thick, wide, tall = g.uniform(0.36, 0.56), g.uniform(0.62, 0.86), g.uniform(0.42, 0.66)
    right = _ball(
        u, v, w, np.array([-0.38, 0.06, -0.02]), one * (g.uniform(0.58, 0.68), 0.95, 1.02), g.uniform(2.1, 2.8)
    )
    left = _ball(
        u,
        v,
        w,
        np.array([0.98 - wide, -0.96 + thick, g.uniform(0.1, 0.42)]),
        one * (wide, thick, tall),
        g.uniform(1.9, 2.6),
    )
    bridge = _ball(u, v, w, np.array([-0.05, -0.3, 0.28]), one * (0.5, 0.5, 0.5))
    caudate = _ball(u, v, w, np.array([0.02, 0.2, 0.2]), one * (0.26, 0.3, g.uniform(0.35, 0.6)))
    field = np.maximum(np.maximum(right, left), np.maximum(bridge, caudate))
    # The visceral face rises from the right kidney to the left lobe; the gallbladder's bed and the fissures lie in it.
    slope = g.uniform(0.35, 0.65)
    face = g.uniform(0.5, 0.75) - (slope * u + 0.28 * v - 0.62 * w)
    bed = np.sqrt((u + 0.16) ** 2 + (v + 0.42) ** 2 + ((w + 0.72) / 1.4) ** 2) - g.uniform(0.2, 0.3)
    bed = 3.0 * bed
    depth = g.uniform(0.3, 0.75)
    notch = g.uniform(0.02, 0.09) * np.clip(-v - depth, 0.0, 1.0)
    groove = 5.0 * (np.abs(u - 0.1 - 0.1 * v) - notch) + 9.0 * np.clip(v + depth, 0.0, 1.0)
    groove = np.where(w < g.uniform(-0.2, 0.5), groove, np.float32(1.0))
    field = np.minimum(field, np.minimum(np.minimum(face, bed), groove)) * np.float32(half.mean() * 0.8)
    even = np.clip(1.3 - 0.8 * w, 0.5, 1.0)  # the diaphragm smooths the dome
    field = field + even * np.float32(g.uniform(0.2, 0.26) * half.mean()) * rough(g, on, g.uniform(40.0, 60.0))
    if g.random() < 0.7:  # nodules of cirrhosis
        field = field + np.float32(g.uniform(0.8, 2.6)) * rough(g, on, g.uniform(7.0, 12.0))
    limit = room(x, y, z)
    tumour = lesions.mass.at(*np.broadcast_arrays(x, y, z))
    free = np.where(limit > 0, field, np.float32(-50.0))
    free = np.where(tumour > 0, np.float32(-60.0), free)
    wanted = min(_VESSELS * person.liver_ml / on.millilitres, 0.97 * np.count_nonzero(free > -50.0))
    field = _walled(field - np.float32(level(free, wanted)), limit)
    pieces, _ = label(np.maximum(field, tumour) > 0)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    stray = (pieces > 0) & (pieces != int(sizes.argmax())) & (tumour <= 0)
    return Shape(on, np.where(stray, np.float32(-5.0), field).astype(np.float32))
