"""`hcc-tace download [ROOT]`: fetch the collection, and check every file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, say
from hcc_tace_data.cli.options import Json, Patients, Quiet, chosen_patients
from hcc_tace_data.downloads import RetryPolicy, make_plan
from hcc_tace_data.downloads import download as fetch
from hcc_tace_data.errors import IncompleteDownloadError
from hcc_tace_data.system.roots import default_root
from hcc_tace_data.system.words import count, size

if TYPE_CHECKING:
    from hcc_tace_data.downloads import Plan
    from hcc_tace_data.downloads.run import FailedSeries

app = typer.Typer(add_completion=False)

_SHOWN = 20
#: As many series that failed for one reason are listed one by one.
_ALONE = 2
#: What differs between the messages of two series that failed for the same reason.
_ADDRESS = re.compile(r'"[^"]*"|\S*://\S*|[\d.]{20,}')


@app.command()
def download(
    root: Annotated[
        Path | None, typer.Argument(help="Folder to download to; default: $HCC_TACE_HOME, else the user's data folder.")
    ] = None,
    source: Annotated[str, typer.Option(help="idc (Imaging Data Commons) or nbia (TCIA).")] = "idc",
    patients: Patients = None,
    modality: Annotated[str | None, typer.Option(help="CT or SEG; default both.")] = None,
    with_bamf: Annotated[bool, typer.Option("--with-bamf", help="Include BAMF AIMI's segmentations (IDC).")] = False,
    table: Annotated[Path | None, typer.Option(help="Another series table (CSV).")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Another server; default $HCC_TACE_S3_ENDPOINT or $HCC_TACE_NBIA_URL, else public."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Files (idc: 16) or series (nbia: 4) at a time.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be downloaded and exit.")] = False,
    rate: Annotated[float, typer.Option(min=0.001, help="MB per second, for the time estimate of --dry-run.")] = 20.0,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Only the series that failed before.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Re-read existing files and re-download altered ones.")] = False,
    clinical: Annotated[
        bool | None, typer.Option("--clinical/--no-clinical", help="The clinical sheet; default with the real table.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for another download into the folder.")] = True,
    timeout: Annotated[float, typer.Option(min=0.5, help="Seconds without a byte before a retry.")] = 60.0,
    retries: Annotated[int, typer.Option(min=1, help="Attempts per series, the first included.")] = 5,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download missing parts of the collection. Exit code 4 if anything failed.

    A file only appears under its final name once it is complete. An interrupted download can be resumed.
    """
    silent = quiet or as_json
    folder = default_root() if root is None else root.expanduser()
    chosen = chosen_patients(patients)
    kinds = [name.strip().upper() for name in modality.split(",") if name.strip()] if modality else None
    choice: dict[str, Any] = {
        "source": source, "patients": chosen, "modality": kinds, "with_bamf": with_bamf, "table": table,
    }  # fmt: skip
    plan = make_plan(folder, **choice, only_failed=retry_failed)
    if dry_run:
        if as_json:
            emit_json(plan.as_dict(rate * 1e6))
        else:
            _tell(plan, rate)
        return
    if not silent:
        _tell(plan, None)
    if plan.wanted and not yes and sys.stdin.isatty() and not typer.confirm("Download it?", default=True, err=True):
        raise typer.Abort
    with _bar(plan, quiet=silent) as advance:
        try:
            report = fetch(
                folder,
                **choice,
                endpoint=endpoint,
                workers=workers,
                clinical=clinical,
                retry_failed=retry_failed,
                deep=deep,
                wait=wait,
                timeout_s=timeout,
                retries=RetryPolicy(attempts=retries),
                progress=advance,
                notice=lambda text: note(text, quiet=quiet),
            )
            incomplete = None
        except IncompleteDownloadError as error:
            report, incomplete = error.report, error
        except KeyboardInterrupt:
            note("Complete files are kept; repeat the command to resume.", quiet=quiet)
            raise
    if as_json:
        emit_json(report.as_dict())
    elif not quiet:
        say(
            f"Downloaded {count(report.series, 'series')} ({count(report.instances, 'file')}, {size(report.bytes)}, "
            f"{report.seconds:.1f} s); {report.here:,} already present. All verified: {report.root}"
        )
    if incomplete is not None:
        if not as_json:
            for line in _failures(report.failed):
                note(line)
            if report.sheet_error:
                note(f"failed: {report.sheet_error}")
            note(f"{count(len(report.failed), 'series')} failed; 'hcc-tace download --retry-failed' retries them.")
        raise typer.Exit(4)


def _failures(failed: Sequence[FailedSeries]) -> list[str]:
    """Return a line for each failed series, or one for several that failed for the same reason."""
    groups: dict[str, list[FailedSeries]] = {}
    for one in failed:
        groups.setdefault(_ADDRESS.sub("...", one.reason), []).append(one)
    lines = []
    for same in groups.values():
        first = same[0]
        if len(same) <= _ALONE:
            lines += [f"failed: {one.patient_id} {one.series_uid}: {one.reason}" for one in same]
        else:
            patients = count(len({one.patient_id for one in same}), "patient")
            lines.append(
                f"failed: {count(len(same), 'series')} of {patients}, all for the same reason, as {first.patient_id} "
                f"{first.series_uid}: {first.reason}"
            )
    hidden = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    grouped = ["--json lists them one by one"] if len(lines) < len(failed) else []
    return [*lines[:_SHOWN], *hidden, *grouped]


def _tell(plan: Plan, rate: float | None) -> None:
    """Print what would be downloaded, where to, whether there is room, and how long it takes."""
    write = say if rate is not None else note
    write(
        f"{count(len(plan.wanted), 'series')}, {count(plan.instances, 'file')}, {size(plan.bytes)} to download from "
        f"{plan.source.upper()} to {plan.root}" + (f"; {len(plan.here):,} series already present" if plan.here else "")
    )
    if rate is not None:
        room = "enough" if plan.fits else f"{size(plan.needed_bytes - plan.free_bytes)} short"
        write(f"  free there {size(plan.free_bytes)}: {room}")
        write(f"  at {rate:g} MB/s it takes {_duration(plan.bytes / (rate * 1e6))}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


@contextmanager
def _bar(plan: Plan, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what moves one bar over all bytes, with rate and time left, where standard error is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fetching", total=plan.bytes)

        def advance(size: int, total: int) -> None:
            bar.update(task, advance=size, total=total)

        yield advance
