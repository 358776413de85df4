"""The report of a reproduction as one self-contained HTML page."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hcc_tace_data.report.page import render
from hcc_tace_data.report.provenance import provenance
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
    images = [
        (f"picture-{name}", _TITLES.get(name, name), base64.b64encode(file.read_bytes()).decode("ascii"))
        for name, file in pictures.items()
    ]
    environment = report["environment"]
    facts = {
        "Code": f"hcc-tace-data {environment['hcc_tace_data']}, commit {environment['commit'] or 'unknown (installed)'}"
    }
    page = render(
        "baseline.html.j2", title=f"Reference baseline, preset {report['preset']}", report=report, images=images,
        metrics=_METRICS, size=_size, provenance=provenance(facts),
    )  # fmt: skip
    atomic_write_text(path, page)


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
