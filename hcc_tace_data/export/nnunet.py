"""nnU-Net v2's raw data set: training and test images and labels, ``dataset.json`` and ``splits_final.json``.

nnU-Net's documentation (dataset_format.md) describes the format. Name the folder ``DatasetNNN_Name``, put it into
``$nnUNet_raw``, and copy ``splits_final.json`` to ``$nnUNet_preprocessed/DatasetNNN_Name`` before training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.export.format import CaseWriter, Classes, Exported, Format, images_of
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.system.files import write_json
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT", "write_case"]


def files(out: Path, name: str, split: str, phases: tuple[str, ...]) -> list[Path]:
    """Return the files of a case: one image per channel, and the labels."""
    part = "Ts" if split == "test" else "Tr"
    images = [out / f"images{part}" / f"{name}_{channel:04d}.nii.gz" for channel in range(len(phases))]
    return [*images, out / f"labels{part}" / f"{name}.nii.gz"]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write images and labels of one case."""
    *images, label = files
    for path, image in zip(images, images_of(arrays), strict=True):
        write_nifti(path, image, arrays.affine)
    write_nifti(label, arrays.label, arrays.affine)


def finish(exported: Exported) -> None:
    """Write ``dataset.json`` and ``splits_final.json``: the five fixed folds, by patient, of those exported."""
    out, records, names, identity = exported.out, exported.records, exported.names, exported.catalog.identity
    training = sorted(name for name, record in records.items() if record.split == "train")
    write_json(
        out / "dataset.json",
        {
            # nnU-Net normalises a channel called CT as CT; which phase it is stands below
            "channel_names": {str(channel): "CT" for channel in range(len(exported.phases))},
            "phases": {str(channel): phase for channel, phase in enumerate(exported.phases)},
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
    written=(
        "raw data set of nnU-Net v2: `imagesTr labelsTr imagesTs labelsTs dataset.json splits_final.json`; with "
        "`--phases` one channel per phase (`_0000`, `_0001` ...)"
    ),
    read_with=(
        "name the folder `DatasetNNN_Name` and put it into `$nnUNet_raw`; copy `splits_final.json` to "
        "`$nnUNet_preprocessed/DatasetNNN_Name` after `nnUNetv2_plan_and_preprocess`"
    ),
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations", "phases", "roi"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
    next_step=(
        "next: name the folder DatasetNNN_..., put it into $nnUNet_raw, and copy {out}/splits_final.json to\n"
        "$nnUNet_preprocessed/DatasetNNN_... after 'nnUNetv2_plan_and_preprocess'"
    ),
)
