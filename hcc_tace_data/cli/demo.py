"""`hcc-tace demo`: the whole pipeline on a synthetic twin."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.baseline.config import load_config
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.cli.baseline.work import run_reproduce, say_report
from hcc_tace_data.cli.console import emit_json, note, open_with_progress, say
from hcc_tace_data.cli.options import Json, Quiet
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.splits import FOLDS, patients_of
from hcc_tace_data.system.words import count

app = typer.Typer(add_completion=False)

# Of every fold and of the test set; whole patients are held out. Quirks come as they come: stacked phases, a slice that
# is missing.
_OF_A_FOLD, _OF_THE_TEST_SET = 2, 3


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the twin and the results.")] = Path("demo"),
    budget: Annotated[float, typer.Option(help="Minutes that the whole run may take, roughly.", min=0.1)] = 2.0,
    steps: Annotated[int | None, typer.Option(help="Steps of each training, however long they take.", min=1)] = None,
    preset: Annotated[str, typer.Option(help="paper or modern.")] = "modern",
    size: Annotated[str, typer.Option(help="Size of the twin: tiny or small.")] = "small",
    folds: Annotated[int, typer.Option(help="Folds to train; the more, the fewer steps each gets.", min=1, max=5)] = 1,
    control: Annotated[bool, typer.Option("--control", help="Also train a control on shuffled labels.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the twin and the training.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a twin, check it, train a small baseline, score it on held-out patients, write a report."""
    from hcc_tace_data.phantom import make_phantom  # noqa: PLC0415 - its libraries are slow to import

    started = time.monotonic()
    if size not in ("tiny", "small"):
        raise UsageError(f"size is {size!r}; a demo is tiny or small.")
    patients = _patients()
    root = out / f"phantom-{size}-{len(patients)}-{seed}"
    if not (root / "series.csv").is_file():
        note(f"writing a {size} phantom of {count(len(patients), 'patient')} to {root}", quiet=quiet)
        make_phantom(root, patients=patients, size=size, seed=seed)
    collection = open_with_progress(root, quiet=quiet)
    folder = out / f"baseline-{preset}"
    report = run_reproduce(
        collection,
        folder,
        ReproduceRequest(
            config=load_config(preset, [f"seed={seed}"]),
            budget=budget,
            steps=steps,
            folds=tuple(range(folds)),
            control=control,
        ),
        quiet=quiet,
        started=started,
    )
    report["report"] = str(folder / "report.html")
    report["seconds"] = round(time.monotonic() - started, 1)
    if as_json:
        emit_json(report)
        return
    say_report(report, folder)
    say(f"Took {report['seconds']} s.")


def _patients() -> list[str]:
    """Return a few patients of each fold and of the test set, so that every part of the split has some."""
    chosen = list(patients_of("test")[:_OF_THE_TEST_SET])
    for fold in range(FOLDS):
        chosen += patients_of("validation", fold)[:_OF_A_FOLD]
    return sorted(chosen)
