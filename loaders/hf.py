"""Hugging Face data sets, made from the training store case by case.

Three configurations, one per unit of :func:`hcc_tace_data.load_hcc_tace`:

``volumes``
    ``image`` and ``label`` (and ``valid``, where voxels hold no data) as NIfTI, in NIfTI's own orientation (RAS);
    several phases lie along the image's fourth axis.
``slices``
    ``image`` int16 in HU, (H, W), of several phases (C, H, W); ``label`` uint8 (H, W); ``slice``; ``affine`` (4, 4),
    index (d, h, w) -> LPS mm.
``clinical``
    One row per patient.

Arrow files lie in the store's folder and are found again: their fingerprint is made of the digests of parameters and
sources, so it is the same in every run and changes with either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.load import load_clinical
from hcc_tace_data.errors import StoreError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, middle_corner, place_box
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.version import __version__
from hcc_tace_data.volumes.nifti import nifti_bytes

if TYPE_CHECKING:
    import datasets
    from huggingface_hub import DatasetCard

    from hcc_tace_data.loaders.protocols import CaseSet

__all__ = ["HFDataset", "clinical_dataset", "dataset_card", "to_hf", "volume_tensors"]

#: What :func:`hcc_tace_data.load_hcc_tace` returns with ``format="hf"``.
HFDataset: TypeAlias = (
    "datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict"
)

_SPLITS = ("train", "validation", "test")
# Rows held in memory before they are written: a slice is about 1 MB, a volume about 80 MB.
_SLICES_HELD, _VOLUMES_HELD = 32, 1

Row = dict[str, Any]
Job = tuple[StoredCase, tuple[int, int], tuple[int, int], bool]


def to_hf(dataset: CaseSet, *, split: str | None, fold: int = 0, streaming: bool = False) -> HFDataset:
    """Turn a stored data set of volumes or slices into one of Hugging Face.

    Parameters
    ----------
    dataset : VolumeDataset or SliceDataset
        All of whose cases are stored.
    split : str or None
        Its split; None for a dict of the splits of `fold`.
    fold : int
        Which fold is the validation part.
    streaming : bool
        An ``IterableDataset`` that reads the store as it goes and writes nothing.

    Returns
    -------
    datasets.Dataset, DatasetDict, IterableDataset or IterableDatasetDict
    """
    if any(source.stored is None for source in dataset.sources):
        raise StoreError("not all cases are stored; call .prepared() first.")
    if any(source.stored is not None and source.stored.missing for source in dataset.sources):
        raise UsageError("int16 cannot say that a phase is missing; use missing='skip' with format='hf'.")
    parts: dict[str, Sequence[str]]
    parts = {split: dataset.patient_ids} if split else {name: patients_of(name, fold) for name in _SPLITS}
    channels = dataset.sources[0].shape[0]
    ranges = getattr(dataset, "ranges", [(0, source.shape[1]) for source in dataset.sources])
    if dataset.unit == "slice":
        sizes = {source.shape[2:] for source in dataset.sources}
        wanted = getattr(dataset, "size", None)
        if wanted is None and len(sizes) > 1:
            raise UsageError(f"slices of different sizes {sorted(sizes)}; load with unit=Slices(size=(rows, columns)).")
        size = wanted or next(iter(sizes))
        features, rows, held = _slice_features(channels, size, dataset.masked), _slice_rows, _SLICES_HELD
    else:
        size = (0, 0)
        features, rows, held = _volume_features(dataset.masked), _volume_rows, _VOLUMES_HELD
    made = {}
    for name, patients in parts.items():
        jobs = [
            (source.stored, ranges[number], size, dataset.masked)
            for number, source in enumerate(dataset.sources)
            if source.stored is not None and source.case.patient_id in set(patients)
        ]
        if jobs:
            identity = [[str(job[0].folder.name), job[0].folder.parent.name, *job[1:]] for job in jobs]
            made[name] = _make(
                rows, jobs, features, name, [dataset.unit, identity], held, dataset.store_folder / "hf", streaming
            )
    return made[split] if split else _dict_of(made, streaming)


def clinical_dataset(
    root: Path, patients: Sequence[str], *, split: str | None, fold: int = 0, streaming: bool = False
) -> HFDataset:
    """Return the clinical table of `patients` as a data set; missing values are None.

    Raises
    ------
    CollectionNotFoundError, ClinicalError
        No sheet, or one that is not what it should be.
    """
    import datasets  # noqa: PLC0415 - slow to import

    table = load_clinical(root)
    kinds = {"f": "float64", "i": "float64", "u": "float64", "b": "bool"}
    features = datasets.Features(
        {str(name): datasets.Value(kinds.get(table[name].dtype.kind, "string")) for name in table}
    )
    rows = {
        str(row["patient_id"]): {str(key): _plain(value) for key, value in row.items()}
        for row in table.astype(object).to_dict("records")
    }
    parts = {split: list(patients)} if split else {name: patients_of(name, fold) for name in _SPLITS}
    made = {}
    for name, own in parts.items():
        jobs = [rows[patient] for patient in own if patient in rows and patient in set(patients)]
        if jobs:
            made[name] = _make(_same_rows, jobs, features, name, jobs, 1000, root / ".hcc-tace" / "hf", streaming)
    return made[split] if split else _dict_of(made, streaming)


def volume_tensors(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Turn the NIfTI columns of volumes into tensors, (C, D, H, W) int16 and (D, H, W) uint8; for ``with_transform``.

    ``with_format("torch")`` leaves NIfTI images alone or fails on them, depending on the version of datasets.

    Parameters
    ----------
    rows : dict of str to list
        A batch of rows, as :meth:`datasets.Dataset.with_transform` passes them.
    """
    import torch  # noqa: PLC0415 - slow to import

    result = dict(rows)
    for name in ("image", "label", "valid"):
        if name in rows:
            arrays = [np.asarray(item.dataobj) for item in rows[name]]
            # (W, H, D[, C]) -> ([C,] D, H, W)
            turned = [np.ascontiguousarray(array.transpose()) for array in arrays]
            channels = name != "label"
            result[name] = [torch.from_numpy(t[None] if channels and t.ndim == 3 else t) for t in turned]
    return result


def dataset_card(dataset: HFDataset, *, name: str = "HCC-TACE-Seg, prepared") -> DatasetCard:
    """Return a card to push along: licence, citations, columns, how it was made.

    Parameters
    ----------
    dataset : datasets.Dataset or DatasetDict
        From :func:`to_hf`.
    name : str
        Title.

    Returns
    -------
    huggingface_hub.DatasetCard
        ``dataset.push_to_hub(repo)``, then ``card.push_to_hub(repo)``. The collection is CC BY 4.0: give credit.
    """
    from huggingface_hub import DatasetCard  # noqa: PLC0415 - slow to import

    catalog = load_catalog()
    parts = dataset if isinstance(dataset, dict) else {"all": dataset}
    first = next(iter(parts.values()))
    lines = [
        "---",
        "license: cc-by-4.0",
        "task_categories: [image-segmentation]",
        "tags: [medical, CT, liver, HCC, TACE, segmentation, DICOM]",
        f"pretty_name: {json.dumps(name)}",
        "---",
        f"# {name}",
        "",
        f"Made from [{catalog.identity.name}](https://doi.org/{catalog.identity.doi}) ({catalog.identity.title}) by "
        f"hcc-tace-data {__version__}. Not an official release of the collection.",
        "",
        "| split | rows |",
        "|---|---|",
        *(f"| {part} | {_count(rows)} |" for part, rows in parts.items()),
        "",
        "| column | type |",
        "|---|---|",
        *(f"| `{column}` | {str(kind).replace('|', '/')} |" for column, kind in first.features.items()),
        "",
        "Images are in Hounsfield units. Class numbers of `label`: "
        + ", ".join(f"{item.number} {item.name}" for item in catalog.label_sets["standard"])
        + " (label set `standard`). Splits are by patient.",
        "",
        f"Licence: {catalog.identity.licence} ({catalog.identity.licence_url}). Cite:",
        "",
        *(f"- {citation.text} https://doi.org/{citation.doi}" for citation in catalog.citations),
    ]
    return DatasetCard("\n".join(lines) + "\n")


def _make(
    rows: Callable[..., Iterator[Row]],
    jobs: Sequence[Any],
    features: Any,
    split: str,
    identity: Any,
    held: int,
    cache: Path,
    streaming: bool,
) -> datasets.Dataset | datasets.IterableDataset:
    import datasets  # noqa: PLC0415 - slow to import

    named = datasets.NamedSplit(split)
    if streaming:
        return datasets.IterableDataset.from_generator(
            rows, features=features, gen_kwargs={"jobs": list(jobs)}, split=named
        )
    text = json.dumps([__version__, split, str(features), identity], sort_keys=True, default=str)
    result = datasets.Dataset.from_generator(
        rows,
        features=features,
        gen_kwargs={"jobs": list(jobs)},
        split=named,
        cache_dir=str(cache),
        fingerprint=hashlib.sha256(text.encode()).hexdigest()[:16],
        writer_batch_size=held,
    )
    return _described(result)


def _described(result: datasets.Dataset) -> datasets.Dataset:
    catalog = load_catalog()
    result.info.description = f"{catalog.identity.name}: {catalog.identity.title}"
    result.info.homepage = f"https://doi.org/{catalog.identity.doi}"
    result.info.license = f"{catalog.identity.licence} {catalog.identity.licence_url}"
    result.info.citation = "\n".join(f"{item.text} https://doi.org/{item.doi}" for item in catalog.citations)
    return result


def _dict_of(parts: dict[str, Any], streaming: bool) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    import datasets  # noqa: PLC0415 - slow to import

    return datasets.IterableDatasetDict(parts) if streaming else datasets.DatasetDict(parts)


def _identifiers() -> dict[str, Any]:
    import datasets  # noqa: PLC0415 - slow to import

    text = datasets.Value("string")
    return {
        "patient_id": text,
        "study_uid": text,
        "series_uid": text,
        "phases": datasets.List(text),
        "spacing": datasets.List(datasets.Value("float64"), length=3),
        "affine": datasets.Array2D((4, 4), "float64"),
    }


def _slice_features(channels: int, size: tuple[int, int], masked: bool) -> datasets.Features:
    import datasets  # noqa: PLC0415 - slow to import

    several = channels > 1
    shape = (channels, *size)
    features = {
        "image": datasets.Array3D(shape, "int16") if several else datasets.Array2D(size, "int16"),
        "label": datasets.Array2D(size, "uint8"),
    }
    if masked:
        features["valid"] = datasets.Array3D(shape, "uint8") if several else datasets.Array2D(size, "uint8")
    return datasets.Features({**features, "slice": datasets.Value("int32"), **_identifiers()})


def _volume_features(masked: bool) -> datasets.Features:
    import datasets  # noqa: PLC0415 - slow to import

    names = ("image", "label", "valid") if masked else ("image", "label")
    return datasets.Features({**{name: datasets.Nifti() for name in names}, **_identifiers()})


def _row(case: StoredCase, affine: npt.NDArray[np.float64]) -> Row:
    return {
        "patient_id": case.patient_id,
        "study_uid": case.study_uid,
        "series_uid": case.series_uid,
        "phases": list(case.phases),
        "spacing": list(case.spacing),
        "affine": affine,
    }


def _slice_rows(jobs: Sequence[Job]) -> Iterator[Row]:
    for case, (first, last), size, masked in jobs:
        image, label, valid = case.image, case.label, case.valid
        corner = middle_corner(label.shape[1:], size)
        affine = np.array(case.affine, dtype=np.float64)
        affine[:3, 3] = affine[:3, :3] @ [0, *corner] + affine[:3, 3]
        for d in range(first, last):
            row = _row(case, affine)
            row["image"] = _squeezed(_placed(image[:, d], corner, size, OUTSIDE_HU))
            row["label"] = _placed(label[d], corner, size, 0)
            if masked:
                mask = np.ones(image[:, d].shape, dtype=np.uint8) if valid is None else valid[:, d]
                row["valid"] = _squeezed(_placed(mask, corner, size, 0))
            row["slice"] = d
            yield row


def _volume_rows(jobs: Sequence[Job]) -> Iterator[Row]:
    for case, _, _, masked in jobs:
        row = _row(case, np.array(case.affine, dtype=np.float64))
        row["image"] = _nifti(case.image, case, "image")
        row["label"] = _nifti(case.label[None], case, "label")
        if masked:
            valid = case.valid
            mask = np.broadcast_to(np.ones(1, dtype=np.uint8), case.shape) if valid is None else valid
            row["valid"] = _nifti(mask, case, "valid")
        yield row


def _same_rows(jobs: Sequence[Row]) -> Iterator[Row]:
    yield from jobs


def _nifti(array: npt.NDArray[Any], case: StoredCase, name: str) -> dict[str, Any]:
    """Return (C, D, H, W) as the bytes of a NIfTI file: axes (W, H, D[, C]), RAS."""
    data = nifti_bytes(array[0] if len(array) == 1 else array, np.array(case.affine, dtype=np.float64))
    return {"path": f"{safe_name(case.patient_id)}_{name}.nii", "bytes": data}


def _placed(array: npt.NDArray[Any], corner: Sequence[int], size: tuple[int, int], outside: int) -> npt.NDArray[Any]:
    out = np.empty((*array.shape[:-2], *size), dtype=array.dtype)
    place_box(array, corner, out, outside)
    return out


def _squeezed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array[0] if len(array) == 1 else array


def _count(rows: Any) -> str:
    return str(len(rows)) if hasattr(rows, "__len__") else "streamed"


def _plain(value: Any) -> Any:
    if value is None or value != value or type(value).__name__ == "NAType":
        return None
    value = value.item() if hasattr(value, "item") else value
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
