"""`hcc-tace export FORMAT OUT [ROOT]`: CT and segmentations in other formats."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Annotations, Dask, Json, Patients, Quiet, Root, names_of
from hcc_tace_data.cli.tables import series_table_of
from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.export.format import CaseWriter, Format
from hcc_tace_data.export.registry import FORMATS, find_format
from hcc_tace_data.export.run import export_cases
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from hcc_tace_data.export.format import ExportSummary

app = typer.Typer(add_completion=False)

_SUMMARIES = "\n\n".join(f"{one.name}: {one.summary}." for one in FORMATS.values())


@app.command(help="Write CT and labels in another format; exit code 1 if anything was left out.\n\n" + _SUMMARIES)
def export(
    format: Annotated[str, typer.Argument(help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to; resumes an earlier run in that folder.")],
    root: Root = None,
    patients: Patients = None,
    labels: Annotated[str, typer.Option(help="Label set: standard, lesion or liver.")] = "standard",
    annotations: Annotations = "collection",
    phases: Annotated[
        str, typer.Option(help="Channels of the image, as arterial,portal_venous; 'all' or 'annotated'.")
    ] = "annotated",
    roi: Annotated[str | None, typer.Option(help="Crop to the box around 'lesions' or 'liver'.")] = None,
    margin: Annotated[float, typer.Option(help="mm around the box of --roi.")] = 20.0,
    all_volumes: Annotated[bool, typer.Option("--all-volumes", help="nifti: also CT without a segmentation.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")] = None,
    dask: Dask = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write CT and labels in another format."""
    chosen = find_format(format)
    asked: dict[str, Any] = {}
    if patients:
        asked["patients"] = names_of(patients)
    if labels != "standard":
        asked["labels"] = labels
    if annotations != "collection":
        asked["annotations"] = annotations.split(",") if "," in annotations else annotations
    if phases != "annotated":
        asked["phases"] = names_of([phases]) if "," in phases else phases
    if roi is not None:
        asked["roi"] = roi
    if all_volumes:
        asked["all_volumes"] = True
    _check_options(chosen, asked)
    if roi is not None:
        asked["margin"] = margin
    if dask is not None:
        if workers is not None:
            raise UsageError("--workers and --dask exclude each other: the scheduler has its own workers.")
        if not isinstance(chosen.write, CaseWriter) and chosen.name != "nifti":
            raise UsageError(f"{chosen.name} is written in this process; --dask goes with formats of volumes.")
        asked["dask"] = dask
    done = _export(chosen, out, root, asked, workers, hush=quiet or as_json)
    written = [str(path.relative_to(out)) for path in done.files]
    if as_json:
        skipped, known = [asdict(one) for one in done.skipped], [asdict(one) for one in done.known]
        flow = None if done.flow is None else done.flow.plain()
        emit_json(
            {"format": format, "out": str(out), "files": written, "skipped": skipped, "known": known, "flow": flow}
        )
    else:
        for one in done.skipped:
            note(f"left out: {one.patient_id}: {one.reason}", quiet=quiet)
        for one in done.known:
            note(f"known: {one.patient_id}: {one.reason}", quiet=quiet)
        if not quiet:
            say(f"{count(len(written), 'file')} in {out}")
            if chosen.next_step:
                say(chosen.next_step.format(out=out))
    if done.skipped:
        raise typer.Exit(1)


def _check_options(chosen: Format, asked: dict[str, Any]) -> None:
    """Refuse options that the format does not take."""
    refused = [name for name in asked if name not in chosen.options]
    if refused:
        takes = [name for name, one in FORMATS.items() if refused[0] in one.options]
        raise UsageError(
            f"--{refused[0].replace('_', '-')} does not go with {chosen.name}; it goes with {', '.join(takes)}."
        )


def _export(
    chosen: Format, out: Path, root: Path | None, asked: dict[str, Any], workers: int | None, *, hush: bool
) -> ExportSummary[Any]:
    write = chosen.write
    if chosen.needs == "table" and not isinstance(write, CaseWriter):
        return write(series_table_of(root, None), out)
    collection = open_with_progress(root, quiet=hush)
    if not len(collection):
        raise CollectionNotFoundError(f"no DICOM files at {collection.root}.")
    patients = [name for name in dict.fromkeys(asked.get("patients", collection)) if name in collection]
    if isinstance(write, CaseWriter):
        with progress("writing patients", len(patients), quiet=hush) as advance:
            return export_cases(collection, out, chosen.name, workers=workers, progress=lambda: advance(1), **asked)
    studies = sum(len(collection[name].studies) for name in patients)
    with progress("writing studies", studies, quiet=hush) as advance:
        return write(collection, out, workers=workers, progress=lambda: advance(1), **asked)
