"""The proportions of a twin patient: what differs between people, and the tumour at each visit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hcc_tace_data.phantom.seeding import generator

__all__ = ["LABELS", "Body", "Tumour", "make_body"]

#: Label numbers of the collection's segmentations; necrosis is a segment of its own in one patient.
LABELS = {"liver": 1, "mass": 2, "portal_vein": 3, "aorta": 4, "necrosis": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tumour:
    """A lumpy ball: centre and radius in mm, size of its necrotic core as a part of the radius, lump phases."""

    centre: tuple[float, float, float]
    radius: float
    core: float
    lumps: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Proportions of one patient, in mm.

    `width`, `depth`: half axes of the trunk; `fat`: thickness under the skin; `height`: of the liver;
    `liver`, `kidney`, `spleen`: scale factors of the organs; `aorta`: its radius; `rib_phase`: where along z a rib
    starts; `loops`: x, y, z, radius and gas of bowel loops; `twigs`: directions of small portal branches and whether
    they leave the right trunk; `tumour`: at this visit.
    """

    width: float
    depth: float
    fat: float
    height: float
    liver: float
    spleen: float
    kidney: float
    aorta: float
    rib_phase: float
    loops: tuple[tuple[float, float, float, float, float], ...]
    twigs: tuple[tuple[float, float, float, bool], ...]
    tumour: Tumour


def make_body(
    seed: int, patient_id: str, *, liver_height: float, tumour_mm: float, viable: float, scale: float = 1.0
) -> Body:
    """Draw the proportions of a patient.

    Parameters
    ----------
    seed : int
        Seed of the twin.
    patient_id : str
        PatientID.
    liver_height : float
        Extent of the liver along z, mm.
    tumour_mm : float
        Diameter of the tumour at baseline, mm.
    viable : float
        Viable diameter as a part of the whole diameter: 1 no necrosis, 0 all necrotic.
    scale : float
        Whole diameter of the tumour against the baseline (treatment shrinks it).
    """
    g = generator("body", seed, patient_id)
    width = 152.0 + 22.0 * g.random()
    depth = width * (0.66 + 0.06 * g.random())
    fat = 9.0 + 15.0 * g.random()
    liver, spleen, kidney = 0.93 + 0.12 * g.random(3)
    aorta = 9.5 + 2.5 * g.random()
    rib_phase = 28.0 * g.random()
    loops = tuple(
        (
            float(g.uniform(-95, 95)),
            float(g.uniform(-68, 10)),
            float(-0.3 * liver_height - 20.0 * k - 10 * g.random()),
            float(g.uniform(15, 28)),
            float(g.random()),
        )
        for k in range(9)
        for _ in range(6)
    )
    twigs = tuple(
        (float(v[0]), float(v[1]), float(v[2]), k % 4 != 0)
        for k, v in enumerate(v / np.linalg.norm(v) for v in g.normal(size=(10, 3)))
    )
    # Most tumours sit in the right lobe, where most of the liver is; large ones need its middle.
    radius = tumour_mm / 2
    right = bool(g.random() < 0.75) or radius > 28
    spread = max(0.0, 1.0 - radius / 60.0)
    centre = (-72.0, -8.0, 0.0) if right else (22.0, -48.0, 12.0)
    jitter = g.uniform(-1, 1, 3) * np.array([26.0, 24.0, 0.24 * liver_height]) * spread * (1.0 if right else 0.5)
    lumps = (float(g.uniform(0, 6.28)), float(g.uniform(0, 6.28)), float(g.uniform(0, 6.28)))
    tumour = Tumour(
        centre=(float(centre[0] + jitter[0]), float(centre[1] + jitter[1]), float(centre[2] + jitter[2])),
        radius=radius * scale,
        core=float(np.clip(1.0 - viable, 0.0, 1.0)),
        lumps=lumps,
    )
    return Body(
        width=width, depth=depth, fat=fat, height=liver_height, liver=float(liver), spleen=float(spleen),
        kidney=float(kidney), aorta=aorta, rib_phase=rib_phase, loops=loops, twigs=twigs, tumour=tumour,
    )  # fmt: skip
