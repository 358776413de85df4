"""`hcc-tace cache`: where caches lie, how large they are, and their clearing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, say
from hcc_tace_data.system.roots import cache_folder, default_root

app = typer.Typer(add_completion=False)


@app.command()
def cache(
    root: Annotated[Path | None, typer.Argument(help="The collection's folder.")] = None,
    clear: Annotated[bool, typer.Option(help="Delete the caches. Data are never touched.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show or clear what the package keeps to be faster: header tables and training stores."""
    own = (default_root() if root is None else root.expanduser()) / ".hcc-tace"
    folders = [folder for folder in (own, cache_folder()) if folder.is_dir()]
    sizes = {str(folder): sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) for folder in folders}
    if clear:
        for folder in folders:
            shutil.rmtree(folder)
    if as_json:
        emit_json({"folders": [{"path": path, "bytes": size} for path, size in sizes.items()], "cleared": clear})
        return
    for path, size in sizes.items():
        say(f"{'cleared' if clear else 'holds'} {size / 1e6:.1f} MB  {path}")
    if not sizes:
        say("No caches.")
