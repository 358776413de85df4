"""The report of a reproduction as one self-contained HTML page."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcc_tace_data.system.files import atomic_write_text

__all__ = ["write_page"]

_TITLES = {
    "contours": "Best, median and worst test patient",
    "dice": "Dice by patient",
    "volumes": "Volumes: predicted against annotated",
    "curves": "Learning curves",
}


def write_page(path: str | os.PathLike[str], report: Mapping[str, Any], pictures: Mapping[str, Path]) -> None:
    """Write the page.

    Parameters
    ----------
    path : path-like
        The page.
    report : mapping
        From :func:`hcc_tace_data.baseline.reproduce.reproduce`.
    pictures : mapping of str to path
        PNG files to put into it.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - slow to import

    surroundings = Environment(
        loader=PackageLoader("hcc_tace_data.baseline", "presets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    surroundings.filters["dice"] = lambda value: f"{value:.3f}"
    images = [
        (_TITLES.get(name, name), base64.b64encode(file.read_bytes()).decode("ascii"))
        for name, file in pictures.items()
    ]
    template = surroundings.get_template("report.html.j2")
    atomic_write_text(path, template.render(report=report, images=images, metrics=_METRICS, size=_size))


_METRICS = {
    "dice": ("Dice", 3),
    "iou": ("IoU", 3),
    "surface_dice": ("Surface Dice, 2 mm, voxel centres", 3),
    "surface_dice_surfels": ("Surface Dice, 2 mm, surfels", 3),
    "hd95_mm": ("HD95, mm", 1),
    "hd95_pooled_mm": ("HD95, both directions pooled, mm", 1),
    "assd_mm": ("ASSD, mm", 1),
    "volume_error_ml": ("Volume error, ml", 1),
    "sensitivity": ("Lesions found, share", 2),
    "precision": ("Precision of lesions", 2),
}


def _size(count: float) -> str:
    """Return a number of bytes for a person."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
