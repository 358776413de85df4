"""`hcc-tace export FORMAT OUT [ROOT]`: CT and segmentations in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.cli.tables import series_table_of
from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.export.croissant import export_croissant
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.export.run import export_cases

if TYPE_CHECKING:
    from hcc_tace_data.open import Collection

app = typer.Typer(add_completion=False)

_FORMATS = ("nifti", "nnunet", "monai", "hf", "seg", "croissant")


@app.command()
def export(
    format: Annotated[str, typer.Argument(help="nifti, nnunet, monai, hf, seg or croissant.")],
    out: Annotated[Path, typer.Argument(help="Folder to write into; an earlier run there is taken up.")],
    root: Annotated[Path | None, typer.Argument(help="Folder with DICOM files, of the collection or others.")] = None,
    patient: Annotated[list[str] | None, typer.Option(help="Only this patient; may be repeated.")] = None,
    labels: Annotated[str, typer.Option(help="Label set: standard, lesion or liver.")] = "standard",
    annotations: Annotated[
        str, typer.Option(help="Whose labels: collection, bamf, staple, a reader, or several: a,b.")
    ] = "collection",
    all_volumes: Annotated[bool, typer.Option("--all-volumes", help="nifti: also CT without a segmentation.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one a core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors.")] = False,
) -> None:
    """Write annotated CT and labels in another format; exit code 1 if something had to be left out.

    nifti: every segmentation as it is, BIDS-like names. nnunet: raw data set of nnU-Net v2. monai: decathlon-style
    datalist. hf: Parquet with a dataset card. seg: labels as DICOM-SEG. croissant: metadata, which needs no DICOM file.
    """
    if format not in _FORMATS:
        raise UsageError(f"format is {format!r}; use {', '.join(_FORMATS)}.")
    if format != "nifti" and all_volumes:
        raise UsageError("--all-volumes goes with nifti; the other formats hold the annotated volumes.")
    if format in {"nifti", "croissant"} and (labels != "standard" or annotations != "collection"):
        raise UsageError(f"--labels and --annotations do not go with {format}, which leaves the data as they are.")
    hush = quiet or as_json
    known: list[dict[str, str]] = []
    skipped: list[dict[str, str]] = []
    if format == "croissant":
        if patient:
            raise UsageError("--patient does not go with croissant, which describes the whole.")
        files = _croissant(out, root)
    else:
        collection = open_with_progress(root, quiet=hush)
        if not len(collection):
            raise CollectionNotFoundError(f"no DICOM files at {collection.root}.")
        if format == "nifti":
            files, skipped, known = _nifti(collection, out, patient, all_volumes, workers, hush)
        else:
            named = annotations.split(",") if "," in annotations else annotations
            files, skipped = _cases(collection, out, format, patient, labels, named, workers, hush)
    written = [str(path.relative_to(out)) for path in files]
    if as_json:
        document = {"format": format, "out": str(out), "files": written, "skipped": skipped, "known": known}
        emit_json(document)
    else:
        for item in skipped:
            note(f"left out: {item['patient_id']}: {item['reason']}", quiet=quiet)
        for item in known:
            note(f"known: {item['patient_id']}: {item['reason']}", quiet=quiet)
        if not quiet:
            say(f"{len(written)} files in {out}")
            if format == "nnunet":
                say(f"next: name it DatasetNNN_..., put it into $nnUNet_raw, and copy {out / 'splits_final.json'} to")
                say("$nnUNet_preprocessed/DatasetNNN_... after 'nnUNetv2_plan_and_preprocess'")
    if skipped:
        raise typer.Exit(1)


def _croissant(out: Path, root: Path | None) -> list[Path]:
    return export_croissant(series_table_of(root, None), out)


def _nifti(
    collection: Collection, out: Path, patients: list[str] | None, all_volumes: bool, workers: int | None, hush: bool
) -> tuple[list[Path], list[dict[str, str]], list[dict[str, str]]]:
    names = list(collection) if not patients else [name for name in collection if name in set(patients)]
    total = sum(len(collection[name].studies) for name in names)
    options: dict[str, Any] = {"patients": patients, "all_volumes": all_volumes, "workers": workers}
    with progress("writing studies", total, quiet=hush) as advance:
        studies = list(export_nifti(collection, out, progress=lambda: advance(1), **options))
    skipped = [{"patient_id": study.patient_id, "reason": reason} for study in studies for reason in study.skipped]
    known = [{"patient_id": study.patient_id, "reason": reason} for study in studies for reason in study.known]
    return [path for study in studies for path in study.files], skipped, known


def _cases(
    collection: Collection,
    out: Path,
    format: str,
    patients: list[str] | None,
    labels: str,
    annotations: str | list[str],
    workers: int | None,
    hush: bool,
) -> tuple[list[Path], list[dict[str, str]]]:
    options: dict[str, Any] = {"patients": patients, "labels": labels, "annotations": annotations, "workers": workers}
    total = len(set(patients) if patients else collection)
    with progress("writing patients", total, quiet=hush) as advance:
        cases = list(export_cases(collection, out, format, progress=lambda: advance(1), **options))
    skipped = [{"patient_id": case.patient_id, "reason": case.skipped} for case in cases if case.skipped]
    return [path for case in cases for path in case.files], skipped
