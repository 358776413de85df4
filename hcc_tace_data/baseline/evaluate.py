"""Scores of predictions against the annotation: by case and label, and over patients with intervals.

The file ``evaluation.json`` says itself how each figure is defined and what was done with empty masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.labels.scores import EMPTY_POLICY, lesion_detection, score_masks

__all__ = ["DEFINITIONS", "LABELS", "bootstrap_interval", "evaluate_case", "size_group", "summarise"]

#: Label -> the classes of the standard set that it is made of.
LABELS = ("liver", "tumour")

#: Scores that are averaged over patients.
METRICS = (
    "dice",
    "iou",
    "hd95_mm",
    "hd95_pooled_mm",
    "assd_mm",
    "surface_dice",
    "surface_dice_surfels",
    "volume_error_ml",
    "sensitivity",
    "precision",
)

#: Written into every result.
DEFINITIONS = {
    "liver": "whole liver: liver, tumour and portal vein, of the annotation and of the prediction if it has them",
    "tumour": "tumour of the annotation, also where it lies outside the predicted liver",
    "dice": "2 |A and B| / (|A| + |B|) over all voxels of the volume",
    "iou": "|A and B| / |A or B|",
    "hd95_mm": "95th percentile of the distances from each surface voxel of one mask to the nearest surface voxel of "
    "the other, the larger of both directions; a surface voxel has a face neighbour outside the mask; distances are "
    "between voxel centres, in mm",
    "hd95_pooled_mm": "95th percentile of the distances of both directions together; a distant false positive can be "
    "missing from it",
    "assd_mm": "mean of the same pooled distances",
    "surface_dice": "share of the surface voxels of both masks that are within 2 mm of the other surface, by voxel "
    "centres, each voxel counted the same",
    "surface_dice_surfels": "surface Dice at 2 mm by surface elements weighted by area (Nikolov et al. 2021), from "
    "DeepMind's surface-distance; left out where that is not installed",
    "volume_error_ml": "predicted minus annotated volume",
    "lesions": "connected components (26 neighbours) of the annotated tumour; found: matched one to one with a "
    "predicted component of an intersection over union of at least 0.1, largest first; sensitivity: found / "
    "lesions, precision: found / predicted components, 1 where there was nothing to find or nothing predicted",
    "empty_masks": EMPTY_POLICY,
    "empty_predictions": "patients for whom no voxel of the label was predicted, and how many of them have it; they "
    "count in every mean",
    "interval": "95 % bootstrap interval of the mean over patients, bias-corrected and accelerated (BCa), 10,000 "
    "resamples of patients, seeded",
    "per_slice_dice": "mean over axial slices where annotation or prediction shows the label; not comparable with Dice "
    "by patient, for small cross-sections count as much as large ones",
    "tumour_size": "diameter of the sphere that has the volume of the largest annotated lesion",
}

_GROUPS = ((3.0, "below 3 cm"), (5.0, "3 to 5 cm"), (10.0, "5 to 10 cm"), (math.inf, "10 cm and more"))


def evaluate_case(
    predicted: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8], spacing: npt.ArrayLike
) -> dict[str, dict[str, Any]]:
    """Score one label map against the annotation.

    Parameters
    ----------
    predicted, true : ndarray of uint8, shape (D, H, W)
        Class numbers of the standard set.
    spacing : array-like of float, shape (3,)
        mm along (D, H, W).

    Returns
    -------
    dict
        Label -> scores; the tumour has ``lesions``, ``found``, ``false_positives``, ``sensitivity``, ``precision`` and
        ``diameter_cm`` (None without tumour) besides.
    """
    if predicted.shape != true.shape:
        raise UsageError(f"prediction {predicted.shape} and annotation {true.shape} lie on different grids.")
    result: dict[str, dict[str, Any]] = {}
    known = load_catalog().vocabulary
    classes = {"liver": known.liver_classes, "tumour": known.tumour_classes}
    for label, numbers in classes.items():
        a, b = np.isin(predicted, numbers), np.isin(true, numbers)
        scores: dict[str, Any] = score_masks(a, b, spacing, surfels=True).plain()
        slices = slice_dice(a, b)
        scores["per_slice_dice"] = float(slices.mean()) if len(slices) else 1.0
        scores["slices"] = len(slices)
        if label == "tumour":
            scores |= lesion_detection(a, b)
            scores["diameter_cm"] = largest_diameter(b, spacing)
        result[label] = scores
    return result


def slice_dice(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the Dice of each axial slice on which either mask (D, H, W) shows something."""
    sizes = predicted.sum(axis=(1, 2)) + true.sum(axis=(1, 2))
    both = (predicted & true).sum(axis=(1, 2))
    result: npt.NDArray[np.float64] = 2 * both[sizes > 0] / sizes[sizes > 0]
    return result


def largest_diameter(mask: npt.NDArray[np.bool_], spacing: npt.ArrayLike) -> float | None:
    """Return the diameter in cm of the sphere that has the volume of the largest component; None for an empty mask."""
    from scipy.ndimage import label  # noqa: PLC0415 - slow to import

    parts, count = label(mask, np.ones((3, 3, 3), dtype=int))
    if not count:
        return None
    volume = float(np.bincount(parts.ravel())[1:].max()) * float(np.prod(np.asarray(spacing, dtype=float)))
    return float((6 * volume / math.pi) ** (1 / 3) / 10)


def size_group(diameter_cm: float | None) -> str:
    """Return the name of the group of a diameter.

    Examples
    --------
    >>> size_group(4.2)
    '3 to 5 cm'
    """
    if diameter_cm is None:
        return "no tumour"
    return next(name for limit, name in _GROUPS if diameter_cm < limit)


def bootstrap_interval(values: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean over resampled patients: bias-corrected and accelerated (Efron 1987).

    Plain percentiles cover the mean of 20 patients in about 90 % of cases, since scores are skewed.

    Examples
    --------
    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    array = np.asarray(values, dtype=float)
    if not len(array):
        raise UsageError("no values to resample.")
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - slow to import

    mean = float(array.mean())
    if np.ptp(array) == 0:
        return mean, mean
    means = array[np.random.default_rng(seed).integers(0, len(array), (resamples, len(array)))].mean(axis=1)
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * resamples)
    bias = float(ndtri(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples)))
    influence = array - mean  # of the mean, up to a factor that cancels
    acceleration = float((influence**3).sum() / (6 * (influence**2).sum() ** 1.5))
    wanted = bias + ndtri([0.025, 0.975])
    low, high = np.percentile(means, 100 * ndtr(bias + wanted / (1 - acceleration * wanted))).tolist()
    return low, high


def summarise(cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise scored cases.

    Parameters
    ----------
    cases : sequence of mapping
        Each with ``patient_id``, ``labels`` (from :func:`evaluate_case`) and ``phase``.

    Returns
    -------
    dict
        ``patients``; ``labels``: label -> metric -> mean, median, low, high, n; ``empty_predictions``: label -> how
        many patients have none predicted, and how many of these have it annotated; ``per_slice``: apart, and named so;
        ``lesions``: totals; ``by_phase`` and ``by_tumour_size``: the same figures of Dice in groups.
    """
    rows = _by_patient(cases)
    summary: dict[str, Any] = {"patients": len(rows), "labels": {}, "empty_predictions": {}, "per_slice": {}}
    for label in LABELS:
        own = [row[label] for row in rows]
        summary["labels"][label] = {
            metric: _figures([scores[metric] for scores in own])
            for metric in METRICS
            if all(scores.get(metric) is not None for scores in own)
        }
        empty = [scores for scores in own if scores["predicted_ml"] == 0]
        summary["empty_predictions"][label] = {
            "patients": len(empty),
            "annotated": sum(1 for scores in empty if scores["volume_ml"] > 0),
        }
        weights = [scores["slices"] for scores in own]
        total = sum(weights)
        mean = sum(s["per_slice_dice"] * w for s, w in zip(own, weights, strict=True)) / total if total else 1.0
        summary["per_slice"][label] = {"dice": mean, "slices": total, "note": DEFINITIONS["per_slice_dice"]}
    tumour = [row["tumour"] for row in rows]
    summary["lesions"] = {key: int(sum(row[key] for row in tumour)) for key in ("lesions", "found", "false_positives")}
    summary["by_phase"] = _grouped(cases, lambda case: str(case.get("phase") or "unknown"))
    groups = _grouped(cases, lambda case: size_group(case["labels"]["tumour"]["diameter_cm"]))
    order = ["no tumour", *(name for _, name in _GROUPS)]
    summary["by_tumour_size"] = {name: groups[name] for name in order if name in groups}
    return summary


def _by_patient(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    names = [case["patient_id"] for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{', '.join(twice)} scored more than once; intervals are by patient.")
    if not cases:
        raise UsageError("no scored case to summarise.")
    return [case["labels"] for case in cases]


def _figures(values: Sequence[float]) -> dict[str, float]:
    low, high = bootstrap_interval(values)
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "low": low,
        "high": high,
        "n": len(values),
    }


def _grouped(cases: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]) -> dict[str, Any]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for case in cases:
        groups.setdefault(key(case), []).append(case["labels"])
    return {
        name: {label: {"dice": _figures([row[label]["dice"] for row in rows])} for label in LABELS}
        for name, rows in sorted(groups.items())
    }
