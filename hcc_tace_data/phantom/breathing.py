"""How a body lies in a volume: on the table again at the follow-up, and breathing between sweeps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.canvas import Array, Bend
from hcc_tace_data.phantom.person import Person
from hcc_tace_data.phantom.plan import PatientPlan, SeriesPlan, VolumePlan
from hcc_tace_data.phantom.seeding import generator

__all__ = ["Motion", "volume_motion"]


@dataclass(frozen=True, slots=True)
class Motion:
    """From the body to a volume.

    Attributes
    ----------
    affine : numpy.ndarray
        (4, 4), from reference coordinates to the scanner's.
    from_annotated : numpy.ndarray
        (4, 4), from the annotated volume's coordinates to this volume's.
    bend : callable or None
        What breathing that is not affine adds to the reference coordinates y and z of a place.
    """

    affine: NDArray[np.float64]
    from_annotated: NDArray[np.float64]
    bend: Bend | None = None

    def of(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where points of the body (N, 3), reference coordinates in mm, lie in the volume."""
        at = points
        if self.bend is not None:
            for _ in range(12):  # the field is smooth and its slope well below 1
                x, y, z = at.T.astype(np.float32)
                dy, dz = self.bend(x, y, z)
                at = points - np.stack([np.zeros_like(dy), dy, dz], axis=1)
        return np.asarray(at @ self.affine[:3, :3].T + self.affine[:3, 3])


def volume_motion(
    plan: PatientPlan, series: SeriesPlan, volume: VolumePlan, origin: NDArray[np.float64]
) -> Motion:  # fmt: skip
    """Return the motion of a volume; `origin` is that of the reference coordinates in the scanner's, mm."""
    matrix = np.eye(4)
    if series.visit:
        g = generator("setup", plan.seed, plan.patient_id, series.visit)
        matrix = _affine(g.uniform(-1, 1, 3) * (4.0, 2.0, 5.0), g.uniform(-1.5, 1.5), 1.0)
    annotated = plan.find(plan.segmentation.annotated_series).volumes[plan.segmentation.annotated_volume]
    bend: Bend | None = None
    if series.visit or volume.phase != annotated.phase:
        g = generator("breath", plan.seed, plan.patient_id, series.visit, volume.phase)
        breath = _affine(g.uniform(-1, 1, 3) * (1.5, 2.5, 7.0), g.uniform(-0.8, 0.8), 1.0 + g.uniform(-0.025, 0.025))
        matrix = breath @ matrix
        if plan.breathing == "deformable":
            bend = _breath(g, plan.person)
    place, table = np.eye(4), np.eye(4)
    inverse = np.eye(4)
    inverse[:3, 3] = -origin
    place[:3, 3] = origin
    table[2, 3] = series.shift
    whole = table @ place @ matrix
    return Motion(np.round(whole, 8), np.round(whole @ inverse, 8), bend)


def _breath(g: np.random.Generator, person: Person) -> Bend:
    """Draw a breath that is not affine: the dome moves most, right more than left, wall and spine hardly."""
    down, out = float(g.choice((-1, 1)) * g.uniform(6.0, 16.0)), float(g.uniform(-4.0, 4.0))
    a, b = 0.62 * person.liver.size[0], 0.55 * person.liver.size[1]
    tilt = float(g.uniform(14.0, 30.0))

    def bend(x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        inside = np.exp(-np.square((x + 0.4 * a) / (1.1 * a)) - np.square(np.square(y / b)))
        deep = 0.25 + 0.75 / (1.0 + np.exp(-(z + 10.0) / tilt))
        forward = np.exp(-np.square(x / a) - np.square(z / 90.0)) * np.cos(np.clip(y / b, -1, 1) * (np.pi / 2))
        return np.asarray(out * forward, np.float32), np.asarray(down * inside * deep, np.float32)

    return bend


def _affine(shift: NDArray[np.float64], degrees: float, stretch: float) -> NDArray[np.float64]:
    """Rotation about z by `degrees`, stretch along z, then `shift` (mm)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, stretch, 0], [0, 0, 0, 1.0]])
    matrix[:3, 3] = shift
    return matrix
