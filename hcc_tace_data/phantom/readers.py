"""Three simulated readers and the fusion of what they drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.seeding import generator

__all__ = ["READERS", "Reading", "fuse", "simulate_readers"]

READERS = ("reader_1", "reader_2", "reader_3")

#: Aimed-at sensitivity, and false positives as a part of the structure's own size, of each reader.
_SKILL = ((0.97, 0.02), (0.94, 0.03), (0.95, 0.05))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reader's label map (uint8, as the truth) and what was planted: per label, over the whole image."""

    name: str
    labels: NDArray[np.uint8]
    sensitivity: dict[int, float]
    specificity: dict[int, float]


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """White noise blurred in-plane: the hand of a reader errs in strokes, not in pixels."""
    from scipy.ndimage import uniform_filter

    field = rng.standard_normal(shape, dtype=np.float32)
    size = max(1, shape[1] // 48)
    field = uniform_filter(field, (1, size, size)) if size > 1 else field
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def simulate_readers(
    truth: NDArray[np.uint8], spacing: tuple[float, float, float], *, seed: int, patient_id: str
) -> list[Reading]:
    """Draw three readers who miss and overdraw mostly near borders.

    Parameters
    ----------
    truth : numpy.ndarray
        uint8 (slices, rows, columns) of label numbers.
    spacing : tuple of float
        mm between slices, rows, columns.
    seed : int
        Seed of the twin.
    patient_id : str
        PatientID.

    Returns
    -------
    list of Reading
        With the sensitivity and specificity measured on what was drawn, so they are exact.
    """
    from scipy.ndimage import distance_transform_edt

    present = [int(v) for v in np.unique(truth) if v]
    window = _window(truth > 0, margin=6)
    inner = truth[window]
    maps = [np.zeros_like(inner) for _ in READERS]
    for label in present:
        mask = inner == label
        box = _window(mask, margin=4)
        local = mask[box]
        inside = distance_transform_edt(local, spacing).astype(np.float32)[local]
        around = ~local
        outside = distance_transform_edt(around, spacing).astype(np.float32)[around]
        for k, _name in enumerate(READERS):
            rng = generator("reader", seed, patient_id, k, label)
            sensitivity, extra = _SKILL[k]
            wobble = _smooth_field(rng, local.shape) * np.float32(0.8 * spacing[1])
            drawn = local.copy()
            miss = round((1.0 - sensitivity) * inside.size)
            add = min(round(extra * inside.size), outside.size)
            if miss:
                flat = np.flatnonzero(local)
                order = np.argpartition(inside + wobble[local], miss - 1)[:miss]
                drawn.flat[flat[order]] = False
            if add:
                flat = np.flatnonzero(around)
                order = np.argpartition(outside + wobble[around], add - 1)[:add]
                drawn.flat[flat[order]] = True
            # Small structures are drawn last: a vessel drawn into the liver stays a vessel.
            maps[k][box][drawn] = label
    readings = []
    for k, name in enumerate(READERS):
        whole = np.zeros_like(truth)
        whole[window] = maps[k]
        sens, spec = {}, {}
        for label in present:
            is_true, is_drawn = truth == label, whole == label
            positives = int(is_true.sum())
            hits = int((is_true & is_drawn).sum())
            sens[label] = hits / positives
            spec[label] = 1.0 - (int(is_drawn.sum()) - hits) / (truth.size - positives)
        readings.append(Reading(name=name, labels=whole, sensitivity=sens, specificity=spec))
    return readings


def _window(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    parts = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        parts.append(slice(max(0, int(used[0]) - margin), min(mask.shape[axis], int(used[-1]) + 1 + margin)))
    return tuple(parts)


def fuse(maps: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the STAPLE fusion of the readers' label maps, uint8."""
    from hcc_tace_data.fusion import fuse_staple

    return np.asarray(fuse_staple(list(maps)).label_map, np.uint8)
