"""`hcc-tace verify [ROOT]`: is every file present and complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say, say_wrapped
from hcc_tace_data.cli.options import Json, Patients, Quiet, Root, chosen_patients
from hcc_tace_data.errors import CollectionNotFoundError
from hcc_tace_data.integrity import verify as checks
from hcc_tace_data.system.words import count, size

app = typer.Typer(add_completion=False)

_SHOWN = 20


@app.command()
def verify(
    root: Root = None,
    table: Annotated[Path | None, typer.Option(help="Another series table (CSV).")] = None,
    patients: Patients = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also compare recorded digests (see --adopt).")] = False,
    adopt: Annotated[bool, typer.Option("--adopt", help="Record sizes and digests of complete series.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read files.")] = 2,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare a folder with the series table and its ledger. Exit code 1 if anything differs."""
    silent = quiet or as_json
    collection = open_with_progress(root, quiet=silent)
    if not len(collection) and not len(collection.problems):
        raise CollectionNotFoundError(f"no DICOM files at {collection.root}.")
    chosen = chosen_patients(patients)
    with progress("reading files", None, quiet=silent) as advance:
        report = checks.verify(
            collection,
            table=table,
            patients=chosen,
            deep=deep,
            workers=workers,
            progress=lambda _, total: advance(1, total),
        )
    adopted = None
    if adopt and (report.whole or report.ok):
        series = None if report.ok and chosen is None else report.whole  # incomplete series are not vouched for
        with progress("recording digests", None, quiet=silent) as advance:
            adopted = checks.adopt(
                collection, series=series, workers=workers, progress=lambda _, total: advance(1, total)
            )
    if as_json:
        emit_json({**report.as_dict(), **({} if adopted is None else {"adopted": adopted})})
    elif not quiet:
        for problem in report.problems[:_SHOWN]:
            whose = f"{problem.patient_id}: " if problem.patient_id else ""
            say_wrapped(f"{problem.kind}: {whose}{problem.message}")
            if place := problem.path or problem.series_uid:
                say(f"    {place}")
        if len(report.problems) > _SHOWN:
            say(f"... and {count(len(report.problems) - _SHOWN, 'more problem')}; --json lists them all")
        counts = report.as_dict()["counts"]
        found = ", ".join(f"{counts[kind]} {kind}" for kind in ("missing", "altered", "unreadable", "extra"))
        known = sum(problem.kind == "known" for problem in report.problems)
        found += f"; {count(known, 'known issue')} of the collection" if known else ""
        complete = f"{count(counts['series'], 'series')} complete, {count(counts['instances'], 'file')}"
        say(f"{complete}, {size(counts['bytes'])}")
        say(found)
        if adopted is not None:
            say(f"recorded the digests of {count(adopted, 'file')}")
        if deep and not report.digests:
            note("no digests are on record here; 'hcc-tace verify --adopt' records them")
    if not report.ok:
        raise typer.Exit(1)
