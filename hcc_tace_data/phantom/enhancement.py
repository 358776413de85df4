"""Brightness of each tissue in each contrast phase, in HU, and how it varies between patients.

Means of aorta, portal vein, liver and spleen follow a bolus-tracking study of 171 patients (American Journal of
Roentgenology) and common reference values; the rest are usual values. The delayed phase is an assumption. Liver and
tumour of the porto-venous phase are as published for the patient (:mod:`hcc_tace_data.phantom.person`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.person import Person
from hcc_tace_data.phantom.seeding import generator
from hcc_tace_data.phases.names import KNOWN

__all__ = ["PHASE_ORDER", "Tissue", "tissue_hu"]

PHASE_ORDER = KNOWN


class Tissue(IntEnum):
    """What a voxel is made of."""

    AIR = 0
    TABLE_FOAM = 1
    TABLE_SHELL = 2
    SKIN = 3
    FAT = 4
    MUSCLE = 5
    BONE = 6
    MARROW = 7
    DISC = 8
    CANAL = 9
    LUNG = 10
    LUNG_VESSEL = 11
    HEART = 12
    MYOCARDIUM = 13
    AORTA = 14
    CAVA = 15
    PORTAL = 16
    HEPATIC_VEIN = 17
    HEPATIC_ARTERY = 18
    LIVER = 19
    SPLEEN = 20
    CORTEX = 21
    MEDULLA = 22
    PANCREAS = 23
    STOMACH_WALL = 24
    FLUID = 25
    GAS = 26
    BOWEL = 27
    GALLBLADDER = 28
    TUMOUR = 29
    CAPSULE = 30
    NECROSIS = 31
    CALCIUM = 32
    METAL = 33
    DRINK = 34
    ASCITES = 35
    CYST = 36


#: Mean HU: pre-contrast, arterial, porto-venous, delayed.
_MEAN: Mapping[Tissue, tuple[float, float, float, float]] = {
    Tissue.AIR: (-1000, -1000, -1000, -1000),
    Tissue.TABLE_FOAM: (-920, -920, -920, -920),
    Tissue.TABLE_SHELL: (-20, -20, -20, -20),
    Tissue.SKIN: (20, 25, 30, 30),
    Tissue.FAT: (-105, -105, -103, -103),
    Tissue.MUSCLE: (52, 58, 65, 63),
    Tissue.BONE: (520, 525, 525, 525),
    Tissue.MARROW: (185, 190, 198, 195),
    Tissue.DISC: (85, 86, 90, 90),
    Tissue.CANAL: (22, 24, 28, 28),
    Tissue.LUNG: (-860, -855, -850, -852),
    Tissue.LUNG_VESSEL: (40, 240, 160, 110),
    Tissue.HEART: (42, 250, 160, 110),
    Tissue.MYOCARDIUM: (46, 105, 105, 85),
    Tissue.AORTA: (43, 335, 164, 115),
    Tissue.CAVA: (41, 85, 138, 110),
    Tissue.PORTAL: (42, 130, 160, 112),
    Tissue.HEPATIC_VEIN: (44, 72, 158, 110),
    Tissue.HEPATIC_ARTERY: (43, 290, 155, 112),
    Tissue.LIVER: (59, 79, 119, 92),
    Tissue.SPLEEN: (49, 151, 127, 98),
    Tissue.CORTEX: (34, 205, 190, 150),
    Tissue.MEDULLA: (32, 80, 170, 160),
    Tissue.PANCREAS: (42, 110, 95, 78),
    Tissue.STOMACH_WALL: (40, 75, 85, 72),
    Tissue.FLUID: (10, 10, 11, 11),
    Tissue.GAS: (-960, -960, -960, -960),
    Tissue.BOWEL: (38, 80, 92, 75),
    Tissue.GALLBLADDER: (8, 8, 9, 10),
    Tissue.TUMOUR: (48, 132, 98, 72),
    Tissue.CAPSULE: (50, 92, 132, 112),
    Tissue.NECROSIS: (20, 20, 21, 21),
    Tissue.CALCIUM: (620, 640, 640, 640),
    Tissue.METAL: (3400, 3400, 3400, 3400),
    Tissue.DRINK: (10, 10, 10, 10),
    Tissue.ASCITES: (8, 8, 9, 10),
    Tissue.CYST: (5, 5, 6, 6),
}

#: Tissues that no contrast agent reaches.
_STILL = (
    Tissue.BONE, Tissue.FLUID, Tissue.GALLBLADDER, Tissue.CALCIUM, Tissue.METAL, Tissue.DRINK, Tissue.ASCITES,
    Tissue.CYST,
)  # fmt: skip
_VEINS = (Tissue.PORTAL, Tissue.HEPATIC_VEIN, Tissue.CAVA, Tissue.LIVER, Tissue.SPLEEN)
#: Tumour minus liver, HU: mean and standard deviation between patients where the annotated phase does not tell.
_TUMOUR = ((-6.0, 8.0), (24.0, 22.0), (-8.0, 20.0), (-14.0, 12.0))  # in PHASE_ORDER


def tissue_hu(
    person: Person,
    visit: int,
    phase: str,
    *,
    shares: tuple[float, float] = (0.0, 0.0),
    drink: float = 0.0,
) -> NDArray[np.float32]:
    """Return the HU of every tissue of one patient in one phase, as a look-up table.

    Parameters
    ----------
    person : Person
        The patient.
    visit : int
        0 baseline, 1 follow-up.
    phase : str
        One of :data:`PHASE_ORDER`.
    shares : tuple of float
        What part of the tumour is necrotic and what part is capsule: the published mean of the tumour holds them.
    drink : float
        HU of what is in the stomach over water.

    Returns
    -------
    numpy.ndarray
        float32, shape (number of tissues,), indexed by :class:`Tissue`.
    """
    at = PHASE_ORDER.index(phase)
    names = (person.seed, person.patient_id)
    g = generator("enhancement", *names)
    own = {tissue: float(np.clip(g.normal(), -2.0, 2.0)) for tissue in Tissue}
    rest = _resting_liver(person, g)
    weak = g.random() < 0.1  # the portal system of some patients fills late
    sweep = generator("bolus", *names, visit, phase)
    # The bolus moves the arteries of a sweep together; some arterial sweeps are late: veins have begun to fill.
    artery = 1.0 + float(np.clip(sweep.normal(0.0, 0.16), -0.35, 0.35))
    late = float(sweep.uniform(0.3, 0.6)) if phase == "arterial" and sweep.random() < 0.25 else 0.0
    table = np.zeros(len(Tissue), np.float32)
    for tissue, means in _MEAN.items():
        gain = means[at] - means[0]
        if tissue in (Tissue.AORTA, Tissue.HEART, Tissue.HEPATIC_ARTERY, Tissue.LUNG_VESSEL, Tissue.CORTEX):
            gain *= artery
        elif tissue in _VEINS:
            gain = (
                (gain + late * (means[2] - means[1]))
                * (0.72 if weak else 1.0)
                * (1.0 + 0.5 * (artery - 1.0) + 0.05 * own[tissue])
            )
        elif tissue not in _STILL:
            gain *= 1.0 + 0.08 * own[tissue]
        table[tissue] = means[0] + gain
        if means[0] > -50 and tissue not in _STILL:
            table[tissue] += 2.0 * own[tissue]
    table[Tissue.BONE] += 60.0 * own[Tissue.BONE]
    table[Tissue.MARROW] += 30.0 * own[Tissue.MARROW]
    table[Tissue.DRINK] += drink
    # The liver rises from rest to what was published for it, along the usual curve.
    pre, _, full, _ = _MEAN[Tissue.LIVER]
    share = (_MEAN[Tissue.LIVER][at] - pre + late * 20.0) / (full - pre)
    change = float(sweep.normal(0, 5.0)) if visit else 0.0
    table[Tissue.LIVER] = rest + share * (person.liver_hu - rest) + change * (share > 0)
    table[Tissue.TUMOUR] = table[Tissue.LIVER] + _tumour_over_liver(person, visit, phase)
    rim = 22.0 if at >= 2 else 4.0  # a capsule enhances late
    necrosis, capsule = shares
    if not visit and phase == "portal_venous" and necrosis + capsule < 0.8:
        table[Tissue.TUMOUR] = _living(table, necrosis, capsule, rim)
    table[Tissue.CAPSULE] = max(table[Tissue.LIVER], table[Tissue.TUMOUR]) + rim
    return table


def _living(table: NDArray[np.float32], necrosis: float, capsule: float, rim: float) -> float:
    """Return the HU of the living tumour, given the mean of all of it in its place."""
    liver, mean, dead = (float(table[one]) for one in (Tissue.LIVER, Tissue.TUMOUR, Tissue.NECROSIS))
    living = 1.0 - necrosis - capsule
    # the capsule is brighter than the brighter of the two
    brighter = (mean - necrosis * dead - capsule * rim) / (living + capsule)
    return brighter if brighter >= liver else (mean - necrosis * dead - capsule * (liver + rim)) / living


def _resting_liver(person: Person, g: np.random.Generator) -> float:
    """Return the liver's HU without contrast: lower where it is fatty, always below the published value."""
    fatty = g.random() < 0.2
    usual = g.normal(36.0, 8.0) if fatty else g.normal(57.0, 5.0)
    return float(min(usual, person.liver_hu - 18.0))


def _tumour_over_liver(person: Person, visit: int, phase: str) -> float:
    """Return how much brighter the living tumour is than the liver, HU."""
    if phase == "portal_venous" and not visit:
        return person.difference
    mean, spread = _TUMOUR[PHASE_ORDER.index(phase)]
    drawn = mean + spread * float(
        np.clip(generator("tumour", person.seed, person.patient_id, phase).normal(), -2.2, 2.2)
    )
    if phase in ("portal_venous", "delayed"):  # the follow-up resembles the baseline, and later sweeps each other
        drawn = 0.7 * person.difference + 0.3 * drawn
    return float(drawn)
