"""`hcc-tace list`: the series of the collection, or of a phantom."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hcc_tace_data.cli.console import emit_json, say
from hcc_tace_data.cli.options import Json, Patients, Quiet, chosen_patients
from hcc_tace_data.cli.tables import plain_rows, series_table_of
from hcc_tace_data.errors import UsageError
from hcc_tace_data.phases.label import label_table
from hcc_tace_data.phases.names import PHASES
from hcc_tace_data.system.text import csv_table
from hcc_tace_data.system.words import count, day, size

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False)


class Format(StrEnum):
    """How the table is written."""

    table = "table"
    csv = "csv"
    json = "json"


@app.command(name="list")
def list_series(
    root: Annotated[Path | None, typer.Argument(help="A folder with its own series.csv, as phantoms have.")] = None,
    patients: Patients = None,
    modality: Annotated[str | None, typer.Option(help="Only CT, or only SEG.")] = None,
    phase: Annotated[
        str | None, typer.Option(help="Only CT series with this contrast phase, according to the table alone.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Another series table (CSV).")] = None,
    with_bamf: Annotated[bool, typer.Option("--with-bamf", help="Include the segmentations by BAMF AIMI.")] = False,
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.table,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the series of the collection. Needs no data on disk."""
    rows = series_table_of(root, table, with_bamf=with_bamf)
    chosen = chosen_patients(patients, set(rows["patient_id"]), where="the series table")
    if chosen:
        rows = rows[rows["patient_id"].isin(chosen)]
    if modality:
        rows = rows[rows["modality"] == modality.upper()]
    if phase is not None:
        rows = _with_phase(rows, phase)
    if as_json or format is Format.json:
        emit_json({"series": plain_rows(rows.rename(columns={"series_description": "description"}))})
    elif format is Format.csv:
        say(csv_table(rows).rstrip("\n"))
    else:
        _print(rows, quiet=quiet)


def _with_phase(rows: pd.DataFrame, phase: str) -> pd.DataFrame:
    if phase not in PHASES:
        raise UsageError(f"Unknown phase {phase!r}. Valid: {', '.join(PHASES)}.")
    volumes = label_table(rows)
    return rows[rows["series_uid"].isin(volumes.loc[volumes["phase"] == phase, "series_uid"])]


def _print(rows: pd.DataFrame, *, quiet: bool) -> None:
    say(f"{'patient':<8} {'date':<10} {'modality':<8} {'number':>6} {'files':>5} {'MB':>7}  description")
    for row in rows.to_dict("records"):
        number = "" if row["series_number"] != row["series_number"] else str(row["series_number"])
        date = day(row["study_date"])
        say(
            f"{row['patient_id']:<8} {date:<10} {row['modality']:<8} {number:>6} {row['instances']:>5} "
            f"{row['bytes'] / 1e6:>7.1f}  {row['series_description']}"
        )
    if not quiet:
        files = count(int(rows["instances"].sum()), "file")
        say(f"{count(len(rows), 'series')}, {files}, {size(rows['bytes'].sum())}")
