"""The twin's anatomy: closed surfaces in patient millimetres, painted onto the slices of a volume.

Reference coordinates are LPS millimetres with the origin between the kidneys' upper poles, z = 0 at mid-liver: +x the
patient's left, +y back, +z head. A :class:`~.body.Body` is drawn once per patient and visit; :func:`paint` samples it
on any slices, after an affine motion (breathing, another table position).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.body import LABELS, Body
from hcc_tace_data.phantom.canvas import Array, Canvas, Mask, ellipsoid, oval
from hcc_tace_data.phantom.enhancement import Tissue

__all__ = ["paint"]

_FAR = 2000.0


def paint(
    body: Body, xs: Array, ys: Array, zs: Array, motion: NDArray[np.float64], *, necrosis: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Sample a body on slices.

    Parameters
    ----------
    body : Body
        What to paint.
    xs, ys, zs : numpy.ndarray
        Ascending LPS coordinates of columns, rows and slices, mm.
    motion : numpy.ndarray
        (4, 4) affine from reference coordinates to the coordinates of this volume.
    necrosis : bool
        Give the necrotic core a label of its own instead of counting it as mass.

    Returns
    -------
    tissue, label : numpy.ndarray
        uint8, both (len(zs), len(ys), len(xs)); codes of :class:`~.enhancement.Tissue` and :data:`LABELS`.
    """
    canvas = Canvas(xs, ys, zs, motion)
    _paint_wall(canvas, body)
    _paint_chest(canvas, body)
    _paint_spine(canvas, body)
    _paint_bowel(canvas, body)
    _paint_organs(canvas, body)
    _paint_vessels(canvas, body)
    _paint_tumour(canvas, body, necrosis=necrosis)
    return canvas.tissue, canvas.label


def _paint_wall(canvas: Canvas, body: Body) -> None:
    """Skin, fat, muscle, ribs and the fat-filled cavity."""
    x, y, z = canvas.x, canvas.y, canvas.z
    tissue = canvas.tissue
    a, b, fat = body.width, body.depth, body.fat
    tissue[oval(x, y, a, b) <= 1] = Tissue.SKIN
    tissue[oval(x, y, a - 2.5, b - 2.5) <= 1] = Tissue.FAT
    am, bm = a - 2.5 - fat, b - 2.5 - 0.8 * fat
    muscle = oval(x, y, am, bm) <= 1
    tissue[muscle] = Tissue.MUSCLE
    # Ribs run down towards the front; a slice cuts each into a short arc.
    ai, bi = am - 13.0, bm - 13.0
    cage = muscle & (oval(x, y, am - 3.0, bm - 3.0) <= 1) & (oval(x, y, am - 11.0, bm - 11.0) > 1)
    along = np.mod(z - 0.55 * y + body.rib_phase, 28.0)
    reach = z > -0.42 * body.height + 0.25 * np.abs(y - b)
    front = (y < 0) & (np.abs(x) < 0.25 * a)
    tissue[cage & reach & ~front & (along < 11.0)] = Tissue.BONE
    core = cage & (oval(x, y, am - 5.0, bm - 5.0) <= 1) & (oval(x, y, am - 9.0, bm - 9.0) > 1)
    tissue[core & reach & ~front & (along > 2.5) & (along < 8.5)] = Tissue.MARROW
    tissue[oval(x, y, ai, bi) <= 1] = Tissue.FAT


def _cavity(body: Body) -> tuple[float, float]:
    return body.width - 15.5 - body.fat, body.depth - 15.5 - 0.8 * body.fat


def _paint_chest(canvas: Canvas, body: Body) -> None:
    """Lung bases above and around the dome of the diaphragm, and the heart."""
    a, b = _cavity(body)
    top = body.height / 2
    z0 = -0.35 * body.height

    def lung(x: Array, y: Array, z: Array) -> Mask:
        dome = ellipsoid(x, y, z, (0.0, -6.0, z0), (a - 4.0, b - 3.0, top - z0 + 4.0))
        return np.asarray((oval(x, y, a, b) <= 1) & (dome > 1) & (z > -0.1 * body.height) & (np.hypot(x, y - 46) > 34))

    canvas.draw((-a, -b, -0.1 * body.height), (a, b, _FAR), lung, Tissue.LUNG)
    heart = (22.0, -0.35 * b, top + 38.0)
    canvas.ellipsoid(heart, (64.0, 50.0, 44.0), Tissue.MYOCARDIUM)
    canvas.ellipsoid((heart[0] + 14, heart[1], heart[2] + 2), (36.0, 34.0, 34.0), Tissue.HEART)
    canvas.ellipsoid((heart[0] - 38, heart[1] + 6, heart[2] + 2), (22.0, 32.0, 34.0), Tissue.HEART)
    for k in range(8):
        side = 1 if k % 2 else -1
        start = (side * 38.0, 10.0 + 4.0 * k, top + 70.0)
        end = (side * (60.0 + 7.0 * k), -20.0 + 12.0 * k, 0.3 * top)
        canvas.tube([start, end], [4.0, 1.5], Tissue.LUNG_VESSEL, over=(Tissue.LUNG,))


def _spine_y(body: Body) -> float:
    return body.depth - 15.5 - 0.8 * body.fat - 22.0


def _paint_spine(canvas: Canvas, body: Body) -> None:
    """Vertebrae and discs, canal, processes, and the muscles beside them."""
    y0 = _spine_y(body)
    for side in (-1, 1):
        canvas.draw(
            (side * 33 - 26, y0 - 2, -_FAR), (side * 33 + 26, y0 + 38, _FAR),
            lambda x, y, z, s=side: ((x - s * 33) / 25) ** 2 + ((y - y0 - 18) / 19) ** 2 <= 1,  # type: ignore[misc]
            Tissue.MUSCLE,
        )  # fmt: skip
        canvas.draw(
            (side * 34 - 17, y0 - 18, -_FAR), (side * 34 + 17, y0 + 16, -0.2 * body.height),
            lambda x, y, z, s=side: ((x - s * 34) / 16) ** 2 + ((y - y0) / 15) ** 2 <= 1,  # type: ignore[misc]
            Tissue.MUSCLE,
        )  # fmt: skip

    def beside(x: Array, y: Array, a: float, b: float) -> Array:
        return (x / a) ** 2 + ((y - y0) / b) ** 2

    low, high = (-45.0, y0 - 22, -_FAR), (45.0, y0 + 45, _FAR)

    def arch(x: Array, y: Array, z: Array) -> Mask:
        ring = (np.hypot(x, y - y0 - 24) < 14) & (np.mod(z + 8, 32) < 22)
        spike = (np.abs(x) < 4) & (y > y0 + 30) & (y < y0 + 44) & (np.mod(z + 8, 32) < 16)
        wings = (np.abs(x) < 40) & (np.abs(y - y0 - 24) < 4.5) & (np.mod(z + 4, 32) < 10)
        return np.asarray(ring | spike | wings)

    canvas.draw(low, high, arch, Tissue.BONE)
    canvas.draw(low, high, lambda x, y, z: beside(x, y, 22, 17) <= 1, Tissue.BONE)
    canvas.draw(low, high, lambda x, y, z: beside(x, y, 19.5, 14.5) <= 1, Tissue.MARROW)
    canvas.draw(low, high, lambda x, y, z: (beside(x, y, 21, 16) <= 1) & (np.mod(z, 32) < 6), Tissue.DISC)
    canvas.draw(low, high, lambda x, y, z: np.hypot(x / 1.25, y - y0 - 24) < 8.5, Tissue.CANAL)


def _paint_bowel(canvas: Canvas, body: Body) -> None:
    """Loops of bowel below the liver, with fluid and gas (gas rises to the front), and the colon on both sides."""
    a, b = _cavity(body)
    for side, top in ((-1, -0.35), (1, 0.05)):
        colon = (side * (a - 26.0), 0.05 * b)
        low, high = (colon[0] - 24.0, colon[1] - 24.0, -_FAR), (colon[0] + 24.0, colon[1] + 24.0, top * body.height)
        for radius, tissue in ((21.0, Tissue.BOWEL), (17.5, Tissue.FLUID)):
            canvas.draw(
                low,
                high,
                lambda x, y, z, c=colon, r=radius: (  # type: ignore[misc]
                    np.hypot(x - c[0], y - c[1]) < r * (1 + 0.12 * np.sin(z / 6.0))
                ),
                tissue,
                over=(Tissue.FAT, Tissue.BOWEL),
            )
        canvas.draw(
            low,
            (high[0], colon[1] - 5.0, high[2] - 4.0),
            lambda x, y, z, c=colon: np.hypot(x - c[0], y - c[1]) < 15,  # type: ignore[misc]
            Tissue.GAS,
            over=(Tissue.FLUID,),
        )
    for x0, y0, z0, r, gas in body.loops:
        canvas.ellipsoid((x0, y0, z0), (r, 0.8 * r, 0.9 * r), Tissue.BOWEL, over=(Tissue.FAT,))
        canvas.ellipsoid((x0, y0, z0), (r - 3, 0.8 * r - 3, 0.9 * r - 3), Tissue.FLUID, over=(Tissue.BOWEL,))
        if gas > 0.5:
            canvas.ellipsoid((x0, y0 - 0.35 * r, z0), (0.6 * r, 0.35 * r, 0.6 * r), Tissue.GAS, over=(Tissue.FLUID,))


def _paint_organs(canvas: Canvas, body: Body) -> None:
    """Stomach, spleen, kidneys, pancreas, liver, gallbladder."""
    a, b = _cavity(body)
    h = body.height / 2

    def inside(x: Array, y: Array) -> Mask:
        return np.asarray(oval(x, y, a - 1.5, b - 1.5) <= 1)

    # Stomach, with an air-fluid level.
    c, r = (58.0, -0.42 * b, 0.18 * h), (50.0, 34.0, 0.62 * h)
    canvas.ellipsoid(c, r, Tissue.STOMACH_WALL)
    canvas.ellipsoid(c, (r[0] - 4, r[1] - 4, r[2] - 4), Tissue.FLUID)
    canvas.draw(
        (c[0] - r[0], c[1] - r[1], c[2] - r[2]), (c[0] + r[0], c[1] - 0.25 * r[1], c[2] + r[2]),
        lambda x, y, z: ellipsoid(x, y, z, c, (r[0] - 4, r[1] - 4, r[2] - 4)) <= 1, Tissue.GAS,
    )  # fmt: skip
    s = body.spleen
    sc, sr = (a - 34.0 * s, 0.34 * b, 0.22 * h), (33.0 * s, 46.0 * s, 0.62 * h * s)
    canvas.draw(
        (sc[0] - sr[0], sc[1] - sr[1], sc[2] - sr[2]), (sc[0] + sr[0], sc[1] + sr[1], sc[2] + sr[2]),
        lambda x, y, z: (ellipsoid(x, y, z, sc, sr) <= 1) & inside(x, y), Tissue.SPLEEN,
    )  # fmt: skip
    canvas.tube(
        [(-22, -6, -0.42 * h), (12, -22, -0.36 * h), (50, -2, -0.2 * h), (sc[0] - 24, 0.24 * b, 0.05 * h)],
        [13, 10, 9, 7], Tissue.PANCREAS,
    )  # fmt: skip
    # Liver: a big right lobe and a left one that tapers towards the spleen; cut by the body's cavity.
    k = body.liver
    right = ((-0.47 * a, -0.02 * b, -0.06 * h), (0.56 * a * k, 0.86 * b * k, 1.06 * h))
    left = ((0.02 * a, -0.50 * b, 0.22 * h), (0.60 * a * k, 0.40 * b * k, 0.60 * h))

    def liver(x: Array, y: Array, z: Array) -> Mask:
        lobes = (ellipsoid(x, y, z, *right) <= 1) | (ellipsoid(x, y, z, *left) <= 1)
        # The fissure between the lobes, and the bed of the spine and great vessels.
        fissure = (np.abs(x + 6 - 0.15 * (y + 0.5 * b)) < 2.5) & (y < -0.52 * b) & (z < 0.35 * h)
        bed = np.hypot(x - 4, y - _spine_y(body) + 12) < 46
        return np.asarray(lobes & inside(x, y) & ~fissure & ~bed & (z < h) & (z > -h))

    canvas.draw((-a, -b, -h), (a, b, h), liver, Tissue.LIVER, label=LABELS["liver"])
    canvas.ellipsoid((-0.36 * a, -0.62 * b, -0.52 * h), (17.0, 19.0, 0.36 * h), Tissue.GALLBLADDER)
    q = body.kidney
    for side in (-1, 1):
        kc = (side * 62.0, _spine_y(body) - 4.0, -0.78 * h - (6.0 if side < 0 else 0.0))
        canvas.ellipsoid((kc[0], kc[1], kc[2]), (34.0 * q, 34.0 * q, 60.0 * q), Tissue.FAT)
        canvas.ellipsoid(kc, (26.0 * q, 27.0 * q, 54.0 * q), Tissue.CORTEX)
        canvas.ellipsoid(kc, (18.0 * q, 19.0 * q, 45.0 * q), Tissue.MEDULLA)
        canvas.ellipsoid((kc[0] - side * 12.0, kc[1] - 4.0, kc[2]), (15.0 * q, 11.0 * q, 28.0 * q), Tissue.FAT)


def _paint_vessels(canvas: Canvas, body: Body) -> None:
    """Aorta, inferior vena cava, portal vein and its branches, hepatic veins and artery."""
    a, b = _cavity(body)
    h = body.height / 2
    y0 = _spine_y(body)
    liver = (Tissue.LIVER,)
    # Hepatic veins meet at the cava under the dome.
    meet = (-20.0, y0 - 36.0, 0.78 * h)
    for end in ((-0.78 * a, 0.25 * b, 0.1 * h), (-0.5 * a, -0.5 * b, 0.2 * h), (-0.02 * a, -0.6 * b, 0.25 * h)):
        middle = tuple(0.5 * (m + e) + d for m, e, d in zip(meet, end, (0.0, -4.0, 6.0), strict=True))
        canvas.tube(
            [meet, (middle[0], middle[1], middle[2]), end], [6.0, 4.5, 2.0], Tissue.HEPATIC_VEIN, label=None, over=liver
        )
    portal = LABELS["portal_vein"]
    hilum = (-0.20 * a, -0.10 * b, -0.08 * h)
    split = (-0.42 * a, 0.0, 0.02 * h)
    for points, radii in (
        ([(14.0, y0 - 38.0, -0.62 * h), (0.0, y0 - 46.0, -0.35 * h), hilum], [7.0, 7.5, 7.5]),
        ([hilum, split], [7.0, 6.0]),
        ([split, (-0.72 * a, -0.2 * b, -0.1 * h), (-0.88 * a, -0.25 * b, -0.3 * h)], [5.0, 4.0, 2.0]),
        ([split, (-0.68 * a, 0.3 * b, 0.15 * h), (-0.8 * a, 0.4 * b, 0.35 * h)], [5.0, 4.0, 2.0]),
        ([hilum, (-0.1 * a, -0.42 * b, 0.15 * h), (0.16 * a, -0.5 * b, 0.25 * h)], [6.0, 4.5, 2.5]),
    ):
        canvas.tube(points, radii, Tissue.PORTAL, label=portal)
    for x, y, z, source in body.twigs:
        stem = split if source else (-0.1 * a, -0.42 * b, 0.15 * h)
        end = (stem[0] + x * 0.5 * a, stem[1] + y * 0.7 * b, stem[2] + z * 0.8 * h)
        canvas.tube([stem, end], [3.2, 1.2], Tissue.PORTAL, label=portal, over=liver)
    # Splenic vein: enhanced like the portal vein, but not part of its segment.
    canvas.tube(
        [(14.0, y0 - 40.0, -0.5 * h), (55.0, 8.0, -0.12 * h), (a - 52.0, 0.3 * b, 0.1 * h)], [5.0, 4.5, 3.5],
        Tissue.PORTAL,
    )  # fmt: skip
    canvas.tube([(12.0, y0 - 34.0, -0.15 * h), (-0.12 * a, -0.2 * b, -0.1 * h)], [2.8, 2.4], Tissue.HEPATIC_ARTERY)
    canvas.draw(
        (-40.0, y0 - 46.0, -_FAR), (0.0, y0 - 16.0, 1.25 * h),
        lambda x, y, z: ((x + 20) / 13) ** 2 + ((y - y0 + 31) / 10) ** 2 <= 1, Tissue.CAVA,
    )  # fmt: skip
    ra = body.aorta

    def aorta(x: Array, y: Array, z: Array) -> Mask:
        return np.asarray(np.hypot(x - 11 - 0.015 * z, y - y0 + 28) <= ra)

    canvas.draw((-20.0, y0 - 45.0, -_FAR), (45.0, y0 - 10.0, _FAR), aorta, Tissue.AORTA)
    window = canvas.box((-20.0, y0 - 45.0, -_FAR), (45.0, y0 - 10.0, 0.9 * h))
    if window is not None:  # the segment ends at the diaphragm: the aorta above is thoracic
        part = (canvas.tissue[window] == Tissue.AORTA) & (canvas.z[window] <= 0.9 * h)
        canvas.label[window][part] = LABELS["aorta"]


def _paint_tumour(canvas: Canvas, body: Body, *, necrosis: bool) -> None:
    """The lesion: thin capsule, viable rim, necrotic core. It grows through liver and its vessels, nothing else."""
    tumour = body.tumour
    c, r = tumour.centre, tumour.radius
    p = tumour.lumps
    window = canvas.box(
        (c[0] - 1.3 * r, c[1] - 1.3 * r, c[2] - 1.3 * r), (c[0] + 1.3 * r, c[1] + 1.3 * r, c[2] + 1.3 * r)
    )
    if window is None:
        return
    dx, dy, dz = canvas.x[window] - c[0], canvas.y[window] - c[1], canvas.z[window] - c[2]
    distance = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6
    lump = 1.0 + 0.07 * (
        np.sin(3 * np.arctan2(dy, dx) + p[0]) + np.sin(2 * np.arctan2(dz, dx) + p[1]) + np.sin(4 * dz / r + p[2])
    )
    ratio = distance / (r * lump)
    tissue, label = canvas.tissue[window], canvas.label[window]
    hosts = (Tissue.LIVER, Tissue.HEPATIC_VEIN, Tissue.PORTAL, Tissue.HEPATIC_ARTERY)
    host = np.isin(tissue, [int(t) for t in hosts])
    mass = host & (ratio <= 1.0)
    tissue[mass] = Tissue.TUMOUR
    label[mass] = LABELS["mass"]
    tissue[mass & (distance > r * lump - 1.6)] = Tissue.CAPSULE
    core = mass & (ratio <= tumour.core)
    tissue[core] = Tissue.NECROSIS
    if necrosis:
        label[core] = LABELS["necrosis"]
