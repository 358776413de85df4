"""Pictures of an evaluation: learning curves, Dice by case, volume agreement, best to worst cases with contours."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.baseline.scoring import read_prediction
from hcc_tace_data.baseline.stages import ALL_STAGES
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.report.contours import contour_sheet
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.system.names import safe_name

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from hcc_tace_data.baseline.data import Cohort

__all__ = ["bland_altman", "case_contours", "dice_by_case", "draw_all", "learning_curves"]

_GREY = "#555555"


def _colours() -> dict[str, str]:
    """Return stage -> its colour in every picture."""
    colours = {segment.key: segment.colour for segment in load_catalog().segments}
    return {**colours, "joint": colours["liver"]}


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return Path(path)


def learning_curves(path: str | os.PathLike[str], logs: Mapping[str, Sequence[Path]]) -> Path:
    """Draw the loss of each step with its running mean, and the Dice of each validation; the chosen one has a ring.

    Parameters
    ----------
    path : path-like
        The picture.
    logs : mapping of str to sequence of path
        Stage -> ``log.csv`` of each fold. ``steps.csv`` beside it holds the loss of each step; without it, the mean
        loss between two validations is drawn.
    """
    figure = _figure(9, 3.4 * len(logs))
    for row, (stage, files) in zip(figure.subplots(len(logs), 2, squeeze=False), logs.items(), strict=True):
        colour = _colours()[stage]
        for number, file in enumerate(files):
            shade = 0.35 + 0.65 * (number + 1) / len(files)
            log = _columns(file)
            by_step = file.with_name("steps.csv")
            steps, losses = log["steps"], log["loss"]
            if by_step.is_file():
                raw = _columns(by_step)
                steps, losses = raw["step"], _running_mean(raw["loss"])
                row[0].plot(steps, raw["loss"], color=colour, alpha=0.25 * shade, linewidth=0.7)
            row[0].plot(steps, losses, color=colour, alpha=shade, linewidth=1.6)
            row[0].plot(log["steps"], np.interp(log["steps"], steps, losses), "o", color=colour, alpha=shade, ms=3.5)
            name = file.parent.parent.name
            row[1].plot(log["steps"], log["dice"], "o-", color=colour, alpha=shade, ms=3.5, label=name)
            best = int(log["dice"].argmax())
            row[1].plot(log["steps"][best], log["dice"][best], "o", color=_GREY, ms=9, mfc="none")
        row[0].set_ylabel(f"{stage}: training loss")
        row[1].set_ylabel(f"{stage}: Dice, validation patients")
        row[1].set_ylim(0, 1)
        for axes in row:
            axes.set_xlabel("steps")
            axes.set_xlim(left=0)
            axes.grid(alpha=0.25)
        row[1].legend(frameon=False, fontsize=8, loc="lower right")
    figure.supxlabel(
        "Thin: loss of each step. Bold: running mean. Dots: validations. Ring: the weights that were kept.",
        fontsize=8, color=_GREY,
    )  # fmt: skip
    return _save(figure, path)


def _columns(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def _running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean over a twentieth of the training around each value; the ends see what there is."""
    width = max(1, len(values) // 20) | 1
    weights = np.ones(width)
    mean: npt.NDArray[np.float64] = np.convolve(values, weights, "same") / np.convolve(
        np.ones(len(values)), weights, "same"
    )
    return mean


def dice_by_case(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the Dice of each patient, sorted by that of the tumour."""
    ordered = sorted(cases, key=lambda case: case["labels"]["tumour"]["dice"])
    figure = _figure(7.5, 1.4 + 0.26 * len(ordered))
    axes = figure.subplots()
    places = np.arange(len(ordered))
    for label, marker in (("liver", "s"), ("tumour", "o")):
        values = [case["labels"][label]["dice"] for case in ordered]
        axes.plot(values, places, marker, color=_colours()[label], label=label, clip_on=False)
        axes.axvline(float(np.mean(values)), color=_colours()[label], linewidth=1, linestyle="dashed", alpha=0.7)
    axes.set_yticks(places, [case["patient_id"] for case in ordered], fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.7, len(ordered) - 0.3)
    axes.set_xlabel("Dice by patient (dashed: mean)")
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=2)
    return _save(figure, path)


def bland_altman(path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the difference of volumes over their mean, with bias and limits of agreement (1.96 standard deviations)."""
    figure = _figure(9, 3.6)
    for axes, label in zip(figure.subplots(1, 2), ("liver", "tumour"), strict=True):
        true = np.array([case["labels"][label]["volume_ml"] for case in cases])
        error = np.array([case["labels"][label]["volume_error_ml"] for case in cases])
        axes.plot(true + error / 2, error, "o", color=_colours()[label])
        bias = float(error.mean())
        axes.axhline(bias, color=_GREY, linewidth=1)
        spread = 1.96 * float(error.std(ddof=1)) if len(error) > 1 else 0.0
        if spread:
            for limit in (bias - spread, bias + spread):
                axes.axhline(limit, color=_GREY, linewidth=1, linestyle="dashed")
        axes.set_title(
            f"{label}: bias {bias:.1f} ml, limits {bias - spread:.1f} to {bias + spread:.1f} ml", fontsize=10
        )
        axes.set_xlabel("mean of predicted and annotated volume, ml")
        axes.set_ylabel("predicted minus annotated, ml")
        axes.grid(alpha=0.25)
    return _save(figure, path)


def case_contours(
    path: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]], cohort: Cohort, folder: str | os.PathLike[str]
) -> Path:
    """Draw the best, the median and the worst patient by tumour Dice, three slices each, with contours."""
    ordered = sorted(cases, key=lambda case: -case["labels"]["tumour"]["dice"])
    chosen = {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}
    panels = []
    drawn: set[str] = set()
    for rank, case in chosen.items():
        patient = case["patient_id"]
        if patient in drawn:
            continue
        drawn.add(patient)
        stored = cohort.stored[patient]
        label = np.asarray(stored.label)
        # the network knows two classes: draw the annotation as it is scored
        truth = np.where(label == 2, 2, np.isin(label, (1, 3))).astype(np.uint8)
        predicted = read_prediction(Path(folder) / f"{safe_name(patient)}.nii.gz", stored)
        panels += [
            {
                "image": np.asarray(stored.image[0, d]),
                "label": truth[d],
                "predicted": predicted[d],
                "spacing": stored.spacing[1:],
                "title": f"{rank}: {patient}, slice {d}\nDice liver {case['labels']['liver']['dice']:.2f}, "
                f"tumour {case['labels']['tumour']['dice']:.2f}",
            }
            for d in _slices(truth, predicted)
        ]
    contour_sheet(path, panels, names={1: "liver", 2: "tumour"}, title="Test patients: annotated and predicted")
    return Path(path)


def _slices(truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> list[int]:
    """Return three slices: the largest tumour section in the middle, half way to both ends of the liver beside it."""
    shown = np.flatnonzero((truth > 0).any(axis=(1, 2)) | (predicted > 0).any(axis=(1, 2)))
    if not len(shown):
        return [len(truth) // 2]
    areas = (truth == 2).sum(axis=(1, 2))
    middle = int(areas.argmax()) if areas.any() else int(shown[len(shown) // 2])
    return sorted({(int(shown[0]) + middle) // 2, middle, (middle + int(shown[-1])) // 2})


def draw_all(
    out: str | os.PathLike[str],
    document: Mapping[str, Any],
    cohort: Cohort,
    folder: str | os.PathLike[str],
    run: str | os.PathLike[str] | None = None,
) -> dict[str, Path]:
    """Draw every picture of an evaluation into a folder; learning curves where the run's folder is given."""
    cases, place = document["cases"], Path(out)
    pictures = {
        "contours": case_contours(place / "contours.png", cases, cohort, folder),
        "dice": dice_by_case(place / "dice.png", cases),
        "volumes": bland_altman(place / "volumes.png", cases),
    }
    if run is not None:
        logs: dict[str, list[Path]] = {
            stage: sorted(Path(run).glob(f"fold[0-9]*/{stage}/log.csv")) for stage in ALL_STAGES
        }
        logs = {stage: files for stage, files in logs.items() if files}
        if logs:
            pictures["curves"] = learning_curves(place / "curves.png", logs)
    return pictures
