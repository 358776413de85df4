"""`hcc-tace cache`: where caches are stored, how large they are, and how to clear them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, say
from hcc_tace_data.cli.options import Json, Quiet
from hcc_tace_data.system.caches import clear_caches, find_caches
from hcc_tace_data.system.files import writing_to
from hcc_tace_data.system.roots import default_root

app = typer.Typer(add_completion=False)


@app.command()
def cache(
    root: Annotated[Path | None, typer.Argument(help="The collection's folder.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the caches, and nothing else.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show or clear caches: header tables, training stores, Hugging Face files."""
    folder = default_root() if root is None else root.expanduser()
    found = find_caches(folder)
    sizes = [(one, one.bytes) for one in found]
    if clear:
        with writing_to(folder):
            clear_caches(found)
    if as_json:
        emit_json(
            {
                "folders": [{"path": str(one.path), "bytes": size, "holds": one.kind.name} for one, size in sizes],
                "cleared": clear,
            }
        )
        return
    for one, size in sizes:
        say(f"{'cleared' if clear else 'holds'} {size / 1e6:.1f} MB  {one.path} ({one.kind.name})")
    if not sizes:
        say("No caches.")
