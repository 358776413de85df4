"""A report as text for people, as JSON, and as SARIF 2.1.0."""

from __future__ import annotations

import json
from typing import Any

from hcc_tace_data.validators.engine import Report
from hcc_tace_data.validators.registry import RULES

__all__ = ["to_json", "to_sarif", "to_text"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def to_json(report: Report) -> str:
    """Return the JSON document."""
    return json.dumps(report.as_dict(), indent=2, ensure_ascii=False)


def to_text(report: Report) -> str:
    """Return lines for people: findings, then what was and was not checked."""
    lines = []
    for finding in report.findings:
        where = finding.path or finding.series_uid or finding.study_uid
        severity = "known" if finding.known else finding.severity
        place = " ".join(part for part in (finding.patient_id, where, finding.tag) if part)
        lines.append(f"{finding.code} {severity:7} {place}: {finding.message}")
        lines.append(f"              {finding.known or finding.hint}")
    states = [rule.status for rule in report.rules]
    lines += [f"{rule.code} skipped: {rule.reason}" for rule in report.rules if rule.status == "skipped"]
    counts = ", ".join(f"{number} {name}" for name, number in report.counts.items())
    lines.append(
        f"{counts}. Rules: {states.count('passed')} passed, {states.count('failed')} failed, "
        f"{states.count('skipped')} skipped."
    )
    return "\n".join(lines)


def to_sarif(report: Report) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log; known issues are suppressed results."""
    results = []
    for finding in report.findings:
        result: dict[str, Any] = {
            "ruleId": finding.code,
            "level": _LEVELS[finding.severity],
            "message": {"text": f"{finding.patient_id} {finding.message}".strip()},
        }
        if finding.path:
            result["locations"] = [{"physicalLocation": {"artifactLocation": {"uri": finding.path}}}]
        if finding.known:
            result["suppressions"] = [{"kind": "external", "justification": finding.known}]
        results.append(result)
    rules = [
        {"id": rule.code, "name": rule.name, "shortDescription": {"text": rule.summary}, "help": {"text": rule.fix}}
        for rule in RULES
    ]
    driver = {"name": "hcc-tace", "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
