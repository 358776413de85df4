"""Reading a published table of phases, such as Supplementary Table 1 of the data descriptor.

That workbook has its header on the fourth row: subject, study date, an empty series UID, the series description (or,
where that says nothing, the series UID), a second 'description' that is the phase, and the number of images. Header
row, sheet, spelling and order of the columns are found, not presumed.
"""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.system.workbook import refuse_hostile

if TYPE_CHECKING:
    import os

__all__ = ["PublishedRow", "phases_in", "read_published"]

_MAX_BYTES, _MAX_ROWS, _MAX_COLUMNS = 32 * 2**20, 20_000, 64
_HEADER_ROWS = 20
#: Column -> what its header holds once everything but letters is gone.
_HEADERS = {
    "phase": re.compile(r"phase"),
    "series_uid": re.compile(r"^(series(instance)?uid|uid)"),
    "description": re.compile(r"description"),
    "images": re.compile(r"images|slices|instances|files"),
    "study_date": re.compile(r"date"),
    "patient_id": re.compile(r"name|patient|subject"),
}
_PHASES = (
    ("pre_contrast", r"\bpre\b|pre ?-?contrast|precontrast|non ?-?contrast|noncontrast|unenhanced|native|plain"),
    ("arterial", r"arterial|\bart\b|^a(?=/|$)"),
    ("portal_venous", r"port\w*[ -]*venous|portal|(?<!o )(?<!o-)(?<!l )(?<!l-)\bvenous|\bpv\b"),
    ("delayed", r"delay\w*|equilibrium|(?<=/)d$"),
)
#: A UID, in its own column and among descriptions such as '2.5 STANDARD'.
_UIDS = {"series_uid": re.compile(r"[0-9.]{3,64}"), "description": re.compile(r"[0-9]+(\.[0-9]+){3,}")}
# A column without a title of its own holds phases if so many of its cells name one.
_PHASE_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row of a published table.

    Attributes
    ----------
    line : int
        Row of the sheet, from 1; not compared.
    series_uid : str
        Empty where the row does not give it.
    patient_id, description : str
    study_date : str
        YYYY-MM-DD; empty where the row has none that can be read.
    phases : tuple of str
        In the order of the words.
    images : int or None
        Number of images, of all phases of the row together.
    """

    line: int = field(compare=False)
    series_uid: str
    patient_id: str
    study_date: str
    description: str
    phases: tuple[str, ...]
    images: int | None


def phases_in(text: object) -> tuple[str, ...]:
    """Return the phases that a cell names, in its order.

    Examples
    --------
    >>> phases_in("Pre-contrast"), phases_in("A/PV/D"), phases_in("?")
    (('pre_contrast',), ('arterial', 'portal_venous', 'delayed'), ())
    """
    found = []
    lower = str(text or "").strip().lower().replace("_", " ")
    for phase, words in _PHASES:
        match = re.search(words, lower)
        if match is not None:
            found.append((match.start(), phase))
    return tuple(phase for _, phase in sorted(found))


def read_published(path: str | os.PathLike[str]) -> list[PublishedRow]:
    """Read a published phase table.

    Parameters
    ----------
    path : path-like
        ``.xlsx`` or ``.csv``; further sheets, title rows and empty rows are passed over.

    Returns
    -------
    list of PublishedRow
        In the order of the table.

    Raises
    ------
    CollectionNotFoundError
        No file there.
    UsageError
        No such table, or a row whose phase is not understood.
    """
    file = Path(path)
    if not file.is_file():
        raise CollectionNotFoundError(f"No table of phases at {file}.")
    if file.stat().st_size > _MAX_BYTES:
        raise UsageError(f"{file} has {file.stat().st_size:,} bytes; a table of some hundred series is smaller.")
    for rows in _sheets(file):
        for number, row in enumerate(rows[:_HEADER_ROWS]):
            columns = _columns(row, rows[number + 1 :])
            if "phase" in columns and ("series_uid" in columns or {"patient_id", "description"} <= columns.keys()):
                return _read(file, rows[number + 1 :], number + 2, columns)
    raise UsageError(
        f"{file} has no header with a series UID and a phase among the first {_HEADER_ROWS} rows of any sheet; "
        "expected are name, study date, series UID, series description, phase, number of images."
    )


def _sheets(file: Path) -> Iterator[list[Sequence[Any]]]:
    if file.suffix.lower() == ".csv":
        with open(file, newline="", encoding="utf-8-sig") as handle:
            try:
                rows = list(csv.reader(handle))
            except (csv.Error, UnicodeDecodeError) as error:
                raise UsageError(f"{file} is not a readable table: {error}.") from error
        yield list(rows[:_MAX_ROWS])
        return
    if file.suffix.lower() != ".xlsx":
        raise UsageError(f"{file}: '{file.suffix}' is not a format of a phase table; use .xlsx or .csv.")
    import openpyxl

    refuse_hostile(file, UsageError)
    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises whatever its XML and zip layers raise
        raise UsageError(f"{file} is not a readable workbook ({type(error).__name__}: {error}).") from error
    try:
        for sheet in book.worksheets:
            if hasattr(sheet, "reset_dimensions"):  # the size that a sheet claims may be wrong
                sheet.reset_dimensions()
            yield [list(row) for row in sheet.iter_rows(max_row=_MAX_ROWS, max_col=_MAX_COLUMNS, values_only=True)]
    finally:
        book.close()


def _columns(row: Sequence[Any], below: Sequence[Sequence[Any]]) -> dict[str, int]:
    """Return which column holds what, if `row` is a header."""
    found: dict[str, int] = {}
    spare = []
    for place, cell in enumerate(row):
        text = re.sub(r"[^a-z]", "", str(cell or "").lower())
        matches = [name for name, words in _HEADERS.items() if len(text) < 40 and words.search(text)]
        free = [name for name in matches if name not in found]
        if free:
            found[free[0]] = place
        elif matches:
            spare.append(place)
    if found and "phase" not in found:
        named = [place for place in spare if _names_phases(below, place)]
        found |= {"phase": named[0]} if named else {}
    return found


def _names_phases(rows: Sequence[Sequence[Any]], place: int) -> bool:
    cells = [row[place] for row in rows if place < len(row) and row[place] not in (None, "")]
    return bool(cells) and sum(bool(phases_in(cell)) for cell in cells) >= _PHASE_SHARE * len(cells)


def _read(file: Path, rows: Sequence[Sequence[Any]], first: int, columns: dict[str, int]) -> list[PublishedRow]:
    found = []
    for number, row in enumerate(rows, start=first):
        values = {name: row[place] if place < len(row) else None for name, place in columns.items()}
        text = {name: " ".join(str(value or "").split()) for name, value in values.items()}
        description = str(values.get("description") or "").strip()
        uid = next((text[name] for name, form in _UIDS.items() if form.fullmatch(text.get(name, ""))), "")
        images = _whole(values.get("images"))
        if not uid and not (text.get("patient_id") and description and images is not None):
            continue  # a note under the table, an empty row
        phases = phases_in(values["phase"])
        if not phases:
            raise UsageError(f"{file}, row {number}: {str(values['phase'])[:40]!r} is not a phase.")
        found.append(
            PublishedRow(
                line=number,
                series_uid=uid,
                patient_id=text.get("patient_id", ""),
                study_date=_date(values.get("study_date")),
                description="" if description == uid else description,
                phases=phases,
                images=images,
            )
        )
    if not found:
        raise UsageError(f"{file} has a header for phases but no row with a series.")
    return found


def _whole(value: object) -> int | None:
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return None


def _date(value: object) -> str:
    if isinstance(value, datetime.date):  # a datetime too
        return f"{value:%Y-%m-%d}"
    text = re.sub(r"[^0-9]", "", str(value or ""))[:8]
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 else ""
