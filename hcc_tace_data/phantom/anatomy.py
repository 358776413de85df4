"""The twin's anatomy: closed surfaces in patient millimetres, painted onto the slices of a volume.

A :class:`~.body.Body` is drawn once per patient and visit; :func:`paint` samples it on any slices, after a motion
(breathing, another table position).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.body import LABELS, Body, Organ, Tree, bend_of_spine
from hcc_tace_data.phantom.canvas import Array, Canvas, Mask, ellipsoid, is_any, oval
from hcc_tace_data.phantom.enhancement import Tissue

__all__ = ["HOSTS", "Painted", "paint"]

_FAR = 2000.0
#: What a tumour grows through.
HOSTS = (Tissue.LIVER, Tissue.HEPATIC_VEIN, Tissue.PORTAL, Tissue.HEPATIC_ARTERY, Tissue.CYST)
_LIVER = (Tissue.LIVER,)


@dataclass(frozen=True, slots=True)
class Painted:
    """What slices are made of.

    Attributes
    ----------
    tissue, label : numpy.ndarray
        uint8 (slices, rows, columns): codes of :class:`~.enhancement.Tissue` and :data:`~.body.LABELS`.
    canvas : Canvas
        Where each voxel lies in the body.
    """

    tissue: NDArray[np.uint8]
    label: NDArray[np.uint8]
    canvas: Canvas


def paint(body: Body, canvas: Canvas, *, necrosis: bool = False) -> Painted:
    """Sample a body on slices.

    Parameters
    ----------
    body : Body
        What to paint.
    canvas : Canvas
        Empty slices.
    necrosis : bool
        Give the necrotic core a label of its own instead of counting it as mass.
    """
    _paint_wall(canvas, body)
    _paint_chest(canvas, body)
    _paint_spine(canvas, body)
    _paint_bowel(canvas, body)
    _paint_organs(canvas, body)
    _paint_liver(canvas, body)
    _paint_vessels(canvas, body)
    _paint_tumour(canvas, body, necrosis=necrosis)
    return Painted(canvas.tissue, canvas.label, canvas)


def _depth(body: Body, z: Array) -> Array:
    """Half the depth of the cavity at heights z."""
    return np.asarray(body.cavity[1] - body.belly * np.clip(z, -200, 60), np.float32)


def _paint_wall(canvas: Canvas, body: Body) -> None:
    """Skin, fat, muscle, ribs and the fat-filled cavity."""
    x, y, z = canvas.x, canvas.y, canvas.z
    a, b = body.cavity
    ratio = np.sqrt(np.sqrt(oval(x, y, a, _depth(body, z), body.square)))  # type: ignore[arg-type]  # of each slice
    r = np.hypot(x, y) + np.float32(1e-3)
    # (slices, rows, columns), as the depth differs between slices
    beyond = r - r / np.maximum(ratio, np.float32(1e-3))  # mm along the ray from the cavity's surface
    front = np.clip(-y / r, 0, 1)
    angle = np.arctan2(y, x)
    one, two, three = body.ripple
    muscle = body.muscle * (1.0 + 0.22 * np.cos(2 * angle + one) + 0.18 * np.cos(6 * angle + two))
    fat = (body.fat + (body.front_fat - body.fat) * front) * (1.0 + 0.15 * np.cos(3 * angle + three)) + muscle
    tissue = canvas.tissue
    trunk = beyond < fat + 2.5
    tissue[trunk] = Tissue.SKIN
    tissue[beyond < fat] = Tissue.FAT
    tissue[beyond < muscle] = Tissue.MUSCLE
    # Ribs run down towards the front; a slice cuts each into a short arc.
    cage = (beyond > 1.5) & (beyond < 9.5)
    flat = np.flatnonzero(cage)
    rx, ry, rz = canvas.at(flat)
    along = np.mod(rz - 0.55 * ry + body.ribs[0], body.ribs[1])
    reach = (rz > -0.84 * body.height + 0.25 * np.abs(ry - b)) & ~((ry < 0) & (np.abs(rx) < 0.3 * a))
    tissue.ravel()[flat[reach & (along < 11.0)]] = Tissue.BONE
    depth = (
        beyond.ravel()[flat] if beyond.shape == tissue.shape else np.broadcast_to(beyond, tissue.shape).ravel()[flat]
    )
    core = reach & (along > 2.5) & (along < 8.5) & (depth > 3.5) & (depth < 7.5)
    tissue.ravel()[flat[core]] = Tissue.MARROW
    tissue[beyond < 0] = Tissue.FAT


def _paint_chest(canvas: Canvas, body: Body) -> None:
    """Lung bases above and around the dome of the diaphragm, and the heart."""
    a, b = body.cavity
    top = body.height
    z0 = -0.7 * body.height

    def lung(x: Array, y: Array, z: Array) -> Mask:
        # The diaphragm is a flat dome: its recess beside the liver is a narrow one.
        rise = np.clip((z - z0) / (top + 8.0 - z0), 0.0, 2.0) ** 3
        wide = oval(x, y, a, b, body.square)
        return np.asarray(
            (wide <= 1)
            & (oval(x, y + 4.0, a - 3.0, b - 3.0, body.square) > 1 - rise)
            & (z > -0.2 * body.height)
            & ((y > -0.2 * b) | (z > 0.35 * body.height))
            & (np.hypot(x, y - 0.5 * b) > 34)
        )

    canvas.draw((-a, -b, -0.2 * body.height), (a, b, _FAR), lung, Tissue.LUNG)
    k = body.heart
    heart = (24.0, -0.35 * b, top + 40.0)
    canvas.ellipsoid(heart, (64.0 * k, 50.0 * k, 44.0 * k), Tissue.MYOCARDIUM)
    canvas.ellipsoid((heart[0] + 14, heart[1], heart[2] + 2), (36.0 * k, 34.0 * k, 34.0 * k), Tissue.HEART)
    canvas.ellipsoid((heart[0] - 38 * k, heart[1] + 6, heart[2] + 2), (22.0 * k, 32.0 * k, 34.0 * k), Tissue.HEART)
    for n in range(8):
        side = 1 if n % 2 else -1
        start = (side * 38.0, 10.0 + 4.0 * n, top + 70.0)
        end = (side * (60.0 + 6.0 * n), -20.0 + 12.0 * n, 0.3 * top)
        canvas.tube([start, end], [4.0, 1.5], Tissue.LUNG_VESSEL, over=(Tissue.LUNG,))


def _paint_spine(canvas: Canvas, body: Body) -> None:
    """Vertebrae and discs, canal, processes, and the muscles beside them."""
    y0, size = body.spine_y, body.spine[0]
    for side in (-1, 1):
        canvas.draw(
            (side * 33 - 26, y0 - 2, -_FAR), (side * 33 + 26, y0 + 38, _FAR),
            lambda x, y, z, s=side: ((x - s * 33) / 25) ** 2 + ((y - y0 - 18) / 19) ** 2 <= 1,  # type: ignore[misc]
            Tissue.MUSCLE,
        )  # fmt: skip
        canvas.draw(
            (side * 34 - 17, y0 - 18, -_FAR), (side * 34 + 17, y0 + 16, -0.4 * body.height),
            lambda x, y, z, s=side: ((x - s * 34) / 16) ** 2 + ((y - y0) / 15) ** 2 <= 1,  # type: ignore[misc]
            Tissue.MUSCLE,
        )  # fmt: skip
    low, high = (-56.0, y0 - 34, -_FAR), (56.0, y0 + 50, _FAR)
    window = canvas.box(low, high)
    if window is None:
        return
    x, y, z = canvas.places(window)
    sideways, front = bend_of_spine(body.spine, z)
    across, down, level = (x - sideways) / size, (y - y0 - front) / size, np.mod(z, 32 * size) / size
    tissue = canvas.tissue[window]
    ring = (np.hypot(across, down - 24) < 14) & (np.mod(level + 8, 32) < 22)
    spike = (np.abs(across) < 4) & (down > 30) & (down < 44) & (np.mod(level + 8, 32) < 16)
    wings = (np.abs(across) < 40) & (np.abs(down - 24) < 4.5) & (np.mod(level + 4, 32) < 10)
    tissue[ring | spike | wings] = Tissue.BONE
    # Vertebrae are waisted; old ones have grown lips at the discs.
    waist = 1.0 - 0.08 * np.sin(np.pi * np.clip((level - 6) / 26, 0, 1))
    radius = ((across / 22) ** 2 + (down / 17) ** 2) / waist**2
    tissue[radius <= 1] = Tissue.BONE
    tissue[radius <= 0.77] = Tissue.MARROW
    tissue[(radius <= 0.9) & (level < 6)] = Tissue.DISC
    tissue[np.hypot(across / 1.25, down - 24) < 8.5] = Tissue.CANAL
    if body.metal:
        for sign in (-1, 1):
            rod = np.hypot(across - sign * 13, down - 30) < 3.2
            screw = (np.hypot(across - sign * 13, np.mod(level, 32) - 16) < 3.0) & (down > 4) & (down < 30)
            low_enough = z < -0.2 * body.height
            tissue[(rod | screw) & low_enough] = Tissue.METAL


def _paint_bowel(canvas: Canvas, body: Body) -> None:
    """Loops of bowel below the liver, with fluid and gas (gas rises to the front), and the colon on both sides."""
    a, b = body.cavity
    share, radius = body.colon
    for side, top in ((-1, -0.7), (1, 0.1)):
        colon = (side * share * a, 0.05 * b)
        reach = radius + 4.0
        low, high = (colon[0] - reach, colon[1] - reach, -_FAR), (colon[0] + reach, colon[1] + reach, top * body.height)
        for r, tissue in ((radius, Tissue.BOWEL), (radius - 3.5, Tissue.FLUID)):
            canvas.draw(
                low, high,
                lambda x, y, z, c=colon, r=r: (  # type: ignore[misc]
                    np.hypot(x - c[0], y - c[1]) < r * (1 + 0.12 * np.sin(z / 6.0))
                ),
                tissue, over=(Tissue.FAT, Tissue.BOWEL),
            )  # fmt: skip
        canvas.draw(
            low, (high[0], colon[1] - 5.0, high[2] - 4.0),
            lambda x, y, z, c=colon, r=radius: np.hypot(x - c[0], y - c[1]) < r - 6,  # type: ignore[misc]
            Tissue.GAS, over=(Tissue.FLUID,),
        )  # fmt: skip
    for x0, y0, z0, r, gas in body.loops:
        canvas.ellipsoid((x0, y0, z0), (r, 0.8 * r, 0.9 * r), Tissue.BOWEL, over=(Tissue.FAT,))
        inner = Tissue.DRINK if gas < 0.3 and body.oral else Tissue.FLUID
        canvas.ellipsoid((x0, y0, z0), (r - 3, 0.8 * r - 3, 0.9 * r - 3), inner, over=(Tissue.BOWEL,))
        if gas > 0.5:
            canvas.ellipsoid((x0, y0 - 0.35 * r, z0), (0.6 * r, 0.35 * r, 0.6 * r), Tissue.GAS, over=(Tissue.FLUID,))


def _organ(
    canvas: Canvas, organ: Organ, tissue: Tissue, less: float = 0.0, over: tuple[Tissue, ...] | None = None
) -> None:
    radii = organ.radii
    canvas.ellipsoid(organ.centre, (radii[0] - less, radii[1] - less, radii[2] - less), tissue, over=over)


def _paint_organs(canvas: Canvas, body: Body) -> None:
    """Stomach, spleen, kidneys, pancreas."""
    a, b = body.cavity
    h = body.height
    c, r = body.stomach.centre, body.stomach.radii
    loops = (Tissue.BOWEL, Tissue.FLUID, Tissue.DRINK, Tissue.GAS)  # the stomach is in front of them
    _organ(canvas, body.stomach, Tissue.STOMACH_WALL, over=(Tissue.FAT, Tissue.LUNG, *loops))
    _organ(canvas, body.stomach, Tissue.DRINK if body.oral else Tissue.FLUID, 4.0, over=(Tissue.STOMACH_WALL,))
    canvas.draw(
        (c[0] - r[0], c[1] - r[1], c[2] - r[2]), (c[0] + r[0], c[1] + body.gas * r[1], c[2] + r[2]),
        lambda x, y, z: (ellipsoid(x, y, z, c, (r[0] - 4, r[1] - 4, r[2] - 4)) <= 1) & (y < c[1] + body.gas * r[1]),
        Tissue.GAS, over=(Tissue.DRINK, Tissue.FLUID),
    )  # fmt: skip
    s, sr = body.spleen.centre, body.spleen.radii

    def spleen(x: Array, y: Array, z: Array) -> Mask:
        # Its inner face is hollow.
        hollow = ellipsoid(x, y, z, body.hilum, (0.9 * sr[0], sr[1], 1.3 * sr[2])) > 1
        return np.asarray((ellipsoid(x, y, z, s, sr) <= 1) & hollow & (oval(x, y, a - 1.5, b - 1.5, body.square) <= 1))

    canvas.draw(
        (s[0] - sr[0], s[1] - sr[1], s[2] - sr[2]), (s[0] + sr[0], s[1] + sr[1], s[2] + sr[2]), spleen, Tissue.SPLEEN
    )
    canvas.tube(
        [(-22, -6, -0.5 * h), (12, -22, -0.4 * h), (50, -2, -0.2 * h), (s[0] - 24, 0.24 * b, s[2] - 0.15 * h)],
        [13, 10, 9, 7], Tissue.PANCREAS, over=(Tissue.FAT,),
    )  # fmt: skip
    for kidney in body.kidneys:
        kc, q = kidney.centre, kidney.radii[2] / 54.0
        side = 1 if kc[0] > 0 else -1
        canvas.ellipsoid(kc, (34.0 * q, 34.0 * q, 60.0 * q), Tissue.FAT, over=(Tissue.FAT, Tissue.BOWEL, Tissue.FLUID))
        _organ(canvas, kidney, Tissue.CORTEX)
        canvas.ellipsoid(kc, (18.0 * q, 19.0 * q, 45.0 * q), Tissue.MEDULLA)
        canvas.ellipsoid((kc[0] - side * 12.0, kc[1] - 4.0, kc[2]), (15.0 * q, 11.0 * q, 28.0 * q), Tissue.FAT)


def _paint_liver(canvas: Canvas, body: Body) -> None:
    """Liver, fluid around it, gallbladder and cysts."""
    liver, mass = body.liver, body.lesions.mass
    for shape, extra in ((liver, body.ascites), (mass, 0.0)):
        window = canvas.box(shape.low, shape.high)
        if window is None:
            continue
        place = canvas.tissue[window]
        x, y, z = np.broadcast_arrays(*canvas.places(window))
        depth = shape.at(x, y, z)
        inside = depth > 0
        place[inside] = Tissue.LIVER
        canvas.label[window][inside] = LABELS["liver"]
        if extra:
            cavity = oval(x, y, *body.cavity, body.square) <= 1
            around = cavity & (depth > -extra) & (depth <= 0)
            place[around & is_any(place, (Tissue.FAT, Tissue.LUNG))] = Tissue.ASCITES
    low, size = np.array(liver.low) + 12.0, np.array(liver.high) - np.array(liver.low) - 24.0
    bed = low + size * (0.42, 0.29, 0.14)
    canvas.ellipsoid(
        (float(bed[0]), float(bed[1]), float(bed[2])), (15.0, 17.0, 28.0), Tissue.GALLBLADDER,
        over=(Tissue.FAT, Tissue.ASCITES, Tissue.BOWEL, Tissue.FLUID),
    )  # fmt: skip
    for cyst in body.cysts:
        canvas.ellipsoid(cyst.centre, cyst.radii, Tissue.CYST, label=None, over=_LIVER)


def _tree(canvas: Canvas, tree: Tree, tissue: Tissue, label: int | None, over: tuple[Tissue, ...] | None) -> None:
    for points, radii in tree:
        canvas.tube(list(points), list(radii), tissue, label=label, over=over)


def _paint_vessels(canvas: Canvas, body: Body) -> None:
    """Aorta, inferior vena cava, portal vein and its branches, hepatic veins and artery."""
    h, y0 = body.height, body.spine_y
    _tree(canvas, body.hepatic, Tissue.HEPATIC_VEIN, None, _LIVER)
    portal = LABELS["portal_vein"]
    _tree(canvas, body.portal[:1], Tissue.PORTAL, portal, None)
    _tree(canvas, body.portal[1:], Tissue.PORTAL, portal, _LIVER)
    start, hilum = body.portal[0][0][0], body.portal[0][0][-1]
    # Splenic vein: enhanced like the portal vein, but not part of its segment.
    s = body.spleen
    canvas.tube(
        [start, (50.0, y0 - 60.0, 0.5 * (start[2] + s.centre[2])), (s.centre[0] - 18.0, s.centre[1], s.centre[2])],
        [5.0, 4.5, 3.5], Tissue.PORTAL, over=(Tissue.FAT, Tissue.PANCREAS),
    )  # fmt: skip
    canvas.tube(
        [(12.0, y0 - 34.0, hilum[2] - 8.0), (hilum[0] + 8.0, hilum[1] - 9.0, hilum[2])],
        [2.8, 2.2],
        Tissue.HEPATIC_ARTERY,
    )
    if body.stent:
        canvas.tube(
            [hilum, (hilum[0] + 26.0, hilum[1] + 4.0, hilum[2] - 48.0)],
            [3.6, 3.6],
            Tissue.CALCIUM,
            over=(Tissue.FAT, Tissue.PANCREAS, *_LIVER),
        )
    canvas.draw(
        (-40.0, y0 - 46.0, -_FAR), (0.0, y0 - 16.0, 1.25 * h),
        lambda x, y, z: ((x + 20) / 13) ** 2 + ((y - y0 + 31) / 10) ** 2 <= 1, Tissue.CAVA,
    )  # fmt: skip
    radius, wave, place = body.aorta

    def middle(z: Array) -> Array:
        return np.asarray(11 + 0.015 * z + wave * np.sin((z - place) / 45.0), np.float32)

    low, high = (-30.0, y0 - 48.0, -_FAR), (60.0, y0 - 8.0, _FAR)
    window = canvas.box(low, high)
    if window is None:
        return
    x, y, z = canvas.places(window)
    across, down = x - middle(z), y - y0 + 28
    distance = np.hypot(across, down)
    tissue, label = canvas.tissue[window], canvas.label[window]
    inside = np.broadcast_to(distance <= radius, tissue.shape)
    tissue[inside] = Tissue.AORTA
    # The segment ends at the diaphragm: the aorta above is thoracic.
    label[inside] = 0
    label[inside & np.broadcast_to(z <= 0.9 * h, tissue.shape)] = LABELS["aorta"]
    if body.plaques:
        wall = np.broadcast_to((distance <= radius) & (distance > radius - 1.8), tissue.shape)
        angle = np.broadcast_to(np.arctan2(down, across), tissue.shape)[wall]
        height = np.broadcast_to(z, tissue.shape)[wall]
        hard = np.zeros(angle.shape, bool)
        for towards, at, length in body.plaques:
            hard |= (np.abs(height - at) < 0.5 * length) & (np.cos(angle - towards) > 0.88)
        tissue[wall] = np.where(hard, np.uint8(Tissue.CALCIUM), tissue[wall])


def _paint_tumour(canvas: Canvas, body: Body, *, necrosis: bool) -> None:
    """The lesions: capsule, viable part, necrotic core. They grow through liver and its vessels, nothing else."""
    lesions = body.lesions
    window = canvas.box(lesions.mass.low, lesions.mass.high)
    if window is None:
        return
    tissue, label = canvas.tissue[window], canvas.label[window]
    x, y, z = np.broadcast_arrays(*canvas.places(window))
    at = np.flatnonzero(is_any(tissue, HOSTS))
    places = tuple(axis.ravel()[at] if axis.flags.c_contiguous else axis.flatten()[at] for axis in (x, y, z))
    depth = lesions.mass.at(*places)
    mass = depth > 0
    at, depth = at[mass], depth[mass]
    dead = lesions.core.at(*(axis[mass] for axis in places)) > 0
    kind = np.full(at.shape, Tissue.TUMOUR, np.uint8)
    kind[depth < lesions.capsule] = Tissue.CAPSULE
    kind[dead] = Tissue.NECROSIS
    where = np.unravel_index(at, tissue.shape)
    tissue[where] = kind
    label[where] = np.where(dead & necrosis, LABELS["necrosis"], LABELS["mass"])
