"""`hcc-tace fuse READER...`: fuse readers' masks of one patient into one label map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, say
from hcc_tace_data.cli.options import Json, Quiet
from hcc_tace_data.errors import UsageError
from hcc_tace_data.labels.fuse import fuse_files
from hcc_tace_data.system.words import count

app = typer.Typer(add_completion=False)

_METHODS = ("staple", "majority", "union", "intersection")
_REGIONS = ("image", "union")


@app.command()
def fuse(
    readers: Annotated[list[Path], typer.Argument(help="One file per reader: NIfTI, NRRD or DICOM-SEG.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")],
    ct: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER[:N]",
            help="CT the labels are for (volume N of a folder of several); a DICOM-SEG is written.",
        ),
    ] = None,
    phase: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER[:N]", help="Another CT phase to register; may be repeated."),
    ] = None,
    method: Annotated[str, typer.Option(help="staple, majority, union or intersection.")] = "staple",
    region: Annotated[str, typer.Option(help="Where the prior is taken: image, or union of readers.")] = "image",
    weight: Annotated[float, typer.Option(help="Multiplier for the prior.")] = 1.0,
    threshold: Annotated[float, typer.Option(help="Lowest probability at which a voxel gets a label.")] = 0.5,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fuse readers' masks: label map, probabilities, sensitivity, specificity and agreement of readers, DICOM-SEG."""
    if method not in _METHODS or region not in _REGIONS:
        raise UsageError(f"--method is one of {', '.join(_METHODS)}, --region one of {', '.join(_REGIONS)}.")
    chosen: dict[str, Any] = {"method": method, "region": region}
    fused = fuse_files(readers, out, ct=ct, phases=phase or (), weight=weight, threshold=threshold, **chosen)
    if as_json:
        emit_json({"files": [str(path) for path in fused.files], **fused.report})
    elif not quiet:
        _print(fused.report)
        say(f"{count(len(fused.files), 'file')} in {out}")


def _print(report: dict[str, Any]) -> None:
    width = max(len(name) for name in report["readers"])
    for label, found in report["staple"].items():
        kappa = report["agreement"].get(label, {}).get("fleiss_kappa")
        said = "" if kappa is None else f", Fleiss' kappa {kappa:.3f} within the union"
        voxels, steps = count(report["voxels"][label], "voxel"), count(found["iterations"], "iteration")
        say(f"{label.replace('_', ' ')}: {voxels}, {steps}{said}")
        for name in report["readers"]:
            p, q = found["sensitivity"][name], found["specificity"][name]
            text = "no vote" if p is None and q is None else f"sensitivity {_share(p)}  specificity {_share(q)}"
            say(f"  {name:<{width}}  {text}")
        for pair, dice in report["agreement"].get(label, {}).get("dice", {}).items():
            say(f"  {pair}: Dice {dice:.3f}, HD95 {report['agreement'][label]['hd95_mm'][pair]:.1f} mm")


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5f}"
