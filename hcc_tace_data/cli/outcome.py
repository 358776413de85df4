"""`hcc-tace outcome`: reference models of survival, progression and response."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hcc_tace_data.cli.console import emit_json, progress, say
from hcc_tace_data.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.outcome.crossval import Evaluation

app = typer.Typer(add_completion=False)


class TaskName(StrEnum):
    """The endpoint that is predicted."""

    os = "os"
    ttp = "ttp"
    tace_response = "tace_response"


class Folds(StrEnum):
    """How patients are divided."""

    repeated = "repeated"
    shipped = "shipped"


@app.callback()
def outcome() -> None:
    """Reference models of outcome after TACE, scored out of fold."""


@app.command()
def evaluate(
    source: Annotated[Path | None, typer.Argument(help="The clinical sheet, or the collection's folder.")] = None,
    task: Annotated[TaskName, typer.Option(help="What is predicted.")] = TaskName.os,
    folds: Annotated[Folds, typer.Option(help="Repeated five-fold over all patients, or the shipped folds.")] = (
        Folds.repeated
    ),
    repeats: Annotated[int, typer.Option(min=1, help="How often the folds are drawn.")] = 5,
    features: Annotated[Path | None, typer.Option(help="Own features: a CSV with the column patient_id.")] = None,
    forest: Annotated[bool, typer.Option(help="With a random forest.")] = False,
    seed: Annotated[int, typer.Option(help="Of folds, bootstrap and permutation.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Score the reference models for one endpoint, with intervals and paired differences."""
    from hcc_tace_data.outcome.crossval import evaluate as score  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.outcome.models import ladder  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.outcome.tasks import load_task  # noqa: PLC0415 - its libraries are slow to import

    loaded = load_task(task.value, source, extra=None if features is None else _table(features))
    with progress("models", None, quiet=quiet or as_json) as advance:
        found = score(
            loaded,
            models=ladder(loaded, forest=forest),
            folds=folds.value,
            repeats=repeats,
            seed=seed,
            progress=lambda _, total: advance(1, total),
        )
    if as_json:
        emit_json(found.plain())
    else:
        _print(found)


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a CSV table: {error}.") from error
    if "patient_id" not in table.columns:
        raise UsageError(f"{path} has no column patient_id; its columns are {', '.join(map(str, table.columns[:6]))}.")
    return table


def _print(found: Evaluation) -> None:
    names = list(found.models[0].scores)
    say(
        f"{found.task}: {found.patients} patients, {found.events} events; {found.folds} folds, repeats: {found.repeats}"
    )
    say(f"{'model':<44}" + "".join(f"{name:<24}" for name in names) + f"difference of {names[0]} to {found.reference}")
    for one in found.models:
        scores = "".join(f"{one.scores[name]!s:<24}" for name in names)
        say(f"{one.label:<44}{scores}{'' if one.difference is None else one.difference}")
    say(f"{found.reference} with the outcomes shuffled between patients: {found.permuted:.3f}")
    if found.left_out:
        say(f"left out: {len(found.left_out)} patients: {'; '.join(sorted(set(found.left_out.values())))}")
