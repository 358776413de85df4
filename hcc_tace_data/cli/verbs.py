"""The verbs of `hcc-tace`: where each lives and the line that `--help` prints for it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb"]


class Verb(NamedTuple):
    """A verb: the module that holds its Typer `app`, and one line of help."""

    module: str
    summary: str


#: In the order `--help` shows them.
VERBS: dict[str, Verb] = {
    "demo": Verb("hcc_tace_data.cli.demo", "The main job from end to end, on a synthetic twin."),
    "clinical": Verb("hcc_tace_data.cli.clinical", "The clinical table: checks, reader agreement, survival."),
    "phantom": Verb("hcc_tace_data.cli.phantom", "Write a synthetic twin of the collection, with its ground truth."),
}
