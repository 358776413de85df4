"""Brightness of each tissue in each contrast phase, in HU, and how it varies between patients.

Means of aorta, portal vein, liver and spleen follow a bolus-tracking study of 171 patients (American Journal of
Roentgenology) and common reference values; the rest are usual values. The delayed phase is an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

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
}

#: Spread between patients, as a part of the enhancement over the unenhanced value.
_SPREAD = 0.05


def tissue_hu(seed: int, patient_id: str, visit: int, phase: str) -> NDArray[np.float32]:
    """Return the HU of every tissue of one patient in one phase, as a look-up table.

    Parameters
    ----------
    seed : int
        Seed of the twin.
    patient_id : str
        PatientID.
    visit : int
        0 baseline, 1 follow-up.
    phase : str
        One of :data:`PHASE_ORDER`.

    Returns
    -------
    numpy.ndarray
        float32, shape (number of tissues,), indexed by :class:`Tissue`.
    """
    at = PHASE_ORDER.index(phase)
    person = generator("enhancement", seed, patient_id)
    # Cardiac output and injection move the arteries of a visit together; fatty liver moves the liver alone.
    fatty = float(np.clip(person.normal(0.0, 2.5), -5.0, 5.0))
    own = {tissue: float(np.clip(person.normal(), -2.0, 2.0)) for tissue in Tissue}
    bolus = float(np.clip(generator("bolus", seed, patient_id, visit).normal(), -1.5, 1.5))
    table = np.zeros(len(Tissue), np.float32)
    for tissue, means in _MEAN.items():
        rest, value = means[0], means[at]
        gain = 1.0 + _SPREAD * bolus + 0.4 * _SPREAD * own[tissue]
        table[tissue] = rest + (value - rest) * gain
        if rest > -50 and tissue not in (Tissue.BONE, Tissue.FLUID, Tissue.GALLBLADDER):
            table[tissue] += 1.2 * own[tissue]
    table[Tissue.LIVER] += fatty
    # The relations that define an HCC hold in every patient: brighter than liver early, darker later.
    if phase == "arterial":
        table[Tissue.TUMOUR] = max(table[Tissue.TUMOUR], table[Tissue.LIVER] + 30)
    elif phase in ("portal_venous", "delayed"):
        table[Tissue.TUMOUR] = min(table[Tissue.TUMOUR], table[Tissue.LIVER] - 14)
    return table
