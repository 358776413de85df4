"""`hcc-tace export FORMAT OUT [ROOT]`: CT and segmentations in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.errors import UsageError

app = typer.Typer(add_completion=False)

_FORMATS = ("nifti",)


@app.command()
def export(
    format: Annotated[str, typer.Argument(help="nifti.")],
    out: Annotated[Path, typer.Argument(help="Folder to write into; what is there is kept.")],
    root: Annotated[Path | None, typer.Argument(help="Folder with DICOM files, of the collection or others.")] = None,
    patient: Annotated[list[str] | None, typer.Option(help="Only this patient; may be repeated.")] = None,
    all_volumes: Annotated[bool, typer.Option("--all-volumes", help="Also CT without a segmentation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing but errors.")] = False,
) -> None:
    """Write segmentations and the CT they were drawn on; exit code 1 if something had to be left out."""
    from hcc_tace_data.errors import CollectionNotFoundError
    from hcc_tace_data.export.nifti import export_nifti

    if format not in _FORMATS:
        raise UsageError(f"format is {format!r}; use {', '.join(_FORMATS)}.")
    collection = open_with_progress(root, quiet=quiet or as_json)
    if not len(collection):
        raise CollectionNotFoundError(f"no DICOM files at {collection.root}.")
    names = list(collection) if not patient else [name for name in collection if name in set(patient)]
    total = sum(len(collection[name].studies) for name in names)
    with progress("writing studies", total, quiet=quiet or as_json) as advance:
        studies = list(
            export_nifti(collection, out, patients=patient, all_volumes=all_volumes, progress=lambda: advance(1))
        )
    files = [str(path.relative_to(out)) for study in studies for path in study.files]
    skipped = [{"patient_id": study.patient_id, "reason": reason} for study in studies for reason in study.skipped]
    if as_json:
        emit_json({"format": format, "out": str(out), "files": files, "skipped": skipped})
    else:
        for item in skipped:
            note(f"left out: {item['patient_id']}: {item['reason']}", quiet=quiet)
        if not quiet:
            say(f"{len(files)} files of {len(studies)} studies in {out}")
    if skipped:
        raise typer.Exit(1)
