"""The body of a twin patient: what differs between people, drawn once, with liver and tumour at each visit.

Reference coordinates are mm in LPS directions: x and y from the middle of the trunk, z from the middle of the liver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.canvas import Array, ellipsoid, oval
from hcc_tace_data.phantom.liver import Lesions, draw_lesions, draw_liver
from hcc_tace_data.phantom.person import Person
from hcc_tace_data.phantom.seeding import generator
from hcc_tace_data.phantom.shapes import Shape

__all__ = ["LABELS", "Body", "Organ", "Tree", "bend_of_spine", "draw_bodies"]

#: Label numbers of the collection's segmentations; necrosis is a segment of its own in one patient.
LABELS = {"liver": 1, "mass": 2, "portal_vein": 3, "aorta": 4, "necrosis": 5}

Point = tuple[float, float, float]
#: A vessel: points along it and its radius at each, mm.
Tree = tuple[tuple[tuple[Point, ...], tuple[float, ...]], ...]
_SPINE = 22.0


@dataclass(frozen=True, slots=True)
class Organ:
    """An ellipsoid: centre and half axes, mm."""

    centre: Point
    radii: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One patient at one visit. Lengths in mm.

    Attributes
    ----------
    origin : numpy.ndarray
        The reference coordinates' origin in the scanner's.
    cavity : tuple of float
        Half axes of the trunk within its wall.
    fat, front_fat, muscle : float
        Thickness of the wall's layers at the sides and in front.
    square : float
        Outline of the trunk: 0 round, 2 an ellipse, between them squarish.
    ripple : tuple of float
        Phases of how the wall's thickness changes around the trunk.
    belly : float
        How much deeper the trunk becomes towards the feet, mm a mm.
    ribs : tuple of float
        Where the first one starts, and their distance.
    spine : tuple of float
        Size against the usual, sideways bend, its place along z, and forward curve.
    height : float
        Half the height of the liver.
    spleen, stomach : Organ
    hilum : tuple of float
        Centre of the hollow in the spleen's inner face.
    kidneys : tuple of Organ
    gas : float
        Share of the stomach above its fluid.
    colon : tuple of float
        Place across, and radius.
    loops : tuple
        x, y, z, radius and gas of bowel loops.
    cysts : tuple of Organ
        Simple cysts of the liver.
    aorta : tuple of float
        Radius, tortuosity and its place along z.
    plaques : tuple
        Angle, place along z and length of calcifications of the aorta.
    portal, hepatic : Tree
        Veins of the liver.
    ascites : float
        Thickness of fluid around the liver; 0 for none.
    metal : float
        Half length of a screw in the spine; 0 for none.
    stent : bool
        Whether a stent lies in the bile duct.
    oral : float
        HU of what was drunk over water.
    liver : Shape
    lesions : Lesions
    """

    origin: NDArray[np.float64]
    cavity: tuple[float, float]
    fat: float
    front_fat: float
    muscle: float
    square: float
    ripple: tuple[float, float, float]
    belly: float
    ribs: tuple[float, float]
    spine: tuple[float, float, float, float]
    height: float
    heart: float
    spleen: Organ
    hilum: Point
    stomach: Organ
    kidneys: tuple[Organ, Organ]
    gas: float
    colon: tuple[float, float]
    loops: tuple[tuple[float, float, float, float, float], ...]
    cysts: tuple[Organ, ...]
    aorta: tuple[float, float, float]
    plaques: tuple[tuple[float, float, float], ...]
    portal: Tree
    hepatic: Tree
    ascites: float
    metal: float
    stent: bool
    oral: float
    liver: Shape
    lesions: Lesions

    @property
    def spine_y(self) -> float:
        """Where the vertebrae's centres lie, at the liver's height."""
        return self.cavity[1] - _SPINE * self.spine[0]


def bend_of_spine(spine: tuple[float, float, float, float], z: Array) -> tuple[Array, Array]:
    """Return how far the spine is sideways and in front at heights z."""
    _, sideways, place, curve = spine
    return (
        np.asarray(sideways * np.sin((z - place) / 70.0), np.float32),
        np.asarray(-curve * (z / 100.0) ** 2, np.float32),
    )


def _tree(g: np.random.Generator, points: tuple[Point, ...], radii: tuple[float, ...], jitter: float) -> Tree:
    moved = [np.array(point) + (g.normal(0, jitter, 3) if k > 0 else 0) for k, point in enumerate(points)]
    return ((tuple((float(p[0]), float(p[1]), float(p[2])) for p in moved), radii),)


def _vessels(
    g: np.random.Generator, low: NDArray[np.float64], size: NDArray[np.float64], spine_y: float
) -> tuple[Tree, Tree]:
    """Return portal and hepatic veins within the liver's box."""

    def at(u: float, v: float, w: float) -> Point:
        place = low + np.array([u, v, w]) * size
        return float(place[0]), float(place[1]), float(place[2])

    wide = float(g.uniform(0.8, 1.3))
    hilum = at(0.5 + g.uniform(-0.06, 0.06), 0.5 + g.uniform(-0.05, 0.05), 0.46 + g.uniform(-0.06, 0.06))
    fork = at(0.36 + g.uniform(-0.05, 0.05), 0.54, 0.5 + g.uniform(-0.05, 0.05))
    left = at(0.62, 0.32 + g.uniform(-0.06, 0.06), 0.56 + g.uniform(-0.06, 0.06))
    jitter = 0.05 * float(size.mean())
    stem: Tree = (
        (((14.0, spine_y - 40.0, hilum[2] - 55.0), (4.0, spine_y - 46.0, hilum[2] - 25.0), hilum),
         (6.0 * wide, 7.0 * wide, 7.0 * wide)),
        ((hilum, fork), (6.5 * wide, 5.5 * wide)),
        ((hilum, left), (5.5 * wide, 4.0 * wide)),
    )  # fmt: skip
    portal = stem
    for start, u, v, w, r in (
        (fork, 0.16, 0.4, 0.4, 4.5), (fork, 0.2, 0.72, 0.62, 4.5), (fork, 0.24, 0.3, 0.66, 3.6),
        (fork, 0.22, 0.66, 0.26, 3.6), (left, 0.78, 0.26, 0.62, 3.4), (left, 0.66, 0.18, 0.42, 3.0),
    ):  # fmt: skip
        end = at(u, v, w)
        middle = (0.5 * (start[0] + end[0]), 0.5 * (start[1] + end[1]), 0.5 * (start[2] + end[2]))
        portal += _tree(g, (start, middle, end), (r * wide, 0.7 * r * wide, 1.3), jitter)
        for _ in range(2):
            tip = np.array(end) + g.normal(0, 0.11, 3) * size
            twig = (float(tip[0]), float(tip[1]), float(tip[2]))
            portal += (((portal[-1][0][1], twig), (0.6 * r * wide, 1.0)),)
    meet = (-18.0, spine_y - 36.0, float(low[2] + 0.9 * size[2]))
    hepatic: Tree = ()
    for u, v, w in ((0.14, 0.6, 0.55), (0.3, 0.2, 0.6), (0.62, 0.2, 0.7), (0.22, 0.75, 0.4)):
        end = at(u, v, w)
        middle = (0.5 * (meet[0] + end[0]), 0.5 * (meet[1] + end[1]) - 4.0, 0.5 * (meet[2] + end[2]) + 8.0)
        hepatic += _tree(g, (meet, middle, end), (5.5, 4.2, 1.6), jitter)
    return portal, hepatic


def _beside(organs: tuple[Organ, ...], x: Array, y: Array, z: Array) -> Array:
    """Return about how far places are outside of organs, mm."""
    gaps = [(np.sqrt(ellipsoid(x, y, z, one.centre, one.radii)) - 1.0) * min(one.radii) - 2.0 for one in organs]
    return np.asarray(np.minimum.reduce(gaps), np.float32)


def draw_bodies(person: Person, *, shrink: float, viable: tuple[float, float]) -> tuple[Body, Body]:
    """Draw a patient at baseline and at follow-up.

    Parameters
    ----------
    person : Person
        The patient.
    shrink : float
        Diameter of the tumour at follow-up over the one at baseline.
    viable : tuple of float
        Viable over whole diameter, at baseline and at follow-up.
    """
    g = generator("body", person.seed, person.patient_id)
    low, size = np.array(person.liver.low), np.array(person.liver.size)
    a = float(np.clip(0.56 * size[0] + g.normal(4, 6), max(106.0, size[0] / 2 + 4), 168.0))
    b = float(np.clip(0.5 * size[1] + abs(g.normal(3, 4)), 72.0, 0.82 * a + 12.0))
    origin = np.array([low[0] + a + 2.0, low[1] + b + 2.0, low[2] + size[2] / 2])
    own = low - origin
    height = float(np.clip(size[2] / 2, 62.0, 105.0))
    muscle = float(g.uniform(9.0, 16.0))
    half = 0.5 * 512 * person.pixel
    fat = float(np.clip(g.gamma(3.0, 5.0) + 4.0, 4.0, max(5.0, 1.0 * half - a - muscle - 4.0)))
    ripple = [float(one) for one in g.uniform(0, 6.28, 3)]
    square, belly = float(g.uniform(0.7, 1.7)), float(g.uniform(-0.05, 0.14))
    spine = (float(g.uniform(0.84, 1.14)), float(g.normal(0, 4.0)), float(g.uniform(-80, 80)), float(g.uniform(0, 6)))
    spine_y = b - _SPINE * spine[0]
    metal = float(g.uniform(16, 24)) if g.random() < 0.03 else 0.0

    def room(x: Array, y: Array, z: Array) -> Array:
        side, front = bend_of_spine(spine, z)
        bed = np.hypot(x - 4 - side, y - spine_y - front + 12) - np.float32(43.0 * spine[0])
        inner = (1.0 - np.sqrt(oval(x, y, a - 1.5, b - 1.5, square))) * np.float32(b)
        back = np.hypot((np.abs(x) - 33.0) / 25.0, (y - spine_y - 18.0) / 19.0) * np.float32(19.0) - np.float32(20.0)
        return np.asarray(np.minimum(np.minimum(bed, back), inner), np.float32)

    lesions = draw_lesions(
        person, origin, room, growth=shrink**3, necrosis=((1 - viable[0]) ** 3, (1 - min(viable[1], 1.0)) ** 3)
    )
    s = float(np.clip(np.exp(g.normal(0.05, 0.22)), 0.7, 1.6))  # portal hypertension makes spleens large
    sr = (30.0 * s * g.uniform(0.85, 1.1), min(46.0 * s, 0.5 * b), 48.0 * s)
    spleen = Organ((a - sr[0] - 3.0, 0.3 * b + float(g.normal(0, 6)), height * float(g.uniform(0.1, 0.45))), sr)
    form = generator("spleen", person.seed, person.patient_id)  # from a thin crescent to a bean
    hilum = (
        spleen.centre[0] - float(form.uniform(1.0, 1.6)) * sr[0],
        spleen.centre[1] + float(form.uniform(-0.7, 0.2)) * sr[1],
        spleen.centre[2] + float(form.uniform(-0.3, 0.3)) * sr[2],
    )
    kidneys = tuple(
        Organ(
            (side * float(g.uniform(56, 70)), spine_y - float(g.uniform(0, 8)), -float(g.uniform(0.6, 1.05)) * height),
            (26.0 * q, 27.0 * q, 54.0 * q),
        )
        for side, q in zip((-1, 1), g.uniform(0.82, 1.14, 2), strict=True)
    )

    def free(x: Array, y: Array, z: Array) -> Array:
        return np.asarray(np.minimum(room(x, y, z), _beside(kidneys, x, y, z)), np.float32)

    liver = draw_liver(person, origin, free, lesions[0])
    full = float(g.uniform(0.55, 1.2))
    stomach = Organ(
        (float(g.uniform(48, 66)), -b * float(g.uniform(0.3, 0.5)), height * float(g.uniform(0.05, 0.4))),
        (50.0 * full, 38.0 * full, 56.0 * full),
    )
    loops = tuple(
        (
            float(g.uniform(-0.7, 0.7) * a), float(g.uniform(-0.72, 0.1) * b),
            float(-0.4 * height - 20.0 * k - 10 * g.random()), float(g.uniform(12, 28)), float(g.random()),
        )
        for k in range(11) for _ in range(int(g.integers(3, 7)))
    ) + tuple(
        (
            float(g.uniform(0.2, 0.72) * a), float(g.uniform(-0.7, 0.2) * b), float(g.uniform(-0.9, 0.5) * height),
            float(g.uniform(10, 22)), float(g.random()),
        )
        for _ in range(int(g.integers(4, 12)))
    )  # fmt: skip
    cysts = tuple(
        Organ((float(c[0]), float(c[1]), float(c[2])), (r, r, r))
        for c, r in (
            (own + g.uniform(0.15, 0.6, 3) * size, float(g.uniform(3, 9)))
            for _ in range(int(g.integers(1, 4)) if g.random() < 0.2 else 0)
        )
    )
    portal, hepatic = _vessels(g, own, size, spine_y)
    aorta = (float(g.uniform(8.5, 13.0)), float(abs(g.normal(0, 4.0))), float(g.uniform(-100, 100)))
    plaques = tuple(
        (float(g.uniform(0, 6.28)), float(g.uniform(-120, 120)), float(g.uniform(4, 22)))
        for _ in range(int(g.integers(4, 26)) if g.random() < 0.4 else 0)
    )
    before = Body(
        origin=origin, cavity=(a, b), fat=fat, front_fat=fat * float(g.uniform(0.5, 1.1)), muscle=muscle,
        square=square, ripple=(ripple[0], ripple[1], ripple[2]), belly=belly,
        ribs=(28.0 * float(g.random()), float(g.uniform(25, 32))), spine=spine,
        height=height, heart=float(g.uniform(0.8, 1.15)), spleen=spleen, hilum=hilum, stomach=stomach,
        kidneys=(kidneys[0], kidneys[1]), gas=float(g.uniform(-0.6, 0.4)),
        colon=(float(g.uniform(0.74, 0.84)), float(g.uniform(14, 24))), loops=loops, cysts=cysts, aorta=aorta,
        plaques=plaques, portal=portal, hepatic=hepatic,
        ascites=float(g.uniform(4, 18)) if g.random() < 0.14 else 0.0, metal=metal, stent=bool(g.random() < 0.05),
        oral=float(g.uniform(90, 320)) if g.random() < 0.6 else 0.0, liver=liver, lesions=lesions[0],
    )  # fmt: skip
    return before, replace(before, lesions=lesions[1])
