"""`hcc-tace outcome`: reference models of survival, progression and response."""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, progress, say
from hcc_tace_data.cli.options import Json, Quiet, names_of
from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.outcome.crossval import Evaluation
    from hcc_tace_data.outcome.tasks import Task

app = typer.Typer(add_completion=False, no_args_is_help=True)


class TaskName(StrEnum):
    """The endpoint that is predicted."""

    os = "os"
    ttp = "ttp"
    tace_response = "tace_response"


class Folds(StrEnum):
    """How patients are divided."""

    repeated = "repeated"
    shipped = "shipped"


Source = Annotated[Path | None, typer.Argument(help="The clinical sheet, or the collection's folder.")]
OneTask = Annotated[TaskName, typer.Option(help="What is predicted.")]
Clinical = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,...", help="Columns of the sheet to use; default: 18 clinical variables and 4 stages."
    ),
]
Features = Annotated[Path | None, typer.Option(help="More features: a CSV with the column patient_id.")]
Columns = Annotated[
    str | None, typer.Option(metavar="NAME,...", help="Only these columns of --features; * stands for any text.")
]
Repeats = Annotated[int, typer.Option(min=1, help="How often the folds are drawn.")]
Forest = Annotated[bool, typer.Option("--forest", help="With a random forest (slow).")]
Permutations = Annotated[int, typer.Option(min=1, help="How often outcomes are shuffled between patients, for chance.")]
Seed = Annotated[int, typer.Option(help="Seed of folds, bootstrap and permutation.")]


@app.callback()
def outcome() -> None:
    """Reference models of outcome after TACE, scored on patients they were not fitted on."""


@app.command()
def evaluate(
    source: Source = None,
    task: OneTask = TaskName.os,
    folds: Annotated[Folds, typer.Option(help="Repeated five-fold over all patients, or the shipped folds.")] = (
        Folds.repeated
    ),
    repeats: Repeats = 5,
    clinical: Clinical = None,
    features: Features = None,
    columns: Columns = None,
    forest: Forest = False,
    permutations: Permutations = 20,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score the reference models for one endpoint, with intervals and paired differences."""
    loaded = _load(task.value, source, clinical, features, columns, quiet=quiet or as_json)
    found = _evaluate(
        loaded,
        folds.value,
        quiet=quiet or as_json,
        repeats=repeats,
        forest=forest,
        permutations=permutations,
        seed=seed,
    )
    if as_json:
        emit_json(found.plain())
    else:
        _print(found)


@app.command()
def fit(
    source: Source = None,
    task: OneTask = TaskName.os,
    model: Annotated[
        str, typer.Option(help="clip_score, stages, size_afp_child_pugh, clinical, clinical_images ...")
    ] = ("clinical"),
    clinical: Clinical = None,
    features: Features = None,
    columns: Columns = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The model, a JSON file.")] = Path("outcome-model.json"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit one model on the development patients and save it as JSON. The test set is not used."""
    from hcc_tace_data.outcome.fit import fit_outcome  # noqa: PLC0415 - its libraries are slow to import

    fitted = fit_outcome(_load(task.value, source, clinical, features, columns, quiet=quiet or as_json), model)
    fitted.save(out)
    if as_json:
        emit_json(fitted.plain())
        return
    say(
        f"{fitted.label}, {fitted.task}: fitted on {count(len(fitted.fitted_on), 'patient')}, penalty "
        f"{fitted.model.penalty:g}; {count(len(fitted.held_out), 'test patient')} not used"
    )
    weights = zip(fitted.model.preparation.columns(), fitted.model.weights, strict=True)
    if not quiet:
        for name, weight in sorted(weights, key=lambda pair: -abs(pair[1]))[:20]:
            say(f"  {name:<32} {weight:+.3f} per standard deviation")
    say(f"written to {out}")


@app.command()
def report(
    source: Source = None,
    tasks: Annotated[str, typer.Option(metavar="TASK,...", help="What is predicted.")] = "os,ttp,tace_response",
    repeats: Repeats = 5,
    clinical: Clinical = None,
    features: Features = None,
    columns: Columns = None,
    forest: Forest = False,
    permutations: Permutations = 20,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Write the page to this file.")] = Path(
        "hcc-tace-outcome.html"
    ),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML page: discrimination, calibration, curves by predicted risk, and who was left out."""
    from hcc_tace_data.outcome.page import write_outcome_page  # noqa: PLC0415 - its libraries are slow to import

    names = names_of([tasks])
    unknown = [name for name in names if name not in TaskName.__members__]
    if unknown or not names:
        raise UsageError(f"--tasks is {tasks!r}; use {', '.join(TaskName)}.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name the page, for example {out / 'outcome.html'}.")
    hush = quiet or as_json
    found = []
    for name in names:
        loaded = _load(name, source, clinical, features, columns, quiet=hush)
        options: dict[str, Any] = {"forest": forest, "permutations": permutations, "seed": seed}
        repeated = _evaluate(loaded, "repeated", quiet=hush, repeats=repeats, **options)
        found.append((repeated, _evaluate(loaded, "shipped", quiet=hush, repeats=1, **options)))
    facts = {
        "clinical sheet": loaded.source,
        "more features": "none" if features is None else f"{features.name}: {count(len(loaded.extra), 'column')}",
        "seed": seed,
    }
    write_outcome_page(found, out, facts=facts)
    if as_json:
        pairs = [{"repeated": one.plain(), "shipped": two.plain()} for one, two in found]
        emit_json({"path": str(out), "tasks": pairs})
        return
    if not quiet:
        for one, _ in found:
            _print(one)
    say(str(out.resolve()))


def _load(
    task: str, source: Path | None, clinical: str | None, features: Path | None, columns: str | None, *, quiet: bool
) -> Task:
    from hcc_tace_data.outcome.tasks import load_task  # noqa: PLC0415 - its libraries are slow to import

    if columns is not None and features is None:
        raise UsageError("--columns chooses columns of --features; give both.")
    chosen: dict[str, Any] = {} if clinical is None else {"features": names_of([clinical])}
    extra = None if features is None else _table(features, names_of([columns or "*"]), quiet=quiet)
    return load_task(TaskName(task).value, source, extra=extra, **chosen)


def _evaluate(loaded: Task, folds: str, *, quiet: bool, forest: bool, **options: int) -> Evaluation:
    from hcc_tace_data.outcome.crossval import evaluate as score  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.outcome.models import ladder  # noqa: PLC0415 - its libraries are slow to import

    models = ladder(loaded, forest=forest)
    names = [one.name for one in models]
    reference = "clinical" if "clinical" in names else names[-1]
    with progress(f"models, {loaded.name}", None, quiet=quiet) as advance:
        return score(
            loaded,
            models=models,
            folds=folds,  # type: ignore[arg-type]  # an enumeration of its names
            reference=reference,
            progress=lambda _, total: advance(1, total),
            **options,
        )


def _table(path: Path, patterns: list[str], *, quiet: bool) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a CSV table: {error}.") from error
    if "patient_id" not in table.columns:
        raise UsageError(f"{path} has no column patient_id; its columns are {', '.join(map(str, table.columns[:6]))}.")
    wanted = [name for name in table.columns if any(fnmatchcase(str(name), pattern) for pattern in patterns)]
    numbers = [name for name in wanted if name != "patient_id" and pd.api.types.is_numeric_dtype(table[name])]
    texts = [str(name) for name in wanted if name not in numbers and name != "patient_id"]
    if texts:
        note(f"{path.name}: {count(len(texts), 'column')} of text not used: {', '.join(texts[:5])} ...", quiet=quiet)
    if not numbers:
        raise UsageError(f"{path} has no column of numbers named {', '.join(patterns)}.")
    return table[["patient_id", *numbers]]


def _print(found: Evaluation) -> None:
    names = list(found.models[0].scores)
    test = f"{found.test_patients} of the test set among them" if found.test_patients else "the test set not used"
    say(
        f"{found.task.name}: {count(found.patients, 'patient')} ({test}), {count(found.events, 'event')}; "
        f"{found.folds} folds, repeats: {found.repeats}"
    )
    heads = "".join(f"{name:<23}" for name in names)
    wide = max(len(one.label) for one in found.models) + 2
    say(f"{'model':<{wide}}{heads}difference of {names[0]} to {found.reference}")
    for one in found.models:
        scores = "".join(f"{one.scores[name]!s:<23}" for name in names)
        say(f"{one.label:<{wide}}{scores}{'' if one.difference is None else one.difference}")
    say(f"{found.reference} with the outcomes shuffled between patients: {found.permuted}")
    if found.left_out:
        say(f"left out: {count(len(found.left_out), 'patient')}: {'; '.join(sorted(set(found.left_out.values())))}")
