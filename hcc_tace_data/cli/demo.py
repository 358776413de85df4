"""`hcc-tace demo`: the main job from end to end, on a synthetic twin."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, progress, say

app = typer.Typer(add_completion=False)

# Whole patients are held out; the table's first ones include stacked phases and a missing slice.
_TRAINED, _HELD_OUT = 8, 2


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the twin and the results.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(help="Time to train for.", min=1)] = 75.0,
    size: Annotated[str, typer.Option(help="Size of the twin: tiny or small.")] = "small",
    seed: Annotated[int, typer.Option(help="Seed of the twin and the training.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No remarks on standard error.")] = False,
) -> None:
    """Make a phantom, open and read it, train a small U-Net, score it on held-out patients, draw contours."""
    from hcc_tace_data.index import open_collection
    from hcc_tace_data.phantom import make_phantom

    start = time.monotonic()
    root = out / f"phantom-{size}-{_TRAINED + _HELD_OUT}-{seed}"
    if not (root / "series.csv").is_file():
        note(f"writing a {size} phantom of {_TRAINED + _HELD_OUT} patients to {root}", quiet=quiet)
        make_phantom(root, patients=_TRAINED + _HELD_OUT, size=size, seed=seed)
    collection = open_collection(root)
    note(
        f"opened {len(collection)} patients, {len(collection.series)} series, {len(collection.instances)} files",
        quiet=quiet,
    )
    patients = list(collection)
    result = _train_and_score(root, out, patients[:_TRAINED], patients[_TRAINED:], seconds, seed, quiet)
    result["patients"], result["files"] = len(collection), len(collection.instances)
    result["seconds"] = round(time.monotonic() - start, 1)
    if as_json:
        emit_json(result)
        return
    say(f"Trained on {len(result['trained_on'])} patients, {result['slices']} slices, {result['steps']} steps.")
    say(f"Dice on held-out patients ({', '.join(result['held_out'])}), all slices:")
    for name, score in result["dice"].items():
        say(f"  {name:<12} {score:.3f}")
    say(f"Picture: {result['picture']}")
    say(f"Took {result['seconds']} s. This is a synthetic twin: the scores say that the pieces fit, nothing more.")


def _train_and_score(
    root: Path, out: Path, trained: list[str], held_out: list[str], seconds: float, seed: int, quiet: bool
) -> dict[str, Any]:
    import numpy as np

    from hcc_tace_data.baseline.quick import predict_volume, train_quickly
    from hcc_tace_data.baseline.scores import dice
    from hcc_tace_data.catalog import load_catalog
    from hcc_tace_data.loaders.load import load_hcc_tace
    from hcc_tace_data.report.contours import contour_sheet

    names = {item.number: item.name for item in load_catalog().label_sets["standard"]}
    volumes = load_hcc_tace(root)
    # whole volumes, not the liver's slices alone: the network must learn where no liver is
    slices = [
        {"image": sample["image"][:, d], "label": sample["label"][d]}
        for sample in volumes.subset(trained)
        for d in range(sample["image"].shape[1])
    ]
    with progress("training", 100, quiet=quiet) as advance:
        done = 0

        def show(share: float) -> None:
            nonlocal done
            advance(int(100 * share) - done)
            done = int(100 * share)

        result = train_quickly(slices, classes=len(names) + 1, seconds=seconds, seed=seed, progress=show)
    scores: dict[str, list[float]] = {name: [] for name in names.values()}
    panels = []
    for sample in volumes.subset(held_out):
        label = sample["label"].numpy()
        predicted = predict_volume(result.model, sample["image"])
        for number, name in names.items():
            scores[name].append(dice(predicted == number, label == number))
        areas = (label == 2).sum(axis=(1, 2)) if (label == 2).any() else (label > 0).sum(axis=(1, 2))
        middle = int(np.argmax(areas))
        first, last = np.flatnonzero((label == 1).any(axis=(1, 2)))[[0, -1]].tolist()
        panels += [
            {
                "image": sample["image"][0, d].numpy(),
                "label": label[d],
                "predicted": predicted[d],
                "spacing": tuple(sample["spacing"][1:].tolist()),
                "title": f"{sample['patient_id']}, slice {d}",
            }
            for d in ((first + middle) // 2, middle, (middle + last) // 2)
        ]
    picture = out / "contours.png"
    contour_sheet(picture, panels, names=names, title="Held-out patients of the phantom: annotated and predicted")
    return {
        "trained_on": trained,
        "held_out": held_out,
        "slices": len(slices),
        "steps": result.steps,
        "losses": [round(loss, 4) for loss in result.losses],
        "dice": {name: float(np.mean(values)) for name, values in scores.items()},
        "picture": str(picture),
    }
