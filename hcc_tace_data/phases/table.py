"""What the series table tells of phases: descriptions, numbers, counts and the order within a day.

Rules, applied to all CT series of one patient's day (one visit may be spread over several studies):

- a description that names a phase ('PRE LIVER', 'ARTERIAL', 'VENOUS', 'DELAYED') is believed;
- 'Recon 2: X' and 'Recon 3: X' are two phases of one injection, as are two other series of which none is named PRE;
  without a named one, the first of two series that are no such pair is pre-contrast;
- the phases of an injection follow in the order of SeriesNumber modulo 100: the scanners number a later
  reconstruction of series 3 as 103;
- the last series of a visit stacks two phases if it is far longer than one sweep (see :func:`stacked`); a visit that
  is one series stacks what its name promises.

Nothing here knows a patient or a UID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TableLabel", "label_day", "named_phase", "stacked"]

#: Phases of one injection, in order.
_DYNAMIC = ("arterial", "portal_venous", "delayed")
#: Words of a description. 'P' of 'C/A/P' is the pelvis; 'W/WO' and 'W&W/O' are scans with and without contrast.
_WORDS = (
    ("delayed", re.compile(r"\b(DELAY(ED)?|EQUILIBRIUM|LATE|\d+ ?MIN)\b")),
    ("portal_venous", re.compile(r"\b(PORTAL|PORTO|VENOUS|PV)\b")),
    ("arterial", re.compile(r"\b(ARTERIAL|ART|ARTERY)\b")),
    ("pre_contrast", re.compile(r"\b(PRE|NON ?-?CON(TRAST)?|UNENHANCED|(?<![/&])W/?O CON(T|TRAST)?|NATIVE)\b")),
)
_POST = re.compile(r"\bPOST\b")
_RECON = re.compile(r"^RECON \d+: *(.*)$")
_PHASES = re.compile(r"\b3 ?PHASE")

# A series of two sweeps is longer than the visit's other series by at least so much ...
_LONGER = 1.3
# ... where both other phases have series of their own, longer by so much, even, and of so many slices.
_MUCH_LONGER = 1.5
_LONG = 140


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


def stacked(count: int, others: Sequence[int], *, complete: bool) -> bool:
    """Whether a series of `count` slices holds two sweeps.

    Parameters
    ----------
    count : int
        Slices of the series.
    others : sequence of int
        Slices of the visit's other series.
    complete : bool
        Whether the others leave no phase of a usual visit unaccounted for. Then only a series of an even number
        of slices, far longer than all others and longer than one sweep of the trunk needs, counts.
    """
    longest = max(others, default=0)
    if complete:
        return count % 2 == 0 and count >= _LONG and count >= _MUCH_LONGER * longest
    return count >= _LONGER * longest


def label_day(rows: Sequence[Mapping[str, Any]], volumes: Mapping[str, int] | None = None) -> dict[str, TableLabel]:
    """Label the CT series of one patient's day.

    Parameters
    ----------
    rows : sequence of mapping
        `series_uid`, `series_number`, `series_description`, `instances` of each series.
    volumes : mapping of str to int, optional
        Series UID -> number of volumes, where the files were looked at; default: concluded from the counts.

    Returns
    -------
    dict of str to TableLabel
        By series UID. A volume beyond what can be told is "unknown".
    """
    ordered = sorted(rows, key=_order)
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
    numbers = [known.get(str(row["series_uid"])) or _sweeps(row, open_rows, counts) for row in open_rows]
    wanted = _sequence(sum(numbers), taken, alone=len(ordered) == 1)
    for row, number in zip(open_rows, numbers, strict=True):
        phases, wanted = tuple(wanted[:number]), wanted[number:]
        reason = f"order of the visit's series: number {row['series_number']}"
        if number > 1:
            reason += f", {counts[str(row['series_uid'])]} slices in {number} sweeps"
        labels[str(row["series_uid"])] = TableLabel(phases, 0.7 if len(ordered) == 1 else 0.85, reason)
    return labels


def _order(row: Mapping[str, Any]) -> tuple[int, int, str]:
    number = row["series_number"]
    value = int(number) if number == number and number not in (None, "") else 0
    return value % 100, value, str(row["series_uid"])


def _one_injection(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all series are reconstructions of one protocol, by their descriptions."""
    matches = [_RECON.match(str(row["series_description"] or "").upper()) for row in rows]
    return all(matches) and len({match.group(1) for match in matches if match}) == 1


def _sweeps(row: Mapping[str, Any], open_rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> int:
    """Number of sweeps in a series, from the counts alone."""
    uid = str(row["series_uid"])
    if len(counts) == 1:
        description = str(row["series_description"] or "").upper()
        # The whole examination in one series has all that its name promises; a reconstruction is of the injection.
        return 3 if _PHASES.search(description) and not _RECON.match(description) else 2
    if row is not open_rows[-1]:
        return 1
    others = [count for key, count in counts.items() if key != uid]
    return 2 if stacked(counts[uid], others, complete=len(counts) > 2) else 1


def _sequence(count: int, taken: set[str], *, alone: bool) -> list[str]:
    """Phases of `count` volumes in order of acquisition, after those that descriptions name."""
    left = [phase for phase in _DYNAMIC if phase not in taken]
    if alone and count == 3:
        left = ["pre_contrast", "arterial", "portal_venous"]
    elif count == 1 and "portal_venous" in left:
        # A single contrast series of a visit is the porto-venous one: a liver is never followed up without it.
        left = ["portal_venous"]
    return (left + ["unknown"] * count)[:count]
