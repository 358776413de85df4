"""HT3, outside the headers: names of files and folders, and the clinical sheet."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.clinical import read_sheet
from hcc_tace_data.clinical.columns import COLUMNS, by_header
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.system.masking import mask
from hcc_tace_data.validators.deid.free_text import suspicions
from hcc_tace_data.validators.deid.suspects import deid_facts
from hcc_tace_data.validators.facts.sheet import sheet_path
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft, Skip

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["clinical_sheet", "file_names", "name_kinds"]

#: Names that software gives: UIDs, numbers, a modality and a number. Longer numbers are judged.
_PLAIN = re.compile(
    r"[A-Za-z]{0,8}[-_.]?\d{1,6}|(?:[A-Z]{2,3}[._-])?[0-2](?:\.\d+){2,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.I,
)
_ENDING = re.compile(r"\.(?:dcm|ima|dicom|nii(?:\.gz)?|xlsx|csv|json|gz)$", re.I)
#: What the archive's download tool puts before descriptions: "04-21-2000-NA-" (the study's date), "2.000000-".
_RETRIEVER = re.compile(r"^(\d{2}-\d{2}-\d{4})-(?=.)|^\d+\.0{3,6}-")
_DROPPED_KINDS = frozenset({"IP address", "phone number", "social security number"})


@lru_cache(maxsize=1 << 16)  # every name is asked for as a file's and when findings are masked
def name_kinds(name: str) -> tuple[str, ...]:
    """Return the kinds of identifier that the name of one file or folder may hold.

    Examples
    --------
    >>> name_kinds("Simpson_Homer.dcm"), name_kinds("1.3.6.1.4.1.14519.5.2.1.99.dcm"), name_kinds("IM000001.dcm")
    (('person name',), (), ())
    """
    name = _RETRIEVER.sub(" ", name)
    stem = _ENDING.sub("", name)
    if _PLAIN.fullmatch(stem):
        return ()
    text = re.sub(r"\d+(?:\.\d+){4,}", " ", stem)  # UIDs among other words
    return tuple(kind for kind in suspicions(text.replace("_", " ")) if kind not in _DROPPED_KINDS)


def file_names(context: Context) -> Iterator[Draft]:
    """HT314: names of files and folders hold no identifiers."""
    told: set[str] = set()
    pattern = re.compile(context.catalog.identity.patient_id_pattern)
    facts = context.fact(deid_facts)
    dates = context.instances["study_date"].tolist()
    for row, path in enumerate(context.instances["path"]):
        for part in path.split("/"):
            if part in told:
                continue
            told.add(part)
            if pattern.fullmatch(part):
                continue
            kinds = list(name_kinds(part))
            named = _RETRIEVER.match(part)
            if named and named.group(1) and not _is_date(named.group(1), dates[row]):
                kinds = ["date", *kinds]
            if facts.tells(part):
                kinds = [*kinds, "an identifier found elsewhere"]
            if kinds:
                yield Draft(
                    message=f"The name of a file or folder may hold: {', '.join(kinds)}.",
                    hint="Rename it; the series UID and the instance number make good names.",
                    evidence={"name": mask(part)},
                    at=context.place(row),
                )


def _is_date(text: str, study_date: str) -> bool:
    """Return whether MM-DD-YYYY is the date that the header gives the study: then it tells nothing new."""
    month, day, year = text.split("-")
    return f"{year}{month}{day}" == study_date


def clinical_sheet(context: Context) -> Iterator[Draft]:
    """HT313: cells and comments of the clinical sheet hold codes and measurements only."""
    path = context.fact(sheet_path)
    try:
        cells = list(_cells(path))
    except HccTaceError:
        raise Skip("the clinical sheet cannot be read (HT702)") from None
    except Exception as error:  # a workbook that is broken: what it holds is unchecked, and that is said
        raise Skip(f"the clinical sheet cannot be read ({type(error).__name__})") from None
    pattern = re.compile(context.catalog.identity.patient_id_pattern)
    for where, patient, value, known in cells:
        text = value.isoformat() if isinstance(value, datetime.date) else str(value).strip()
        kinds: list[str] = []
        if isinstance(value, datetime.date):
            kinds = ["date"]
        elif isinstance(value, str) and text not in known and not pattern.fullmatch(text):
            kinds = suspicions(text)
            if where.startswith("glossary"):  # staging systems bear names
                kinds = [kind for kind in kinds if kind not in ("person name", "institution", "date")]
            if context.fact(deid_facts).tells(text):
                kinds = [*kinds, "an identifier found elsewhere"]
        if kinds:
            yield Draft(
                message=f"A cell of the clinical sheet may hold: {', '.join(kinds)}.",
                hint="Clean the cell; dates belong there as intervals.",
                at=Place(patient_id=patient if pattern.fullmatch(patient) else ""),
                evidence={"value": mask(text), "cell": where},
            )


def _cells(path: Path) -> Iterator[tuple[str, str, object, frozenset[str]]]:
    """Yield place, patient, value and the codes that its column knows, of every cell and comment."""
    if path.suffix.lower() != ".xlsx":
        table = read_sheet(path)
        for header in table.columns:
            known = _known(str(header))
            for place, (patient, value) in enumerate(zip(table.iloc[:, 0], table[header], strict=True)):
                if not isinstance(value, float) and value is not None:
                    yield f"row {place}", str(patient), value, known
        return
    import openpyxl

    # not read-only: that mode leaves comments out
    book = openpyxl.load_workbook(path, data_only=True)
    for sheet in book.worksheets:
        headers = [_known(str(cell.value)) for cell in next(sheet.iter_rows(max_row=1), ())]
        for cells in sheet.iter_rows():
            patient = str(cells[0].value)
            for cell, known in zip(cells, headers, strict=False):
                where = f"{sheet.title} {cell.coordinate}"
                if cell.value is not None:
                    yield where, patient, cell.value, known if cell.row > 1 else _HEADERS
                if cell.comment is not None:
                    yield f"{where} (comment)", patient, cell.comment.text, frozenset()


_HEADERS = frozenset(column.header for column in COLUMNS)


def _known(header: str) -> frozenset[str]:
    try:
        return frozenset(str(code) for code, _ in by_header(header).codes)
    except KeyError:
        return frozenset()
