"""All rules, in the order they run."""

from __future__ import annotations

from collections.abc import Iterator

from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.words import did_you_mean
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.rule import Draft, Rule
from hcc_tace_data.validators.rules import clinical, completeness, deid, files, geometry, leakage, linkage, phases

__all__ = ["ENGINE", "RULES", "find_rule"]


def _never(context: Context) -> Iterator[Draft]:
    """Find nothing: the engine itself reports what this rule is about."""
    return iter(())


ENGINE = Rule(
    code="HT901", name="rule-ran", severity="error", scope="collection", depth="index",
    summary="Every rule ran to its end.",
    why="A rule that crashed has checked nothing, or not everything: silence would read as 'nothing found'.",
    fix="Report it as a defect of hcc-tace-data; 'hcc-tace --debug validate ...' shows where it happened.",
    source="engine of this package", check=_never, needs_files=False,
)  # fmt: skip

RULES: tuple[Rule, ...] = (
    *completeness.RULES,
    *files.RULES,
    *deid.RULES,
    *linkage.RULES,
    *geometry.RULES,
    *phases.RULES,
    *clinical.RULES,
    *leakage.RULES,
    ENGINE,
)


def find_rule(code: str) -> Rule:
    """Return the rule of `code`, in any case.

    Raises
    ------
    UsageError
        No such rule.
    """
    for rule in RULES:
        if rule.code == code.upper():
            return rule
    raise UsageError(
        f"There is no rule {code!r}. "
        + did_you_mean(code.upper(), (rule.code for rule in RULES), "'hcc-tace explain' lists them all.")
    )
