"""A datalist in the style of the Medical Segmentation Decathlon, which ``monai.data.load_decathlon_datalist`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.export.format import CaseWriter, Format
from hcc_tace_data.export.nnunet import write_case
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.system.files import write_json

if TYPE_CHECKING:
    from hcc_tace_data.export.output_folder import ExportRecord
    from hcc_tace_data.facts.catalog import Catalog

__all__ = ["FORMAT"]


def files(out: Path, name: str, split: str) -> list[Path]:
    """Return the files of a case: image and labels."""
    part = "Ts" if split == "test" else "Tr"
    return [out / f"{kind}{part}" / f"{name}.nii.gz" for kind in ("images", "labels")]


def finish(out: Path, records: dict[str, ExportRecord], names: dict[int, str], catalog: Catalog) -> None:
    """Write ``dataset.json`` (all training patients, each with its fold) and ``dataset_fold<K>.json``."""

    def items(wanted: list[ExportRecord]) -> list[dict[str, Any]]:
        listed = []
        for record in wanted:
            image, label = (path.as_posix() for path in files(Path(), record.name, record.split))
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


FORMAT = Format(
    name="monai",
    summary="datalist in the style of the Medical Segmentation Decathlon",
    written="`dataset.json` (all training patients, each with its fold) and `dataset_fold<K>.json` with validation",
    read_with='`monai.data.load_decathlon_datalist("out/dataset_fold0.json", True, "training")`',
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
)
