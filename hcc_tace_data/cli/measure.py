"""`hcc-tace measure`: tables of lesions, patients or pairs of visits."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say, say_wrapped
from hcc_tace_data.cli.options import Annotations, Dask, Json, Patients, Quiet, Root, chosen_patients
from hcc_tace_data.clinical import load_clinical
from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.files import atomic_path, atomic_write_text
from hcc_tace_data.system.text import csv_table
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False)

#: What `--with-outcomes` joins: outcomes only, so that no column of a follow-up passes for a feature.
_OUTCOMES = ("tace_response", "ttp_weeks", "progressed", "os_weeks", "died")
#: What the table on the terminal shows; files hold every column.
_REASON = "not_measured"
_SHOWN = {
    "lesion": ["patient_id", "lesion", "volume_ml", "diameter_mm", "perpendicular_mm", "diameter_3d_mm"],
    "patient": ["patient_id", "lesions", "liver_ml", "tumour_ml", "tumour_burden", "diameter_mm"],
    "pair": ["patient_id", "days", "common_phase", "baseline_diameter_mm", "follow_up_diameter_mm", _REASON],
}


class By(StrEnum):
    """What a row is."""

    lesion = "lesion"
    patient = "patient"
    pair = "pair"


@app.command()
def measure(
    root: Root = None,
    by: Annotated[By, typer.Option(help="One row per lesion, per patient, or per pair of visits.")] = By.lesion,
    phases: Annotated[str, typer.Option(help="Phases whose HU are reported, comma-separated, or 'all'.")] = "annotated",
    annotations: Annotations = "collection",
    patients: Patients = None,
    with_outcomes: Annotated[
        bool, typer.Option("--with-outcomes", help="Join response, TTP and survival from the sheet.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that measure lesions or patients.", min=1)] = 1,
    dask: Dask = None,
    out: Annotated[Path | None, typer.Option(help="Write the table here: .csv or .parquet.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure lesions: size, shape, place and HU. Units are in the column names.

    Patients who cannot be measured are named with the reason; the exit code is 0 all the same.
    """
    from hcc_tace_data.measure.tables import measure_lesions  # noqa: PLC0415 - its libraries are slow to import

    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out is {out.name!r}; end it with .csv or .parquet.")
    collection = open_with_progress(root, quiet=quiet)
    wanted = chosen_patients(patients, set(collection), where=str(collection.root))
    names = phases if "," not in phases else [name for name in phases.split(",") if name]
    with progress("measuring", None, quiet=quiet or as_json) as advance:
        table = measure_lesions(
            collection,
            by=by.value,
            phases=names,
            annotations=annotations,
            patients=wanted,
            workers=workers,
            dask=dask,
            progress=lambda _, total: advance(1, total),
        )
    left_out: dict[str, str] = table.attrs["left_out"]
    if with_outcomes:
        table = _joined(table, load_clinical(collection.root))
    if out is not None:
        _write(table, out)
    if as_json:
        emit_json({"by": by.value, "rows": _plain(table), "left_out": left_out})
        return
    if out is None:
        _print(table, _SHOWN[by.value])
    for name, reason in left_out.items():
        note(f"{name} is not in the table: {reason}", quiet=quiet)
    if out is not None:
        say(f"{count(len(table), 'row')} written to {out}")


def _joined(table: pd.DataFrame, sheet: pd.DataFrame) -> pd.DataFrame:
    if not len(table):
        return table
    return table.merge(sheet[["patient_id", *_OUTCOMES]], on="patient_id", how="left", validate="many_to_one")


def _write(table: pd.DataFrame, out: Path) -> None:
    if out.suffix == ".csv":
        atomic_write_text(out, csv_table(table))
        return
    with atomic_path(out) as temporary:
        table.to_parquet(temporary, index=False)


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    whole = table.astype(object).where(table.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in whole.to_dict("records")]


def _print(table: pd.DataFrame, columns: list[str]) -> None:
    if not len(table):
        say("no rows")
        return
    say(table[[name for name in columns if name != _REASON]].round(2).to_string(index=False, na_rep="-"))
    if _REASON in columns:  # reasons are sentences, and often the same for everybody
        for reason, rows in table[table[_REASON].fillna("") != ""].groupby(_REASON, sort=False):
            say_wrapped(f"{', '.join(rows['patient_id'])}: not measured: {reason}")
