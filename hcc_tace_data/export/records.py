"""What lies beside exported data: licence, citations, provenance, and a record of each patient that is done."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import UsageError
from hcc_tace_data.files import atomic_write_text

__all__ = ["Record", "licence_text", "read_records", "write_companions", "write_json", "write_record"]

_FOLDER = ".hcc-tace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One patient of an export that is written whole.

    Attributes
    ----------
    patient_id : str
    digest : str
        Of the sources; another one means that they changed since.
    split : str
        "train" or "test".
    fold : int or None
        The fold in which the patient is validated.
    files : dict of str to int
        Path relative to the export's folder -> bytes.
    sources : dict
        UIDs, annotations and readers the files were made of.
    """

    patient_id: str
    digest: str
    split: str
    fold: int | None
    files: dict[str, int]
    sources: dict[str, Any] = field(default_factory=dict)

    def is_whole(self, out: Path, digest: str) -> bool:
        """Tell whether the files are there in their length, made of sources of this digest."""
        try:
            return digest == self.digest and all((out / name).stat().st_size == n for name, n in self.files.items())
        except OSError:
            return False


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document, whole or not at all."""
    atomic_write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_record(out: Path, record: Record) -> None:
    """Note that a patient is done."""
    write_json(out / _FOLDER / f"{record.patient_id}.json", asdict(record))


def read_records(out: Path, parameters: Mapping[str, Any]) -> dict[str, Record]:
    """Return PatientID -> record of an export that was begun with the same parameters; claim the folder for them.

    Raises
    ------
    UsageError
        The folder holds an export made with others, or other files.
    """
    mine = {str(key): value for key, value in parameters.items()}
    place = out / _FOLDER / "parameters.json"
    try:
        theirs = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if out.is_dir() and any(entry.name != _FOLDER for entry in out.iterdir()):
            raise UsageError(f"{out} holds other files; name an empty folder, or one of an earlier export.") from None
        write_json(place, mine)
        return {}
    except ValueError as error:
        raise UsageError(f"{place} is damaged ({error}); empty {out} and export again.") from error
    if theirs != json.loads(json.dumps(mine)):
        changed = ", ".join(sorted(k for k in {*theirs, *mine} if theirs.get(k) != json.loads(json.dumps(mine)).get(k)))
        raise UsageError(f"{out} holds an export with another {changed}; name another folder, or empty this one.")
    records = {}
    for path in sorted((out / _FOLDER).glob("*.json")):
        if path == place:
            continue
        try:
            record = Record(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            continue  # made anew
        records[record.patient_id] = record
    return records


def licence_text() -> str:
    """Return the licence of the data and what it asks for."""
    from hcc_tace_data.catalog import load_catalog

    identity = load_catalog().identity
    return (
        f"{identity.title}\nhttps://doi.org/{identity.doi}\n\n"
        f"Files of the collection and what was derived from them here are under {identity.licence}\n"
        f"({identity.licence_url}): name the authors (CITATION.bib) and say what you changed.\n"
        "Changed here: format, and labels as provenance.json tells.\n"
    )


def write_companions(out: Path, parameters: Mapping[str, Any], records: Mapping[str, Record]) -> None:
    """Write LICENSE.txt, CITATION.bib and provenance.json."""
    from importlib.metadata import version

    from hcc_tace_data import __version__
    from hcc_tace_data.catalog import load_catalog

    catalog = load_catalog()
    atomic_write_text(out / "LICENSE.txt", licence_text())
    atomic_write_text(out / "CITATION.bib", "\n\n".join(citation.bibtex() for citation in catalog.citations) + "\n")
    provenance = {
        "collection": {"name": catalog.identity.name, "doi": catalog.identity.doi, "licence": catalog.identity.licence},
        "generated_by": {
            "hcc-tace-data": __version__,
            **{name: version(name) for name in ("highdicom", "nibabel", "numpy", "pydicom")},
        },
        "generated": datetime.fromtimestamp(float(os.environ.get("SOURCE_DATE_EPOCH", _now())), UTC).isoformat(),
        "parameters": dict(parameters),
        "patients": {
            name: {"split": record.split, "fold": record.fold, **record.sources, "files": record.files}
            for name, record in sorted(records.items())
        },
    }
    write_json(out / "provenance.json", provenance)


def _now() -> float:
    return datetime.now(UTC).timestamp()
