"""`hcc-tace cite`: what to cite."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, say
from hcc_tace_data.cli.options import Json, Quiet
from hcc_tace_data.facts.catalog import load_catalog

app = typer.Typer(add_completion=False)


class Format(StrEnum):
    """How citations are written."""

    text = "text"
    bibtex = "bibtex"
    json = "json"


@app.command()
def cite(
    format: Annotated[Format, typer.Option(help="Output format.")] = Format.text,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print what to cite when you use the data: the data set, its descriptor, the archive, the baseline."""
    catalog = load_catalog()
    if as_json or format is Format.json:
        emit_json({"citations": [citation.model_dump() for citation in catalog.citations]})
        return
    for citation in catalog.citations:
        say(citation.bibtex() if format is Format.bibtex else f"{citation.text} https://doi.org/{citation.doi}")
        say()
    if format is Format.text and not quiet:
        say(f"The data are under {catalog.identity.licence} ({catalog.identity.licence_url}).")
