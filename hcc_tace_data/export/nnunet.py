"""nnU-Net v2's raw data set: images and labels to train and to test on, ``dataset.json`` and ``splits_final.json``.

The format is described in nnU-Net's documentation (dataset_format.md). The folder is to be called ``DatasetNNN_Name``
and to lie in ``$nnUNet_raw``; ``splits_final.json`` is to be copied to ``$nnUNet_preprocessed/DatasetNNN_Name`` before
training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.system.files import write_json
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.export.records import Record
    from hcc_tace_data.export.run import Classes
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["files", "finish", "write_case"]


def files(out: Path, name: str, split: str) -> list[Path]:
    """Return the files of a case: image and labels."""
    part = "Ts" if split == "test" else "Tr"
    return [out / f"images{part}" / f"{name}_0000.nii.gz", out / f"labels{part}" / f"{name}.nii.gz"]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write image and labels of one case."""
    image, label = files
    write_nifti(image, arrays.image, arrays.affine)
    write_nifti(label, arrays.label, arrays.affine)


def finish(out: Path, records: dict[str, Record], names: dict[int, str]) -> None:
    """Write ``dataset.json`` and ``splits_final.json``: the five fixed folds, by patient, of those exported."""
    identity = load_catalog().identity
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
