"""`hcc-tace validate`: all curation rules over a folder."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data import report
from hcc_tace_data.cli.console import emit_json, note, progress, reading_headers, say
from hcc_tace_data.cli.options import Dask, Json, Patients, Quiet, Root, chosen_patients
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.open import open_collection
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import text_width
from hcc_tace_data.system.words import count
from hcc_tace_data.validators import validate as run
from hcc_tace_data.validators.deid.phi_table import check_target
from hcc_tace_data.validators.overlays import draw_overlays

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.validators.engine import Report

__all__ = ["app"]

app = typer.Typer(add_completion=False)


_Depth = StrEnum("_Depth", {"index": "index", "headers": "headers", "pixels": "pixels"})
_Severity = StrEnum("_Severity", {"error": "error", "warning": "warning", "info": "info"})


class _Format(StrEnum):
    text = "text"
    json = "json"
    html = "html"
    sarif = "sarif"


def _codes(text: str | None) -> list[str] | None:
    return [code.strip().upper() for code in text.split(",") if code.strip()] if text else None


def _writable(file: Path | None) -> Path | None:
    """Refuse a file that cannot be written before hours are spent on reading."""
    if file is not None:
        check_target(file)
    return file


def _folder(place: Path | None) -> Path | None:
    """Refuse a folder that cannot be made or written to, before hours are spent on reading."""
    if place is not None:
        nearest = next(one for one in (place, *place.absolute().parents) if one.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise UsageError(f"Nothing can be written to {place}: {nearest} is not a folder you can write to.")
    return place


@app.command()
def validate(
    root: Root = None,
    patients: Patients = None,
    select: Annotated[
        str | None, typer.Option(help="Only these rules: codes or their first characters, as HT3,HT201.")
    ] = None,
    ignore: Annotated[str | None, typer.Option(help="Rules to leave out, in the same form.")] = None,
    severity: Annotated[_Severity, typer.Option(help="Report findings of this severity or higher.")] = _Severity(
        "info"
    ),
    depth: Annotated[_Depth, typer.Option(help="Read the file index, all headers, or pixels too.")] = _Depth("headers"),
    format: Annotated[_Format, typer.Option("--format", help="Format of the report.")] = _Format.text,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=_writable, help="Write the report to this file.")
    ] = None,
    clinical: Annotated[Path | None, typer.Option(help="Clinical sheet; default the folder's.")] = None,
    from_table: Annotated[
        bool, typer.Option("--from-table", help="Check tables alone (HT7, HT8); no folder is opened.")
    ] = False,
    table: Annotated[Path | None, typer.Option(help="Another series table (CSV) to compare with.")] = None,
    reviewed: Annotated[Path | None, typer.Option(help="File of reviewed findings, which count as known.")] = None,
    write_reviewed: Annotated[
        Path | None,
        typer.Option(callback=_writable, help="Write new findings to this file as reviewed; needs --who and --why."),
    ] = None,
    who: Annotated[str, typer.Option(help="Who reviewed, for --write-reviewed.")] = "",
    why: Annotated[str, typer.Option(help="Why the findings are accepted, for --write-reviewed.")] = "",
    overlays: Annotated[
        Path | None, typer.Option(callback=_folder, help="Draw the masks' contours on the CT into this folder.")
    ] = None,
    phi_table: Annotated[
        Path | None,
        typer.Option(
            callback=_writable,
            help="Write every distinct header value (tag path, VR, value, count) to this CSV or TSV file.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read files.", min=1)] = None,
    dask: Dask = None,
    quiet: Quiet = False,
) -> None:
    """Check a folder against the curation rules; exit code 1 if there are errors that are not known."""
    form = _Format.json if as_json else format
    if write_reviewed is not None and (not who.strip() or not why.strip() or write_reviewed.exists()):
        raise UsageError("--write-reviewed takes a new file, --who (who reviewed) and --why.")
    if from_table and (overlays is not None or phi_table is not None):
        raise UsageError("--from-table reads no files; it goes with neither --overlays nor --phi-table.")
    with reading_headers(quiet=quiet or form is not _Format.text) as show:
        report = run(
            root,
            select=_codes(select),
            ignore=_codes(ignore),
            severity=severity.value,
            depth=depth.value,
            workers=workers,
            dask=dask,
            clinical=clinical,
            table=_table(table),
            from_table=from_table,
            patients=chosen_patients(patients),
            reviewed=reviewed,
            phi_table=phi_table,
            progress=show,
        )
    if phi_table is not None:
        note(f"Wrote {phi_table}: values for a person to review; treat it as confidential.", quiet=quiet)
    if overlays is not None:
        _draw(root, overlays, workers, chosen_patients(patients), quiet=quiet)
    _emit(report, form, out, quiet=quiet)
    for review in report.unused_reviews:
        note(f"{reviewed}: {review.code} {review.patient_id} matches nothing any more ({review.reason})", quiet=quiet)
    if write_reviewed is not None:
        from hcc_tace_data.validators.reviewed import write_reviews  # noqa: PLC0415 - its libraries are slow to import

        written = write_reviews(write_reviewed, report.findings, who=who, why=why)
        note(f"Wrote {count(written, 'reviewed finding')} to {write_reviewed}; pass it as --reviewed.", quiet=quiet)
    if not report.ok:
        raise typer.Exit(1)


def _table(path: Path | None) -> pd.DataFrame | None:
    return None if path is None else load_series_table(path, with_bamf=True)


def _emit(report: Report, form: _Format, out: Path | None, *, quiet: bool) -> None:
    """Write the report to standard output, or to a file."""
    from hcc_tace_data.validators.reporters import to_json, to_sarif, to_text  # noqa: PLC0415 - its libraries are slow to import

    if form is _Format.json and out is None:
        emit_json(report.as_dict())
        return
    if form is _Format.sarif and out is None:
        emit_json(to_sarif(report))
        return
    if form is _Format.text:
        text = to_text(report, width=text_width() if out is None else 80)
        if quiet and out is None:
            return
    elif form is _Format.html:
        text = _page(report.as_dict())
    else:
        text = to_json(report) if form is _Format.json else json.dumps(to_sarif(report), indent=2)
    if out is None:
        say(text)
        return

    atomic_write_text(out, text + "\n")
    counts = ", ".join(f"{number} {name}" for name, number in report.counts.items())
    note(f"Wrote {out}: {counts}.", quiet=quiet)


def _page(document: dict[str, Any]) -> str:
    """Return the findings as one HTML page."""
    return str(report.findings_page(document))


def _draw(root: Path | None, folder: Path, workers: int | None, patients: list[str] | None, *, quiet: bool) -> None:
    collection = open_collection(root, workers=workers)
    collection = collection if patients is None else collection.subset(patients)
    total = int((collection.instances["modality"] == "SEG").sum())
    with progress("drawing contours", total, quiet=quiet) as advance:
        drawn = draw_overlays(collection, folder, workers=workers, progress=lambda: advance(1))
    for one in drawn:
        if one.reason:
            note(f"no picture of {one.patient_id}: {one.reason}", quiet=quiet)
    slices = sum(one.slices for one in drawn)
    segmentations = count(sum(not one.reason for one in drawn), "segmentation")
    note(f"Drew {count(slices, 'slice')} of {segmentations} into {folder}.", quiet=quiet)
