"""A report as text for people, as JSON, and as SARIF 2.1.0."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any
from urllib.parse import quote

from hcc_tace_data.validators.engine import Report
from hcc_tace_data.validators.registry import RULES
from hcc_tace_data.validators.rule import Finding
from hcc_tace_data.version import __version__

__all__ = ["to_json", "to_sarif", "to_text"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_PLACES = ("patient_id", "study_uid", "series_uid", "sop_uid", "path", "tag")


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
        lines.append(f"{finding.code} {severity:7} {f'{place}: ' if place else ''}{finding.message}")
        lines.append(f"              {finding.known or finding.hint}")
    states = [rule.status for rule in report.rules]
    skipped = [rule for rule in report.rules if rule.status == "skipped"]
    for reason, rules in groupby(sorted(skipped, key=lambda rule: rule.reason), key=lambda rule: rule.reason):
        lines.append(f"skipped, {reason}: {', '.join(rule.code for rule in rules)}")
    lines += [
        f"{rule.code} not wholly checked: {rule.reason}"
        for rule in report.rules
        if rule.reason and rule.status != "skipped" and not rule.reason.startswith("crashed")
    ]
    counts = ", ".join(f"{number} {name}" for name, number in report.counts.items())
    lines.append(
        f"{counts}. Rules: {states.count('passed')} passed, {states.count('failed')} failed, "
        f"{states.count('skipped')} skipped. 'hcc-tace explain CODE' tells more of one."
    )
    return "\n".join(lines)


def to_sarif(report: Report) -> dict[str, Any]:
    """Return a SARIF 2.1.0 log.

    Known and reviewed findings are suppressed results; rules that were skipped are notifications, so that 'nothing
    found' is not taken for 'not checked'. Paths are relative to the collection's root (``ROOT``).
    """
    place_of = {rule.code: place for place, rule in enumerate(RULES)}
    rules = [
        {
            "id": rule.code,
            "name": "".join(part.capitalize() for part in rule.name.split("-")),
            "shortDescription": {"text": rule.summary},
            "fullDescription": {"text": rule.why},
            "help": {"text": rule.fix},
            "defaultConfiguration": {"level": _LEVELS[rule.severity]},
            "properties": {"scope": rule.scope, "depth": rule.depth, "source": rule.source},
        }
        for rule in RULES
    ]
    notes = [
        {
            "level": "note",
            "message": {"text": f"{rule.code} {rule.status}: {rule.reason}"},
            "associatedRule": {"id": rule.code, "index": place_of[rule.code]},
        }
        for rule in report.rules
        if rule.reason and rule.code in place_of
    ]
    run = {
        "tool": {
            "driver": {"name": "hcc-tace", "version": __version__, "semanticVersion": __version__, "rules": rules}
        },
        "columnKind": "utf16CodeUnits",
        "originalUriBaseIds": {"ROOT": {"description": {"text": "Folder of the collection."}}},
        "invocations": [{"executionSuccessful": True, "toolConfigurationNotifications": notes}],
        "results": [_result(finding, place_of) for finding in report.findings],
        "properties": {"collection": report.collection},
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, place_of: dict[str, int]) -> dict[str, Any]:
    places = {name: getattr(finding, name) for name in _PLACES if getattr(finding, name)}
    text = " ".join(part for part in (finding.patient_id, finding.message, finding.hint) if part)
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "partialFingerprints": {"finding/v2": finding.fingerprint},
        "properties": {**places, "evidence": dict(finding.evidence)},
    }
    if finding.code in place_of:
        result["ruleIndex"] = place_of[finding.code]
    location: dict[str, Any] = {}
    if finding.path:
        location["physicalLocation"] = {"artifactLocation": {"uri": quote(finding.path), "uriBaseId": "ROOT"}}
    named = [
        {"name": getattr(finding, name), "kind": kind}
        for name, kind in (
            ("patient_id", "patient"),
            ("study_uid", "study"),
            ("series_uid", "series"),
            ("tag", "element"),
        )
        if getattr(finding, name)
    ]
    if named:
        location["logicalLocations"] = named
    if location:
        result["locations"] = [location]
    if finding.known:
        result["suppressions"] = [{"kind": "external", "justification": finding.known}]
    return result
