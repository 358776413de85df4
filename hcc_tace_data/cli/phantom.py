"""`hcc-tace phantom OUT`: write a digital twin of the collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, progress, say
from hcc_tace_data.cli.options import Json, Quiet, names_of
from hcc_tace_data.system.words import count

app = typer.Typer(add_completion=False)


@app.command()
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; it must be empty or missing.")],
    patients: Annotated[
        list[str] | None, typer.Option(metavar="N|ID,...", help="How many, or which; may be repeated. Default: 2.")
    ] = None,
    size: Annotated[str, typer.Option(help="tiny (64 pixels), small (128) or full (512, every slice).")] = "tiny",
    seed: Annotated[int, typer.Option(help="Seed: the same seed gives the same bytes.")] = 0,
    defect: Annotated[str | None, typer.Option(help="Plant a defect; 'list' shows the codes.")] = None,
    breathing: Annotated[
        str, typer.Option(help="affine (organs move as a whole between sweeps) or deformable (as in people).")
    ] = "affine",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic twin of patients of the collection, as real DICOM, with its ground truth."""
    from hcc_tace_data.facts.catalog import load_catalog  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.phantom import make_phantom  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.phantom.defects import defect_codes  # noqa: PLC0415 - its libraries are slow to import

    if defect == "list":
        if json:
            emit_json({"defects": list(defect_codes())})
        else:
            say("\n".join(defect_codes()))
        return
    names = names_of(patients)
    chosen: int | list[str] = int(names[0]) if len(names) == 1 and names[0].isdigit() else names or 2
    total = chosen if isinstance(chosen, int) else len(chosen)
    with progress("writing patients", total, quiet=quiet or json) as advance:
        root = make_phantom(
            out,
            patients=chosen,
            size=size,
            seed=seed,
            defect=defect,
            breathing=breathing,
            workers=workers,
            progress=advance,
        )
    folders = sorted(path for path in root.iterdir() if load_catalog().is_patient_id(path.name))
    files = [path for folder in folders for path in folder.glob("*/*/*") if path.is_file()]
    if json:
        emit_json(
            {
                "root": str(root),
                "patients": [path.name for path in folders],
                "series": len({path.parent for path in files}),
                "instances": len(files),
                "bytes": sum(path.stat().st_size for path in files),
                "size": size,
                "seed": seed,
                "defect": defect,
            }
        )
    elif not quiet:
        say(f"{count(total, 'patient')}, {count(len(files), 'DICOM file')} in {root}")
