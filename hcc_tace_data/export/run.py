"""Exporting annotated cases: one patient after the other on all cores, resumable, whole files only.

What is left when a run ends is what its records tell: of a patient whose sources changed and who cannot be written
any more, nothing stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hcc_tace_data.errors import HccTaceError, PatientNotFoundError, UsageError
from hcc_tace_data.export.companions import write_companions
from hcc_tace_data.export.records import (
    Record,
    begin_record,
    claim_folder,
    drop_record,
    write_record,
)
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.store import case_digest
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.parallel import in_parallel, workers_for

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case, CaseArrays
    from hcc_tace_data.open import Collection

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

    def files(self, out: Path, name: str, split: str) -> list[Path]:
        """Return the files of a case, which is called `name` in file names."""

    def write_case(self, case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
        """Write them, each whole or not at all."""

    def finish(self, out: Path, records: dict[str, Record], names: dict[int, str]) -> None:
        """Write what describes the whole: `records` of all patients, `names` of the classes."""


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
    OutputError
        The folder cannot be written, or another process exports into it.
    """
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
    with claim_folder(folder, parameters) as records:
        for patient_id, reason in left_out.items():
            _drop(folder, records, patient_id)
            yield ExportedCase(patient_id=patient_id, skipped=reason)
            if progress is not None:
                progress()
        for patient_id, done in _run(cases, folder, format, classes, records, workers):
            if isinstance(done, Record):
                records[done.name] = done
                yield ExportedCase(patient_id=patient_id, files=tuple(folder / name for name in done.files))
            else:
                _drop(folder, records, patient_id)
                yield ExportedCase(patient_id=patient_id, skipped=done)
            if progress is not None:
                progress()
        for name in [name for name, record in records.items() if not record.is_whole(folder)]:
            drop_record(folder, records.pop(name))
        _writer(format).finish(folder, records, names)
        write_companions(folder, parameters, records)


def _drop(out: Path, records: dict[str, Record], patient_id: str) -> None:
    """Remove what an earlier run wrote of a patient who cannot be written any more."""
    record = records.pop(safe_name(patient_id), None)
    if record is not None:
        drop_record(out, record)


def _writer(format: str) -> _Writer:
    module: Any = import_module(FORMATS[format])
    writer: _Writer = module
    return writer


def _run(
    cases: Sequence[Case], out: Path, format: str, classes: Classes, records: dict[str, Record], workers: int | None
) -> Iterator[tuple[str, Record | str]]:
    """Yield PatientID and record, or why there is none."""
    todo, size = [], 0
    for case in cases:
        record = records.get(safe_name(case.patient_id))
        try:
            if record is not None and record.is_whole(out, case_digest(case)):
                yield case.patient_id, record
                continue
            size += sum(path.stat().st_size for path in case.paths)
        except OSError as error:
            yield case.patient_id, f"a source file cannot be read: {error}"
            continue
        todo.append(case)
    ids = [case.patient_id for case in todo]
    calls = [(case, out, format, classes) for case in todo]
    yield from zip(ids, in_parallel(_export_one, calls, workers_for(size, workers)), strict=True)


def _export_one(case: Case, out: Path, format: str, classes: Classes) -> Record | str:
    """Write one case; return its record, or why it cannot be read."""
    from hcc_tace_data.loaders.sample import read_case  # noqa: PLC0415 - its libraries are slow to import

    table = split_table()
    fold = table.get(case.patient_id)
    # a patient the split does not know is one to train on, in no fold
    split = "test" if case.patient_id in table and fold is None else "train"
    name, writer = safe_name(case.patient_id), _writer(format)
    try:
        digest = case_digest(case)
        arrays = read_case(case, classes)
    except (HccTaceError, OSError) as error:
        return str(error)
    files = writer.files(out, name, split)
    begun = begin_record(out, name, case.patient_id, files)
    try:
        writer.write_case(case, arrays, files, classes)
    except HccTaceError as error:
        drop_record(out, begun)
        return str(error)
    record = Record(
        name=name,
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
