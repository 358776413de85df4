"""What a data set holds: counts, label shares, spacings, class weights, and a picture of a sample."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.loaders.protocols import CaseSet
from hcc_tace_data.system.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["class_weights", "count_labels", "describe", "plot"]

_WINDOW = (-160.0, 240.0)


def count_labels(dataset: CaseSet) -> npt.NDArray[np.int64]:
    """Count the voxels of each class, background first, over the volumes (of slices: over the slices served)."""
    ranges = getattr(dataset, "ranges", None)
    counts = np.zeros(max(dataset.classes, default=0) + 1, dtype=np.int64)
    for number, source in enumerate(dataset.sources):
        label = source.volume().label
        part = label if ranges is None else label[slice(*ranges[number])]
        counts += np.bincount(np.ascontiguousarray(part).ravel(), minlength=len(counts))
    return counts


def describe(dataset: CaseSet) -> dict[str, Any]:
    """Say what a data set holds. Reads all labels, from the store or from the files.

    Returns
    -------
    dict
        ``unit``, ``samples``, ``patients``, ``phases``, ``cases_with_registered_channels``,
        ``labels`` (class number -> ``segments``, ``voxels``, ``share``), ``spacing_mm`` (``min`` and ``max`` along
        (D, H, W)), ``shapes`` (the distinct (D, H, W)), ``stored`` (cases in the store), ``bytes_stored``.
    """
    counts = count_labels(dataset)
    total = max(1, int(counts.sum()))
    spacings = np.array([np.linalg.norm(source.affine[:3, :3], axis=0) for source in dataset.sources])
    stored = [source.stored for source in dataset.sources if source.stored is not None]
    return {
        "unit": dataset.unit,
        "samples": len(dataset),
        "patients": len(dataset.patient_ids),
        "phases": list(dataset.phases),
        "cases_with_registered_channels": sum(not case.native for case in dataset.cases),
        "labels": {
            number: {
                "segments": list(dataset.classes.get(number, ("background",))),
                "voxels": int(counts[number]),
                "share": float(counts[number] / total),
            }
            for number in sorted({0, *dataset.classes})
        },
        "spacing_mm": {"min": spacings.min(axis=0).tolist(), "max": spacings.max(axis=0).tolist()},
        "shapes": sorted({source.shape[1:] for source in dataset.sources}),
        "stored": len(stored),
        "bytes_stored": sum(path.stat().st_size for case in stored for path in case.folder.glob("*.npy")),
    }


def class_weights(dataset: CaseSet) -> torch.Tensor:
    """Return weights inverse to how often a class occurs, float32 (classes,), of mean 1 over those that do.

    A class that does not occur weighs 0.
    """
    counts = count_labels(dataset).astype(np.float64)
    found = counts > 0
    weights = np.zeros(len(counts))
    weights[found] = 1 / counts[found]
    return torch.from_numpy((weights / weights[found].mean()).astype(np.float32))


def plot(dataset: CaseSet, index: int = 0, *, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw a sample: a panel a channel, windowed from -160 to 240 HU, with the outlines of its labels.

    Of a volume or patch, the slice with most of the rarest class is shown.

    Parameters
    ----------
    dataset : CaseSet
    index : int
        Which sample; the transform is not applied.
    path : path-like, optional
        Write the picture there.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import
    from matplotlib.lines import Line2D  # noqa: PLC0415 - slow to import

    sample = dataset.untransformed(index)
    image, label = sample["image"].numpy(), sample["label"].numpy()
    d = int(sample.get("slice", 0))
    if label.ndim == 3:
        shown = [number for number in dataset.classes if (label == number).any()]
        rarest = min(shown, key=lambda number: int((label == number).sum()), default=0)
        d = int((label == rarest).sum(axis=(1, 2)).argmax()) if shown else len(label) // 2
        image, label = image[:, d], label[d]
    row, column = sample["spacing"].numpy()[1:]
    height, width = label.shape
    aspect = height * row / (width * column)
    figure = Figure(figsize=(4.2 * len(image), 4.2 * aspect + 0.9), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(1, len(image)))
    outlines = []
    colours = load_catalog().colours(dataset.classes)
    for channel, axis in enumerate(axes):
        axis.imshow(image[channel], cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], aspect=row / column)
        axis.set_title(sample["phases"][channel].replace("_", " "), fontsize=10)
        axis.set_axis_off()
        for number, colour in sorted(colours.items()):
            if (label == number).any():
                axis.contour(label == number, levels=[0.5], colors=colour, linewidths=1.1)
                if channel == 0:
                    outlines.append(
                        Line2D([], [], color=colour, label=" + ".join(dataset.classes[number]).replace("_", " "))
                    )
    figure.suptitle(f"{sample['patient_id']}, slice {d}", fontsize=11)
    if outlines:
        columns = min(len(outlines), 2 * len(image))  # more would not fit beside each other
        figure.legend(handles=outlines, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    if path is not None:
        with atomic_path(Path(path)) as temporary:
            figure.savefig(temporary, dpi=120)
    return figure
