"""Which series to fetch: those of the series table, less what the ledger records as complete."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import DownloadError, PatientNotFoundError, UsageError
from hcc_tace_data.facts.series_table import read_series_rows
from hcc_tace_data.integrity.ledger import Entry, ledger_path, read_ledger, read_series
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.words import no_patient

__all__ = ["Plan", "Wanted", "make_plan", "table_of"]

_MARGIN = 64 << 20
_LEDGER_PATH = 500  # what SQLite can open


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One series of the table; ``s3://<bucket>/<prefix>/`` is its place in the object store."""

    patient_id: str
    study_uid: str
    series_uid: str
    modality: str
    instances: int
    bytes: int
    bucket: str
    prefix: str

    @property
    def folder(self) -> str:
        """Its folder below the root."""
        return f"{safe_name(self.patient_id)}/{self.study_uid}/{safe_name(f'{self.modality}_{self.series_uid}')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a download would do.

    Attributes
    ----------
    root : pathlib.Path
        Where to.
    source : str
        "idc" or "nbia".
    wanted, here : tuple of Wanted
        Series to fetch, and series that are here and whole by the ledger.
    free_bytes : int
        Room on the disk of `root`.
    """

    root: Path
    source: str
    wanted: tuple[Wanted, ...]
    here: tuple[Wanted, ...]
    free_bytes: int

    @property
    def instances(self) -> int:
        """Files to fetch."""
        return sum(one.instances for one in self.wanted)

    @property
    def bytes(self) -> int:
        """Bytes to fetch."""
        return sum(one.bytes for one in self.wanted)

    @property
    def needed_bytes(self) -> int:
        """Room that the disk must have: the files, the largest archives beside them, some for the ledger."""
        largest = sorted((one.bytes for one in self.wanted), reverse=True)[:4]
        return self.bytes + (sum(largest) if self.source == "nbia" else 0) + (_MARGIN if self.wanted else 0)

    @property
    def fits(self) -> bool:
        """Whether the disk has the room."""
        return self.needed_bytes <= self.free_bytes

    def as_dict(self, rate: float | None = None) -> dict[str, Any]:
        """Return the document of ``hcc-tace download --dry-run --json``; `rate` in bytes a second."""
        return {
            "series": len(self.wanted),
            "instances": self.instances,
            "bytes": self.bytes,
            "source": self.source,
            "free_bytes": self.free_bytes,
            "needed_bytes": self.needed_bytes,
            "fits": self.fits,
            "root": str(self.root),
            "here": {
                "series": len(self.here),
                "instances": sum(one.instances for one in self.here),
                "bytes": sum(one.bytes for one in self.here),
            },
            "seconds": None if not rate else round(self.bytes / rate, 1),
        }


def table_of(root: Path, table: str | os.PathLike[str] | None) -> Path | None:
    """Return the series table to go by: the one given, else ``series.csv`` of the folder, else None (the real one)."""
    if table is not None:
        return Path(table)
    own = root / "series.csv"
    return own if own.is_file() else None


def make_plan(
    root: Path,
    *,
    source: str = "idc",
    table: str | os.PathLike[str] | None = None,
    patients: Iterable[str] | None = None,
    modality: str | Iterable[str] | None = None,
    with_bamf: bool = False,
    only_failed: bool = False,
    ledger: bool = True,
) -> Plan:
    """Work out what a download would do. Nothing is written, and no source is asked.

    Raises
    ------
    CatalogError
        The table cannot be read.
    PatientNotFoundError
        A patient that the table does not name.
    UsageError
        A modality that the table does not name, or the annotations of BAMF AIMI from NBIA, which has none.
    DownloadError
        A path would be longer than the file system allows.
    """
    rows = _rows(root, source, table, patients, modality, with_bamf)
    whole = _whole(root, rows) if ledger else set()
    if only_failed:
        failed = {uid for uid, record in read_series(root).items() if record.state == "failed"} if ledger else set()
        rows = [one for one in rows if one.series_uid in failed]
    wanted = tuple(one for one in rows if one.series_uid not in whole)
    _check_names(root, wanted)
    return Plan(
        root=root,
        source=source,
        wanted=wanted,
        here=tuple(one for one in rows if one.series_uid in whole),
        free_bytes=_free(root),
    )


def _rows(
    root: Path,
    source: str,
    table: str | os.PathLike[str] | None,
    patients: Iterable[str] | None,
    modality: str | Iterable[str] | None,
    with_bamf: bool,
) -> list[Wanted]:
    if source not in ("idc", "nbia"):
        raise UsageError(f"source is {source!r}; use 'idc' or 'nbia'.")
    if with_bamf and source == "nbia":
        raise UsageError("The segmentations of BAMF AIMI are in Imaging Data Commons alone: use the source 'idc'.")
    rows = read_series_rows(table_of(root, table), with_bamf=with_bamf)
    if patients is not None:
        names = {patients} if isinstance(patients, str) else set(patients)
        known = {row["patient_id"] for row in rows}
        unknown = sorted(names - known)
        if unknown:
            raise PatientNotFoundError(no_patient(unknown, known, "the series table"))
        rows = [row for row in rows if row["patient_id"] in names]
    if modality is not None:
        kinds = {modality} if isinstance(modality, str) else set(modality)
        there = {row["modality"] for row in rows}
        unknown = sorted(kinds - there)
        if unknown:
            raise UsageError(f"no series of modality {', '.join(unknown)}; there are {', '.join(sorted(there))}.")
        rows = [row for row in rows if row["modality"] in kinds]
    names_of = [field.name for field in fields(Wanted)]
    return [Wanted(**{name: row[name] for name in names_of}) for row in rows]


def _whole(root: Path, rows: list[Wanted]) -> set[str]:
    """Return the series that the ledger calls whole and whose files are here, each of its size on record."""
    files: dict[str, list[Entry]] = defaultdict(list)
    for entry in read_ledger(root).values():
        files[entry.series_uid].append(entry)
    return {
        one.series_uid
        for one in rows
        if len(files[one.series_uid]) == one.instances and _on_disk(root, files[one.series_uid])
    }


def _on_disk(root: Path, entries: list[Entry]) -> bool:
    try:
        return all((root / entry.path).stat().st_size == entry.size for entry in entries)
    except OSError:
        return False


def _existing(root: Path) -> Path:
    """Return the root, or the nearest folder above it that exists."""
    place = root.absolute()
    while True:
        try:
            if place.exists():
                return place
        except OSError:  # a name that the system will not even look up
            pass
        if place.parent == place:
            return place
        place = place.parent


def _free(root: Path) -> int:
    return shutil.disk_usage(_existing(root)).free


def _check_names(root: Path, wanted: tuple[Wanted, ...]) -> None:
    """Refuse, before the first byte, what the file system could not name."""
    place = _existing(root)
    if not hasattr(os, "pathconf"):
        return
    longest_name, longest_path = os.pathconf(place, "PC_NAME_MAX"), os.pathconf(place, "PC_PATH_MAX")
    ledger = len(os.fsencode(ledger_path(root.absolute()))) + len("-journal")
    if ledger > _LEDGER_PATH:
        raise DownloadError(
            f"name too long: the ledger under {str(root)[:60]}... would have a path of {ledger} bytes, "
            f"{_LEDGER_PATH} allowed; choose a root with a shorter path."
        )
    sop = "9" * 64 + ".dcm0123456789"  # the tool that fetches adds digits while it writes
    staged = f".hcc-tace/stage/0123456789ab/{'9' * 64}/{sop}"
    for path in [staged, *(f"{one.folder}/{sop}" for one in wanted)]:
        whole = root.absolute() / path
        for part in whole.parts:
            if len(os.fsencode(part)) > longest_name:
                raise DownloadError(
                    f"name too long: {part[:60]}... ({len(part)} characters, {longest_name} allowed at {place})."
                )
        if len(os.fsencode(whole)) >= longest_path:
            raise DownloadError(
                f"name too long: files under {str(root)[:60]}... would have paths of {len(os.fsencode(whole))} bytes, "
                f"{longest_path - 1} allowed; choose a root with a shorter path."
            )
