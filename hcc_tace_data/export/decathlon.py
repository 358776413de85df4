"""A datalist in the style of the Medical Segmentation Decathlon, which ``monai.data.load_decathlon_datalist`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.export.nifti import write_nifti
from hcc_tace_data.export.records import write_json
from hcc_tace_data.splits import FOLDS

if TYPE_CHECKING:
    from hcc_tace_data.export.records import Record
    from hcc_tace_data.export.run import Classes
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["finish", "write_case"]


def write_case(case: Case, arrays: CaseArrays, out: Path, split: str, classes: Classes) -> list[Path]:
    """Write image and labels of one case."""
    part = "Ts" if split == "test" else "Tr"
    image = out / f"images{part}" / f"{case.patient_id}.nii.gz"
    label = out / f"labels{part}" / f"{case.patient_id}.nii.gz"
    write_nifti(image, arrays.image, arrays.affine)
    write_nifti(label, arrays.label, arrays.affine)
    return [image, label]


def finish(out: Path, records: dict[str, Record], classes: Classes, names: dict[int, str]) -> None:
    """Write ``dataset.json`` (all to train on in "training", each with its fold) and ``dataset_fold<K>.json``."""
    from hcc_tace_data.catalog import load_catalog

    catalog = load_catalog()

    def items(wanted: list[Record]) -> list[dict[str, Any]]:
        listed = []
        for record in wanted:
            image, label = sorted(record.files)
            fold = {} if record.fold is None else {"fold": record.fold}
            listed.append({"image": f"./{image}", "label": f"./{label}", "patient_id": record.patient_id, **fold})
        return listed

    ordered = [records[name] for name in sorted(records)]
    training = [record for record in ordered if record.split == "train"]
    test = [record for record in ordered if record.split == "test"]
    common = {
        "name": catalog.identity.name,
        "description": "CT in HU and labels on its grid",
        "reference": f"https://doi.org/{catalog.identity.doi}",
        "licence": catalog.identity.licence,
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(number): names[number] for number in sorted(names)}},
        "numTest": len(test),
    }
    whole = {"training": items(training), "validation": [], "test": items(test)}
    write_json(out / "dataset.json", {**common, "numTraining": len(training), **whole})
    for fold in range(FOLDS):
        part = {
            "training": items([record for record in training if record.fold != fold]),
            "validation": items([record for record in training if record.fold == fold]),
            "test": items(test),
        }
        write_json(out / f"dataset_fold{fold}.json", {**common, "numTraining": len(part["training"]), **part})
