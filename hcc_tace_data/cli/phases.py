"""`hcc-tace phases`: which contrast phase each CT volume is."""

from __future__ import annotations

import textwrap
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Json, Patients, Quiet, Root, chosen_patients
from hcc_tace_data.cli.tables import plain_rows, series_table_of
from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.published import published_phases
from hcc_tace_data.facts.series_table import read_series_rows
from hcc_tace_data.phases.label import count_phases, label_phases, label_table, overruled, refuted
from hcc_tace_data.phases.matching import compare_phases, compare_published
from hcc_tace_data.phases.names import UNKNOWN, phase_records
from hcc_tace_data.phases.picture import draw_phases
from hcc_tace_data.phases.published import read_published
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.roots import resolve_root
from hcc_tace_data.system.text import csv_table
from hcc_tace_data.system.words import count, day, verb

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.phases.matching import Comparison

app = typer.Typer(add_completion=False)

_SOURCES = ("published", "table", "headers", "pixels")

#: What differs -> the column of the published row that shows it.
_FIELDS = {"date": "study_date", "description": "description", "images": "images"}


class Depth(StrEnum):
    """How closely files are looked at."""

    headers = "headers"
    pixels = "pixels"


@app.command(name="phases")
def phases(
    root: Root = None,
    depth: Annotated[Depth, typer.Option(help="Read headers, or a few slices of each volume too.")] = (Depth.pixels),
    from_table: Annotated[bool, typer.Option("--from-table", help="From the series table; no data needed.")] = False,
    table: Annotated[Path | None, typer.Option(help="Another series table (CSV), with --from-table.")] = None,
    no_published: Annotated[
        bool, typer.Option("--no-published", help="Ignore the published phases: what the general rules give alone.")
    ] = False,
    truth: Annotated[
        Path | None,
        typer.Option(help="A published phase table (.xlsx, .csv), as the data descriptor's: a confusion matrix."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Save a patients-by-phases chart (.png).")] = None,
    patients: Patients = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Also print what each phase was concluded from.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read headers, threads for pixels.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Label the contrast phase of every CT volume: published labels first, then series table, headers and pixels."""
    if table is not None and not from_table:
        raise UsageError("--table goes with --from-table; files on disk are labelled by what they hold.")
    rows = read_published(truth) if truth is not None else None
    if from_table:
        listed = series_table_of(root, table)
        chosen = chosen_patients(patients, set(listed["patient_id"]), where="the series table")
        listed = listed if chosen is None else listed[listed["patient_id"].isin(chosen)]
        volumes = label_table(listed, published=not no_published)
        general = label_table(listed, published=False)
    else:
        volumes = _labelled(root, depth, workers, quiet, patients, published=not no_published)
        general = None
    totals = count_phases(volumes)
    compared = compare_phases(volumes, rows, _all_series(volumes)) if rows is not None else None
    if csv is not None:
        _write_csv(volumes, csv)
        note(f"wrote {csv}", quiet=quiet)
    if picture is not None:
        draw_phases(volumes, picture, title="Contrast phases" + (" from the series table" if from_table else ""))
        note(f"wrote {picture}", quiet=quiet)
    if as_json:
        emit_json(_document(volumes, general, compared))
        return
    if csv is None and picture is None:
        _print(volumes.assign(stacked=volumes.groupby("series_uid")["volume"].transform("size") > 1), evidence=evidence)
    _print_overruled(overruled(volumes), refuted(volumes))
    _print_totals(totals, paper=from_table and table is None and root is None and not patients)
    _print_published(volumes, general)
    if compared is not None:
        _print_comparison(compared)


def _labelled(
    root: Path | None, depth: Depth, workers: int | None, quiet: bool, patients: list[str] | None, *, published: bool
) -> pd.DataFrame:
    folder = resolve_root(root)
    collection = open_with_progress(folder, workers=workers, quiet=quiet)
    if not len(collection):
        raise CollectionNotFoundError(
            f"No DICOM files at {folder}. 'hcc-tace phases --from-table' needs none; "
            f"'hcc-tace phantom {folder}' writes a synthetic twin."
        )
    chosen = chosen_patients(patients, set(collection), where=str(folder))
    collection = collection if chosen is None else collection.subset(chosen)
    with progress("looking at phases", len(collection), quiet=quiet) as advance:
        return label_phases(
            collection, depth=depth.value, published=published, workers=workers,
            progress=lambda done, total: advance(1, total),
        )  # fmt: skip


def _all_series(volumes: pd.DataFrame) -> list[dict[str, Any]] | None:
    """Return the collection's CT series if `volumes` are of them: a table is then about those, here or not."""
    series = [row for row in read_series_rows() if row["modality"] == "CT"]
    uids = {row["series_uid"] for row in series}
    return series if volumes["series_uid"].isin(uids).any() else None


def _document(volumes: pd.DataFrame, general: pd.DataFrame | None, compared: Comparison | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "volumes": plain_rows(volumes),
        "totals": count_phases(volumes),
        "overruled": plain_rows(overruled(volumes)),
        "refuted": plain_rows(refuted(volumes)),
        "published": int((volumes["source"] == "published").sum()),
    }
    if general is not None:
        alone = compare_published(general, published_phases())
        document["general_rules"] = {
            "volumes": alone.volumes, "right": alone.right, "matrix": alone.matrix, "surplus": alone.surplus,
        }  # fmt: skip
    if compared is not None:
        document["truth"] = compared.document()
    return document


def _write_csv(volumes: pd.DataFrame, path: Path) -> None:
    flat = volumes.assign(evidence=volumes["evidence"].map("; ".join))
    atomic_write_text(path, csv_table(flat))


def _print(volumes: pd.DataFrame, *, evidence: bool) -> None:
    """Print a row per volume, at most 80 columns wide; `evidence` adds what the phase was concluded from."""
    say("patient  date         series slices  phase         conf seg  publ tabl head pixl")
    marks = {True: "yes", False: "", None: "?"}
    short = {**{phase: record.short for phase, record in phase_records().items()}, UNKNOWN: "-"}
    for row in plain_rows(volumes):
        number = "-" if row["series_number"] is None else str(row["series_number"])
        name = f"{number}.{row['volume']}" if row["volume"] or row["stacked"] else number
        said = "  ".join(f"{short[row[f'phase_{source}']]:<3}" for source in _SOURCES)
        say(
            f"{row['patient_id']:<8} {day(row['study_date']):<10} {name:>8} {row['instances']:>6}  {row['phase']:<13} "
            f"{row['confidence']:>4.2f} {marks[row['annotated']]:<3}  {said}".rstrip()
        )
        if evidence:
            for text in row["evidence"]:
                say(textwrap.fill(text, 80, initial_indent=" " * 9, subsequent_indent=" " * 11))
    say(
        "seg: segmented. Then the phase by the published table, the series table, the\n"
        "     headers and the pixels, each alone."
    )


def _print_overruled(volumes: pd.DataFrame, against: pd.DataFrame) -> None:
    for row in plain_rows(against):
        published, seen = (row[name].replace("_", "-") for name in ("phase_published", "phase_pixels"))
        say(
            f"refuted: {row['patient_id']} {day(row['study_date'])} series {row['series_number']} volume "
            f"{row['volume']}, published as {published}, is {seen} by its pixels"
        )
    for row in plain_rows(volumes):
        say(
            f"overruled: {row['patient_id']} {day(row['study_date'])} series {row['series_number']}, described as "
            f"{row['description']!r}, is {row['phase'].replace('_', '-')} by its pixels"
        )


def _print_totals(totals: dict[str, int], *, paper: bool) -> None:
    published: dict[str, int] = {}
    if paper:
        counts = load_catalog().counts.paper
        published = {
            "volumes": counts.phase_volumes,
            **counts.phases,
            "stacked_series": counts.stacked_series,
        }
    for key, value in totals.items():
        beside = f"   paper {published[key]}" if key in published else ""
        say(f"{key.replace('_', ' '):<15} {value:>5}{beside}")


def _print_published(volumes: pd.DataFrame, general: pd.DataFrame | None) -> None:
    published = int((volumes["source"] == "published").sum())
    say(f"{published} of {len(volumes)} published")
    if general is not None:
        alone = compare_published(general, published_phases())
        if alone.volumes:
            more = f", and {alone.surplus} too many" if alone.surplus else ""
            say(f"general rules alone: {alone.right} of {alone.volumes}{more}")


def _print_comparison(compared: Comparison) -> None:
    say()
    _print_rows(compared)
    columns = list(next(iter(compared.matrix.values())))
    say(f"{'published':<15}" + "".join(f"{name.replace('_', ' '):>15}" for name in columns))
    for true, row in compared.matrix.items():
        say(f"{true.replace('_', ' '):<15}" + "".join(f"{row[name]:>15}" for name in columns))
    share = f" ({100 * compared.right / compared.volumes:.1f} %)" if compared.volumes else ""
    say(f"{compared.right} of {count(compared.volumes, 'published volume')} {verb(compared.right, 'agrees')}{share}")
    if compared.surplus:
        say(f"{count(compared.surplus, 'volume')} more than the table has of their series")
    if compared.not_here:
        say(
            f"{len(compared.not_here)} series of the table {verb(len(compared.not_here), 'is')} not here, "
            f"first {compared.not_here[0]}"
        )
    if compared.not_published:
        say(f"{compared.not_published} series here {verb(compared.not_published, 'is')} not in the table")


def _print_rows(compared: Comparison) -> None:
    """Say how the rows of the published table were matched to series."""
    rows = compared.document()["rows"]
    say(
        f"{rows['matched']} of {count(rows['total'], 'row')} matched: {rows['uid']} by series UID, "
        f"{rows['exact']} exactly, {rows['tolerance']} with tolerance; {rows['left']} left"
    )
    names = {"date": "study date", "description": "description", "images": "number of images"}
    for kind, name in names.items():
        own = [row for row in rows["tolerated"] if row["differs"] == kind]
        if own:
            said = [f"{row['patient_id']} row {row['row']} ({row[_FIELDS[kind]]})" for row in own]
            say(f"  other {name}: {len(own)}: {', '.join(said)}")
    for row in compared.left:
        say(f"  row {row.line} of {row.patient_id} fits no series, or several alike")
