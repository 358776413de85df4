"""HT3, what a file says of its own de-identification, and its dates."""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from hcc_tace_data.dicom.header_values import value_text
from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.deid.facts import DeidFacts, Value, report
from hcc_tace_data.validators.deid.profile import is_private
from hcc_tace_data.validators.deid.suspects import deid_facts
from hcc_tace_data.validators.facts.header_scan import WATCHED, Marks
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["consistent_dates", "dates_marked", "identity_removed", "method_recorded", "plausible_dates"]

_EARLIEST = datetime.date(1990, 1, 1)
#: Dates of one visit to the scanner, and how many days they may lie apart: an examination may go on over midnight.
_VISIT = frozenset({"00080020", "00080021", "00080022", "00080023", "0008002A", "00080012", "00400244", "00400250"})
_APART = 2


def _alike(context: Context) -> list[list[int]]:
    """Return rows of files that share study, series and what is watched, in the order of the first of them.

    Derived objects are left out: they inherit their sources' state, and the software that makes them records none.
    """
    facts = context.fact(deid_facts)
    table = context.instances
    alike: dict[tuple[str, str, Marks], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(table["study_uid"], table["series_uid"], facts.scan.marks, strict=True)):
        alike[key].append(row)
    return [rows for rows in alike.values() if not facts.derived(rows[0])]


def _by_series(context: Context, wrong: Callable[[DeidFacts, int], bool]) -> Iterator[tuple[int, int]]:
    """Yield the first row and the number of files of each series that `wrong`, told by what is watched, is true for."""
    facts = context.fact(deid_facts)
    found: dict[str, list[int]] = defaultdict(list)
    series = context.instances["series_uid"].tolist()
    for rows in context.fact(_alike):
        if wrong(facts, rows[0]):
            found[series[rows[0]]] += rows
    for rows in found.values():
        yield rows[0], len(rows)


def method_recorded(context: Context) -> Iterator[Draft]:
    """HT304: (0012,0063) or (0012,0064) is there."""
    for row, files in _by_series(
        context, lambda facts, row: not facts.mark(row, "00120063") and not facts.mark(row, "00120064/00080100")
    ):
        yield Draft(
            message=f"{count(files, 'file')} of the series {verb(files, 'does')} not record how they were "
            "de-identified.",
            hint="Set (0012,0063) or (0012,0064).",
            tag="00120063",
            evidence={"count": files},
            at=context.place(row),
        )


def identity_removed(context: Context) -> Iterator[Draft]:
    """HT315: (0012,0062) is YES."""
    for row, files in _by_series(context, lambda facts, row: facts.mark(row, "00120062") != "YES"):
        yield Draft(
            message=f"{count(files, 'file')} of the series {verb(files, 'does')} not say that the patient's "
            "identity was removed.",
            hint="Set PatientIdentityRemoved (0012,0062) to YES once it was.",
            tag="00120062",
            evidence={"count": files},
            at=context.place(row),
        )


def dates_marked(context: Context) -> Iterator[Draft]:
    """HT310: (0028,0303) is MODIFIED, or REMOVED."""
    for row, files in _by_series(
        context, lambda facts, row: facts.mark(row, "00280303") not in ("MODIFIED", "REMOVED")
    ):
        yield Draft(
            message=f"{count(files, 'file')} of the series {verb(files, 'does')} not say that dates were modified.",
            hint="Shift the dates, then set LongitudinalTemporalInformationModified (0028,0303) to MODIFIED.",
            tag="00280303",
            evidence={"count": files},
            at=context.place(row),
        )


def plausible_dates(context: Context) -> Iterator[Draft]:
    """HT305: dates lie between 1990 and today."""
    facts = context.fact(deid_facts)
    yield from report(
        context,
        (
            (
                value,
                "A date that is not one, is before 1990 or lies in the future.",
                "Shift the patient's dates again, all by the same number of days.",
            )
            for value in facts.values({"DA", "DT"})
            if _dated(facts, value) and any(not _plausible(one) for one in value.text.split("\\"))
        ),
    )


def _dated(facts: DeidFacts, value: Value) -> bool:
    """Return whether HT305 judges a date: private ones and births are others'; other collections shift as they like."""
    return not is_private(value.path) and not facts.profile.removed(value.path) and not facts.elsewhere(value.seen.row)


def _plausible(text: str) -> bool:
    if not text.strip():
        return True
    date = parse_date(text)
    return date is not None and _EARLIEST <= date <= datetime.datetime.now(datetime.UTC).date()


def parse_date(text: str) -> datetime.date | None:
    """Return the day of a DICOM date or date-time (also the old form with points); None if it is not one."""
    found = re.match(r"\s*(\d{4})\.?(\d{2})\.?(\d{2})", text)
    try:
        return datetime.date(*map(int, found.groups())) if found else None
    except ValueError:
        return None


def consistent_dates(context: Context) -> Iterator[Draft]:
    """HT309: dates of one examination lie together, so all were shifted by the same number of days."""
    facts = context.fact(deid_facts)
    hint = "Shift all dates of the patient by the same number of days."

    def torn(facts: DeidFacts, row: int) -> bool:
        return not facts.elsewhere(row) and _spread(_visit(facts.scan.marks[row])) > _APART

    told: set[str] = set()
    studies = context.instances["study_uid"].tolist()
    for row, files in _by_series(context, torn):
        told.add(studies[row])
        days = _spread(_visit(facts.scan.marks[row]))
        yield Draft(
            message=f"Dates of one examination lie {days} days apart in {count(files, 'file')} of the series.",
            hint=hint,
            tag="00080020",
            evidence={"count": files, "days": days},
            at=context.place(row),
        )
    between: dict[str, tuple[int, set[datetime.date]]] = {}
    for rows in context.fact(_alike):
        uid = studies[rows[0]]
        if uid not in told and not facts.elsewhere(rows[0]):
            between.setdefault(uid, (rows[0], set()))[1].update(_visit(facts.scan.marks[rows[0]]))
    for row, dates in between.values():
        if _spread(frozenset(dates)) > _APART:
            own = context.place(row)
            place = Place(patient_id=own.patient_id, study_uid=own.study_uid)
            yield Draft(
                message=f"Dates of one study lie {_spread(frozenset(dates))} days apart.",
                hint=hint,
                tag="00080020",
                evidence={"days": _spread(frozenset(dates))},
                at=place,
            )


@lru_cache(maxsize=4096)
def _visit(marks: Marks) -> frozenset[datetime.date]:
    texts = [value_text("LO", raw) for path, raw in zip(WATCHED, marks, strict=True) if path in _VISIT and raw]
    return frozenset(date for text in texts if (date := parse_date(text)) is not None)


def _spread(dates: frozenset[datetime.date]) -> int:
    return (max(dates) - min(dates)).days if dates else 0
