"""CT slices with the contours of their labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.volumes.windows import ABDOMEN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["contour_sheet", "draw_slice"]

WINDOW = ABDOMEN


def _colours() -> dict[int, str]:
    """Class number of the standard label set -> colour of its first segment, from the catalogue."""
    catalog = load_catalog()
    return catalog.colours(catalog.classes("standard"))


def draw_slice(
    axes: Axes,
    image: npt.NDArray[Any],
    label: npt.NDArray[Any],
    *,
    predicted: npt.NDArray[Any] | None = None,
    spacing: tuple[float, float] = (1.0, 1.0),
    window: tuple[float, float] = WINDOW,
) -> None:
    """Draw a slice (H, W) in HU with solid contours of `label` and dashed ones of `predicted`."""
    colours = _colours()
    axes.imshow(
        image, cmap="gray", vmin=window[0], vmax=window[1], aspect=spacing[0] / spacing[1], interpolation="nearest"
    )
    for mask, style in ((label, "solid"), (predicted, "dashed")):
        if mask is None:
            continue
        for number in np.unique(mask[mask > 0]).tolist():
            axes.contour(
                mask == number, levels=[0.5], colors=[colours.get(number, "#FFFFFF")], linewidths=1.1, linestyles=style
            )
    axes.set_axis_off()


def contour_sheet(
    path: str | os.PathLike[str],
    panels: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[int, str],
    columns: int = 3,
    title: str = "",
) -> None:
    """Write a sheet of slices with contours as PNG.

    Parameters
    ----------
    path : path-like
        The picture.
    panels : sequence of mapping
        Each with ``image`` (H, W) in HU, ``label`` (H, W), ``title``, and optionally ``predicted`` (H, W) and
        ``spacing`` (2,) mm.
    names : mapping of int to str
        Class number -> name for the legend.
    columns : int
        Panels in a row.
    title : str
        Above the sheet.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = max(1, min(columns, len(panels)))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 4.2 * rows + 0.9), layout="constrained", facecolor="white")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(cells, panels, strict=False):
        draw_slice(
            axes,
            panel["image"],
            panel["label"],
            predicted=panel.get("predicted"),
            spacing=tuple(panel.get("spacing", (1.0, 1.0))),
        )
        axes.set_title(panel["title"], fontsize=10)
    for axes in cells[len(panels) :]:
        axes.set_axis_off()
    colours = _colours()
    handles = [Line2D([], [], color=colours.get(number, "black"), label=name) for number, name in names.items()]
    if any(panel.get("predicted") is not None for panel in panels):
        handles += [
            Line2D([], [], color="#555555", label="annotated"),
            Line2D([], [], color="#555555", linestyle="dashed", label="predicted"),
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=12)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
