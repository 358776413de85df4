"""`hcc-tace info [ROOT]`: the facts of the collection, and what is in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, open_with_progress, say
from hcc_tace_data.cli.options import Json, Quiet
from hcc_tace_data.downloads import RetryPolicy
from hcc_tace_data.downloads.drift import find_drift
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.roots import default_root
from hcc_tace_data.system.text import wrapped
from hcc_tace_data.system.words import count, size

app = typer.Typer(add_completion=False)


@app.command()
def info(
    root: Annotated[Path | None, typer.Argument(help="A folder: show what is in it.")] = None,
    drift: Annotated[
        bool, typer.Option("--drift", help="Compare the series table with the source; exit code 1 if they differ.")
    ] = False,
    source: Annotated[str, typer.Option(help="For --drift: idc or nbia.")] = "idc",
    endpoint: Annotated[str | None, typer.Option(help="For --drift: another server.")] = None,
    table: Annotated[Path | None, typer.Option(help="For --drift: another series table (CSV).")] = None,
    with_bamf: Annotated[bool, typer.Option("--with-bamf", help="For --drift: include BAMF AIMI's series.")] = False,
    retries: Annotated[int, typer.Option(min=1, help="For --drift: attempts, the first included.")] = 5,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the facts of the collection, which needs no data; with ROOT, what is in that folder."""
    if root is not None and drift:
        raise UsageError("--drift compares the series table with the source; it takes no ROOT.")
    if root is not None:
        _folder(root, quiet=quiet, as_json=as_json)
        return
    if drift:
        _drift(source, endpoint, table, with_bamf, retries, as_json)
        return

    catalog = load_catalog()
    if as_json:
        emit_json(catalog.model_dump(mode="json"))
        return
    identity, paper, idc = catalog.identity, catalog.counts.paper, catalog.counts.idc
    say(wrapped(f"{identity.name}: {identity.title}", 80))
    say(f"  DOI      {identity.doi}")
    say(f"  licence  {identity.licence} (data); the code of this package is under the MIT licence")
    say(f"  from     {identity.institution}, {identity.years[0]} to {identity.years[1]}")
    say(f"  stored   {idc.patients} patients, {idc.studies} studies, {idc.series} series ({idc.ct_series} CT and")
    say(f"           {idc.segmentations} SEG), {idc.instances:,} files, {size(idc.bytes)}")
    by_phase = ", ".join(f"{paper.phases[p.key]} {p.name.lower()}" for p in catalog.phases if p.key in paper.phases)
    say(
        wrapped(
            f"  volumes  {paper.phase_volumes} by phase: {by_phase}; {paper.stacked_series} series hold several",
            80, indent=11,
        )
    )  # fmt: skip
    say(f"  labels   {', '.join(f'{s.number} {s.name}' for s in catalog.segments)}")
    say(f"  extra    {idc.bamf_series} segmentations by BAMF AIMI, beside the collection ('--with-bamf')")
    say(f"  root     {default_root()}")
    say("Cite it: 'hcc-tace cite'. Known issues: 'hcc-tace info --json'.")


def _folder(root: Path, *, quiet: bool, as_json: bool) -> None:
    """Print what is in a folder: a summary of the index, nothing is looked up in pixels."""
    collection = open_with_progress(root, quiet=quiet or as_json)
    series = collection.series
    kinds = series["modality"].value_counts().to_dict()
    studies = [study for patient in collection.values() for study in patient.studies]
    sheet = next(iter(sorted((collection.root / "clinical").glob("*.xlsx"))), None)
    document: dict[str, Any] = {
        "root": str(collection.root),
        "patients": len(collection),
        "studies": len(studies),
        "annotated_studies": sum(study.segmentation is not None for study in studies),
        "series": {str(kind): int(number) for kind, number in sorted(kinds.items())},
        "instances": len(collection.instances),
        "bytes": int(collection.instances["size"].sum()),
        "unreadable": len(collection.problems),
        "readers": _readers(collection.root),
        "clinical_sheet": None if sheet is None else str(sheet.relative_to(collection.root)),
    }
    if as_json:
        emit_json(document)
        return
    say(f"{document['root']}")
    annotated = f"{document['annotated_studies']} with a segmentation"
    say(f"  {count(len(collection), 'patient')}, {count(len(studies), 'study')}, {annotated}")
    say(f"  series    {', '.join(f'{number} {kind}' for kind, number in document['series'].items()) or 'none'}")
    say(f"  files     {len(collection.instances):,}, {size(document['bytes'])}")
    say(f"  readers   {', '.join(document['readers']) or 'none'} (in annotations/)")
    say(f"  clinical  {document['clinical_sheet'] or 'no sheet'}")
    if len(collection.problems):
        say(f"  {count(len(collection.problems), 'file')} could not be read")


def _readers(root: Path) -> list[str]:
    folder = root / "annotations"
    return sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []


def _drift(source: str, endpoint: str | None, table: Path | None, with_bamf: bool, retries: int, as_json: bool) -> None:
    policy = RetryPolicy(attempts=retries)
    report = find_drift(source=source, endpoint=endpoint, table=table, with_bamf=with_bamf, retries=policy)
    if as_json:
        emit_json(report.as_dict())
    else:
        for one in report.differences:
            say(f"{one.kind}: {one.patient_id} {one.series_uid}: {one.message}")
        compared = count(report.series, "series")
        say(f"{compared} of the table compared with {source.upper()}: {len(report.differences)} differ")
    if report.differences:
        raise typer.Exit(1)
