"""Are all files here and whole: a folder against the series table and its own ledger."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hcc_tace_data.collection.index import drop_index
from hcc_tace_data.errors import FolderLockedError, PatientNotFoundError, StoreError
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.integrity.known import known_issues, nbia_sizes
from hcc_tace_data.integrity.ledger import Entry, Ledger, md5_of, read_ledger
from hcc_tace_data.system.lock import lock_folder
from hcc_tace_data.system.parallel import in_threads
from hcc_tace_data.system.words import count, no_patient, verb

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.model import Collection

__all__ = ["Problem", "VerifyReport", "adopt", "verify"]

logger = logging.getLogger(__name__)

Kind = Literal["missing", "altered", "unreadable", "extra", "known"]
_KINDS: tuple[Kind, ...] = ("missing", "altered", "unreadable", "extra", "known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as the table or the ledger says.

    Attributes
    ----------
    kind : str
        "missing", "altered", "unreadable", "extra"; "known" is a known issue of the collection, and no fault.
    message : str
        What is wrong, and what to do.
    patient_id, series_uid, path : str
        Where; empty if it concerns no one of them.
    files : int
        How many files are concerned.
    """

    kind: Kind
    message: str
    patient_id: str = ""
    series_uid: str = ""
    path: str = ""
    files: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was found.

    Attributes
    ----------
    series, instances, bytes : int
        Series complete by the table, files read, and their size.
    problems : tuple of Problem
    digests : int
        Files whose digest was compared.
    compared_nothing : bool
        Digests were to be compared, and none is on record.
    whole : frozenset of str
        SeriesInstanceUIDs of the series that are complete and unharmed.
    """

    series: int
    instances: int
    bytes: int
    problems: tuple[Problem, ...]
    digests: int = 0
    whole: frozenset[str] = frozenset()
    compared_nothing: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, altered, unreadable or extra, and digests were compared if that was asked for."""
        return not self.compared_nothing and all(problem.kind == "known" for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``hcc-tace verify --json``: counts of files, and for ``known`` of issues."""
        found: dict[str, int] = {}
        found.update((kind, 0) for kind in _KINDS)
        for problem in self.problems:
            found[problem.kind] += 1 if problem.kind == "known" else problem.files
        counts = {"series": self.series, "instances": self.instances, "bytes": self.bytes, **found}
        return {
            "ok": self.ok,
            "counts": counts,
            "digests": self.digests,
            "problems": [asdict(problem) for problem in self.problems],
        }


def verify(
    collection: Collection,
    *,
    table: str | os.PathLike[str] | None = None,
    patients: Iterable[str] | None = None,
    deep: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Compare a folder with the series table and, where there is one, with its ledger.

    Parameters
    ----------
    collection : Collection
        The folder, from :func:`hcc_tace_data.open_collection`; opening it has read every header and found files that
        are cut short.
    table : path-like, optional
        A series table. Default: ``series.csv`` in the folder, else the real collection's.
    patients : iterable of str, optional
        Look for these patients alone.
    deep : bool
        Also read every file whose digest is on record (see :func:`adopt`) and compare it. If one differs, the index
        and what is kept beside it are dropped.
    workers : int
        Threads that read files.
    progress : callable, optional
        Called with (files read, files to read) when `deep`.

    Raises
    ------
    PatientNotFoundError
        A patient that the table does not name.
    StoreError
        The ledger cannot be read.
    """
    rows = _wanted(collection, table, patients)
    files = collection.instances
    if patients is not None:
        files = files[files["patient_id"].isin(set(rows["patient_id"]))]
    unreadable = list(_unreadable(collection))
    damaged = Counter(problem.series_uid for problem in unreadable if problem.series_uid)
    entries = read_ledger(collection.root)
    problems = [*_against_table(rows, files, damaged, entries), *unreadable, *_doubled(files)]
    problems += _against_ledger(collection, files, entries)
    compared = 0
    if deep:
        altered, compared = _against_digests(collection, files, entries, workers, progress)
        problems += altered
        if altered:  # what is known of these files under their size and times is known of others
            collection.kept.clear()
            drop_index(collection.root)
    harmed = {problem.series_uid for problem in problems if problem.kind != "known"}
    problems += [
        Problem(
            kind="known", message=one.message, patient_id=one.patient_id, series_uid=one.series_uid, files=one.files
        )
        for one in known_issues(collection, files)
    ]
    whole = frozenset(str(uid) for uid in rows["series_uid"] if uid not in harmed)
    return VerifyReport(
        series=len(whole),
        instances=len(files),
        bytes=int(files["size"].sum()),
        problems=tuple(problems),
        digests=compared,
        whole=whole,
        compared_nothing=deep and not compared and len(files) > 0,
    )


def adopt(
    collection: Collection,
    *,
    series: Iterable[str] | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Record size and digest of the files that are here, as the state to compare with from now on. Nothing is copied.

    Parameters
    ----------
    collection : Collection
        The folder.
    series : iterable of str, optional
        Only these series; what is on record of others stays. Default: all files that can be read, and nothing else.
    workers : int
        Threads that read files.
    progress : callable, optional
        Called with (files read, files to read).

    Returns
    -------
    int
        How many files were recorded.

    Raises
    ------
    FolderLockedError
        A download works on the folder.
    StoreError
        The ledger cannot be read, or not be written.
    """
    files = collection.instances
    chosen = None if series is None else frozenset(series)
    if chosen is not None:
        files = files[files["series_uid"].isin(chosen)]
    rows = list(files[["path", "sop_uid", "series_uid", "size"]].itertuples(index=False, name=None))
    unread: dict[str, str] = {}

    def entries(before: dict[str, Entry]) -> Iterator[Entry]:
        digests = _digests(collection.root, [row[0] for row in rows], workers, progress)
        for (path, sop_uid, series_uid, size), digest in zip(rows, digests, strict=True):
            if isinstance(digest, _Unread):
                unread[path] = digest.reason
                continue
            known = before.get(path)
            if known is not None and known.md5 == digest:  # where it came from is worth keeping
                yield known
            else:
                yield Entry(path=path, sop_uid=sop_uid, series_uid=series_uid, size=int(size), md5=digest)

    try:
        with lock_folder(collection.root, wait=False), Ledger(collection.root) as ledger:
            before = {entry.path: entry for entry in ledger.files()}
            recorded = ledger.replace(entries(before), series=chosen)
    except FolderLockedError:
        raise
    except OSError as error:
        raise StoreError(f"{collection.root} cannot be written, so nothing was recorded: {error}") from error
    if unread:
        path, reason = next(iter(unread.items()))
        raise StoreError(
            f"{len(unread)} of {count(len(rows), 'file')} cannot be read and {verb(len(unread), 'was')} not "
            f"recorded, {count(recorded, 'other file')} {verb(recorded, 'was')}: {path}: {reason}. "
            "Get the right to read them, or fetch them again; then adopt again."
        )
    return recorded


@dataclass(frozen=True, slots=True)
class _Unread:
    """A file whose digest could not be made."""

    reason: str


def _digest_of(path: Path) -> str | _Unread:
    try:
        return md5_of(path)
    except OSError as error:
        return _Unread(str(error.strerror or error))


def _digests(
    root: Path, paths: list[str], workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[str | _Unread]:
    digests = in_threads(_digest_of, [(root / path,) for path in paths], workers)  # hashing frees the interpreter
    for done, digest in enumerate(digests, start=1):
        yield digest
        if progress is not None:
            progress(done, len(paths))


def _wanted(
    collection: Collection, table: str | os.PathLike[str] | None, patients: Iterable[str] | None
) -> pd.DataFrame:
    """Return the series that ought to be here; those of BAMF AIMI only where some of them are."""
    own = collection.root / "series.csv"
    rows = load_series_table(table or (own if own.is_file() else None), with_bamf=True)
    here = set(collection.instances["series_uid"])
    rows = rows[(rows["source"] == "collection") | rows["series_uid"].isin(here)]
    if patients is not None:
        wanted = set(patients)
        unknown = sorted(wanted - set(rows["patient_id"]))
        if unknown:
            raise PatientNotFoundError(no_patient(unknown, set(rows["patient_id"]), "the series table"))
        rows = rows[rows["patient_id"].isin(wanted)]
    return rows


def _against_table(
    rows: pd.DataFrame, files: pd.DataFrame, damaged: Counter[str], entries: dict[str, Entry]
) -> Iterator[Problem]:
    """Compare counts, bytes and owners, series by series; files that are here but damaged are not missing."""
    sops = set(files["sop_uid"])
    gone: dict[str, list[str]] = {}
    for entry in entries.values():
        if entry.sop_uid not in sops:
            gone.setdefault(entry.series_uid, []).append(entry.path)
    recorded = nbia_sizes(entries)
    here = {str(uid): found for uid, found in files.drop_duplicates(["series_uid", "sop_uid"]).groupby("series_uid")}
    for row in rows.to_dict("records"):
        uid, expected = str(row["series_uid"]), int(row["instances"])
        where: dict[str, Any] = {"patient_id": str(row["patient_id"]), "series_uid": uid}
        found = here.pop(uid, None)
        if found is None:
            yield Problem(kind="missing", message="the whole series is missing", files=expected, **where)
            continue
        if set(found["patient_id"]) != {row["patient_id"]} or set(found["study_uid"]) != {row["study_uid"]}:
            yield Problem(kind="altered", message="its files name another patient or study", files=len(found), **where)
        short = expected - len(found) - damaged[uid]
        size = int(found["size"].sum())
        if short > 0:
            names = gone.get(uid, [])
            which = f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if len(names) == short else ""
            message = (
                f"{short} of {count(expected, 'file')} {verb(short, 'is')} missing{which}; "
                "'hcc-tace download' fetches them"
            )
            yield Problem(kind="missing", message=message, files=short, **where)
        elif short < 0:
            message = f"{count(-short, 'file')} more than the {expected} of the table"
            yield Problem(kind="extra", message=message, files=-short, **where)
        elif size != int(row["bytes"]) and size == recorded.get(uid):
            message = f"{size} bytes where the table, made from IDC, has {row['bytes']}: NBIA's files are so"
            yield Problem(kind="known", message=message, files=0, **where)
        elif size != int(row["bytes"]) and not damaged[uid]:
            message = f"{size} bytes where the table has {row['bytes']}: a file was changed; fetch it again"
            yield Problem(kind="altered", message=message, **where)
    for uid, found in here.items():
        message = "a series that the table does not name"
        patient = str(found["patient_id"].iloc[0])
        yield Problem(kind="extra", message=message, patient_id=patient, series_uid=uid, files=len(found))


def _unreadable(collection: Collection) -> Iterator[Problem]:
    """Report what could not be read, as of the series in whose folder it lies, if that holds no other."""
    owners: dict[str, set[tuple[str, str]]] = {}
    columns = collection.instances[["path", "patient_id", "series_uid"]]
    for path, patient, uid in columns.itertuples(index=False, name=None):
        owners.setdefault(str(path).rpartition("/")[0], set()).add((str(patient), str(uid)))
    for row in collection.problems.to_dict("records"):
        path = str(row["path"])
        folder = owners.get(path.rpartition("/")[0], set())
        patient, uid = next(iter(folder)) if len(folder) == 1 else ("", "")
        yield Problem(kind="unreadable", message=str(row["reason"]), path=path, patient_id=patient, series_uid=uid)


def _doubled(files: pd.DataFrame) -> Iterator[Problem]:
    """Report files whose SOP Instance UID another file has too."""
    again = files[files.duplicated("sop_uid", keep="first")]
    for row in again.to_dict("records"):
        yield Problem(
            kind="extra",
            message=f"another file has its SOP Instance UID {row['sop_uid']}; remove one of them",
            patient_id=str(row["patient_id"]),
            series_uid=str(row["series_uid"]),
            path=str(row["path"]),
        )


def _against_ledger(collection: Collection, files: pd.DataFrame, entries: dict[str, Entry]) -> Iterator[Problem]:
    """Compare sizes and UIDs with those on record; files gone show in the table's counts."""
    for row in files.to_dict("records") if entries else ():
        entry = entries.get(str(row["path"]))
        if entry is None:
            continue
        where: dict[str, Any] = {"patient_id": str(row["patient_id"]), "series_uid": str(row["series_uid"])}
        if (entry.sop_uid, entry.series_uid) != (row["sop_uid"], row["series_uid"]):
            yield Problem(kind="altered", message="it holds another instance than on record", path=entry.path, **where)
        elif entry.size != row["size"]:
            message = f"{count(int(row['size']), 'byte')} where {entry.size:,} are on record; fetch it again"
            yield Problem(kind="altered", message=message, path=entry.path, **where)


def _against_digests(
    collection: Collection,
    files: pd.DataFrame,
    entries: dict[str, Entry],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Problem], int]:
    recorded = files[files["path"].isin(entries)]
    paths = [str(path) for path in recorded["path"]]
    problems = []
    owners = zip(recorded["patient_id"], recorded["series_uid"], recorded["size"], strict=True)
    read = 0
    for path, (patient, series, size), digest in zip(
        paths, owners, _digests(collection.root, paths, workers, progress), strict=True
    ):
        entry = entries[path]
        where: dict[str, Any] = {"patient_id": str(patient), "series_uid": str(series), "path": path}
        if isinstance(digest, _Unread):
            problems.append(Problem(kind="unreadable", message=f"it cannot be read: {digest.reason}", **where))
            continue
        read += 1
        if digest != entry.md5 and entry.size == size:  # other sizes are reported already
            message = f"MD5 {digest} where {entry.md5} is on record; fetch it again"
            problems.append(Problem(kind="altered", message=message, **where))
    return problems, read
