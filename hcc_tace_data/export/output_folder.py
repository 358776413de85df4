"""The folder of an export: one process writes to it at a time, and a run continues where an earlier one stopped.

A record, ``.hcc-tace/records/<name>.json``, lists the complete files of one patient or one study. It is started before
the first of its files is written and lists what will be written, so the leftovers of a killed run are known, and are
removed unless they are written again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import FolderLockedError, OutputError, UsageError
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import drop_leftovers, write_json, writing_to
from hcc_tace_data.system.lock import lock_folder

__all__ = ["ExportRecord", "begin_record", "claim_folder", "drop_record", "write_record"]

_FOLDER = ".hcc-tace"
_RECORDS = f"{_FOLDER}/records"
_PARAMETERS = f"{_FOLDER}/parameters.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """The files of one patient, or of one study, in an export.

    Attributes
    ----------
    name : str
        Name of the record, unique in the export.
    patient_id : str
    digest : str
        Digest of the sources; a different one means that they changed since. Empty while files are being written.
    split : str
        "train" or "test".
    fold : int or None
        The fold in which the patient is validated.
    files : dict of str to int
        Path relative to the export's folder -> bytes.
    sources : dict
        UIDs, annotations and readers that the files were made from.
    """

    name: str
    patient_id: str
    digest: str = ""
    split: str = ""
    fold: int | None = None
    files: dict[str, int] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)

    def is_whole(self, out: Path, digest: str | None = None) -> bool:
        """Return whether all files exist with their sizes, and were made from sources with this digest."""
        if not self.digest or digest not in {None, self.digest}:
            return False
        try:
            return all((out / name).stat().st_size == size for name, size in self.files.items())
        except OSError:
            return False


def begin_record(out: Path, name: str, patient_id: str, files: Iterable[Path]) -> ExportRecord:
    """Record that files are about to be written."""
    begun = ExportRecord(
        name=name, patient_id=patient_id, files={path.relative_to(out).as_posix(): 0 for path in files}
    )
    write_record(out, begun)
    return begun


def write_record(out: Path, record: ExportRecord) -> None:
    """Record what was written for a patient or study."""
    write_json(out / _RECORDS / f"{record.name}.json", asdict(record))


def drop_record(out: Path, record: ExportRecord) -> None:
    """Remove a record with its files."""
    root = out.resolve()
    for name in record.files:
        path = out / name
        if root in path.resolve().parents:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # the folder has other files
                path.parent.rmdir()
    (out / _RECORDS / f"{record.name}.json").unlink(missing_ok=True)


@contextmanager
def claim_folder(out: Path, parameters: Mapping[str, Any]) -> Iterator[dict[str, ExportRecord]]:
    """Lock the folder of an export for this process; yield name -> record of what an earlier run wrote.

    Raises
    ------
    UsageError
        The folder holds an export made with other parameters, or other files.
    OutputError
        Another process exports into it, or it cannot be written.
    """
    mine = json.loads(json.dumps(dict(parameters)))
    with writing_to(out):
        _check_ours(out, mine)  # before anything is put there
        try:
            with lock_folder(out, wait=False):
                _check_ours(out, mine)
                drop_leftovers(out)
                write_json(out / _PARAMETERS, mine)
                yield _read_records(out)
        except FolderLockedError as error:
            raise OutputError(str(error)) from error


def _check_ours(out: Path, mine: dict[str, Any]) -> None:
    place = out / _PARAMETERS
    try:
        theirs = read_json_object(place)
    except FileNotFoundError:
        if out.is_dir() and any(entry.name != _FOLDER for entry in out.iterdir()):
            raise UsageError(f"{out} holds other files; name an empty folder, or one of an earlier export.") from None
        return
    except ValueError as error:
        raise UsageError(f"{place} is damaged ({error}); empty {out} and export again.") from error
    changed = ", ".join(sorted(key for key in {*theirs, *mine} if theirs.get(key) != mine.get(key)))
    if changed:
        raise UsageError(f"{out} holds an export with another {changed}; name another folder, or empty this one.")


def _parse_record(document: dict[str, Any]) -> ExportRecord:
    """Return the record in a document; ValueError if a field is unknown, missing or of the wrong type."""
    kinds: dict[str, Any] = {"files": dict, "sources": dict, "fold": (int, type(None))}
    for name, value in document.items():
        if isinstance(value, bool) or not isinstance(value, kinds.get(name, str)):
            raise ValueError(f"its {name} is a {type(value).__name__}")
    for name, size in document.get("files", {}).items():
        if isinstance(size, bool) or not isinstance(size, int):
            raise ValueError(f"its size of {name} is a {type(size).__name__}")
    try:
        return ExportRecord(**document)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _read_records(out: Path) -> dict[str, ExportRecord]:
    records = {}
    for path in sorted((out / _RECORDS).glob("*.json")):
        try:
            record = _parse_record(read_json_object(path))
        except ValueError:
            continue  # its files are written again
        if record.name == path.name.removesuffix(".json"):
            records[record.name] = record
    return records
