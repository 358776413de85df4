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
    "phantom": Verb("hcc_tace_data.cli.phantom", "write a synthetic twin of the collection, with its ground truth"),
}
