"""Who a twin patient is: grid, liver and tumour as published for the real patient; drawn where nothing was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.facts.published import published_anatomy
from hcc_tace_data.phantom.seeding import generator

__all__ = ["Box", "Person", "draw_person", "slice_spacing"]

#: Rows and columns of the collection's images.
_PIXELS = 512
#: Whole range of the standard deviation of HU within a liver that is noise and texture; more is an artefact.
_LIVER_SD = (17.0, 32.0)
#: Brightness of the liver in porto-venous sweeps, HU: mean, standard deviation and range.
_LIVER_HU = (107.0, 22.0, 62.0, 165.0)
_TUMOUR_SD = (14.0, 40.0)
#: Room in mm above a liver whose place is not published; three times as much below.
_ROOM = 15.0


@dataclass(frozen=True, slots=True)
class Box:
    """Lower corner and extent along x, y and z, mm, LPS."""

    low: tuple[float, float, float]
    size: tuple[float, float, float]

    @property
    def high(self) -> tuple[float, float, float]:
        """The upper corner."""
        return self.low[0] + self.size[0], self.low[1] + self.size[1], self.low[2] + self.size[2]

    @property
    def centre(self) -> NDArray[np.float64]:
        """The middle."""
        return np.array(self.low) + 0.5 * np.array(self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Figures of one patient at baseline, in the scanner's coordinates.

    Attributes
    ----------
    patient_id : str
    seed : int
    pixel : float
        Pixel spacing at 512 pixels, mm.
    origin : tuple of float
        Centre of the first pixel, x and y, mm.
    step : float
        Distance of the annotated slices, mm.
    bottom : float
        Position of the lowest annotated slice, mm.
    slices : int
        Number of annotated slices.
    outside : int
        HU outside the circle of reconstruction.
    liver, tumour : Box
        Bounding boxes; the tumour's encloses all its parts.
    liver_ml, tumour_ml : float
        Volume; the liver's without tumour.
    tumour_centre : tuple of float
        Centre of mass, mm.
    parts : int
        Connected components of the tumour.
    sphericity : float
        Of the tumour: 1 for a ball.
    liver_hu, difference : float
        Mean of the liver, and of the tumour over it, in the porto-venous phase, HU.
    liver_sd, tumour_sd : float
        Standard deviation within, noise included, HU.
    """

    patient_id: str
    seed: int
    pixel: float
    origin: tuple[float, float]
    step: float
    bottom: float
    slices: int
    outside: int
    liver: Box
    tumour: Box
    liver_ml: float
    tumour_ml: float
    tumour_centre: tuple[float, float, float]
    parts: int
    sphericity: float
    liver_hu: float
    difference: float
    liver_sd: float
    tumour_sd: float


def slice_spacing(count: int, phase: str) -> float:
    """Slice spacing in mm: the finest of the scanner's that still covers a liver."""
    choices = (2.5, 5.0, 10.0) if phase == "pre_contrast" else (2.5, 5.0, 7.5, 10.0)
    return next((mm for mm in choices if mm * count >= 150.0), choices[-1])


@cache
def _differences() -> tuple[float, ...]:
    """Published differences of tumour and liver on annotated porto-venous volumes, HU, in order."""
    rows = published_anatomy().values()
    return tuple(sorted(row["tumour_hu"] - row["liver_hu"] for row in rows if "tumour_hu" in row and "liver_hu" in row))


def _box(row: Mapping[str, float], name: str) -> Box | None:
    if f"{name}_low_x" not in row:
        return None
    low, size = (tuple(row[f"{name}_{part}_{axis}"] for axis in "xyz") for part in ("low", "size"))
    return Box((low[0], low[1], low[2]), (size[0], size[1], size[2]))


def _placed_liver(g: np.random.Generator, low: float, high: float, tumour: Box | None) -> Box:
    """Draw the box of a liver between two heights; it holds the tumour's."""
    size = np.array([226.0, 188.0, min(168.0, high - low - 4 * _ROOM)]) * g.uniform(0.92, 1.06, 3)
    first = np.array([-150.0, -104.0, high - _ROOM - size[2]]) + g.normal(0, 6, 3) * (1, 1, 0)
    if tumour is not None:
        last = np.maximum(first + size, np.array(tumour.high) + 4)
        first = np.minimum(first, np.array(tumour.low) - 4)
        size = last - first
    return Box((float(first[0]), float(first[1]), float(first[2])), (float(size[0]), float(size[1]), float(size[2])))


def _placed_tumour(g: np.random.Generator, liver: Box, millilitres: float) -> Box:
    """Draw the box of a tumour of a volume within a liver, most often in the right lobe."""
    radius = (0.75 * millilitres * 1000.0 / np.pi) ** (1 / 3) * g.uniform(0.9, 1.15, 3)
    right = g.random() < 0.75 or radius.max() > 35.0
    share = np.array([0.3, 0.55, 0.5]) if right else np.array([0.68, 0.28, 0.62])
    room = np.maximum(np.array(liver.size) * (0.16, 0.2, 0.25) - 0.3 * radius, 0.0)
    centre = np.array(liver.low) + share * liver.size + g.uniform(-1, 1, 3) * room
    low, size = centre - radius, 2 * radius
    return Box((float(low[0]), float(low[1]), float(low[2])), (float(size[0]), float(size[1]), float(size[2])))


def draw_person(seed: int, patient_id: str, slices: int, bottom: float | None = None) -> Person:
    """Return the figures of a patient.

    Parameters
    ----------
    seed : int
        Seed of the twin: draws what is not published.
    patient_id : str
        PatientID.
    slices : int
        Number of annotated slices.
    bottom : float, optional
        Where the lowest of them lies, mm, if known.
    """
    row = published_anatomy().get(patient_id, {})
    g = generator("person", seed, patient_id)
    pixel = row.get("pixel_mm") or float(g.choice([0.703125, 0.742188, 0.78125, 0.820312, 0.859375]))
    view = pixel * _PIXELS
    # Figures of another series of the visit tell where the liver is, not how the annotated one was cut.
    same = row.get("slices") == slices
    step = row.get("slice_mm", 2.5) if same else slice_spacing(slices, "portal_venous")
    extent = step * (slices - 1)
    liver, tumour = _box(row, "liver"), _box(row, "tumour")
    origin = (float(-view / 2 + g.normal(0, 10)), -view / 2)
    found = float(g.uniform(-400, -150)) - extent / 2
    first = liver or tumour
    # Measured images that were cut to the liver tell nothing of the grid.
    known = "origin_x" in row and first is not None and row["origin_x"] < first.low[0] - 5.0
    if known:
        origin = (row["origin_x"], row["origin_y"])
    if first is not None:
        top = (
            row["origin_z"] + row["slice_mm"] * (row["slices"] - 1)
            if known
            else first.high[2] + 0.45 * (extent - first.size[2])
        )
        found = max(top, first.high[2] + step) - extent
    bottom = found if bottom is None else bottom
    liver = liver or _placed_liver(g, bottom, bottom + extent, tumour)
    if liver.low[2] < bottom - 10.0:  # measured on stacked slices
        z = bottom + 2 * step
        liver = Box((*liver.low[:2], z), (*liver.size[:2], liver.high[2] - z))
    tumour_ml = row.get("tumour_ml") or float(np.clip(np.exp(g.normal(np.log(120.0), 1.2)), 4.0, 1500.0))
    tumour = tumour or _placed_tumour(g, liver, tumour_ml)
    centre = tuple(row.get(f"tumour_{axis}", float(mid)) for axis, mid in zip("xyz", tumour.centre, strict=True))
    mean, spread, least, most = _LIVER_HU
    drawn_hu = float(np.clip(g.normal(mean, spread), least, most))
    drawn_difference = float(np.quantile(_differences(), g.random()))
    liver_hu = float(np.clip(row.get("liver_hu", drawn_hu), least, most))
    difference = row["tumour_hu"] - row["liver_hu"] if {"tumour_hu", "liver_hu"} <= row.keys() else drawn_difference
    return Person(
        patient_id=patient_id, seed=seed, pixel=pixel, origin=origin, step=step, bottom=round(bottom, 4),
        slices=slices, outside=int(row.get("outside_hu", -2048)), liver=liver, tumour=tumour,
        liver_ml=row.get("liver_ml") or float(np.clip(g.normal(1400.0, 300.0), 800.0, 2200.0)), tumour_ml=tumour_ml,
        tumour_centre=(float(centre[0]), float(centre[1]), float(centre[2])), parts=int(row.get("tumour_parts", 1)),
        sphericity=row.get("tumour_sphericity") or float(g.uniform(0.5, 0.75)), liver_hu=liver_hu,
        difference=float(difference), liver_sd=float(np.clip(row.get("liver_sd") or g.normal(24, 3), *_LIVER_SD)),
        tumour_sd=float(np.clip(row.get("tumour_sd") or g.normal(25, 5), *_TUMOUR_SD)),
    )  # fmt: skip
