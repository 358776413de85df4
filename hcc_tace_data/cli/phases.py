"""`hcc-tace phases`: which contrast phase each CT volume is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hcc_tace_data.cli.console import emit_json, open_with_progress, say
from hcc_tace_data.cli.tables import plain_rows, series_table_of
from hcc_tace_data.errors import CollectionNotFoundError, UsageError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False)


@app.command(name="phases")
def phases(
    root: Annotated[Path | None, typer.Argument(help="Folder of the collection; default $HCC_TACE_HOME.")] = None,
    from_table: Annotated[bool, typer.Option("--from-table", help="From the series table; no data needed.")] = False,
    table: Annotated[Path | None, typer.Option(help="Another series table (CSV), with --from-table.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read headers.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No bar, no remarks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Tell the contrast phase of every CT volume, from table and headers."""
    from hcc_tace_data.phases import count_phases, label_phases, label_table

    if table is not None and not from_table:
        raise UsageError("--table goes with --from-table; files on disk are labelled by what they hold.")
    if from_table:
        volumes = label_table(series_table_of(root, table))
    else:
        from hcc_tace_data.roots import resolve_root

        folder = resolve_root(root)
        collection = open_with_progress(folder, workers=workers, quiet=quiet)
        if not len(collection):
            raise CollectionNotFoundError(
                f"No DICOM files at {folder}. 'hcc-tace phases --from-table' needs none; "
                f"'hcc-tace phantom {folder}' writes a synthetic twin."
            )
        volumes = label_phases(collection)
    totals = count_phases(volumes)
    if csv is not None:
        _write_csv(volumes, csv)
    if as_json:
        emit_json({"volumes": plain_rows(volumes), "totals": totals})
        return
    if csv is None:
        _print(volumes)
    _print_totals(totals, paper=from_table and table is None and root is None)


def _write_csv(volumes: pd.DataFrame, path: Path) -> None:
    from hcc_tace_data.files import atomic_path

    flat = volumes.assign(evidence=volumes["evidence"].map("; ".join))
    with atomic_path(path) as temporary:
        flat.to_csv(temporary, index=False)


def _print(volumes: pd.DataFrame) -> None:
    say(f"{'patient':<8} {'date':<10} {'number':>6} {'vol':>3} {'slices':>6}  {'phase':<13} {'conf':>5} seg  evidence")
    marks = {True: "yes", False: "", None: "?"}
    for row in plain_rows(volumes):
        number = "" if row["series_number"] is None else str(row["series_number"])
        say(
            f"{row['patient_id']:<8} {row['study_date']:<10} {number:>6} {row['volume']:>3} {row['instances']:>6}  "
            f"{row['phase']:<13} {row['confidence']:>5.2f} {marks[row['annotated']]:<3}  {'; '.join(row['evidence'])}"
        )


def _print_totals(totals: dict[str, int], *, paper: bool) -> None:
    published: dict[str, int] = {}
    if paper:
        from hcc_tace_data.catalog import load_catalog

        counts = load_catalog().counts.paper
        published = {
            "volumes": counts.phase_volumes,
            **{key: getattr(counts, key) for key in ("pre_contrast", "arterial", "portal_venous", "delayed")},
            "stacked_series": counts.stacked_series,
        }
    for key, value in totals.items():
        beside = f"   paper {published[key]}" if key in published else ""
        say(f"{key.replace('_', ' '):<15} {value:>5}{beside}")
