"""nnU-Net v2's raw data set: training and test images and labels, ``dataset.json`` and ``splits_final.json``.

nnU-Net's documentation (dataset_format.md) describes the format. Name the folder ``DatasetNNN_Name``, put it into
``$nnUNet_raw``, and copy ``splits_final.json`` to ``$nnUNet_preprocessed/DatasetNNN_Name`` before training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.export.format import CaseWriter, Classes, Format
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.system.files import write_json
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.export.output_folder import ExportRecord
    from hcc_tace_data.facts.catalog import Catalog
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT", "write_case"]


def files(out: Path, name: str, split: str) -> list[Path]:
    """Return the files of a case: image and labels."""
    part = "Ts" if split == "test" else "Tr"
    return [out / f"images{part}" / f"{name}_0000.nii.gz", out / f"labels{part}" / f"{name}.nii.gz"]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write image and labels of one case."""
    image, label = files
    write_nifti(image, arrays.image, arrays.affine)
    write_nifti(label, arrays.label, arrays.affine)


def finish(out: Path, records: dict[str, ExportRecord], names: dict[int, str], catalog: Catalog) -> None:
    """Write ``dataset.json`` and ``splits_final.json``: the five fixed folds, by patient, of those exported."""
    identity = catalog.identity
    training = sorted(name for name, record in records.items() if record.split == "train")
    write_json(
        out / "dataset.json",
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, **{names[number]: number for number in sorted(names)}},
            "numTraining": len(training),
            "file_ending": ".nii.gz",
            "name": identity.name,
            "reference": f"https://doi.org/{identity.doi}",
            "licence": identity.licence,
            "description": "CT in HU and labels on its grid; test patients are in imagesTs and labelsTs.",
        },
    )
    folds = []
    for fold in range(FOLDS):
        validated = [name for name in training if records[name].fold == fold]
        folds.append({"train": [name for name in training if name not in validated], "val": validated})
    write_json(out / "splits_final.json", folds)


FORMAT = Format(
    name="nnunet",
    summary="raw data set of nnU-Net v2",
    written="raw data set of nnU-Net v2: `imagesTr labelsTr imagesTs labelsTs dataset.json splits_final.json`",
    read_with=(
        "name the folder `DatasetNNN_Name` and put it into `$nnUNet_raw`; copy `splits_final.json` to "
        "`$nnUNet_preprocessed/DatasetNNN_Name` after `nnUNetv2_plan_and_preprocess`"
    ),
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
    next_step=(
        "next: name the folder DatasetNNN_..., put it into $nnUNet_raw, and copy {out}/splits_final.json to\n"
        "$nnUNet_preprocessed/DatasetNNN_... after 'nnUNetv2_plan_and_preprocess'"
    ),
)
