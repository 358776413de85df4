"""What a rule is and what it finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.place import NOWHERE, Place

__all__ = [
    "DEPTHS", "KNOWN_PLACE", "SEVERITIES", "Check", "Depth", "Draft", "Finding", "Partly", "Rule", "Severity", "Skip",
]  # fmt: skip

Severity = Literal["error", "warning", "info"]
Depth = Literal["index", "headers", "pixels"]
#: From the cheapest to the most expensive.
DEPTHS: tuple[Depth, ...] = ("index", "headers", "pixels")
#: From the gravest to the lightest.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


#: Name in a finding's evidence of what the catalogue's known issues name a series by (study date and series number).
#: The engine takes it out: a date that was not shifted identifies.
KNOWN_PLACE = "known_place"


class Skip(Exception):
    """A rule cannot be checked here; the message says why."""


@dataclass(frozen=True, slots=True)
class Partly:
    """Yielded among the findings by a rule that could not look at everything: what it left unchecked, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a rule yields: a finding without the code, which the engine adds.

    Attributes
    ----------
    message : str
        What is wrong.
    hint : str
        What to do about it.
    at : Place
        Where it is.
    tag : str
        Tag path of the element.
    evidence : mapping
        Figures behind the message, as plain JSON values; they are part of the fingerprint.
    severity : str, optional
        Default the rule's.
    """

    message: str
    hint: str = ""
    at: Place = NOWHERE
    tag: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One defect. Suspected identifiers are masked before they come here."""

    code: str
    severity: Severity
    message: str
    hint: str = ""
    patient_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    path: str = ""
    tag: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    known: str = ""

    @classmethod
    def of(cls, rule: Rule, draft: Draft) -> Finding:
        """Return what `rule` found."""
        return cls(
            code=rule.code,
            severity=draft.severity or rule.severity,
            message=draft.message,
            hint=draft.hint,
            tag=draft.tag,
            evidence=draft.evidence,
            **asdict(draft.at),
        )

    @property
    def fingerprint(self) -> str:
        """What stays the same of this finding from run to run, and of no other.

        A digest of its code, its places (relative to the root), what it says, and its evidence, as they are shown:
        masked values are distinguished by first character and length only, since the digest of a short value gives it
        away.
        """
        places = (self.patient_id, self.study_uid, self.series_uid, self.sop_uid, self.path, self.tag)
        evidence = json.dumps(_rounded(self.evidence), sort_keys=True, default=str)
        text = "\0".join((self.code, *places, self.message, evidence))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON values; ``known`` is the reason of a known issue, or empty."""
        return {**asdict(self), "fingerprint": self.fingerprint}


def _rounded(value: Any) -> Any:
    """Round floats, so that the last bits of another machine make no other finding."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value


Check = Callable[[Context], Iterable[Draft | Partly]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A coded check.

    `check` yields a :class:`Draft` per finding. It may yield :class:`Partly`, and raise :class:`Skip` where it can
    check nothing. Where `needs_files` is false the rule can be checked from tables alone.

    A rule that is `local` judges each patient by that patient's files alone: by the instance table,
    :mod:`~hcc_tace_data.validators.facts.extra_headers` and the clinical sheet. All its findings name the patient, and
    what it leaves unchecked is the same for all. Its findings are kept (:mod:`hcc_tace_data.validators.unchanged`).
    """

    code: str
    name: str
    severity: Severity
    scope: Literal["collection", "patient", "study", "series", "instance"]
    depth: Depth
    summary: str
    why: str
    fix: str
    source: str
    check: Check
    needs_files: bool = True
    local: bool = False

    def collect(self, context: Context, found: list[Finding], unchecked: list[str]) -> None:
        """Append what the rule finds, and what it leaves unchecked. What the check raises is raised."""
        for draft in self.check(context):
            if isinstance(draft, Partly):
                unchecked.append(draft.reason)
            else:
                found.append(Finding.of(self, draft))
