"""Phases from the series table: descriptions, numbers, counts and the order within a day.

Rules, applied to all CT series of one patient's day (one visit may be spread over several studies):

- a description that names a phase ('PRE LIVER', 'ARTERIAL', 'VENOUS', 'DELAYED') is believed;
- 'Recon 2: X' and 'Recon 3: X' are reconstructions of two sweeps of one injection, in this order. 'X' without a prefix
  is the protocol's own image set, which the scanner completes after its last sweep: beside a 'Recon n: X' it is the
  later one, whatever its number (3, or 103 where it was reconstructed again);
- other series of an injection follow in the order of SeriesNumber;
- without a named one, the first of two series that do not form such a pair is pre-contrast;
- each of several reconstructions of a protocol is one sweep, however long: a late sweep often covers chest or pelvis
  too. A series that is alone with an injection stacks its sweeps if it is far longer than the visit's other series, or
  if it is a protocol of several phases ('LIVER 2 PHASE') and not one reconstruction of it;
- a visit of a single series holds both sweeps, unless its description names only the regions of the trunk ('C-A-P'),
  as that of a routine porto-venous scan does.

Nothing here knows a patient or a UID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hcc_tace_data.phases.names import DYNAMIC

__all__ = ["TableLabel", "label_day", "named_phase"]

#: Words of a description. 'P' of 'C/A/P' is the pelvis; 'W/WO' and 'W&W/O' are scans with and without contrast.
_WORDS = (
    ("delayed", re.compile(r"\b(DELAY(ED)?|EQUILIBRIUM|LATE|\d+ ?MIN)\b")),
    ("portal_venous", re.compile(r"\b(PORTAL|PORTO|VENOUS|PV)\b")),
    ("arterial", re.compile(r"\b(ARTERIAL|ART|ARTERY)\b")),
    ("pre_contrast", re.compile(r"\b(PRE|NON ?-?CON(TRAST)?|UNENHANCED|(?<![/&])W/?O CON(T|TRAST)?|NATIVE)\b")),
)
_POST = re.compile(r"\bPOST\b")
_RECON = re.compile(r"^RECON \d+: *(.*)$")
_PHASES = re.compile(r"\b[2-9] ?PHASE")
_REGIONS = re.compile(r"^C[-/ ]?A[-/ ]?P$")

#: A series of two sweeps is longer than the visit's other series by at least this factor.
LONGER = 1.3


@dataclass(frozen=True, slots=True)
class TableLabel:
    """Phases of one series as the table tells them.

    Attributes
    ----------
    phases : tuple of str
        One for each volume, in order of acquisition.
    confidence : float
        Probability that a phase of this series is right.
    reason : str
        The rule.
    """

    phases: tuple[str, ...]
    confidence: float
    reason: str


def named_phase(description: str) -> str | None:
    """Return the phase that a SeriesDescription names, or None.

    Examples
    --------
    >>> named_phase("Recon 2: PRE LIVER"), named_phase("VENOUS"), named_phase("LIVER 3 PHASE (C/A/P)")
    ('pre_contrast', 'portal_venous', None)
    """
    text = description.upper()
    found = [phase for phase, words in _WORDS if words.search(text)]
    # two names, as in 'ARTERIAL AND VENOUS' or 'PRE AND POST', tell of a protocol, not of a phase
    return found[0] if len(found) == 1 and not (found == ["pre_contrast"] and _POST.search(text)) else None


def label_day(
    rows: Sequence[Mapping[str, Any]], volumes: Mapping[str, int] | None = None, *, longer: float = LONGER
) -> dict[str, TableLabel]:
    """Label the CT series of one patient's day.

    Parameters
    ----------
    rows : sequence of mapping
        `series_uid`, `series_number`, `series_description`, `instances` of each series.
    volumes : mapping of str to int, optional
        Series UID -> number of volumes, where the files were looked at; default: concluded from the counts.
    longer : float
        A series alone with an injection holds two sweeps if it has this many times the slices of the visit's longest
        other series.

    Returns
    -------
    dict of str to TableLabel
        By series UID. A volume beyond what can be determined is "unknown".
    """
    ordered = _in_order(rows)
    named = {str(row["series_uid"]): named_phase(str(row["series_description"] or "")) for row in ordered}
    known = volumes or {}
    labels: dict[str, TableLabel] = {}
    open_rows = []
    for row in ordered:
        uid = str(row["series_uid"])
        phase = named[uid]
        if phase is not None and known.get(uid, 1) == 1:
            labels[uid] = TableLabel((phase,), 0.97, f"described as {row['series_description']!r}")
        else:
            open_rows.append(row)
    has_pre = any(label.phases == ("pre_contrast",) for label in labels.values())
    if not has_pre and len(open_rows) == 2 and len(ordered) == 2 and not _one_injection(open_rows):
        first = open_rows.pop(0)
        uid = str(first["series_uid"])
        labels[uid] = TableLabel(
            ("pre_contrast", *("unknown",) * (known.get(uid, 1) - 1)), 0.9, "first of the visit's two series"
        )
    taken = {phase for label in labels.values() for phase in label.phases}
    counts = {str(row["series_uid"]): int(row["instances"]) for row in ordered}
    # Volumes are counted before they are named: which phases there are depends on how many.
    numbers = [known.get(str(row["series_uid"])) or _sweeps(row, open_rows, counts, longer) for row in open_rows]
    wanted = _sequence(sum(numbers), taken)
    for row, number in zip(open_rows, numbers, strict=True):
        phases, wanted = tuple(wanted[:number]), wanted[number:]
        reason = f"order of the visit's series: number {row['series_number']}"
        if number > 1:
            reason += f", {counts[str(row['series_uid'])]} slices in {number} sweeps"
        labels[str(row["series_uid"])] = TableLabel(phases, 0.7 if len(ordered) == 1 else 0.9, reason)
    return labels


def _in_order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort a visit's series by acquisition: by number, a protocol's own image set after its reconstructions."""
    protocols = {protocol for row in rows for protocol in [_protocol(row)] if _is_recon(row)}

    def key(row: Mapping[str, Any]) -> tuple[bool, int, str]:
        number = row["series_number"]
        value = int(number) if number == number and number not in (None, "") else 0
        return not _is_recon(row) and _protocol(row) in protocols, value, str(row["series_uid"])

    return sorted(rows, key=key)


def _is_recon(row: Mapping[str, Any]) -> bool:
    return bool(_RECON.match(_words(row)))


def _protocol(row: Mapping[str, Any]) -> str:
    """Return the description without 'Recon n:'."""
    match = _RECON.match(_words(row))
    return match.group(1) if match else _words(row)


def _words(row: Mapping[str, Any]) -> str:
    return " ".join(str(row["series_description"] or "").upper().split())


def _one_injection(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all series are images of one protocol, by their descriptions."""
    return any(_is_recon(row) for row in rows) and len({_protocol(row) for row in rows}) == 1


def _sweeps(
    row: Mapping[str, Any], open_rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int], longer: float
) -> int:
    """Return the number of sweeps in a series, from names and counts alone."""
    if len(open_rows) > 1:
        return 1
    if len(counts) == 1:
        return 1 if _REGIONS.match(_words(row)) else 2
    uid = str(row["series_uid"])
    others = [count for key, count in counts.items() if key != uid]
    whole = bool(_PHASES.search(_words(row))) and not _is_recon(row)
    return 2 if whole or counts[uid] >= longer * max(others) else 1


def _sequence(count: int, taken: set[str]) -> list[str]:
    """Return the phases of `count` volumes in order of acquisition, after those that descriptions name."""
    left = [phase for phase in DYNAMIC if phase not in taken]
    if count == 1 and "portal_venous" in left:
        # A single contrast series of a visit is the porto-venous one: a liver is never followed up without it.
        left = ["portal_venous"]
    return (left + ["unknown"] * count)[:count]
