"""What a rule is and what it finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["DEPTHS", "KNOWN_PLACE", "SEVERITIES", "Check", "Depth", "Finding", "Partly", "Rule", "Severity", "Skip"]

Severity = Literal["error", "warning", "info"]
Depth = Literal["index", "headers", "pixels"]
#: From the cheapest to the dearest.
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

    @property
    def fingerprint(self) -> str:
        """What stays the same of this finding from run to run, and of no other.

        A digest of its code, its places (relative to the root), what it says, and its evidence, as they are shown:
        masked values are told apart by first character and length only, since the digest of a short value gives it
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


Check = Callable[["Context"], Iterable["dict[str, Any] | Partly"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A coded check.

    `check` yields the fields of a :class:`Finding` without code; a field ``severity`` overrides the rule's. It may
    yield :class:`Partly`, and raise :class:`Skip` where it can check nothing. Where `needs_files` is false the rule
    can be checked from tables alone.
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
