"""`hcc-tace baseline reproduce` and `bench`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from hcc_tace_data.baseline.config import load_config
from hcc_tace_data.baseline.dummies import dummy_cases
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.cli.baseline.score import say_summary, say_trivial
from hcc_tace_data.cli.console import emit_json, moving, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Json, Quiet, Root, StoreFolder
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.splits import FOLDS
from hcc_tace_data.system.words import count


def reproduce(
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default ROOT/baseline/reproduce-PRESET.")] = None,
    preset: Annotated[str, typer.Option(help="paper, modern, 3d, or a YAML file of the same keys.")] = "paper",
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as optimizer.lr=0.5.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Folds, 0 to 4; may be repeated; default all five.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Minutes; networks and steps are scaled to fit.", min=0.1)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each training.", min=1)] = None,
    control: Annotated[bool, typer.Option(help="Also train a control on shuffled labels.")] = True,
    estimate: Annotated[bool, typer.Option("--estimate", help="Print the estimated cost and exit.")] = False,
    cache: StoreFolder = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read and prepare.", min=1)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train all folds, score their ensemble on the test set and write one report; called again, it continues."""
    started = time.monotonic()
    config = load_config(preset, override or ())
    collection = open_with_progress(root, workers=workers, quiet=quiet)
    folder = out or collection.root / "baseline" / f"reproduce-{config.name}"
    request = ReproduceRequest(
        config=config,
        folds=tuple(fold) if fold else tuple(range(FOLDS)),
        budget=budget,
        steps=steps,
        control=control,
    )
    report = run_reproduce(
        collection,
        folder,
        request,
        quiet=quiet,
        estimate_only=estimate,
        cache=cache,
        workers=workers,
        started=started,
    )
    if as_json:
        emit_json(report)
    elif estimate:
        _say_plan(report["plan"])
    else:
        say_report(report, folder)


def run_reproduce(
    collection: Any, folder: Path, request: ReproduceRequest, *, quiet: bool, **options: Any
) -> dict[str, Any]:
    """Reproduce with notes and bars on standard error."""
    from hcc_tace_data.baseline.reproduce import Tell  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.reproduce import reproduce as run  # noqa: PLC0415 - its libraries are slow to import

    with ExitStack() as stack:
        current: dict[str, Any] = {}

        def bar(name: str, done: int, total: int) -> None:
            if current.get("name") != name:
                stack.close()
                current.update(name=name, move=moving(stack.enter_context(progress(name, total, quiet=quiet))))
            current["move"](done, total)

        def remark(text: str) -> None:
            stack.close()
            current.clear()
            note(text, quiet=quiet)

        return run(collection, folder, request, tell=Tell(remark, bar), **options)


def _say_plan(plan: dict[str, Any]) -> None:
    estimate = plan["estimate"]
    steps = " and ".join(f"{number} ({stage})" for stage, number in plan["steps"].items())
    say(f"{count(plan['trainings'], 'training')} of at most {steps} steps,")
    pace = " and ".join(str(estimate["seconds_per_step"][stage]) for stage in plan["steps"])
    say(f"{pace} s a step with {count(plan['threads'], 'thread')}")
    say(f"about {count(estimate['minutes'], 'minute')} in all, {estimate['memory_bytes'] / 1e9:.2f} GB of memory,")
    parts = [f"{minutes} {name}" for name, minutes in estimate["minutes_of"].items() if minutes]
    say(f"of the minutes: {', '.join(parts)};")
    say(f"{estimate['disk_bytes'] / 1e6:.0f} MB on disk, {estimate['parameters']:,} parameters a network")
    for change in plan["changes"]:
        say(f"  scaled: {change}")
    if estimate["over_budget"]:
        say("This takes longer than the budget: smaller networks or fewer steps are not planned.")


def say_report(report: dict[str, Any], folder: Path) -> None:
    """Print the outcome of a reproduction for a person."""
    evaluation = report["evaluation"]
    say_summary({**evaluation, "true_liver": report["true_liver"]})
    others = report["out_of_fold"]["summary"]
    for label in ("liver", "tumour"):
        row = others["labels"][label]["dice"]
        say(
            f"  out of fold, {count(others['patients'], 'development patient')}: {label} {row['mean']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
        )
    say_trivial(report["out_of_fold"]["trivial"], "  out of fold, trivial")
    if report["control"]:
        dice = report["control"]["dice"]
        say(f"  control: shuffled labels liver {dice['liver']:.3f}, tumour {dice['tumour']:.3f}")
    for text in report["warnings"]:
        say(text)
    say(f"Report: {folder / 'report.html'}")


def bench(
    root: Root = None,
    preset: Annotated[str, typer.Option(help="paper, modern, 3d, or a YAML file of the same keys.")] = "paper",
    override: Annotated[list[str] | None, typer.Option("--set", help="key=value, such as optimizer.lr=0.5.")] = None,
    stage: Annotated[str | None, typer.Option(help="liver, tumour, or joint; default the preset's first.")] = None,
    dummy: Annotated[int | None, typer.Option(help="Use noise of this many pixels per side, not data.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of each task in a round.", min=1)] = 10,
    rounds: Annotated[int, typer.Option(help="Rounds; the median is reported.", min=1)] = 5,
    threads: Annotated[int, typer.Option(help="Threads that gather batches.", min=0)] = 2,
    cache: StoreFolder = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure images per second: the training step alone, the supply alone, and both together."""
    from hcc_tace_data.baseline.bench import bench as measure  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.data import load_cohort  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.stages import stages_of  # noqa: PLC0415 - its libraries are slow to import

    config = load_config(preset, override or ())
    if stage == "both":
        raise UsageError("bench measures one stage: liver, tumour or joint.")
    name = config.stages[0] if stage is None else stages_of(stage, config)[0]
    with TemporaryDirectory() as temporary:
        if dummy is not None:
            cases = dummy_cases(Path(temporary), dummy, channels=len(config.input.phases))
        else:
            collection = open_with_progress(root, quiet=quiet)
            cases = list(load_cohort(collection, phases=config.input.phases, cache=cache).stored.values())
        result = measure(config, cases, stage=name, steps=steps, rounds=rounds, threads=threads)
    if as_json:
        emit_json({"preset": config.name, **result})
        return
    rate = result["images_per_second"]
    say(
        f"{result['device']}, {count(result['threads'], 'thread')}, batches of {result['batch_size']} x "
        f"{result['image']}"
    )
    say(f"  step alone    {rate['step']:10.2f} images/s")
    say(f"  supply alone  {rate['supply']:10.2f} images/s")
    say(f"  both          {rate['both']:10.2f} images/s")
    low, high = min(result["ratios"]), max(result["ratios"])
    say(f"  both take {result['ratio']:.3f} times the step alone (rounds: {low:.3f} to {high:.3f})")
    say(f"  of the processor's time they take {result['cpu_ratio']:.3f} times that of the step")
    say(f"  {result['gflop_per_step']} GFLOP a step, {result['gflops']} GFLOP/s in the step")
    if result["share_of_peak"] is not None:
        say(f"  {result['share_of_peak']:.1%} of the GPU's peak")
