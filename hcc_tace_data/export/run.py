"""Exporting annotated cases: patient by patient on all cores, resumable, complete files only.

When a run ends, the folder holds what its records list: files of patients that can no longer be exported are removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.errors import HccTaceError, OutputError, PatientNotFoundError, UsageError
from hcc_tace_data.export.companions import write_companions
from hcc_tace_data.export.format import CaseWriter, Classes, Exported, ExportSummary, LeftOut
from hcc_tace_data.export.output_folder import (
    ExportRecord,
    begin_record,
    claim_folder,
    drop_record,
    write_record,
)
from hcc_tace_data.export.registry import FORMATS, find_format
from hcc_tace_data.export.roi import ROIS, Roi, crop_arrays
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.labels.names import class_names
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.channels import ANNOTATED, resolve_phases
from hcc_tace_data.loaders.flow import Reason, cohort_flow
from hcc_tace_data.loaders.store import StoreParameters, case_digest
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.files import drop_leftovers
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.parallel import open_runner, workers_for

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case, CaseArrays
    from hcc_tace_data.open import Collection

__all__ = ["ExportedCase", "export_cases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedCase:
    """The result for one patient.

    Attributes
    ----------
    patient_id : str
    files : tuple of pathlib.Path
        Files written, or found complete from an earlier run.
    skipped : str
        Why the patient was left out; else empty.
    """

    patient_id: str
    files: tuple[Path, ...] = ()
    skipped: str = ""


def export_cases(  # noqa: PLR0913 - every argument is one decision about the export
    collection: Collection,
    out: str | os.PathLike[str],
    format: str,
    *,
    patients: Iterable[str] | None = None,
    labels: str = "standard",
    annotations: str | Sequence[str] = "collection",
    phases: str | Sequence[str] = ANNOTATED,
    roi: Roi | None = None,
    margin: float = 20.0,
    workers: int | None = None,
    dask: str | None = None,
    progress: Callable[[], None] | None = None,
) -> ExportSummary[ExportedCase]:
    """Write the annotated CT of each patient and its labels in a format for training.

    Patients that an earlier run completed from the same sources are kept. Licence, citation and provenance are written
    beside the data; the format's own description is written last.

    Parameters
    ----------
    collection : Collection
    out : path-like
        Folder to write into: empty, or of an earlier run with the same format, labels and annotations.
    format : {"nnunet", "monai", "hf", "seg"}
        One of :data:`hcc_tace_data.export.registry.FORMATS` that holds annotated CT.
    patients : iterable of str, optional
        PatientIDs; default all.
    labels : str
        Label set of ``catalog.yaml``: "standard", "lesion" or "liver".
    annotations : str or sequence of str
        See :func:`hcc_tace_data.load_hcc_tace`.
    phases : str or sequence of str
        Channels of the image; see :func:`hcc_tace_data.load_hcc_tace`. Other phases than the annotated one are
        registered onto it; a patient who lacks one, or whose registration is implausible, is left out.
    roi : {"lesions", "liver"}, optional
        Crop each case to the box around all its lesions, or its liver. A patient without a lesion is left out.
    margin : float
        mm around that box.
    workers : int, optional
        Processes; default one per core.
    dask : str, optional
        Address of a Dask scheduler whose workers see the same folders, instead of processes.
    progress : callable, optional
        Called after each patient.

    Returns
    -------
    ExportSummary
        A sequence of :class:`ExportedCase`, with all `files` and everything that was `skipped`.

    Raises
    ------
    UsageError
        No such format, label set or annotation, or the folder holds something else.
    PatientNotFoundError
        A patient who is not in the collection.
    OutputError
        The folder cannot be written, or another process exports into it.
    """
    writer = find_format(format).write
    if not isinstance(writer, CaseWriter):
        cased = ", ".join(name for name, one in FORMATS.items() if isinstance(one.write, CaseWriter))
        raise UsageError(f"{format!r} does not hold annotated cases. Valid: {cased}.")
    catalog = collection.catalog
    classes, names = catalog.classes(labels), class_names(catalog, labels)
    wanted = list(collection if patients is None else dict.fromkeys(patients))
    unknown = sorted(set(wanted) - set(collection))
    if unknown:
        raise PatientNotFoundError(f"{', '.join(unknown)} not in {collection.root}, which holds {len(collection)}.")
    channels = resolve_phases(phases)
    cases, left_out = find_cases(collection, wanted, annotations, phases=channels)
    named = annotations if isinstance(annotations, str) else list(annotations)
    parameters: dict[str, Any] = {"format": format, "labels": labels, "annotations": named}
    if channels != (ANNOTATED,):
        if "phases" not in find_format(format).options:
            raise UsageError(f"phases do not go with {format!r}, which holds labels alone.")
        parameters["phases"] = list(channels)
    if roi is not None:
        if roi not in ROIS:
            raise UsageError(f"roi is {roi!r}; use {' or '.join(map(repr, ROIS))}.")
        if not 0 <= margin <= 1000:
            raise UsageError(f"margin is {margin!r}; give mm, 0 to 1000.")
        if "roi" not in find_format(format).options:
            raise UsageError(f"{format!r} is not cropped.")
        parameters |= {"roi": roi, "margin_mm": float(margin)}
    job = _Job(out=Path(out), writer=writer, classes=classes, phases=channels, roi=roi, margin=float(margin))
    folder, exported = Path(out), []
    with claim_folder(folder, parameters) as records:
        for patient_id, done in _run(cases, left_out, job, records, workers, dask):
            if isinstance(done, ExportRecord):
                records[done.name] = done
                files = tuple(folder / name for name in done.files)
                exported.append(ExportedCase(patient_id=patient_id, files=files))
            else:
                _drop(folder, records, patient_id)
                exported.append(ExportedCase(patient_id=patient_id, skipped=done))
            if progress is not None:
                progress()
        drop_leftovers(folder)  # of a worker that was killed and whose case another one wrote
        for name in [name for name, record in records.items() if not record.is_whole(folder)]:
            drop_record(folder, records.pop(name))
        writer.finish(Exported(out=folder, records=records, names=names, phases=channels, catalog=catalog))
        flow = cohort_flow(collection, wanted, {one.patient_id: one.skipped for one in exported if one.skipped})
        write_companions(folder, parameters, records, catalog=catalog, flow=flow)
    return ExportSummary(
        format=format,
        out=folder,
        parts=tuple(exported),
        files=tuple(path for case in exported for path in case.files),
        skipped=tuple(LeftOut(patient_id=one.patient_id, reason=one.skipped) for one in exported if one.skipped),
        flow=flow,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is the same for every case of an export; it is sent to worker processes."""

    out: Path
    writer: CaseWriter
    classes: Classes
    phases: tuple[str, ...]
    roi: Roi | None = None
    margin: float = 0.0


def _counts(arrays: CaseArrays) -> tuple[list[int], list[int]]:
    numbers, counts = np.unique(arrays.label, return_counts=True)
    return numbers.tolist(), counts.tolist()


def _drop(out: Path, records: dict[str, ExportRecord], patient_id: str) -> None:
    """Remove what an earlier run wrote for a patient who can no longer be exported."""
    record = records.pop(safe_name(patient_id), None)
    if record is not None:
        drop_record(out, record)


def _run(
    cases: Sequence[Case],
    left_out: dict[str, str],
    job: _Job,
    records: dict[str, ExportRecord],
    workers: int | None,
    dask: str | None,
) -> Iterator[tuple[str, ExportRecord | str]]:
    """Yield PatientID and record, or the reason for leaving the patient out."""
    yield from left_out.items()
    todo, size = [], 0
    for case in cases:
        record = records.get(safe_name(case.patient_id))
        try:
            if record is not None and record.is_whole(job.out, case_digest(case)):
                yield case.patient_id, record
                continue
            size += sum(path.stat().st_size for paths in case.channels for path in paths)
        except OSError as error:
            yield case.patient_id, f"a source file cannot be read: {error}"
            continue
        todo.append(case)
    ids = [case.patient_id for case in todo]
    calls = [(case, job) for case in todo]
    with open_runner(min(workers_for(size, workers), len(calls)), dask) as runner:
        yield from zip(ids, runner.ordered(_export_one, calls), strict=True)


def _export_one(case: Case, job: _Job) -> ExportRecord | str:
    """Write one case; return its record, or why it cannot be read."""
    from hcc_tace_data.loaders.prepare import build_arrays  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.loaders.sample import read_case  # noqa: PLC0415 - its libraries are slow to import

    table = split_table()
    fold = table.get(case.patient_id)
    # patients not in the split are used for training and belong to no fold
    split = "test" if case.patient_id in table and fold is None else "train"
    name = safe_name(case.patient_id)
    try:
        digest = case_digest(case)
        if job.phases == (ANNOTATED,):
            arrays = read_case(case, job.classes)
        else:
            arrays = build_arrays(case, StoreParameters(phases=job.phases, classes=job.classes))
    except Exception as error:  # whatever is wrong with one patient, the others are exported
        return reason_of(error)
    if arrays.missing:
        return Reason("; ".join(f"{phase}: {reason}" for phase, reason in arrays.missing.items()), "not_registered")
    if job.roi is not None:
        cropped = crop_arrays(arrays, job.roi, job.margin)
        if cropped is None:
            return Reason(f"the labels hold no {'lesion' if job.roi == 'lesions' else 'liver'}", "no_lesion")
        arrays = cropped
    out = job.out
    files = job.writer.files(out, name, split, job.phases)
    begun = begin_record(out, name, case.patient_id, files)
    try:
        job.writer.write_case(case, arrays, files, job.classes)
    except OutputError:  # a full disk stops the export
        raise
    except HccTaceError as error:
        drop_record(out, begun)
        return str(error)
    record = ExportRecord(
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
            "phases": list(case.phases),
            "voxels": {number: int(n) for number, n in zip(*_counts(arrays), strict=True) if number},
            "spacing_mm": [round(float(step), 6) for step in arrays.spacing],
            "shape": list(arrays.image.shape),
        },
    )
    write_record(out, record)
    return record
