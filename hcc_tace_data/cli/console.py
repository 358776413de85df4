"""What verbs share when they talk to a person or a program: JSON, tables, progress, root."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["emit_json", "note", "progress", "say"]


def emit_json(document: Any) -> None:
    """Write one JSON document to standard output, and nothing else."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def say(text: str = "") -> None:
    """Write a line of result to standard output."""
    typer.echo(text)


def note(text: str, *, quiet: bool = False) -> None:
    """Write a remark to standard error, unless `quiet`."""
    if not quiet:
        typer.echo(text, err=True)


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield `advance(steps)`, which moves a bar on standard error when that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda steps=1: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps=1: bar.advance(task, steps)
