"""`hcc-tace report [ROOT]`: one HTML page about a collection on disk."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, note, progress, say
from hcc_tace_data.cli.options import Json, Patients, Quiet, Root, names_of
from hcc_tace_data.errors import UsageError
from hcc_tace_data.report import write_report
from hcc_tace_data.system.words import count

app = typer.Typer(add_completion=False)

_Depth = StrEnum("_Depth", {"index": "index", "headers": "headers", "pixels": "pixels"})
_STEPS = {"headers": "reading headers", "rules": "checking rules", "drawing": "drawing patients"}


@app.command()
def report(
    root: Root = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the page to this file.")] = Path(
        "hcc-tace-report.html"
    ),
    depth: Annotated[_Depth, typer.Option(help="Read the file index, all headers, or pixels too.")] = _Depth("headers"),
    patients: Patients = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of predicted label maps; default ROOT/predictions.")
    ] = None,
    slices: Annotated[int, typer.Option(help="CT slices per patient.", min=1, max=24)] = 5,
    workers: Annotated[int, typer.Option(help="Processes that read headers, threads that draw.", min=1)] = 2,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page: inventory, findings, phases, cohort, survival, readers, and slices of every patient.

    The page is self-contained, needs no network and opens from disk.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name the page, for example {out / 'report.html'}.")
    with ExitStack() as stack:
        bars: dict[str, tuple[ExitStack, list[int]]] = {}
        moves = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in bars:
                for old, _ in bars.values():
                    old.close()
                own = stack.enter_context(ExitStack())
                moves[step] = own.enter_context(progress(_STEPS[step], total, quiet=quiet or as_json))
                bars[step] = own, [0]
            _, seen = bars[step]
            moves[step](done - seen[0], total)
            seen[0] = done

        summary = write_report(
            root,
            out,
            depth=depth.value,
            patients=names_of(patients) or None,
            predictions=predictions,
            slices=slices,
            workers=workers,
            progress=show,
        )
    if as_json:
        emit_json(asdict(summary))
        return
    for name, reason in list(summary.not_drawn.items())[:5]:
        note(f"{name}: {reason}", quiet=quiet)
    if len(summary.not_drawn) > 5:
        note(f"{count(len(summary.not_drawn) - 5, 'more patient')} not drawn; the page says why", quiet=quiet)
    if not quiet:
        found = ", ".join(
            f"{number} {name}" if name in ("info", "known") else count(number, name)
            for name, number in summary.findings.items()
        )
        say(f"{count(summary.patients, 'patient')}, {count(summary.pictures, 'slice')}; findings: {found}")
    say(f"{summary.path.resolve()} ({summary.bytes / 1e6:.1f} MB, {summary.seconds:.0f} s)")
