"""What verbs share when they talk to a person or a program: JSON, tables, progress, root."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

from hcc_tace_data.open import open_collection
from hcc_tace_data.system.text import text_width, visible_json, visible_lines, wrapped
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import os

    from hcc_tace_data.open import Collection

__all__ = [
    "emit_json",
    "note",
    "open_with_progress",
    "progress",
    "reading_headers",
    "say",
    "say_wrapped",
]


class Advance(Protocol):
    """What :func:`progress` yields."""

    def __call__(self, steps: int = 1, total: int | None = None) -> None: ...


def emit_json(document: Any) -> None:
    """Write one JSON document to standard output, and nothing else."""
    typer.echo(visible_json(json.dumps(document, indent=2, ensure_ascii=False, default=str)))


def say(text: str = "") -> None:
    """Write a line of result to standard output."""
    typer.echo(visible_lines(text))


def say_wrapped(text: str, *, indent: int = 4) -> None:
    """Write a sentence of result to standard output, in lines that fit."""
    say(wrapped(text, text_width(), indent=indent))


def note(text: str, *, quiet: bool = False) -> None:
    """Write a remark to standard error, unless `quiet`."""
    if not quiet:
        shown = visible_lines(text)
        typer.echo(wrapped(shown, text_width(sys.stderr)) if sys.stderr.isatty() else shown, err=True)


def open_with_progress(
    root: str | os.PathLike[str] | None, *, workers: int | None = None, quiet: bool = False
) -> Collection:
    """Open a collection, with a bar for the headers on a terminal; say what could not be read."""
    with reading_headers(quiet=quiet) as show:
        collection = open_collection(root, workers=workers, progress=show)
    for problem in collection.problems.head(5).itertuples():
        note(f"not read: {problem.path}: {problem.reason}", quiet=quiet)
    if len(collection.problems) > 5:
        note(f"not read: {count(len(collection.problems) - 5, 'file')} more", quiet=quiet)
    return collection


@contextmanager
def reading_headers(*, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield `show(done, total)`, the `progress` of :func:`hcc_tace_data.open_collection`."""
    with progress("reading headers", None, quiet=quiet) as advance:
        seen = 0

        def show(done: int, total: int) -> None:
            nonlocal seen
            advance(done - seen, total)
            seen = done

        yield show


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool = False) -> Iterator[Advance]:
    """Yield `advance(steps, total)`, which moves a bar on standard error when that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)

        def advance(steps: int = 1, total: int | None = None) -> None:
            bar.update(task, advance=steps, total=total)

        yield advance


def _nothing(steps: int = 1, total: int | None = None) -> None:
    """Take the place of a bar where there is no terminal."""


def moving(advance: Any) -> Any:
    """Turn `advance(steps)` of a bar into a function of (done, total)."""
    seen = 0

    def move(done: int, total: int) -> None:
        nonlocal seen
        if done < seen:  # the next stage begins
            advance(-seen, total)
            seen = 0
        advance(done - seen, total)
        seen = done

    return move
