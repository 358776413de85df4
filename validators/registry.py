"""All rules, in the order they run."""

from __future__ import annotations

from hcc_tace_data.errors import UsageError
from hcc_tace_data.validators import completeness, deid, files
from hcc_tace_data.validators.rule import Rule

__all__ = ["RULES", "find_rule"]

RULES: tuple[Rule, ...] = (*completeness.RULES, *files.RULES, *deid.RULES)


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
    raise UsageError(f"There is no rule {code!r}. Known: {', '.join(rule.code for rule in RULES)}.")
