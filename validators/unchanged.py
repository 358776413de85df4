"""Findings of patients whose files did not change: kept, and not looked for again.

This holds for rules that judge each patient by that patient's files alone. Findings are kept as the rules yield them,
before anything is masked, reviewed or left out: that is decided again in every run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.extra_headers import extra_headers
from hcc_tace_data.validators.facts.sheet import sheet_path, sheet_read
from hcc_tace_data.validators.rule import SEVERITIES, Finding, Rule, Skip

__all__ = ["by_patient", "linked_patients", "local_findings"]

#: Findings and what was left unchecked.
Told = tuple[list[Finding], list[str]]

_KIND = Kind("findings", ("validators",), private=True)
_FIELDS = frozenset(one.name for one in fields(Finding)) - {"code", "known"}
#: A patient that shares one of these with another is judged by more than its own files.
_SHARED = ("sop_uid", "series_uid", "study_uid")


def by_patient(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by patient, those of one patient in their order."""
    return sorted(findings, key=lambda finding: finding.patient_id)


def local_findings(context: Context, rules: Sequence[Rule]) -> dict[str, Told]:
    """Return what local rules tell, by code, looking only at patients whose files changed.

    A rule that has to be run on all files together, as it skips or crashes, is left out.

    Parameters
    ----------
    context : Context
    rules : sequence of Rule
        All of them local.
    """
    kept = context.collection.kept
    sheet = _sheet(context)
    if kept.store is None or sheet is None or not rules or not len(context.instances):
        return {}
    paths: dict[str, list[str]] = {}
    for patient, path in zip(context.instances["patient_id"], context.instances["path"], strict=True):
        paths.setdefault(str(patient), []).append(path)
    linked = linked_patients(context)
    options = (context.depth, [rule.code for rule in rules], sheet)
    keys = {patient: kept.key(_KIND, own, patient, *options) for patient, own in paths.items() if patient not in linked}
    told: dict[str, dict[str, Told]] = {}
    values = kept.get(_KIND, keys.values())
    for patient, key in keys.items():
        own = _from_plain(values.get(key), patient)
        if own is not None:
            told[patient] = own
    missing = frozenset(paths) - frozenset(told)
    if missing:
        some = context if len(missing) == len(paths) else context.among(missing)
        if sheet:
            some.know(sheet_read, context.fact(sheet_read))
        new = _look(some, rules, missing)
        unread = _unread(some)
        told |= new
        entries = {keys[one]: _plain(new[one]) for one in sorted(missing - linked - unread) if keys[one]}
        changed = {keys[one] for one in missing - linked if not kept.unchanged(paths[one])}
        if _sheet(context) == sheet:
            kept.put(_KIND, {key: one for key, one in entries.items() if one is not None and key not in changed})
    together: dict[str, Told] = {}
    for rule in rules:
        if all(rule.code in own for own in told.values()):
            every = [told[patient][rule.code] for patient in sorted(told)]
            together[rule.code] = (
                [one for found, _ in every for one in found],
                [one for _, why in every for one in why],
            )
    return together


def linked_patients(context: Context) -> frozenset[str]:
    """Return the patients that share an instance, series or study with another."""
    table = context.instances
    linked: set[str] = set()
    patients = table["patient_id"].tolist()
    for name in _SHARED:
        owners: dict[str, str] = {}
        for patient, uid in zip(patients, table[name].tolist(), strict=True):
            owner = owners.setdefault(uid, patient)
            if owner != patient:
                linked |= {str(owner), str(patient)}
    return frozenset(linked)


def _look(context: Context, rules: Sequence[Rule], patients: frozenset[str]) -> dict[str, dict[str, Told]]:
    """Return what rules find of each patient, by code; without those that cannot be run, or name nobody."""
    told: dict[str, dict[str, Told]] = {patient: {} for patient in patients}
    for rule in rules:
        found: list[Finding] = []
        unchecked: list[str] = []
        try:
            rule.collect(context, found, unchecked)
        except Exception:
            continue
        if all(one.patient_id in patients for one in found):
            for patient in patients:
                told[patient][rule.code] = ([], list(unchecked))
            for one in found:
                told[one.patient_id][rule.code][0].append(one)
    return told


def _unread(context: Context) -> frozenset[str]:
    """Return patients with files whose headers could not be read, which may be otherwise the next time."""
    if not context.has(extra_headers):
        return frozenset()
    blank = context.fact(extra_headers)["meta_sop_uid"].isna()
    return frozenset(map(str, context.instances.loc[blank, "patient_id"].unique()))


def _sheet(context: Context) -> str | None:
    """Return a digest of the clinical sheet; empty where it is missing, None where it cannot be read."""
    try:
        return hashlib.sha256(context.fact(sheet_path).read_bytes()).hexdigest()
    except Skip:
        return ""
    except OSError:
        return None


def _plain(told: Mapping[str, Told]) -> Any:
    """Return JSON-ready values; None where they would come back as others."""
    value = {
        code: [[{name: item for name, item in asdict(one).items() if name in _FIELDS} for one in found], unchecked]
        for code, (found, unchecked) in told.items()
    }
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return None
    return value if json.loads(text) == _lists(value) else None


def _lists(value: Any) -> Any:
    """Return tuples as lists, as a report shows them."""
    if isinstance(value, Mapping):
        return {key: _lists(one) for key, one in value.items()}
    return [_lists(one) for one in value] if isinstance(value, (list, tuple)) else value


def _from_plain(value: Any, patient: str) -> dict[str, Told] | None:
    """Return what :func:`_plain` was given; None where it is something else."""
    try:
        return {code: ([_finding(code, one, patient) for one in found], list(map(str, unchecked)))
                for code, (found, unchecked) in value.items()}  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _finding(code: str, value: Mapping[str, Any], patient: str) -> Finding:
    if value.keys() != _FIELDS or value["patient_id"] != patient or value["severity"] not in SEVERITIES:
        raise ValueError("another form")
    if not isinstance(value["evidence"], dict):
        raise TypeError("another form")
    return Finding(code=code, **value)
