"""What a rule is and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["DEPTHS", "Check", "Depth", "Finding", "Rule", "Severity", "Skip"]

Severity = Literal["error", "warning", "info"]
Depth = Literal["index", "headers", "pixels"]
#: From the cheapest to the dearest.
DEPTHS: tuple[Depth, ...] = ("index", "headers", "pixels")


class Skip(Exception):
    """A rule cannot be checked here; the message says why."""


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

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain JSON values; ``known`` is the reason of a known issue, or empty."""
        return asdict(self)


Check = Callable[["Context"], Iterable[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A coded check. `check` yields the fields of a :class:`Finding`, without code and severity."""

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
