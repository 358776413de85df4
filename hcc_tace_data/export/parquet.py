"""Parquet with NIfTI columns and a dataset card: ``datasets.load_dataset(folder)`` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.export.companions import licence_text
from hcc_tace_data.export.format import CaseWriter, Classes, Exported, Format, images_of
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.system.files import atomic_path, atomic_write_text
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT", "features"]


def features(phases: tuple[str, ...] = ()) -> Any:
    """Return the typed columns of the table; of several phases, with an image and a mask of validity each."""
    from datasets import Features, List, Nifti, Value

    text = Value("string")
    numbers = Value("int32")
    columns = {name: Nifti() for name in (*_image_columns(phases), "label")}
    columns |= dict.fromkeys(("patient_id", "study_uid", "series_uid"), text)
    columns |= {"annotations": List(text), "readers": numbers, "fold": numbers}
    return Features({**columns, "spacing_mm": List(Value("float64")), "clinical": text})


def _image_columns(phases: tuple[str, ...]) -> list[str]:
    if len(phases) < 2:
        return ["image"]
    return [f"{kind}_{phase}" for kind in ("image", "valid") for phase in phases]


def files(out: Path, name: str, split: str, phases: tuple[str, ...]) -> list[Path]:
    """Return the one file of a case, which holds its row, so that an interrupted run can be resumed."""
    return [out / "data" / f"{split}-{name}.parquet"]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write the row of one case."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def volume(kind: str, array: Any) -> dict[str, Any]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{safe_name(case.patient_id)}_{kind}.nii.gz"
            write_nifti(path, array, arrays.affine)
            return {"bytes": path.read_bytes(), "path": path.name}

    images = images_of(arrays)
    phases = case.phases if len(images) > 1 else ()
    masks = np.ones(arrays.image.shape, np.uint8) if arrays.valid is None else arrays.valid
    row = {
        **{
            name: volume(name, array)
            for name, array in zip(_image_columns(phases), [*images, *(masks if phases else ())], strict=True)
        },
        "label": volume("label", arrays.label),
        "patient_id": case.patient_id,
        "study_uid": case.study_uid,
        "series_uid": case.series_uid,
        "annotations": [one.reader for one in case.annotations],
        "readers": case.readers,
        "fold": split_table().get(case.patient_id),
        "spacing_mm": [float(step) for step in arrays.spacing],
        "clinical": json.dumps({k: None if v != v else v for k, v in case.clinical.items()}, ensure_ascii=False),
    }
    with atomic_path(files[0]) as temporary:
        pq.write_table(pa.Table.from_pylist([row], schema=features(phases).arrow_schema), temporary, compression="none")


def finish(exported: Exported) -> None:
    """Write the dataset card."""
    out, records, names, catalog = exported.out, exported.records, exported.names, exported.catalog
    splits = [s for s in ("train", "test") if any(record.split == s for record in records.values())]
    listed = "".join(f"\n      - split: {split}\n        path: data/{split}-*.parquet" for split in splits)
    configs = f"\nconfigs:\n  - config_name: default\n    data_files:{listed}" if splits else ""
    rows = "\n".join(f"| {number} | {names[number]} |" for number in sorted(names))
    counts = ", ".join(f"{sum(r.split == s for r in records.values())} to {_USE[s]}" for s in splits)
    several = len(exported.phases) > 1
    images = "| `image` | CT in HU, NIfTI |"
    if several:
        images = "\n".join(
            f"| `image_{phase}`, `valid_{phase}` | CT in HU on the grid of the annotated CT, and where it has data |"
            for phase in exported.phases
        )
    first = f"image_{exported.phases[0]}" if several else "image"
    cited = "\n".join(f"- {citation.text} https://doi.org/{citation.doi}" for citation in catalog.citations)
    card = f"""---
license: cc-by-4.0
pretty_name: {catalog.identity.name}
task_categories:
  - image-segmentation
tags:
  - medical
  - computed-tomography
  - liver
size_categories:
  - n<1K{configs}
---

# {catalog.identity.name}

{catalog.identity.title} (https://doi.org/{catalog.identity.doi}).
{count(len(records), "patient")}, one annotated CT volume each: {counts}. The test set and the five folds (column
`fold`, empty for the test set) are fixed, by patient.

| column | what |
|---|---|
{images}
| `label` | class numbers on the same grid, NIfTI |
| `annotations`, `readers` | whose labels, and how many readers stand behind them |
| `spacing_mm` | slices, rows, columns |
| `clinical` | the patient's row of the clinical sheet, JSON |

| number | class |
|---|---|
| 0 | background |
{rows}

```python
from datasets import load_dataset
ds = load_dataset("this folder", split="train")
ds[0]["{first}"].get_fdata()
```

## Licence

{licence_text(catalog)}
## Cite

{cited}
"""
    atomic_write_text(out / "README.md", card)


_USE = {"train": "train on", "test": "test on"}

FORMAT = Format(
    name="hf",
    summary="Parquet with a dataset card, for Hugging Face datasets",
    written=(
        "`data/<split>-<patient>.parquet` with `Nifti` columns, and the dataset card `README.md`; with `--phases` an "
        "image and a mask of validity per phase"
    ),
    read_with='`datasets.load_dataset("out")` (datasets 4.4 or newer, nibabel)',
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations", "phases", "roi"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
)
