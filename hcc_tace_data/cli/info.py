"""`hcc-tace info`: the facts of the collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, say
from hcc_tace_data.downloads import RetryPolicy
from hcc_tace_data.downloads.drift import find_drift
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.roots import default_root

app = typer.Typer(add_completion=False)


@app.command()
def info(
    drift: Annotated[
        bool, typer.Option("--drift", help="Ask the source what it has now; exit 1 if it differs.")
    ] = False,
    source: Annotated[str, typer.Option(help="For --drift: idc or nbia.")] = "idc",
    endpoint: Annotated[str | None, typer.Option(help="For --drift: another server.")] = None,
    table: Annotated[Path | None, typer.Option(help="For --drift: another series table (CSV).")] = None,
    with_bamf: Annotated[bool, typer.Option("--with-bamf", help="For --drift: also BAMF AIMI's series.")] = False,
    retries: Annotated[int, typer.Option(min=1, help="For --drift: tries, the first included.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Print what the collection is, holds and asks for. Needs no data on disk."""
    if drift:
        _drift(source, endpoint, table, with_bamf, retries, as_json)
        return

    catalog = load_catalog()
    if as_json:
        emit_json(catalog.model_dump(mode="json"))
        return
    identity, paper, idc = catalog.identity, catalog.counts.paper, catalog.counts.idc
    say(f"{identity.name}: {identity.title}")
    say(f"  DOI      {identity.doi}")
    say(f"  licence  {identity.licence} (data); the code of this package is under the MIT licence")
    say(f"  from     {identity.institution}, {identity.years[0]} to {identity.years[1]}")
    say(f"  stored   {idc.patients} patients, {idc.studies} studies, {idc.series} series ({idc.ct_series} CT and")
    say(f"           {idc.segmentations} SEG), {idc.instances:,} files, {idc.bytes / 1e9:.2f} GB")
    say(
        f"  volumes  {paper.phase_volumes} by phase: {paper.pre_contrast} pre-contrast, {paper.arterial} arterial, "
        f"{paper.portal_venous} porto-venous, {paper.delayed} delayed;"
    )
    say(f"           {paper.stacked_series} series hold several")
    say(f"  labels   {', '.join(f'{s.number} {s.name}' for s in catalog.segments)}")
    say(f"  beside   {idc.bamf_series} segmentations by BAMF AIMI, not part of the collection ('--with-bamf')")
    say(f"  root     {default_root()}")
    say("Cite it: 'hcc-tace cite'. Known issues: 'hcc-tace info --json', key known_issues.")


def _drift(source: str, endpoint: str | None, table: Path | None, with_bamf: bool, retries: int, as_json: bool) -> None:
    policy = RetryPolicy(attempts=retries)
    report = find_drift(source=source, endpoint=endpoint, table=table, with_bamf=with_bamf, retries=policy)
    if as_json:
        emit_json(report.as_dict())
    else:
        for one in report.differences:
            say(f"{one.kind}: {one.patient_id} {one.series_uid}: {one.message}")
        say(f"{report.series} series of the table compared with {source.upper()}: {len(report.differences)} differ")
    if report.differences:
        raise typer.Exit(1)
