"""Windowed slices as PNG files, plain and with the outlines of the labels: for teaching and for a quick look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.export.format import CaseWriter, Classes, Exported, Format, images_of
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.files import atomic_path, atomic_write_text
from hcc_tace_data.volumes.windows import ABDOMEN, to_grey

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT", "chosen_slices", "upright"]

_SLICES = 5


def files(out: Path, name: str, split: str, phases: tuple[str, ...]) -> list[Path]:
    """Return the files of a case: for each phase five slices from the feet up, plain and outlined."""
    return [
        out / name / f"{name}_{phase}_{number}{kind}.png"
        for phase in phases
        for number in range(1, _SLICES + 1)
        for kind in ("", "_outlined")
    ]


def chosen_slices(label: npt.NDArray[np.uint8]) -> list[int]:
    """Return five slices evenly over the slices with labels, the largest section of the rarest class in their middle.

    Parameters
    ----------
    label : ndarray of uint8, shape (D, H, W)
        Without any label the slices are of the whole volume.
    """
    rows = np.flatnonzero(label.any(axis=(1, 2)))
    first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, len(label) - 1)
    numbers, counts = np.unique(label[label > 0], return_counts=True)
    middle = (first + last) // 2
    if len(numbers):
        middle = int(np.count_nonzero(label == numbers[counts.argmin()], axis=(1, 2)).argmax())
    return [first + (middle - first) * step // 2 for step in range(2)] + [
        middle + (last - middle) * step // 2 for step in range(3)
    ]


def upright(array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Turn the rows and columns of (D, H, W) so that the patient lies on the back, seen from the feet."""
    if affine[1, 1] < 0:
        array = array[:, ::-1]
    if affine[0, 2] < 0:
        array = array[:, :, ::-1]
    return array


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write the slices of one case."""
    from PIL.PngImagePlugin import PngInfo

    label = upright(arrays.label, arrays.affine)
    places, todo = chosen_slices(arrays.label), iter(files)
    by_key = {segment.key: segment.colour for segment in load_catalog().segments}
    colours = {number: by_key[keys[0]] for number, keys in classes.items()}
    for image, phase in zip(images_of(arrays), case.phases, strict=True):
        grey = to_grey(upright(image, arrays.affine))
        for place in places:
            about = PngInfo()
            about.add_text(
                "Description",
                f"{case.patient_id}, {phase}, slice {place} of 0 to {len(label) - 1}, "
                f"{ABDOMEN[0]:g} to {ABDOMEN[1]:g} HU",
            )
            flat = np.repeat(grey[place][:, :, None], 3, axis=2)
            for picture in (flat, _outlined(flat, label[place], colours)):
                _save(picture, next(todo), about, arrays.spacing)


def _outlined(
    picture: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], colours: Mapping[int, str]
) -> npt.NDArray[np.uint8]:
    result = picture.copy()
    for number, colour in colours.items():
        mask = label == number
        around = np.pad(mask, 1)
        inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
        edge = mask & ~inner
        result[edge] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return result


def _save(picture: npt.NDArray[np.uint8], path: Path, about: PngInfo, spacing: npt.NDArray[np.float64]) -> None:
    from PIL import Image

    image = Image.fromarray(picture)
    height, width = picture.shape[:2]
    stretched = round(height * spacing[1] / spacing[2])
    if stretched != height:  # pixels of a picture are square
        image = image.resize((width, max(1, stretched)))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=about)


def finish(exported: Exported) -> None:
    """Write the key to the colours."""
    by_key = {segment.key: segment.colour for segment in exported.catalog.segments}
    keys = {name: next((k for k in by_key if k.replace("_", " ") == name), "") for name in exported.names.values()}
    lines = [f"Window: {ABDOMEN[0]:g} HU is black, {ABDOMEN[1]:g} HU is white. Outlines:"]
    lines += [f"{by_key[key] if key else '-'}  {name}" for name, key in keys.items()]
    atomic_write_text(exported.out / "KEY.txt", "\n".join(lines) + "\n")


FORMAT = Format(
    name="png",
    summary="windowed slices, plain and outlined, for teaching",
    written=(
        "`<patient>/<patient>_<phase>_<1-5>.png` and `..._outlined.png`: five slices over the labels, -150 to 250 HU, "
        "patient and slice in the PNG's description; `KEY.txt`"
    ),
    read_with="any image viewer",
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations", "phases", "roi"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
)
