"""Exporting annotated cases: one patient after the other on all cores, resumable, whole files only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hcc_tace_data.errors import HccTaceError, PatientNotFoundError, UsageError
from hcc_tace_data.export.records import Record, read_records, write_companions, write_record
from hcc_tace_data.parallel import in_parallel, workers_for

if TYPE_CHECKING:
    from hcc_tace_data.collection import Collection
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMATS", "Classes", "ExportedCase", "export_cases"]

#: Format -> the module that writes it.
FORMATS = {
    "nnunet": "hcc_tace_data.export.nnunet",
    "monai": "hcc_tace_data.export.decathlon",
    "hf": "hcc_tace_data.export.parquet",
    "seg": "hcc_tace_data.export.seg_files",
}

Classes = dict[int, tuple[str, ...]]


class _Writer(Protocol):
    """What a format's module has."""

    def write_case(self, case: Case, arrays: CaseArrays, out: Path, split: str, classes: Classes) -> list[Path]: ...

    def finish(self, out: Path, records: dict[str, Record], classes: Classes, names: dict[int, str]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedCase:
    """What became of one patient.

    Attributes
    ----------
    patient_id : str
    files : tuple of pathlib.Path
        Files written, or found whole from an earlier run.
    skipped : str
        Why there are none; else empty.
    """

    patient_id: str
    files: tuple[Path, ...] = ()
    skipped: str = ""


def export_cases(
    collection: Collection,
    out: str | os.PathLike[str],
    format: str,
    *,
    patients: Iterable[str] | None = None,
    labels: str = "standard",
    annotations: str | Sequence[str] = "collection",
    workers: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Iterator[ExportedCase]:
    """Write the annotated CT of each patient and its labels in a format that people train from.

    Patients that an earlier run wrote whole, of the same sources, are kept. Licence, citation and provenance go beside
    the data; the format's own description is written last.

    Parameters
    ----------
    collection : Collection
    out : path-like
        Folder to write into: empty, or of an earlier run with the same format, labels and annotations.
    format : {"nnunet", "monai", "hf", "seg"}
    patients : iterable of str, optional
        PatientIDs; default all.
    labels : str
        Label set of ``catalog.yaml``: "standard", "lesion" or "liver".
    annotations : str or sequence of str
        As of :func:`hcc_tace_data.load_hcc_tace`.
    workers : int, optional
        Processes; default one a core.
    progress : callable, optional
        Called after each patient.

    Yields
    ------
    ExportedCase

    Raises
    ------
    UsageError
        No such format, label set or annotation, or the folder holds something else.
    PatientNotFoundError
        A patient the collection does not hold.
    """
    from hcc_tace_data.catalog import load_catalog
    from hcc_tace_data.loaders.cases import find_cases

    if format not in FORMATS:
        raise UsageError(f"format is {format!r}; use {', '.join(FORMATS)}.")
    catalog = load_catalog()
    classes = catalog.classes(labels)
    names = {item.number: item.name for item in catalog.label_sets[labels]}
    wanted = list(collection if patients is None else dict.fromkeys(patients))
    unknown = sorted(set(wanted) - set(collection))
    if unknown:
        raise PatientNotFoundError(f"{', '.join(unknown)} not in {collection.root}, which holds {len(collection)}.")
    cases, left_out = find_cases(collection, wanted, annotations)
    named = annotations if isinstance(annotations, str) else list(annotations)
    parameters = {"format": format, "labels": labels, "annotations": named}
    folder = Path(out)
    records = read_records(folder, parameters)
    for patient_id, reason in left_out.items():
        yield ExportedCase(patient_id=patient_id, skipped=reason)
        if progress is not None:
            progress()
    for patient_id, done in _run(cases, folder, format, classes, records, workers):
        if isinstance(done, Record):
            records[patient_id] = done
            files = tuple(folder / name for name in done.files)
            yield ExportedCase(patient_id=patient_id, files=files)
        else:
            yield ExportedCase(patient_id=patient_id, skipped=done)
        if progress is not None:
            progress()
    whole = {name: record for name, record in records.items() if record.is_whole(folder, record.digest)}
    _writer(format).finish(folder, whole, classes, names)
    write_companions(folder, parameters, whole)


def _writer(format: str) -> _Writer:
    module: Any = import_module(FORMATS[format])
    writer: _Writer = module
    return writer


def _run(
    cases: Sequence[Case], out: Path, format: str, classes: Classes, records: dict[str, Record], workers: int | None
) -> Iterator[tuple[str, Record | str]]:
    """Yield PatientID and record, or why there is none."""
    from hcc_tace_data.loaders.store import case_digest

    todo = []
    for case in cases:
        record = records.get(case.patient_id)
        if record is not None and record.is_whole(out, case_digest(case)):
            yield case.patient_id, record
        else:
            todo.append(case)
    names = [case.patient_id for case in todo]
    size = sum(path.stat().st_size for case in todo for path in case.paths)
    calls = [(case, out, format, classes) for case in todo]
    results = in_parallel(_export_one, calls, workers_for(size, workers))
    yield from zip(names, results, strict=True)


def _export_one(case: Case, out: Path, format: str, classes: Classes) -> Record | str:
    from hcc_tace_data.loaders.sample import read_case
    from hcc_tace_data.loaders.store import case_digest
    from hcc_tace_data.splits import split_table

    table = split_table()
    fold = table.get(case.patient_id)
    # a patient the split does not know is one to train on, in no fold
    split = "test" if case.patient_id in table and fold is None else "train"
    try:
        digest = case_digest(case)
        arrays = read_case(case, classes)
        files = _writer(format).write_case(case, arrays, out, split, classes)
    except HccTaceError as error:
        return str(error)
    record = Record(
        patient_id=case.patient_id,
        digest=digest,
        split=split,
        fold=fold,
        files={path.relative_to(out).as_posix(): path.stat().st_size for path in files},
        sources={
            "study_uid": case.study_uid,
            "series_uid": case.series_uid,
            "annotations": [one.reader for one in case.annotations],
            "readers": case.readers,
            "spacing_mm": [round(float(step), 6) for step in arrays.spacing],
            "shape": list(arrays.image.shape),
        },
    )
    write_record(out, record)
    return record
