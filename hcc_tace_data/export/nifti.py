"""CT volumes and their segmentations as NIfTI, with BIDS-like names."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.errors import PatientNotFoundError
from hcc_tace_data.export.bids_tables import write_participants, write_scans
from hcc_tace_data.export.companions import write_companions
from hcc_tace_data.export.format import ExportSummary, Format, LeftOut
from hcc_tace_data.export.nifti_study import Phases, export_study, phases_in, phases_of, record_name, study_digest
from hcc_tace_data.export.output_folder import ExportRecord, claim_folder, drop_record
from hcc_tace_data.loaders.flow import Reason, cohort_flow
from hcc_tace_data.system.files import drop_leftovers, write_json
from hcc_tace_data.system.parallel import open_runner, workers_for
from hcc_tace_data.version import __version__

if TYPE_CHECKING:
    from hcc_tace_data.facts.catalog import Catalog
    from hcc_tace_data.open import Collection, Study

__all__ = ["FORMAT", "ExportedStudy", "export_nifti"]

_NOTHING = Reason("no segmentation", "no_annotation")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedStudy:
    """What became of one study.

    Attributes
    ----------
    patient_id, study_uid : str
    files : tuple of pathlib.Path
        NIfTI files written, or found complete from an earlier run.
    skipped : tuple of str
        What was left out, and why.
    known : tuple of str
        The same, where ``catalog.yaml`` lists it as an issue of the collection.
    """

    patient_id: str
    study_uid: str
    files: tuple[Path, ...]
    skipped: tuple[str, ...]
    known: tuple[str, ...] = ()


def export_nifti(
    collection: Collection,
    out: str | os.PathLike[str],
    *,
    patients: Iterable[str] | None = None,
    all_volumes: bool = False,
    workers: int | None = None,
    dask: str | None = None,
    progress: Callable[[], None] | None = None,
) -> ExportSummary[ExportedStudy]:
    """Write every segmentation and the CT volume it was drawn on, study by study on all cores.

    A study becomes ``sub-<patient>/ses-<date>/``: ``..._ct.nii.gz`` int16 HU, with the contrast phase in its name
    (``_ce-arterial``) and its sidecar; for each SEG ``..._dseg.nii.gz``, the
    segment numbers as the SEG has them (where segments overlap the highest wins), and, if any overlap, one
    ``..._mask.nii.gz`` per segment as well; JSON sidecars name source UIDs and segments. Studies that an earlier run
    completed from the same sources are kept. Licence, citation and provenance are written beside the data.

    Parameters
    ----------
    collection : Collection
    out : path-like
        Folder to write into: empty, or of an earlier run with the same `all_volumes`.
    patients : iterable of str, optional
        PatientIDs; default all.
    all_volumes : bool
        Also the CT volumes on which nothing was drawn.
    workers : int, optional
        Processes; default one per core.
    dask : str, optional
        Address of a Dask scheduler whose workers see the same folders, instead of processes.
    progress : callable, optional
        Called after each study.

    Returns
    -------
    ExportSummary
        A sequence of :class:`ExportedStudy`, with all `files` and everything that was `skipped`.

    Raises
    ------
    PatientNotFoundError
        A patient the collection does not hold.
    UsageError
        The folder holds something else.
    OutputError
        The folder cannot be written, or another process exports into it.
    """
    wanted = list(collection if patients is None else dict.fromkeys(patients))
    unknown = sorted(set(wanted) - set(collection))
    if unknown:
        raise PatientNotFoundError(f"{', '.join(unknown)} not in {collection.root}, which holds {len(collection)}.")
    folder, parameters, catalog = Path(out), {"format": "nifti", "all_volumes": all_volumes}, collection.catalog
    exported: list[ExportedStudy] = []
    subjects = _subjects(collection)
    studies = [study for patient in wanted for study in collection[patient].studies]
    phases = phases_of(collection.subset(wanted))
    with claim_folder(folder, parameters) as records:
        _write_description(folder, catalog)
        for record in _run(studies, folder, subjects, phases, all_volumes, records, workers, dask):
            records[record.name] = record
            exported.append(
                ExportedStudy(
                    patient_id=record.patient_id,
                    study_uid=record.sources["study_uid"],
                    files=tuple(folder / name for name in record.files if name.endswith(".nii.gz")),
                    skipped=tuple(record.sources["skipped"]),
                    known=tuple(record.sources["known"]),
                )
            )
            if progress is not None:
                progress()
        drop_leftovers(folder)  # of a worker that was killed and whose study another one wrote
        for name in [name for name, record in records.items() if not record.is_whole(folder)]:
            drop_record(folder, records.pop(name))
        write_scans(folder, records)
        exported_now = {record.patient_id for record in records.values()}
        write_participants(folder, collection.root, {name: subjects[name] for name in exported_now if name in subjects})
        left_out = {
            name: next((why for one in exported if one.patient_id == name for why in one.skipped), _NOTHING)
            for name in wanted
            if not any(one.files for one in exported if one.patient_id == name)
        }
        flow = cohort_flow(collection, wanted, left_out)
        write_companions(folder, parameters, records, catalog=catalog, flow=flow, unit="studies")
    return ExportSummary(
        format="nifti",
        out=folder,
        parts=tuple(exported),
        files=tuple(path for study in exported for path in study.files),
        skipped=tuple(LeftOut(patient_id=one.patient_id, reason=why) for one in exported for why in one.skipped),
        known=tuple(LeftOut(patient_id=one.patient_id, reason=why) for one in exported for why in one.known),
        flow=flow,
    )


def _run(
    studies: list[Study],
    out: Path,
    subjects: dict[str, str],
    phases: Phases,
    all_volumes: bool,
    records: dict[str, ExportRecord],
    workers: int | None,
    dask: str | None,
) -> Iterator[ExportRecord]:
    """Yield the record of each study; of those that an earlier run wrote whole, first and without reading them."""
    todo = []
    for study in studies:
        record = records.get(record_name(study))
        if record is not None and record.is_whole(out, study_digest(study, phases)):
            yield record
            continue
        if record is not None:
            drop_record(out, record)
        todo.append(study)
    size = sum(int(study.instances["size"].sum()) for study in todo)
    calls = [(study, out, subjects[study.patient_id], phases_in(study, phases), all_volumes) for study in todo]
    with open_runner(min(workers_for(size, workers), len(calls)), dask) as runner:
        yield from runner.ordered(export_study, calls)


def _write_description(folder: Path, catalog: Catalog) -> None:
    """Write what BIDS wants at the top of a data set."""
    description = {
        "Name": catalog.identity.name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": f"{catalog.identity.licence} ({catalog.identity.licence_url}) for files of the collection",
        "ReferencesAndLinks": [f"{citation.text} https://doi.org/{citation.doi}" for citation in catalog.citations],
        "GeneratedBy": [{"Name": "hcc-tace-data", "Version": __version__}],
    }
    write_json(folder / "dataset_description.json", description)


def _subjects(collection: Collection) -> dict[str, str]:
    """Return PatientID -> the letters and digits of it, which BIDS allows; with a digest where two would be one."""
    plain = {patient: re.sub(r"[^0-9A-Za-z]", "", patient) for patient in collection}
    often = Counter(plain.values())
    return {
        patient: name if name and often[name] == 1 else f"{name}x{hashlib.sha256(patient.encode()).hexdigest()[:6]}"
        for patient, name in plain.items()
    }


FORMAT = Format(
    name="nifti",
    summary="every segmentation as it is, with BIDS-like names",
    written=(
        "`sub-<patient>/ses-<date>/`: every SEG as it is (`_dseg.nii.gz`, one `_mask.nii.gz` per segment where they "
        "overlap) and the CT it was drawn on (`_ct.nii.gz`), with the phase in the name (`_ce-arterial`) and in a JSON "
        "file; `--all-volumes` adds the CT volumes without a segmentation; `participants.tsv`, `*_scans.tsv`"
    ),
    read_with="any NIfTI reader",
    needs="studies",
    options=frozenset({"patients", "all_volumes"}),
    write=export_nifti,
)
