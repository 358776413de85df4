"""Run rules over a collection; a rule that raises becomes a finding, never silence."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import UsageError
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.phi_table import write_phi_table
from hcc_tace_data.validators.redaction import redact
from hcc_tace_data.validators.registry import RULES
from hcc_tace_data.validators.rule import DEPTHS, Depth, Finding, Rule, Skip

__all__ = ["Report", "RuleStatus", "validate"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """What became of one rule: ``passed``, ``failed`` or ``skipped`` with the reason."""

    code: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All findings, and which rules were checked."""

    findings: tuple[Finding, ...]
    rules: tuple[RuleStatus, ...]
    collection: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity; those that match a known issue are counted as ``known`` only."""
        found = Counter("known" if finding.known else finding.severity for finding in self.findings)
        return {name: found[name] for name in ("error", "warning", "info", "known")}

    @property
    def ok(self) -> bool:
        """No error that is not known."""
        return self.counts["error"] == 0

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``hcc-tace validate --format json``."""
        return {
            "ok": self.ok,
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
            "rules": [{"code": r.code, "status": r.status, "reason": r.reason} for r in self.rules],
            "collection": self.collection,
        }


def validate(
    root: str | os.PathLike[str] | None = None,
    *,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    depth: Depth = "headers",
    workers: int | None = None,
    phi_table: str | os.PathLike[str] | None = None,
    rules: Sequence[Rule] = RULES,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check a folder against the curation rules.

    Parameters
    ----------
    root : path-like, optional
        The folder; default ``$HCC_TACE_HOME``, else the user's data folder.
    select, ignore : sequence of str, optional
        Codes or their beginnings (``HT3``, ``HT401``).
    depth : {"headers", "index", "pixels"}
        How deep to look; rules that look deeper are skipped.
    workers : int, optional
        Processes that index the folder.
    phi_table : path-like, optional
        File for the table of every distinct header value (:mod:`hcc_tace_data.validators.phi_table`).
    rules : sequence of Rule
        The rules to run; default all.
    progress : callable, optional
        Called with (headers read, headers to read).

    Raises
    ------
    CollectionNotFoundError
        There is nothing at `root`.
    UsageError
        Unknown depth, or a selection that matches no rule.
    """
    from hcc_tace_data.index import open_collection

    if depth not in DEPTHS:
        raise UsageError(f"depth={depth!r}: choose one of {', '.join(DEPTHS)}.")
    chosen = _choose(rules, select or (), ignore or ())
    context = Context(open_collection(root, workers=workers, progress=progress))
    findings: list[Finding] = []
    statuses: list[RuleStatus] = []
    for rule in chosen:
        if DEPTHS.index(rule.depth) > DEPTHS.index(depth):
            statuses.append(RuleStatus(code=rule.code, status="skipped", reason=f"needs --depth {rule.depth}"))
            continue
        found, status = _run(rule, context)
        findings += found
        statuses.append(status)
    if phi_table is not None:
        write_phi_table(context, phi_table)
    known = [_known(redact(finding, context), context) for finding in findings]
    table = context.instances
    summary = {
        "root": str(Path(context.root)),
        "patients": int(table["patient_id"].nunique()),
        "series": int(table["series_uid"].nunique()),
        "instances": len(table),
    }
    return Report(findings=tuple(known), rules=tuple(statuses), collection=summary)


def _choose(rules: Sequence[Rule], select: Sequence[str], ignore: Sequence[str]) -> list[Rule]:
    for prefix in (*select, *ignore):
        if not prefix or not any(rule.code.startswith(prefix) for rule in rules):
            raise UsageError(f"No rule's code begins with {prefix!r}. 'hcc-tace explain' lists all.")
    return [
        rule
        for rule in rules
        if (not select or rule.code.startswith(tuple(select))) and not rule.code.startswith(tuple(ignore))
    ]


def _run(rule: Rule, context: Context) -> tuple[list[Finding], RuleStatus]:
    try:
        found = [Finding(**{"code": rule.code, "severity": rule.severity, **fields}) for fields in rule.check(context)]
    except Skip as reason:
        return [], RuleStatus(code=rule.code, status="skipped", reason=str(reason))
    except Exception as error:  # whatever a rule raises must be seen in the report
        logger.debug("rule %s crashed", rule.code, exc_info=True)
        crash = Finding(
            code="HT901",
            severity="error",
            message=f"Rule {rule.code} crashed ({type(error).__name__}); what it checks is unchecked.",
            hint="Report it as a defect of hcc-tace-data.",
            evidence={"rule": rule.code},
        )
        return [crash], RuleStatus(code=rule.code, status="failed", reason=f"crashed: {type(error).__name__}")
    return found, RuleStatus(code=rule.code, status="failed" if found else "passed")


def _known(finding: Finding, context: Context) -> Finding:
    """Mark a finding that the catalogue lists. A patient is part of every known issue."""
    for issue in context.catalog.known_issues:
        if issue.code == finding.code and issue.patient_id == finding.patient_id:
            return replace(finding, known=issue.reason)
    return finding
