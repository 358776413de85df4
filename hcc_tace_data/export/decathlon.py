"""A datalist in the style of the Medical Segmentation Decathlon, which ``monai.data.load_decathlon_datalist`` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.export.format import CaseWriter, Classes, Exported, Format, images_of
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.system.files import write_json
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.export.output_folder import ExportRecord
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT"]


def files(out: Path, name: str, split: str, phases: tuple[str, ...]) -> list[Path]:
    """Return the files of a case: image and labels; of several phases an image and a mask of validity each."""
    part = "Ts" if split == "test" else "Tr"
    label = out / f"labels{part}" / f"{name}.nii.gz"
    if len(phases) == 1:
        return [out / f"images{part}" / f"{name}.nii.gz", label]
    kinds = [(out / f"{kind}{part}", phase) for kind in ("images", "valid") for phase in phases]
    return [*(folder / f"{name}_{phase}.nii.gz" for folder, phase in kinds), label]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write images, masks of where a registered phase has data, and labels of one case."""
    images = images_of(arrays)
    masks = np.ones(arrays.image.shape, np.uint8) if arrays.valid is None else arrays.valid
    valid = [] if len(images) == 1 else list(masks)
    for path, array in zip(files, [*images, *valid, arrays.label], strict=True):
        write_nifti(path, array, arrays.affine)


def finish(exported: Exported) -> None:
    """Write ``dataset.json`` (all training patients, each with its fold) and ``dataset_fold<K>.json``."""
    out, records, names, phases = exported.out, exported.records, exported.names, exported.phases
    catalog, several = exported.catalog, len(exported.phases) > 1

    def items(wanted: list[ExportRecord]) -> list[dict[str, Any]]:
        listed = []
        for record in wanted:
            *rest, label = (f"./{path.as_posix()}" for path in files(Path(), record.name, record.split, phases))
            shown = {"image": rest[: len(phases)], "valid": rest[len(phases) :]} if several else {"image": rest[0]}
            fold = {} if record.fold is None else {"fold": record.fold}
            listed.append({**shown, "label": label, "patient_id": record.patient_id, **fold})
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
        "modality": {str(channel): "CT" for channel in range(len(phases))},
        **({"phases": list(phases)} if several else {}),
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
    written=(
        "`dataset.json` (all training patients, each with its fold) and `dataset_fold<K>.json` with validation; with "
        "`--phases` lists of images and masks of validity"
    ),
    read_with='`monai.data.load_decathlon_datalist("out/dataset_fold0.json", True, "training")`',
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations", "phases", "roi"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
)
