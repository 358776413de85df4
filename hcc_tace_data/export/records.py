"""The folder of an export: one process at a time writes there, and a run takes up where an earlier one stopped.

What is written whole is told by a record, ``.hcc-tace/records/<name>.json``: one a patient, or one a study. A record
is begun before the first of its files is written and lists what is going to be; so whatever a killed run left is
known, and goes when it is not written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import FolderLockedError, OutputError, UsageError
from hcc_tace_data.system.files import drop_leftovers, write_json, writing_to
from hcc_tace_data.system.lock import lock_folder

__all__ = ["Record", "begin_record", "claim_folder", "drop_record", "write_record"]

_FOLDER = ".hcc-tace"
_RECORDS = f"{_FOLDER}/records"
_PARAMETERS = f"{_FOLDER}/parameters.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One patient, or one study, of an export.

    Attributes
    ----------
    name : str
        Of the record, different from all others of the export.
    patient_id : str
    digest : str
        Of the sources; another one means that they changed since. Empty while the files are being written.
    split : str
        "train" or "test".
    fold : int or None
        The fold in which the patient is validated.
    files : dict of str to int
        Path relative to the export's folder -> bytes.
    sources : dict
        UIDs, annotations and readers the files were made of.
    """

    name: str
    patient_id: str
    digest: str = ""
    split: str = ""
    fold: int | None = None
    files: dict[str, int] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)

    def is_whole(self, out: Path, digest: str | None = None) -> bool:
        """Tell whether the files are there in their length, and were made of sources of this digest."""
        if not self.digest or digest not in {None, self.digest}:
            return False
        try:
            return all((out / name).stat().st_size == size for name, size in self.files.items())
        except OSError:
            return False


def begin_record(out: Path, name: str, patient_id: str, files: Iterable[Path]) -> Record:
    """Note that files of a record are about to be written."""
    begun = Record(name=name, patient_id=patient_id, files={path.relative_to(out).as_posix(): 0 for path in files})
    write_record(out, begun)
    return begun


def write_record(out: Path, record: Record) -> None:
    """Note what became of a patient or study."""
    write_json(out / _RECORDS / f"{record.name}.json", asdict(record))


def drop_record(out: Path, record: Record) -> None:
    """Remove a record with its files."""
    root = out.resolve()
    for name in record.files:
        path = out / name
        if root in path.resolve().parents:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # other files lie there
                path.parent.rmdir()
    (out / _RECORDS / f"{record.name}.json").unlink(missing_ok=True)


@contextmanager
def claim_folder(out: Path, parameters: Mapping[str, Any]) -> Iterator[dict[str, Record]]:
    """Hold the folder of an export for this process; yield name -> record of what an earlier run wrote.

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
        theirs = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if out.is_dir() and any(entry.name != _FOLDER for entry in out.iterdir()):
            raise UsageError(f"{out} holds other files; name an empty folder, or one of an earlier export.") from None
        return
    except ValueError as error:
        raise UsageError(f"{place} is damaged ({error}); empty {out} and export again.") from error
    changed = ", ".join(sorted(key for key in {*theirs, *mine} if theirs.get(key) != mine.get(key)))
    if changed:
        raise UsageError(f"{out} holds an export with another {changed}; name another folder, or empty this one.")


def _read_records(out: Path) -> dict[str, Record]:
    records = {}
    for path in sorted((out / _RECORDS).glob("*.json")):
        try:
            record = Record(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            continue  # made anew
        if record.name == path.name.removesuffix(".json"):
            records[record.name] = record
    return records
