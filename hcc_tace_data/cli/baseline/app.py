"""`hcc-tace baseline train|evaluate|predict|reproduce|bench`: the reference networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hcc_tace_data.baseline.config import load_config
from hcc_tace_data.baseline.lits import load_lits
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.processes import leave, one_after_the_other, rank
from hcc_tace_data.baseline.stages import stages_of
from hcc_tace_data.cli.baseline.score import evaluate, predict
from hcc_tace_data.cli.baseline.work import bench, reproduce
from hcc_tace_data.cli.console import emit_json, moving, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Json, Quiet, Root, StoreFolder
from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.files import mark_output
from hcc_tace_data.system.words import count

app = typer.Typer(add_completion=False, no_args_is_help=True)
app.command()(predict)
app.command()(evaluate)
app.command()(reproduce)
app.command()(bench)


@app.callback()
def baseline() -> None:
    """The reference networks: 2D U-Nets for the liver and the tumour inside it, or a 3D U-Net for both."""


@app.command()
def train(
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default ROOT/baseline/PRESET.")] = None,
    preset: Annotated[str, typer.Option(help="paper, modern, 3d, or a YAML file of the same keys.")] = "paper",
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as optimizer.lr=0.5.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Fold of the split, 0 to 4; may be repeated.")] = None,
    stage: Annotated[
        str, typer.Option(help="liver, tumour, joint (both at once, of 3d), or both: all of the preset.")
    ] = "both",
    liver_data: Annotated[Path | None, typer.Option(help="Train the liver network on this LiTS folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in that folder.")] = False,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Use only repeatable algorithms.")] = False,
    overfit: Annotated[bool, typer.Option("--overfit-one-batch", help="Only overfit one batch, as a check.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="TensorBoard events beside log.csv.")] = True,
    cache: StoreFolder = None,
    threads: Annotated[int, typer.Option(help="Threads that gather batches.", min=0)] = 2,
    workers: Annotated[int | None, typer.Option(help="Processes that read and prepare.", min=1)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the networks of a fold; several processes with 'torchrun -m hcc_tace_data baseline train ...'."""
    from hcc_tace_data.baseline.data import load_cohort, part_of  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.folds import overfit_one_batch, train_fold  # noqa: PLC0415 - its libraries are slow to import

    config = load_config(preset, override or ())
    stages = stages_of(stage, config)
    if liver_data is not None and "liver" not in stages:
        raise UsageError(f"--liver-data is for the liver network alone; this trains {' and '.join(stages)}.")
    phases = config.input.phases
    if liver_data is not None and len(phases) > 1:
        raise UsageError(
            f"LiTS has one phase, the networks see {len(phases)} ({', '.join(phases)}); "
            "add --set 'input.phases=[annotated]'."
        )
    talk = rank() == 0 and not quiet
    with one_after_the_other():  # the first process fills the store, the others find it filled
        collection = open_with_progress(root, workers=workers, quiet=not talk)
        with progress("preparing cases", None, quiet=not talk) as advance:
            cohort = load_cohort(
                collection, phases=config.input.phases, cache=cache, workers=workers, progress=moving(advance)
            )
        lits = None
        if liver_data is not None and "liver" in stages:
            with progress("preparing LiTS", None, quiet=not talk) as advance:
                place = cache if cache is not None else collection.root / ".hcc-tace" / "store"
                lits = load_lits(liver_data, place, progress=moving(advance))
    parts = [part_of(cohort, number) for number in (fold or [0])]
    if overfit:
        learnt = {
            name: overfit_one_batch(config, name, lits if lits and name == "liver" else parts[0].train)
            for name in stages
        }
        leave()
        if rank() == 0:
            _say_overfit(learnt, as_json)
        if any(row["dice"] < 0.9 for row in learnt.values()):
            raise typer.Exit(1)
        return
    folder = out or collection.root / "baseline" / config.name
    if rank() == 0:
        mark_output(folder)
    options = TrainOptions(resume=resume, deterministic=deterministic, events=tensorboard, threads=threads)
    rows: list[dict[str, Any]] = []
    for part in parts:
        with progress(f"training fold {part.fold}", None, quiet=not talk) as advance:
            results = train_fold(
                config,
                cohort,
                part,
                folder,
                options,
                stages=stages,
                liver_train=lits,
                progress=lambda name, done, total, loss, move=moving(advance): move(done, total),  # type: ignore[misc]
            )
        for name, result in results.items():
            rows.append(
                {
                    "fold": part.fold,
                    "stage": name,
                    "epochs": result.epochs,
                    "steps": result.steps,
                    "validation_dice": round(result.best_dice, 4),
                    "loss": round(result.losses[-1], 4),
                    "folder": str(result.folder),
                }
            )
            note(
                f"fold {part.fold}, {name}: Dice {result.best_dice:.3f} after {count(result.steps, 'step')}",
                quiet=not talk,
            )
    leave()
    if rank():
        return
    if as_json:
        emit_json({"preset": config.name, "store_digest": cohort.digest, "out": str(folder), "runs": rows})
        return
    for row in rows:
        say(f"fold {row['fold']}  {row['stage']:<7} Dice {row['validation_dice']:.3f} (validation)  {row['folder']}")
    say("Validation chose the epoch, so it flatters; 'hcc-tace baseline evaluate' scores the test set.")


def _say_overfit(learnt: dict[Any, dict[str, float]], as_json: bool) -> None:
    if as_json:
        emit_json({"overfit_one_batch": learnt})
        return
    for name, row in learnt.items():
        say(
            f"{name}: loss {row['first_loss']:.3f} -> {row['last_loss']:.3f} in {count(int(row['steps']), 'step')}, "
            f"Dice of the batch {row['dice']:.3f}" + ("" if row["dice"] >= 0.9 else "  NOT LEARNT")
        )
