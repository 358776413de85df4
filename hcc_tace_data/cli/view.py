"""`hcc-tace view PATIENT`: CT phases with labels over them, in a browser on this machine."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, say
from hcc_tace_data.cli.options import Json, Quiet, Root
from hcc_tace_data.report.server import ViewerServer
from hcc_tace_data.report.volumes import PatientVolumes
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.roots import resolve_root
from hcc_tace_data.system.words import count

app = typer.Typer(add_completion=False)


@app.command()
def view(
    patient: Annotated[str, typer.Argument(help="PatientID, for example HCC_017.")],
    root: Root = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of predicted label maps; default ROOT/predictions.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the standard browser.")] = True,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read headers.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show one patient until Ctrl-C: scroll, windows, label toggles, phases. Only this machine can connect."""
    folder = resolve_root(root)
    collection = open_with_progress(folder, workers=workers, quiet=quiet or as_json)
    place = predictions if predictions is not None else folder / "predictions"

    def load(name: str) -> PatientVolumes:
        return PatientVolumes(collection, name, prediction=place / f"{safe_name(name)}.nii.gz")

    volumes = load(patient)
    with ViewerServer(volumes, others=tuple(collection), load=load) as server:
        if as_json:
            emit_json({"url": server.url, "port": server.port, **volumes.describe()})
        else:
            say(server.url)
            note(f"{count(len(volumes.volumes), 'CT volume')} of {patient}; Ctrl-C stops the server", quiet=quiet)
        _flush()
        if browser:
            _open(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            note("\nStopped.", quiet=quiet)


def _flush() -> None:
    """Let a program that reads the address through a pipe see it now."""
    sys.stdout.flush()


def _open(url: str) -> None:
    try:
        opened = webbrowser.open(url)
    except webbrowser.Error:
        opened = False
    if not opened:
        note("no browser was found; open the address above")
