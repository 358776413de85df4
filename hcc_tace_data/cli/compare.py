"""`hcc-tace compare MASKS [ROOT]`: a user's masks against the annotations of the collection."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Annotations, Json, Patients, Quiet, Root, chosen_patients, names_of
from hcc_tace_data.errors import CollectionNotFoundError, HccTaceError
from hcc_tace_data.labels.compare import compare_masks, files_by_patient
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import csv_rows
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from hcc_tace_data.labels.compare import ComparedStructure

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    masks: Annotated[Path, typer.Argument(help="Folder of files named PatientID.nii.gz (.nrrd, .dcm), or one file.")],
    root: Root = None,
    patients: Patients = None,
    annotations: Annotations = "collection",
    csv: Annotated[Path | None, typer.Option(help="Write one row per patient and structure to this file.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare your masks with the collection's: Dice, surface distances and volumes of liver, tumour and vessels.

    Masks are placed by patient coordinates. Exit code 1 if a file could not be compared.
    """
    hush = quiet or as_json
    if not masks.exists():
        raise CollectionNotFoundError(f"No file or folder {masks}.")
    collection = open_with_progress(root, quiet=hush)
    if not len(collection):
        raise CollectionNotFoundError(f"No DICOM files at {collection.root}.")
    chosen = chosen_patients(patients, collection, where=str(collection.root))
    files = files_by_patient(masks, chosen or list(collection))
    wanted = names_of([annotations])
    found: list[ComparedStructure] = []
    failed: dict[str, str] = {}
    with progress("comparing", len(files), quiet=hush) as advance:
        for patient_id, file in files.items():
            study = collection[patient_id].baseline
            try:
                if study is not None:
                    found += compare_masks(study, file, annotations=wanted[0] if len(wanted) == 1 else wanted)
            except HccTaceError as error:
                failed[patient_id] = str(error)
            advance(1)
    rows = [{"patient_id": one.patient_id, "structure": one.structure, **one.scores.plain()} for one in found]
    if csv is not None:
        atomic_write_text(csv, _csv(rows))
        note(f"wrote {csv}", quiet=hush)
    if as_json:
        emit_json({"annotations": wanted, "rows": rows, "failed": failed})
    else:
        for patient_id, reason in failed.items():
            note(f"not compared: {patient_id}: {reason}")
        if not quiet:
            _print(rows)
    if failed:
        raise typer.Exit(1)


def _csv(rows: list[dict[str, Any]]) -> str:
    return csv_rows(list(rows[0]) if rows else ["patient_id", "structure"], rows)


def _print(rows: list[dict[str, Any]]) -> None:
    say(f"{'patient':<10} {'structure':<12} {'Dice':>6} {'HD95 mm':>8} {'ASSD mm':>8} {'ml':>8} {'annotated':>10}")
    for row in rows:
        say(f"{row['patient_id']:<10} {_line(row['structure'], [row])}")
    if len({row["patient_id"] for row in rows}) > 1:
        for name in dict.fromkeys(row["structure"] for row in rows):
            own = [row for row in rows if row["structure"] == name]
            say(f"{'mean':<10} {_line(name, own)}  ({count(len(own), 'patient')})")


def _line(structure: str, rows: list[dict[str, Any]]) -> str:
    dice, hd95, assd, mine, true = (
        fmean(row[key] for row in rows) for key in ("dice", "hd95_mm", "assd_mm", "predicted_ml", "volume_ml")
    )
    return f"{structure:<12} {dice:>6.3f} {hd95:>8.1f} {assd:>8.2f} {mine:>8.1f} {true:>10.1f}"
