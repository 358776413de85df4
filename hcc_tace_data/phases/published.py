"""Phase labels against a published table, as the data descriptor's supplementary one: a confusion matrix.

That table is a workbook whose header is on its fourth row: name, study date, series UID, series description, phase,
number of images. Header row, sheet, spelling and order of the columns are found, not presumed.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.phases.model import KNOWN
from hcc_tace_data.system.workbook import refuse_hostile

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["Comparison", "PublishedSeries", "compare_phases", "phases_in", "read_published"]

_MAX_BYTES, _MAX_ROWS, _MAX_COLUMNS = 32 * 2**20, 20_000, 64
_HEADER_ROWS = 20
#: Column -> what its header holds once everything but letters is gone.
_HEADERS = {
    "phase": re.compile(r"phase"),
    "series_uid": re.compile(r"^(series(instance)?uid|uid)"),
    "description": re.compile(r"description"),
    "instances": re.compile(r"images|slices|instances|files"),
    "study_date": re.compile(r"date"),
    "patient_id": re.compile(r"name|patient"),
}
_PHASES = (
    ("pre_contrast", r"\bpre\b|pre ?-?contrast|precontrast|non ?-?contrast|noncontrast|unenhanced|native|plain"),
    ("arterial", r"arterial|\bart\b"),
    ("portal_venous", r"port\w*[ -]*venous|portal|(?<!o )(?<!o-)(?<!l )(?<!l-)\bvenous|\bpv\b"),
    ("delayed", r"delay\w*|equilibrium"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSeries:
    """Rows of one series in a published table.

    Attributes
    ----------
    series_uid, patient_id : str
    phases : tuple of str
        In the order of rows, and of words within a row.
    instances : tuple of int or None
        Number of images of each of them; None where the table does not tell.
    """

    series_uid: str
    patient_id: str
    phases: tuple[str, ...]
    instances: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Labels against a published table.

    Attributes
    ----------
    matrix : dict of str to dict of str to int
        Published phase -> label -> volumes; "missing" counts published volumes of a series that holds fewer.
    wrong : tuple of dict
        Each pair that differs: `patient_id`, `series_uid`, `published`, `phase`.
    surplus : int
        Volumes beyond those that the table has of their series.
    not_here : tuple of str
        Series of the table that are not among the labelled ones.
    not_published : int
        Labelled series that the table does not hold.
    """

    matrix: dict[str, dict[str, int]]
    wrong: tuple[dict[str, str], ...]
    surplus: int
    not_here: tuple[str, ...]
    not_published: int

    @property
    def volumes(self) -> int:
        """Number of published volumes that were compared."""
        return sum(sum(row.values()) for row in self.matrix.values())

    @property
    def right(self) -> int:
        """Number of them that have the published phase."""
        return sum(row.get(phase, 0) for phase, row in self.matrix.items())

    def document(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "volumes": self.volumes,
            "right": self.right,
            "accuracy": self.right / self.volumes if self.volumes else None,
            "matrix": self.matrix,
            "wrong": list(self.wrong),
            "surplus": self.surplus,
            "not_here": list(self.not_here),
            "not_published": self.not_published,
        }


def phases_in(text: object) -> tuple[str, ...]:
    """Return the phases that a cell names, in its order.

    Examples
    --------
    >>> phases_in("Pre-contrast"), phases_in("Arterial and porto-venous"), phases_in("?")
    (('pre_contrast',), ('arterial', 'portal_venous'), ())
    """
    found = []
    lower = str(text or "").lower().replace("_", " ")
    for phase, words in _PHASES:
        match = re.search(words, lower)
        if match is not None:
            found.append((match.start(), phase))
    return tuple(phase for _, phase in sorted(found))


def read_published(path: str | os.PathLike[str]) -> dict[str, PublishedSeries]:
    """Read a published phase table.

    Parameters
    ----------
    path : path-like
        ``.xlsx`` or ``.csv``; further sheets, title rows and empty rows are passed over.

    Returns
    -------
    dict of str to PublishedSeries
        By SeriesInstanceUID.

    Raises
    ------
    CollectionNotFoundError
        No file there.
    UsageError
        No such table, or a row whose phase cannot be understood.
    """
    file = Path(path)
    if not file.is_file():
        raise CollectionNotFoundError(f"No table of phases at {file}.")
    if file.stat().st_size > _MAX_BYTES:
        raise UsageError(f"{file} has {file.stat().st_size:,} bytes; a table of some hundred series is smaller.")
    for rows in _sheets(file):
        for number, row in enumerate(rows[:_HEADER_ROWS]):
            columns = _columns(row)
            if "phase" in columns and "series_uid" in columns:
                return _series(file, rows[number + 1 :], number + 2, columns)
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


def _columns(row: Sequence[Any]) -> dict[str, int]:
    """Return which column holds what, if `row` is a header."""
    found: dict[str, int] = {}
    for place, cell in enumerate(row):
        text = re.sub(r"[^a-z]", "", str(cell or "").lower())
        for name, words in _HEADERS.items():
            if name not in found and len(text) < 40 and words.search(text):
                found[name] = place
                break
    return found


def _series(
    file: Path, rows: Sequence[Sequence[Any]], first: int, columns: dict[str, int]
) -> dict[str, PublishedSeries]:
    gathered: dict[str, list[tuple[str, str, int | None]]] = {}
    for number, row in enumerate(rows, start=first):
        values = {name: row[place] if place < len(row) else None for name, place in columns.items()}
        uid = str(values["series_uid"] or "").strip()
        if not re.fullmatch(r"[0-9.]{3,64}", uid):  # a note under the table, an empty row
            continue
        phases = phases_in(values["phase"])
        if not phases:
            raise UsageError(f"{file}, row {number}: {str(values['phase'])[:40]!r} is no phase.")
        images = _whole(values.get("instances")) if len(phases) == 1 else None
        gathered.setdefault(uid, []).extend(
            (phase, str(values.get("patient_id") or "").strip(), images) for phase in phases
        )
    if not gathered:
        raise UsageError(f"{file} has a header for phases but no row with a series UID.")
    return {
        uid: PublishedSeries(
            series_uid=uid,
            patient_id=entries[0][1],
            phases=tuple(phase for phase, _, _ in entries),
            instances=tuple(images for _, _, images in entries),
        )
        for uid, entries in gathered.items()
    }


def _whole(value: object) -> int | None:
    try:
        return int(float(str(value)))
    except ValueError:
        return None


def compare_phases(volumes: pd.DataFrame, published: dict[str, PublishedSeries]) -> Comparison:
    """Compare labels with a published table, series by series.

    The table does not say which slices of a stacked series a phase has. Volumes are paired by their numbers of images
    where these differ and agree with the table's; else by phase, and what is left in the table's order.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From :func:`hcc_tace_data.label_phases` or :func:`hcc_tace_data.phases.label.label_table`.
    published : dict
        From :func:`read_published`.
    """
    matrix = {true: dict.fromkeys((*KNOWN, "unknown", "missing"), 0) for true in KNOWN}
    wrong: list[dict[str, str]] = []
    surplus = 0
    here = {str(uid): rows for uid, rows in volumes.groupby("series_uid", sort=False)}
    for uid in sorted(published.keys() & here.keys()):
        one, rows = published[uid], here[uid].sort_values("volume")
        labels, counts = rows["phase"].tolist(), rows["instances"].tolist()
        for true, label in _pairs(one, labels, counts):
            matrix[true][label] += 1
            if true != label:
                wrong.append(
                    {
                        "patient_id": str(rows["patient_id"].iloc[0]),
                        "series_uid": uid,
                        "published": true,
                        "phase": label,
                    }
                )
        surplus += max(0, len(labels) - len(one.phases))
    return Comparison(
        matrix=matrix,
        wrong=tuple(wrong),
        surplus=surplus,
        not_here=tuple(sorted(published.keys() - here.keys())),
        not_published=len(here.keys() - published.keys()),
    )


def _pairs(one: PublishedSeries, labels: list[str], counts: list[int]) -> list[tuple[str, str]]:
    known = [count for count in one.instances if count is not None]
    if len(known) == len(labels) == len(set(known)) and sorted(known) == sorted(counts) and len(known) > 1:
        by_count = dict(zip(counts, labels, strict=True))
        return [(true, by_count[count]) for true, count in zip(one.phases, known, strict=True)]
    agreed = Counter(one.phases) & Counter(labels)
    pairs = [(phase, phase) for phase in agreed.elements()]
    left = list((Counter(one.phases) - agreed).elements())
    other = list((Counter(labels) - agreed).elements())
    return [*pairs, *zip(left, [*other, *["missing"] * len(left)], strict=False)]
