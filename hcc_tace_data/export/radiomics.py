"""A hand-off to radiomics software: images, label maps, and tables of which label of which mask to measure.

``pyradiomics.csv`` has the column names of PyRadiomics' batch mode; ``cases.csv`` the same rows for other software.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.export.format import CaseWriter, Classes, Exported, Format, images_of
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import CsvWriter
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT"]

_COLUMNS = ("patient_id", "phase", "structure", "image", "mask", "label", "voxels")


def files(out: Path, name: str, split: str, phases: tuple[str, ...]) -> list[Path]:
    """Return the files of a case: one image per phase, and the labels."""
    return [*(out / name / f"{name}_{phase}.nii.gz" for phase in phases), out / name / f"{name}_labels.nii.gz"]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write images and labels of one case."""
    *images, mask = files
    for path, image in zip(images, images_of(arrays), strict=True):
        write_nifti(path, image, arrays.affine)
    write_nifti(mask, arrays.label, arrays.affine)


def finish(exported: Exported) -> None:
    """Write the tables: one row per phase and structure that has voxels."""
    rows = []
    for name, record in sorted(exported.records.items()):
        *images, mask = (path.as_posix() for path in files(Path(), name, record.split, exported.phases))
        for image, phase in zip(images, record.sources["phases"], strict=True):
            for number, voxels in record.sources["voxels"].items():
                structure = exported.names[int(number)]
                rows.append([record.patient_id, phase, structure, image, mask, int(number), voxels])
    _write(exported.out / "cases.csv", _COLUMNS, rows)
    batch = [[f"{row[0]} {row[1]} {row[2]}", *row[3:6]] for row in rows]
    _write(exported.out / "pyradiomics.csv", ("ID", "Image", "Mask", "Label"), batch)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow(columns)
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())


FORMAT = Format(
    name="radiomics",
    summary="images, masks and tables for radiomics software",
    written=(
        "`<patient>/<patient>_<phase>.nii.gz`, `<patient>/<patient>_labels.nii.gz`, and `cases.csv` (image, mask, "
        "label, structure, phase; one row per structure that has voxels)"
    ),
    read_with="`cd out && pyradiomics pyradiomics.csv -o features.csv -f csv`; other software from `cases.csv`",
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations", "phases", "roi"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
)
