"""Contours of every segment on its CT slices, for a curator's eye.

The CT is found by what the SEG references and where its frames lie, never by names of folders or files: what is drawn
is what software that trusts the DICOM links would show.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.system.parallel import open_runner
from hcc_tace_data.system.words import count
from hcc_tace_data.validators.facts.masks import segment_key

if TYPE_CHECKING:
    from PIL import Image

    from hcc_tace_data.collection.model import Study
    from hcc_tace_data.open import Collection

__all__ = ["Drawn", "draw_overlays"]

#: Pixels of a slice are enlarged until it has about as many as this.
_WIDE = 512
_PANELS = 12
_COLUMNS = 4
_WINDOW = (-150.0, 250.0)
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn of one SEG: how many slices, or why none."""

    patient_id: str
    slices: int
    reason: str = ""


def draw_overlays(
    collection: Collection,
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Callable[[], object] | None = None,
) -> list[Drawn]:
    """Draw the contours of every SEG.

    Parameters
    ----------
    collection : Collection
    folder : path-like
        ``<folder>/<patient>/study_<number>/sheet.png`` and ``slice_<number>.png`` (from the feet) are written below it.
    workers : int, optional
        Processes; default: one per core, at most two.
    progress : callable, optional
        Called after each SEG.

    Returns
    -------
    list of Drawn
        One a SEG, by patient.
    """
    pattern = load_catalog().identity.patient_id_pattern
    jobs: list[tuple[Study, str, str, str]] = []
    for position, patient in enumerate(collection.values(), 1):
        # codes only: foreign names and dates stay out of paths and pictures
        name = patient.patient_id if re.fullmatch(pattern, patient.patient_id) else f"patient_{position}"
        for place, study in enumerate(patient.studies, 1):
            found = [series.series_uid for series in study.series if series.modality == "SEG"]
            for number, uid in enumerate(found, 1):
                own = f"study_{place}" + (f"_{number}" if number > 1 else "")
                jobs.append((study, uid, str(Path(folder) / name / own), f"{name}  study {place}"))
    drawn: list[Drawn] = []
    processes = workers if workers is not None else min(2, os.cpu_count() or 1)
    with open_runner(processes if len(jobs) > 4 else 1) as runner:
        for start in range(0, len(jobs), 8):
            part = runner.map(_draw, jobs[start : start + 8])
            drawn += part
            for _ in part if progress is not None else ():
                progress()  # type: ignore[misc]
    return drawn


def _draw(job: tuple[Study, str, str, str]) -> Drawn:
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    study, uid, folder, title = job
    patient = Path(folder).parent.name
    seg_series = next(series for series in study.series if series.series_uid == uid)
    try:
        found = find_annotated(study, seg_series)
        if found.volume is None:
            return Drawn(patient, 0, f"its CT cannot be determined: {found.reason}")
        volume = read_ct(list(found.paths), on_gap="fill", on_tilt="keep")
        seg = read_seg(seg_series.paths[0], volume, on_off_grid="drop")
    except (HccTaceError, OSError) as error:
        return Drawn(patient, 0, f"{type(error).__name__}: the CT or the SEG cannot be read")
    masks = np.asarray(seg.array) >= 0.5
    keys = [segment_key(segment.label, ":".join(segment.type[1::-1])) for segment in seg.segments]
    # a label that is not one of the collection's may be anything
    names = [
        segment.label if key else f"Segment {segment.number}" for segment, key in zip(seg.segments, keys, strict=True)
    ]
    colours = [_colour(key) for key in keys]
    shown = np.flatnonzero(masks.any(axis=(0, 2, 3)))
    affine = np.asarray(volume.affine, dtype=np.float64)
    aspect = float(np.linalg.norm(affine[:3, 1]) / np.linalg.norm(affine[:3, 2]))
    panels: dict[int, Image.Image] = {}
    picked = (
        set(shown[np.unique(np.linspace(0, len(shown) - 1, _PANELS).astype(int))].tolist()) if len(shown) else set()
    )
    for index in shown.tolist():
        height = affine[2, 3] + affine[2, 0] * index
        picture = _slice(np.asarray(volume.array[index]), masks[:, index], colours, aspect)
        _sides(picture, affine)
        line = f"{index + 1}/{masks.shape[1]}  z {height:.1f}"
        _save(_titled(picture, line, names, colours, masks[:, index]), Path(folder) / f"slice_{index + 1:03d}.png")
        if index in picked:
            panels[index] = _titled(picture, f"slice {index + 1}", [], [], masks[:, index])
    if panels:
        first = f"{title}  series {seg_series.number}: {count(len(shown), 'slice')} with masks"
        _save(_sheet(list(panels.values()), first, names, colours), Path(folder) / "sheet.png")
    return Drawn(patient, len(shown), "" if len(shown) else "all its masks are empty")


def _colour(key: str) -> tuple[int, int, int]:
    text = next((one.colour for one in load_catalog().segments if one.key == key), "#FFFFFF")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _slice(
    hu: npt.NDArray[Any], masks: npt.NDArray[np.bool_], colours: Sequence[tuple[int, int, int]], aspect: float
) -> Image.Image:
    """Return a slice in the abdominal window with a line, one pixel wide, inside the border of each mask."""
    from PIL import Image
    from scipy import ndimage

    low, high = _WINDOW
    grey = np.clip((hu.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    scale = max(1, round(_WIDE / hu.shape[1]))
    size = hu.shape[1] * scale, round(hu.shape[0] * scale * aspect)
    rgb = np.stack([np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))] * 3, axis=-1)
    for mask, colour in zip(masks, colours, strict=True):
        if mask.any():
            large = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) > 0
            width = 2 if scale > 1 else 1
            rgb[large & ~ndimage.binary_erosion(large, iterations=width)] = colour
    return Image.fromarray(rgb)


def _sides(picture: Image.Image, affine: npt.NDArray[np.float64]) -> None:
    """Write which side of the picture is the patient's right, for masks and CT come flipped together too."""
    from PIL import ImageDraw, ImageFont

    if abs(affine[0, 2]) < 0.7 * float(np.linalg.norm(affine[:3, 2])):
        return
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=15)
    left, right = ("R", "L") if affine[0, 2] > 0 else ("L", "R")
    draw.text((6, picture.height / 2 - 8), left, fill=_WHITE, font=font)
    draw.text((picture.width - 18, picture.height / 2 - 8), right, fill=_WHITE, font=font)


def _titled(
    picture: Image.Image,
    title: str,
    names: Sequence[str],
    colours: Sequence[tuple[int, int, int]],
    masks: npt.NDArray[np.bool_],
) -> Image.Image:
    """Return the picture under a line that says which slice it is, and what is on it."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=15)
    framed = Image.new("RGB", (picture.width, picture.height + 24), "black")
    framed.paste(picture, (0, 24))
    draw = ImageDraw.Draw(framed)
    draw.text((6, 3), title, fill=_WHITE, font=font)
    present = [(name, colour) for name, colour, mask in zip(names, colours, masks, strict=False) if mask.any()]
    right = picture.width - 6
    for name, colour in reversed(present):
        right -= round(draw.textlength(name, font=font))
        if right < draw.textlength(title, font=font) + 20:
            break
        draw.text((right, 3), name, fill=colour, font=font)
        right -= 14
    return framed


def _sheet(
    panels: Sequence[Image.Image], title: str, names: Sequence[str], colours: Sequence[tuple[int, int, int]]
) -> Image.Image:
    """Return a contact sheet, feet first, with a legend."""
    from PIL import Image, ImageDraw, ImageFont

    width = 360
    small = [
        panel.resize((width, round(panel.height * width / panel.width)), Image.Resampling.LANCZOS) for panel in panels
    ]
    columns = min(_COLUMNS, len(small))
    rows = -(-len(small) // columns)
    tall = max(panel.height for panel in small)
    head = 40
    sheet = Image.new("RGB", (columns * width, head + rows * tall), "black")
    for place, panel in enumerate(small):
        sheet.paste(panel, (place % columns * width, head + place // columns * tall))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=20)
    left = 10.0
    draw.text((left, 8), title, fill=_WHITE, font=font)
    left += draw.textlength(title, font=font) + 30
    for name, colour in zip(names, colours, strict=True):
        draw.text((left, 8), name, fill=colour, font=font)
        left += draw.textlength(name, font=font) + 18
    return sheet


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary)
