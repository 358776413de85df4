"""`hcc-tace explain`: what a rule checks, why, and how to repair."""

from __future__ import annotations

from typing import Annotated

import typer

from hcc_tace_data.cli.console import emit_json, say, say_wrapped
from hcc_tace_data.cli.options import Json, Quiet

__all__ = ["app"]

app = typer.Typer(add_completion=False)


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(help="Code of a rule; default: list all rules.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Explain what a rule checks, why, and how to fix what it finds."""
    from hcc_tace_data.validators.registry import RULES, find_rule  # noqa: PLC0415 - its libraries are slow to import

    names = ("code", "name", "severity", "scope", "depth", "summary", "why", "fix", "source")
    rules = [find_rule(code)] if code else list(RULES)
    if as_json:
        emit_json({"rules": [{name: getattr(rule, name) for name in names} for rule in rules]})
    elif code and not quiet:
        for name in names:
            say_wrapped(f"{name:9} {getattr(rules[0], name)}", indent=10)
    else:
        for rule in rules:
            say(f"{rule.code}  {rule.severity:8} {rule.depth:8} {rule.summary}")
