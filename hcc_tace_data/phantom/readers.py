"""Three simulated readers and the fusion of what they drew.

They err near borders, in strokes, and independently of each other: of the voxels of a structure as many are missed by
two readers as there would be if each missed any voxel with his own chance, and as good as none outside is drawn by two.
STAPLE assumes just that, so that it has to find the planted skill again. Real readers err alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.labels.fuse import fuse_staple
from hcc_tace_data.phantom.seeding import generator

__all__ = ["READERS", "Reading", "fuse", "simulate_readers"]

READERS = ("reader_1", "reader_2", "reader_3")

#: Aimed-at sensitivity, and false positives as a part of the structure's own size, of each reader.
_SKILL = ((0.97, 0.02), (0.94, 0.03), (0.95, 0.05))
#: Which of the readers err at a voxel, at least one.
_PATTERNS = np.array([pattern for pattern in product((False, True), repeat=len(READERS)) if any(pattern)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reader's label map (uint8, as the truth) and what was planted: per label, over the whole image."""

    name: str
    labels: NDArray[np.uint8]
    sensitivity: dict[int, float]
    specificity: dict[int, float]


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> NDArray[np.float32]:
    """White noise blurred in-plane: the hand of a reader errs in strokes, not in pixels."""
    from scipy.ndimage import uniform_filter

    field = rng.standard_normal(shape, dtype=np.float32)
    field = uniform_filter(field, (1, size, size)) if size > 1 else field
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _errors(
    rng: np.random.Generator,
    place: NDArray[np.bool_],
    free: NDArray[np.bool_],
    counts: NDArray[np.int64],
    spacing: tuple[float, float, float],
) -> list[NDArray[np.int64]]:
    """Return the flat indices of the voxels that get each pattern of errors, in strokes near the border of `place`.

    Parameters
    ----------
    rng : numpy.random.Generator
    place : ndarray of bool, shape (D, H, W)
        A structure, or what is around it.
    free : ndarray of bool, shape (D, H, W)
        Voxels of it that may be taken.
    counts : ndarray of int, shape (P,)
        How many voxels each pattern is to get.
    spacing : tuple of float
        mm.
    """
    from scipy.ndimage import distance_transform_edt

    flat = np.flatnonzero(free)
    counts = counts.copy()
    while counts.sum() > flat.size:  # in a structure of a few voxels
        counts[counts.argmax()] -= 1
    total = int(counts.sum())
    if not total:
        return [np.zeros(0, np.int64) for _ in counts]
    depth = distance_transform_edt(place, spacing).astype(np.float32)
    depth += _smooth_field(rng, place.shape, max(1, place.shape[1] // 12)) * np.float32(0.8 * spacing[1])
    near = flat[np.argpartition(depth[free], total - 1)[:total]]
    stroke = _smooth_field(rng, place.shape, max(1, place.shape[1] // 24)).flat[near]
    return np.split(near[np.argsort(stroke, kind="stable")], np.cumsum(counts)[:-1])


def _independent(rates: NDArray[np.float64], voxels: int) -> NDArray[np.int64]:
    """Return how many of `voxels` get each pattern of :data:`_PATTERNS` if readers err independently at these rates."""
    shares = np.where(_PATTERNS, rates, 1.0 - rates).prod(axis=1)
    counts: NDArray[np.int64] = np.rint(shares * voxels).astype(np.int64)
    return counts


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
    window = _window(truth > 0, margin=6)
    inner = truth[window]
    maps = [inner.copy() for _ in READERS]
    touched = np.zeros(inner.shape, dtype=bool)  # one pattern of errors a voxel
    present = [int(v) for v in np.unique(truth) if v]
    # Small structures first: a vessel drawn into the liver stays a vessel, and is missed there by the liver.
    for label in reversed(present):
        box = _window(inner == label, margin=4)
        place, rng = inner[box] == label, generator("reader", seed, patient_id, label)
        drawn, taken = [one[box] for one in maps], touched[box]
        size = int(np.count_nonzero(place))
        lost = np.array([np.count_nonzero(place & (one != label)) for one in drawn])
        misses = _independent(np.array([1.0 - sensitivity for sensitivity, _ in _SKILL]) + lost / size, size)
        misses[_PATTERNS.sum(axis=1) == 1] -= lost[::-1]  # alone the last reader errs first
        adds = _independent(np.array([extra for _, extra in _SKILL]) * size / truth.size, truth.size - size)
        for value, where, free, counts in (
            (0, place, place & ~taken, np.maximum(misses, 0)),
            (label, ~place, (inner[box] < label) & ~taken, adds),
        ):
            for pattern, part in zip(_PATTERNS, _errors(rng, where, free, counts, spacing), strict=True):
                taken.flat[part] = True
                for reader in np.flatnonzero(pattern):
                    drawn[reader].flat[part] = value
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
    return np.asarray(fuse_staple(list(maps)).label_map, np.uint8)
