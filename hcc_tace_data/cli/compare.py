"""`hcc-tace compare MASKS [ROOT]`: a user's masks against the annotations of the collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Annotations, Json, Patients, Quiet, Root, chosen_patients, names_of
from hcc_tace_data.errors import CollectionNotFoundError, HccTaceError, UsageError
from hcc_tace_data.labels.compare import (
    compare_masks,
    compare_reader,
    files_by_patient,
    has_reader,
    plot_volumes,
    volume_agreement,
)
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import csv_rows
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from hcc_tace_data.labels.compare import ComparedStructure
    from hcc_tace_data.open import Collection

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    masks: Annotated[
        Path,
        typer.Argument(
            help="Folder of PatientID.nii.gz files (.nrrd, .dcm), one file, or an annotation in ROOT: bamf, a reader."
        ),
    ],
    root: Root = None,
    patients: Patients = None,
    annotations: Annotations = "collection",
    csv: Annotated[Path | None, typer.Option(help="Write one row per patient and structure to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write Bland-Altman plots of the volumes to this PNG file.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare masks with the collection's: Dice, surface distances, volumes and their Bland-Altman limits.

    Masks are placed by patient coordinates. `hcc-tace compare bamf` scores BAMF's
    segmentations. Exit code 1 if a file could not be compared.
    """
    hush = quiet or as_json
    if root is not None and not root.exists() and masks.is_dir():
        raise UsageError(f"{root} is not a folder. The masks come first: 'hcc-tace compare {root} {masks}'?")
    collection = open_with_progress(root, quiet=hush)
    if not len(collection):
        raise CollectionNotFoundError(f"No DICOM files at {collection.root}.")
    chosen = chosen_patients(patients, collection, where=str(collection.root))
    todo, absent = _todo(collection, masks, chosen or list(collection))
    wanted = names_of([annotations])
    found: list[ComparedStructure] = []
    failed: dict[str, str] = {}
    with progress("comparing", len(todo), quiet=hush) as advance:
        for patient_id, mine in todo.items():
            study = collection[patient_id].baseline
            against = wanted[0] if len(wanted) == 1 else wanted
            try:
                if study is not None and isinstance(mine, Path):
                    found += compare_masks(study, mine, annotations=against)
                elif study is not None:
                    found += compare_reader(study, str(mine), annotations=against)
            except HccTaceError as error:
                failed[patient_id] = str(error)
            advance(1)
    rows = [{"patient_id": one.patient_id, "structure": one.structure, **one.scores.plain()} for one in found]
    limits = {name: asdict(one) for name, one in volume_agreement(found).items()}
    if csv is not None:
        atomic_write_text(csv, _csv(rows))
        note(f"wrote {csv}", quiet=hush)
    if plot is not None:
        plot_volumes(found, plot)
        note(f"wrote {plot}", quiet=hush)
    if as_json:
        emit_json({"annotations": wanted, "rows": rows, "bland_altman_ml": limits, "absent": absent, "failed": failed})
    else:
        for patient_id, reason in failed.items():
            note(f"not compared: {patient_id}: {reason}")
        if absent:
            note(f"{count(len(absent), 'patient')} without an annotation by {masks}", quiet=quiet)
        if not quiet:
            _print(rows)
            _print_limits(limits)
    if failed:
        raise typer.Exit(1)


def _todo(collection: Collection, masks: Path, patients: list[str]) -> tuple[Mapping[str, Path | str], list[str]]:
    """Return PatientID -> file or reader, and the patients without an annotation by that reader."""
    if masks.exists():
        return files_by_patient(masks, patients), []
    reader = str(masks)
    studies = {patient: collection[patient].baseline for patient in patients}
    having = [patient for patient, study in studies.items() if study is not None and has_reader(study, reader)]
    if not having:
        raise CollectionNotFoundError(
            f"{masks} is neither a file nor a folder, and no patient in {collection.root} has an annotation by it."
        )
    return dict.fromkeys(having, reader), [patient for patient in patients if patient not in having]


def _csv(rows: list[dict[str, Any]]) -> str:
    return csv_rows(list(rows[0]) if rows else ["patient_id", "structure"], rows)


def _print(rows: list[dict[str, Any]]) -> None:
    say(f"{'patient':<10} {'structure':<12} {'Dice':>6} {'HD95 mm':>8} {'ASSD mm':>8} {'ml':>8} {'annotated':>10}")
    for row in rows:
        say(f"{row['patient_id']:<10} {_line(row['structure'], [row])}")
    if len({row["patient_id"] for row in rows}) > 1:
        for name in dict.fromkeys(row["structure"] for row in rows):
            own = [row for row in rows if row["structure"] == name]
            say(f"{'mean':<10} {_line(name, own)}  (n={len(own)})")


def _print_limits(limits: dict[str, dict[str, Any]]) -> None:
    for name, one in limits.items():
        say(
            f"Bland-Altman, {name}: bias {one['bias']:+.1f} ml, limits {one['lower']:+.1f} to "
            f"{one['upper']:+.1f} ml ({count(one['cases'], 'patient')})"
        )


def _line(structure: str, rows: list[dict[str, Any]]) -> str:
    dice, hd95, assd, mine, true = (
        fmean(row[key] for row in rows) for key in ("dice", "hd95_mm", "assd_mm", "predicted_ml", "volume_ml")
    )
    return f"{structure:<12} {dice:>6.3f} {hd95:>8.1f} {assd:>8.2f} {mine:>8.1f} {true:>10.1f}"
