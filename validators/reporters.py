"""A report as text for people, as JSON, and as SARIF 2.1.0."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, TypeVar
from urllib.parse import quote

from hcc_tace_data.system.words import count
from hcc_tace_data.validators.engine import Report
from hcc_tace_data.validators.registry import RULES
from hcc_tace_data.validators.rule import Finding
from hcc_tace_data.version import __version__

__all__ = ["to_json", "to_sarif", "to_text"]

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_INDENT = " " * 4
_Item = TypeVar("_Item")
_PLACES = ("patient_id", "study_uid", "series_uid", "sop_uid", "path", "tag")


def to_json(report: Report) -> str:
    """Return the JSON document."""
    return json.dumps(report.as_dict(), indent=2, ensure_ascii=False)


def to_text(report: Report, *, width: int = 80) -> str:
    """Return lines for people: findings, known ones in groups, then what was and was not checked.

    Parameters
    ----------
    report : Report
    width : int
        Columns of the terminal. Places that do not fit are shortened; ``--json`` has them in full.
    """
    lines = []
    for finding in report.findings:
        if not finding.known:
            lines += [*_wrapped(f"{finding.code} {finding.severity:<7}  ", _said(finding), width)]
            lines += _wrapped(_INDENT + "-> ", finding.hint, width) if finding.hint else []
            lines += [_INDENT + place for place in _where(finding, width - len(_INDENT))]
    known = [finding for finding in report.findings if finding.known]
    for (code, reason), group in _groups(known, lambda finding: (finding.code, finding.known)):
        names = Counter(finding.patient_id or "the collection" for finding in group)
        where = ", ".join(name if number == 1 else f"{name} ({number})" for name, number in sorted(names.items()))
        lines += _wrapped(f"{code} known    ", f"{reason}: {where}", width)
    for reason, rules in _groups([rule for rule in report.rules if rule.status == "skipped"], lambda rule: rule.reason):
        lines += _wrapped("skipped: ", f"{', '.join(rule.code for rule in rules)} ({reason})", width)
    for rule in report.rules:
        if rule.reason and rule.status != "skipped" and not rule.reason.startswith("crashed"):
            lines += _wrapped(f"{rule.code} checked in part: ", rule.reason, width)
    return "\n".join([*lines, *_wrapped("", _summary(report), width)])


def _said(finding: Finding) -> str:
    return f"{finding.patient_id}: {finding.message}" if finding.patient_id else finding.message


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=head, subsequent_indent=_INDENT, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _where(finding: Finding, width: int) -> list[str]:
    place = finding.path or (f"series {finding.series_uid}" if finding.series_uid else "")
    place = place or (f"study {finding.study_uid}" if finding.study_uid else "")
    rows = [_shortened(place, width)] if place else []
    return [*rows, f"element {finding.tag}"] if finding.tag else rows


def _shortened(place: str, width: int) -> str:
    """Return a path that fits: with the middle of its long names left out, of folders still more than of the file."""
    for most in (24, 18, 12):
        if len(place) > width:
            *folders, file = place.split("/")
            place = "/".join([*(_middle(name, most) for name in folders), _middle(file, 24)])
    return place


def _middle(name: str, most: int) -> str:
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"


def _groups(items: Iterable[_Item], key: Callable[[_Item], Any]) -> list[tuple[Any, list[_Item]]]:
    return [(name, list(group)) for name, group in groupby(sorted(items, key=key), key=key)]


def _summary(report: Report) -> str:
    """Return how many findings there are, and how many rules were clean, had findings, or were skipped."""
    counts = report.counts
    found = [count(counts[name], name) for name in ("error", "warning")]
    found += [f"{counts['info']} info"] if counts["info"] else []
    states = Counter(rule.status for rule in report.rules)
    failing = {finding.code for finding in report.findings if not finding.known}
    hit = states["failed"]
    only_known = sum(rule.status == "failed" and rule.code not in failing for rule in report.rules)
    rules = [f"{states['passed']} clean"]
    rules += [f"{hit - only_known} with findings"] if hit > only_known else []
    rules += [f"{only_known} with known issues only"] if only_known else []
    rules += [f"{states['skipped']} skipped"] if states["skipped"] else []
    known = f" ({count(counts['known'], 'known issue')} not counted)" if counts["known"] else ""
    more = " 'hcc-tace explain CODE' says more about a rule." if report.findings else ""
    return f"{', '.join(found)}{known}. Rules: {', '.join(rules)}.{more}"


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
