"""Findings of the validators, arranged for a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hcc_tace_data.validators.registry import RULES

__all__ = ["SEVERITIES", "findings_section"]

#: From the gravest to what is known.
SEVERITIES = ("error", "warning", "info", "known")


def findings_section(report: Mapping[str, Any]) -> dict[str, Any]:
    """Arrange the document of ``hcc-tace validate --format json``.

    Parameters
    ----------
    report : mapping
        With ``counts``, ``findings`` and ``rules``.

    Returns
    -------
    dict
        ``rows`` (findings, gravest first), ``rules`` (what became of each, and how often it found something),
        ``patients``, ``counts``, ``states``.
    """
    names = _rules()
    rows = []
    for finding in report.get("findings", ()):
        code = str(finding["code"])
        known = str(finding.get("known") or "")
        severity = "known" if known else str(finding["severity"])
        rows.append(
            {
                "code": code,
                "rule": names.get(code, {}).get("name", ""),
                "severity": severity,
                "patient_id": str(finding.get("patient_id") or ""),
                "message": str(finding.get("message") or ""),
                "hint": known or str(finding.get("hint") or ""),
                "where": " ".join(
                    str(finding[key]) for key in ("path", "tag") if finding.get(key)
                ) or str(finding.get("series_uid") or finding.get("study_uid") or ""),
            }
        )  # fmt: skip
    order = {name: rank for rank, name in enumerate(SEVERITIES)}
    rows.sort(key=lambda row: (order.get(row["severity"], 9), row["code"], row["patient_id"]))
    by_code: dict[str, Counter[str]] = {}
    for row in rows:
        by_code.setdefault(row["code"], Counter())[row["severity"]] += 1
    rules = [_rule(dict(rule), names, by_code.pop(str(rule["code"]), Counter())) for rule in report.get("rules", ())]
    # findings without a rule of their own in the list, such as a crash of another one
    rules += [_rule({"code": code, "status": "failed", "reason": ""}, names, found) for code, found in by_code.items()]
    states = Counter(rule["status"] for rule in rules)
    counted = Counter(row["severity"] for row in rows)
    return {
        "rows": rows,
        "rules": rules,
        "patients": sorted({row["patient_id"] for row in rows if row["patient_id"]}),
        "codes": sorted({row["code"] for row in rows}),
        "counts": {name: counted[name] for name in SEVERITIES},
        "states": {name: states[name] for name in ("passed", "failed", "skipped")},
        "ok": bool(report.get("ok", not counted["error"])),
    }


def _rule(rule: dict[str, Any], names: Mapping[str, Mapping[str, str]], found: Counter[str]) -> dict[str, Any]:
    known = names.get(str(rule["code"]), {})
    return {
        "code": str(rule["code"]),
        "status": str(rule["status"]),
        "reason": str(rule.get("reason") or ""),
        "name": known.get("name", ""),
        "summary": known.get("summary", ""),
        "found": sum(found.values()),
        "by_severity": {name: found[name] for name in SEVERITIES if found[name]},
    }


def _rules() -> dict[str, dict[str, str]]:
    """Return code -> name and summary of the rules of this version."""
    return {rule.code: {"name": rule.name.replace("-", " "), "summary": rule.summary} for rule in RULES}
