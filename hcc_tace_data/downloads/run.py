"""`download`: plan, stage, check, move, record."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hcc_tace_data.downloads.check import Checked
from hcc_tace_data.downloads.idc import IdcSource
from hcc_tace_data.downloads.nbia import NbiaSource
from hcc_tace_data.downloads.place import Stage, place_series, recover
from hcc_tace_data.downloads.retries import RetryPolicy, no_room
from hcc_tace_data.downloads.selection import Plan, Wanted, make_plan, table_of
from hcc_tace_data.downloads.sheet import fetch_sheet
from hcc_tace_data.errors import DiskFullError, DownloadError, HccTaceError, IncompleteDownloadError, StoreError
from hcc_tace_data.facts.catalog import Catalog, load_catalog
from hcc_tace_data.integrity.ledger import Ledger, ledger_path, md5_of
from hcc_tace_data.system.files import atomic_write_bytes
from hcc_tace_data.system.lock import lock_folder
from hcc_tace_data.system.parallel import in_threads
from hcc_tace_data.system.roots import default_root
from hcc_tace_data.system.words import verb

__all__ = ["DownloadReport", "FailedSeries", "download", "idc_endpoint", "terms"]

logger = logging.getLogger(__name__)

_WORKERS = {"idc": 16, "nbia": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedSeries:
    """A series that could not be fetched, and why."""

    patient_id: str
    series_uid: str
    reason: str


@dataclass(slots=True, kw_only=True)
class DownloadReport:
    """What a download did.

    Attributes
    ----------
    root : pathlib.Path
        Where the collection is.
    source : str
        Where it came from.
    series, instances, bytes : int
        What arrived in this run.
    here : int
        Series that were here before.
    failed : list of FailedSeries
        What could not be fetched.
    sheet : str
        SHA-256 of the clinical sheet; empty if it was not asked for.
    sheet_error : str
        Why it could not be fetched.
    seconds : float
        How long it took.
    """

    root: Path
    source: str
    series: int = 0
    instances: int = 0
    bytes: int = 0
    here: int = 0
    failed: list[FailedSeries] = field(default_factory=list)
    sheet: str = ""
    sheet_error: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all that was asked for is here."""
        return not self.failed and not self.sheet_error

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``hcc-tace download --json``."""
        return {"ok": self.ok, **asdict(self), "root": str(self.root)}


def idc_endpoint(endpoint: str | None = None, *, catalog: Catalog | None = None) -> str:
    """Return the address of the object store: the one given, ``$HCC_TACE_S3_ENDPOINT``, or the catalogue's."""
    facts = load_catalog() if catalog is None else catalog
    return endpoint or os.environ.get("HCC_TACE_S3_ENDPOINT") or str(facts.sources["idc"]["endpoint"])


def terms(*, with_bamf: bool = False, catalog: Catalog | None = None) -> str:
    """Return licence and citations, to be shown before the first byte."""
    facts = load_catalog() if catalog is None else catalog
    identity = facts.identity
    lines = [f"{identity.name} is published under {identity.licence} ({identity.licence_url}). Please cite:"]
    lines += [
        f"  {item.text} https://doi.org/{item.doi}" for item in facts.citations if item.key in ("data", "paper", "tcia")
    ]
    if with_bamf:
        bamf = facts.sources["bamf"]
        lines.append(f"  BAMF AIMI annotations ({bamf['licence']}): https://doi.org/{bamf['doi']}")
    return "\n".join(lines)


def download(  # noqa: PLR0913 - one keyword per option of the command, so that both are used alike
    root: str | os.PathLike[str] | None = None,
    *,
    source: str = "idc",
    patients: Iterable[str] | None = None,
    modality: str | Iterable[str] | None = None,
    with_bamf: bool = False,
    table: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    workers: int | None = None,
    clinical: bool | None = None,
    retry_failed: bool = False,
    deep: bool = False,
    wait: bool = True,
    timeout_s: float = 60.0,
    retries: RetryPolicy | None = None,
    progress: Callable[[int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
    catalog: Catalog | None = None,
) -> DownloadReport:
    """Fetch the collection, or what of it is not here yet; check every file; record what is here.

    A file under its final name is whole, always. Whatever ends a run (Ctrl-C, ``kill -9``, a power cut), the next one
    goes on where it was, and fetches nothing again that is whole.

    Parameters
    ----------
    root : path-like, optional
        Where to. Default: ``$HCC_TACE_HOME``, else the user's data folder.
    source : {"idc", "nbia"}
        NCI Imaging Data Commons (object store), or TCIA's NBIA server.
    patients, modality : iterable of str, optional
        Only these patients, only "CT" or "SEG". Default: all.
    with_bamf : bool
        Also the segmentations by BAMF AIMI, which are not part of the TCIA collection.
    table : path-like, optional
        Another series table; a copy is kept in the folder. Default: ``series.csv`` in the folder, else the real one.
    endpoint : str, optional
        Another object store (``$HCC_TACE_S3_ENDPOINT``), or with "nbia" another server (``$HCC_TACE_NBIA_URL``).
    workers : int, optional
        Objects (IDC, default 16) or series (NBIA, default 4) at a time.
    clinical : bool, optional
        Whether to fetch the clinical sheet. Default: unless a table other than the real collection's is used.
    retry_failed : bool
        Only the series that an earlier run reported as failed.
    deep : bool
        Read again all that is here, and fetch again what is not as it was recorded. Default: sizes are compared.
    wait : bool
        Wait if another process works on the folder; else raise.
    timeout_s : float
        Seconds without a byte after which a request is given up and tried again.
    retries : RetryPolicy, optional
        When to try again.
    progress : callable, optional
        Called with (bytes that came, bytes to come in all). From several threads; the first may be negative.
    notice : callable, optional
        Called with messages for a person: licence and citation, once per folder; the process that is waited for.
    catalog : Catalog, optional
        The facts of the collection; default: those of HCC-TACE-Seg.

    Returns
    -------
    DownloadReport

    Raises
    ------
    IncompleteDownloadError
        Some series could not be fetched; its ``report`` lists them. All others are here.
    DiskFullError
        No room for it; nothing is half written.
    FolderLockedError
        Another process works on the folder, and `wait` is false.
    DownloadError
        The folder cannot be written.
    CatalogError, PatientNotFoundError, UsageError
        What was asked for makes no sense.

    Examples
    --------
    >>> from hcc_tace_data import download
    >>> report = download("hcc-tace", patients=["HCC_001"])  # doctest: +SKIP
    >>> report.ok  # doctest: +SKIP
    True
    """
    folder = (default_root() if root is None else Path(root).expanduser()).absolute()
    facts = load_catalog() if catalog is None else catalog
    started = time.monotonic()
    choice: dict[str, Any] = {
        "source": source,
        "patients": [patients] if isinstance(patients, str) else None if patients is None else list(patients),
        "modality": modality if modality is None or isinstance(modality, str) else list(modality),
        "with_bamf": with_bamf, "table": table,
    }  # fmt: skip
    make_plan(folder, **choice, ledger=False)  # what makes no sense is refused before anything is made
    policy = retries or RetryPolicy()
    tell = notice or logger.info
    plan: Plan | None = None
    report = DownloadReport(root=folder, source=source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(lock_folder(folder, wait=wait, notice=tell))
            ledger = stack.enter_context(_ledger(folder))
            recover(folder, ledger)
            if deep:
                _forget_altered(folder, ledger)
            plan = make_plan(folder, **choice, only_failed=retry_failed)
            report.here = len(plan.here)
            own = table_of(folder, table)
            if plan.wanted:
                if not plan.fits:
                    raise DiskFullError(
                        f"not enough room at {folder}: {plan.needed_bytes:,} bytes are needed, {plan.free_bytes:,} are "
                        f"free, {plan.needed_bytes - plan.free_bytes:,} are missing. Nothing was fetched."
                    )
                _show_terms(ledger, tell, terms(with_bamf=with_bamf, catalog=facts), with_bamf)
                if own is not None and not (folder / "series.csv").exists():
                    atomic_write_bytes(folder / "series.csv", own.read_bytes())
                count = workers or _WORKERS[source]
                stage = Stage(folder)
                stage.open()
                stack.callback(stage.close)
                options: dict[str, Any] = {"workers": count, "retries": policy, "timeout_s": timeout_s}
                fetcher: IdcSource | NbiaSource = (
                    IdcSource(idc_endpoint(endpoint, catalog=facts), stage, **options)
                    if source == "idc"
                    else NbiaSource(endpoint, stage, **options)
                )
                _fetch(folder, plan, fetcher, stage, ledger, report, progress)
            if clinical if clinical is not None else own is None or bool(os.environ.get("HCC_TACE_SHEET_URL")):
                try:
                    report.sheet = fetch_sheet(folder, facts.clinical, retries=policy, timeout_s=timeout_s)
                except DownloadError as error:
                    report.sheet_error = str(error)
    except Exception as error:
        fault = _as_ours(error, folder, plan, report)
        if fault is error:
            raise
        raise fault from error
    report.seconds = round(time.monotonic() - started, 3)
    if not report.ok:
        raise IncompleteDownloadError(_what_is_missing(report), report=report)
    return report


def _ledger(folder: Path) -> Ledger:
    """Open the ledger; one that cannot be read is set aside and rebuilt from the files."""
    try:
        return Ledger(folder)
    except StoreError as error:
        path = ledger_path(folder)
        if "version" in str(error):
            raise
        number = 0
        while path.with_name(f"broken-{number}.sqlite").exists():
            number += 1
        path.rename(path.with_name(f"broken-{number}.sqlite"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        logger.warning("%s could not be read and was set aside; a new one is made from the files themselves", path)
        return Ledger(folder)


def _forget_altered(folder: Path, ledger: Ledger) -> None:
    """Read all that is on record; take back the claim on series that are not as recorded."""
    whole = {uid for uid, record in ledger.series().items() if record.state == "whole"}
    entries = [entry for entry in ledger.files() if entry.series_uid in whole]
    digests = in_threads(md5_of, [(folder / entry.path,) for entry in entries], 2)
    altered = {e.series_uid for e, digest in zip(entries, digests, strict=True) if digest != e.md5}
    for uid in altered:
        logger.warning("series %s is not as it was recorded; what was altered is fetched again", uid)
        ledger.forget(uid)


def _show_terms(ledger: Ledger, tell: Callable[[str], None], text: str, with_bamf: bool) -> None:
    name = "terms shown, with BAMF AIMI" if with_bamf else "terms shown"
    if ledger.note(name) is None:
        tell(text)
        ledger.set_note(name, "yes")


def _fetch(
    folder: Path,
    plan: Plan,
    fetcher: IdcSource | NbiaSource,
    stage: Stage,
    ledger: Ledger,
    report: DownloadReport,
    progress: Callable[[int, int], None] | None,
) -> None:
    total = plan.bytes
    placing = threading.Lock()  # one series at a time: each syncs the folders that it made before it is called whole

    def candidates(wanted: Wanted) -> Iterable[Path]:
        final = folder / wanted.folder
        if final.is_dir():
            yield from sorted(path for path in final.iterdir() if path.is_file())
        yield from (
            folder / entry.path for entry in ledger.files(wanted.series_uid) if (folder / entry.path).parent != final
        )
        yield from stage.leftovers(wanted.series_uid)

    def recorded(wanted: Wanted) -> Mapping[str, str]:
        return {entry.sop_uid: entry.md5 for entry in ledger.files(wanted.series_uid) if entry.source == fetcher.name}

    def arrived(wanted: Wanted, checked: list[Checked]) -> None:
        with placing:
            place_series(folder, wanted, checked, ledger, fetcher.name, stage)
            report.series += 1
            report.instances += len(checked)
            report.bytes += sum(one.size for one in checked)

    def failed(wanted: Wanted, reason: str) -> None:
        ledger.failed(wanted.series_uid, fetcher.name, reason)
        report.failed.append(FailedSeries(patient_id=wanted.patient_id, series_uid=wanted.series_uid, reason=reason))
        shutil.rmtree(stage.of(wanted.series_uid), ignore_errors=True)

    def advance(size: int) -> None:
        if progress is not None:
            progress(size, total)

    fetcher.fetch(
        plan.wanted, candidates=candidates, recorded=recorded, arrived=arrived, failed=failed, advance=advance
    )
    stage.drop_leftovers()


def _as_ours(error: Exception, folder: Path, plan: Plan | None, report: DownloadReport) -> Exception:
    """Return what to raise for an error of this machine: a full disk says how much is missing; all name the folder."""
    if isinstance(error, DiskFullError) and "Nothing was fetched" in str(error):
        return error
    if no_room(error) or isinstance(error, DiskFullError):
        done = (
            f"{report.series} of {len(plan.wanted)} series {verb(report.series, 'is')} here"
            if plan
            else "nothing was fetched"
        )
        missing = f"{plan.bytes - report.bytes:,} bytes" if plan else "all"
        return DiskFullError(
            f"the disk of {folder} is full, or a limit on the size of files is reached ({error}). {done}, whole; "
            f"{missing} are still missing. Make room, then run the same command again."
        )
    if isinstance(error, HccTaceError) or not isinstance(error, OSError):
        return error
    return DownloadError(
        f"{folder} cannot be written: {str(error).rstrip('.')}. Choose another folder, or get the right to write there."
    )


def _what_is_missing(report: DownloadReport) -> str:
    parts = []
    if report.failed:
        shown = "; ".join(f"{one.patient_id} {one.series_uid}: {one.reason}" for one in report.failed[:3])
        more = f"; and {len(report.failed) - 3} more" if len(report.failed) > 3 else ""
        parts.append(f"{len(report.failed)} series could not be fetched: {shown}{more}")
    if report.sheet_error:
        parts.append(report.sheet_error)
    return ". ".join(parts) + ". All else is here; 'hcc-tace download --retry-failed' tries them again."
