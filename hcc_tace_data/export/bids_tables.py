"""The tables beside exported NIfTI files: who is in the export, and which file is which phase (BIDS-like)."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical.columns import COLUMNS
from hcc_tace_data.clinical.load import load_clinical
from hcc_tace_data.clinical.roles import role_of
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.system.files import atomic_write_text, write_json
from hcc_tace_data.system.text import CsvWriter

if TYPE_CHECKING:
    from hcc_tace_data.export.output_folder import ExportRecord

__all__ = ["write_participants", "write_scans"]

logger = logging.getLogger(__name__)

#: BIDS writes missing values so.
_MISSING = "n/a"
_SCANS = {
    "filename": "File, relative to this folder",
    "kind": "image or segmentation",
    "study_date": "StudyDate, as the archive shifted it",
    "phase": "Contrast phase",
    "phase_confidence": "Probability of the phase, 0 to 1",
    "series_uid": "SeriesInstanceUID of the CT",
    "volume": "Number of the volume in its series, from 0",
}


def write_scans(out: Path, records: Mapping[str, ExportRecord]) -> None:
    """Write ``sub-X/ses-Y/sub-X_ses-Y_scans.tsv`` for each session, and ``scans.json``, which explains the columns."""
    sessions: dict[Path, list[dict[str, Any]]] = {}
    for record in records.values():
        for row in record.sources["scans"]:
            path = Path(row["filename"])
            sessions.setdefault(path.parent, []).append(
                {**row, "filename": path.name, "study_date": _date(record.sources["study_date"])}
            )
    written = set()
    for folder, rows in sessions.items():
        place = out / folder / f"{folder.parent.name}_{folder.name}_scans.tsv"
        _write(place, list(_SCANS), sorted(rows, key=lambda row: str(row["filename"])))
        written.add(place)
    for place in set(out.glob("sub-*/ses-*/*_scans.tsv")) - written:
        place.unlink()
    write_json(out / "scans.json", {name: {"Description": text} for name, text in _SCANS.items()})


def write_participants(out: Path, root: Path, participants: Mapping[str, str]) -> None:
    """Write ``participants.tsv`` and its sidecar: split, fold and, where there is a sheet, the clinical columns.

    The sidecar gives each clinical column its role: "baseline" (known before treatment), "treatment", "post" (decided
    by the follow-up) or "outcome".

    Parameters
    ----------
    out : pathlib.Path
        Folder of the export.
    root : pathlib.Path
        Folder of the collection, in which the clinical sheet is.
    participants : mapping of str to str
        PatientID -> its name in file names.
    """
    columns: dict[str, dict[str, Any]] = {
        "participant_id": {"Description": "Name of the patient in this export"},
        "patient_id": {"Description": "PatientID"},
        "split": {"Description": "Part of the fixed split", "Levels": {"train": "training", "test": "test set"}},
        "fold": {"Description": "Fold in which the patient is validated; n/a for the test set"},
    }
    table, clinical = split_table(), _clinical(root)
    if clinical:
        for column in COLUMNS:
            if column.name != "patient_id":
                columns[column.name] = {
                    "Description": column.definition,
                    # what a model that predicts an outcome may use
                    "Role": role_of(column.name),
                    **({"Units": column.unit} if column.unit else {}),
                    **({"Levels": {name: name for _, name in column.codes}} if column.codes else {}),
                }
    rows = []
    for patient_id, name in sorted(participants.items()):
        fold = table.get(patient_id)
        known = {"split": "test" if fold is None else "train", "fold": fold} if patient_id in table else {}
        own = {"participant_id": f"sub-{name}", "patient_id": patient_id}
        rows.append({**clinical.get(patient_id, {}), **known, **own})
    _write(out / "participants.tsv", list(columns), rows)
    write_json(out / "participants.json", columns)


def _clinical(root: Path) -> dict[str, dict[str, Any]]:
    try:
        table = load_clinical(root, on_problem="ignore")
    except CollectionNotFoundError:
        return {}
    except ClinicalError as error:
        logger.warning("participants.tsv has no clinical columns: %s", error)
        return {}
    plain = table.astype(object).where(table.notna(), None)
    return {str(row["patient_id"]): {str(k): v for k, v in row.items()} for row in plain.to_dict("records")}


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else _MISSING


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = CsvWriter(text, delimiter="\t")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_MISSING if row.get(name) is None else row[name] for name in columns])
    if not path.is_file() or path.read_bytes() != text.getvalue().encode("utf-8"):  # what is right is left alone
        atomic_write_text(path, text.getvalue())
