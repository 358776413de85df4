"""`hcc-tace validate`: all curation rules over a folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, note, reading_headers, say

__all__ = ["app"]

app = typer.Typer()


_Depth = StrEnum("_Depth", {"index": "index", "headers": "headers", "pixels": "pixels"})


class _Format(StrEnum):
    text = "text"
    json = "json"
    sarif = "sarif"


def _codes(text: str | None) -> list[str] | None:
    return [code.strip().upper() for code in text.split(",") if code.strip()] if text else None


@app.command()
def validate(
    root: Annotated[Path | None, typer.Argument(help="Folder of the collection.")] = None,
    select: Annotated[str | None, typer.Option(help="Codes or their beginnings: HT3,HT201.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Codes or their beginnings to leave out.")] = None,
    depth: Annotated[_Depth, typer.Option(help="How deep to look.")] = _Depth("headers"),
    format: Annotated[_Format, typer.Option("--format", help="Form of the report.")] = _Format.text,
    phi_table: Annotated[
        Path | None,
        typer.Option(help="Write every distinct header value (tag path, VR, value, count) to this CSV or TSV file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that read headers.", min=1)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the exit code, in text form.")] = False,
) -> None:
    """Check a folder against the curation rules; exit code 1 if there are errors that are not known."""
    from hcc_tace_data.validators import validate as run
    from hcc_tace_data.validators.reporters import to_sarif, to_text

    with reading_headers(quiet=quiet or as_json or format is not _Format.text) as show:
        report = run(
            root,
            select=_codes(select),
            ignore=_codes(ignore),
            depth=depth.value,
            workers=workers,
            phi_table=phi_table,
            progress=show,
        )
    if phi_table is not None:
        note(f"Wrote {phi_table}: values for a person to review; treat it as confidential.", quiet=quiet)
    if as_json or format is _Format.json:
        emit_json(report.as_dict())
    elif format is _Format.sarif:
        emit_json(to_sarif(report))
    elif not quiet:
        say(to_text(report))
    if not report.ok:
        raise typer.Exit(1)
