"""HT7: is the clinical sheet sound, and does it say what the images say? The first rules need tables alone."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

from hcc_tace_data.system.words import count
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.extra_headers import extra_headers
from hcc_tace_data.validators.facts.sheet import clinical_sheet, sheet_error, sheet_problems
from hcc_tace_data.validators.facts.tables import series_table
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft, Partly, Rule, Skip

__all__ = ["RULES", "interval_contradictions"]

#: Intervals of the sheet are whole days in weeks, rounded to two decimals.
_HALF_DAY_WEEKS = 0.5 / 7
#: Years between age at diagnosis (sheet) and at a study (header), besides the interval between the two.
_AGE_YEARS = 1.5
_SEX = {1: "M", 2: "F"}

Found = Iterator[Draft | Partly]


def _visits(context: Context) -> dict[str, list[datetime.date]]:
    """Return the days of each patient's studies: of the files, and of the table if there are no files."""
    if len(context.instances):
        pairs = context.instances[["patient_id", "study_date"]].drop_duplicates()
    elif (table := context.fact(series_table)) is not None:
        pairs = table[["patient_id", "study_date"]].drop_duplicates()
    else:
        raise Skip("neither files nor a series table to take study dates from")
    days: dict[str, set[datetime.date]] = {}
    for patient, text in pairs.itertuples(index=False):
        try:
            day = datetime.datetime.strptime(str(text).replace("-", "")[:8], "%Y%m%d").date()
        except ValueError:
            continue
        days.setdefault(str(patient), set()).add(day)
    return {patient: sorted(found) for patient, found in days.items()}


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def interval_contradictions(context: Context) -> Found:
    """Compare Interval_FU with the days between baseline and follow-up, row by row.

    A row that contradicts is compared with the visits of its neighbours too: rows that fit the next rows were shifted
    when the sheet was made.
    """
    sheet = context.fact(clinical_sheet)
    visits = _visits(context)
    patients = [str(value) for value in sheet["TCIA_ID"]]
    weeks = {
        patient: (days[-1] - days[0]).days / 7 for patient, days in visits.items() if len(days) >= 2
    }  # fmt: skip
    empty = 0
    for place, (patient, stated) in enumerate(zip(patients, sheet["Interval_FU"], strict=True)):
        value = _number(stated)
        if value is None:
            empty += 1
        if value is None or patient not in weeks or abs(value - weeks[patient]) < _HALF_DAY_WEEKS:
            continue
        fits = [
            other
            for other in patients[max(0, place - 1) : place] + patients[place + 1 : place + 2]
            if other in weeks and abs(value - weeks[other]) < _HALF_DAY_WEEKS
        ]
        shifted = f" It is the interval of {fits[0]}, the row beside it: rows may have slipped." if fits else ""
        difference = round((value - weeks[patient]) * 7)
        yield Draft(
            message=f"Row {place + 2}: Interval_FU of {patient} is {value:g} weeks, but its studies lie "
            f"{weeks[patient]:.2f} weeks apart ({difference:+d} {'day' if abs(difference) == 1 else 'days'}).{shifted}",
            hint="Take the interval from the study dates; ask the authors before correcting the sheet.",
            at=Place(patient_id=patient),
            evidence={
                "column": "Interval_FU",
                "row": place + 2,
                "sheet_weeks": value,
                "studies_weeks": round(weeks[patient], 4),
                "difference_days": difference,
                "fits": fits[0] if fits else "",
            },
        )
    if empty:
        yield Partly(f"Interval_FU is empty in {count(empty, 'row')}")


def _problems(*checks: str, rest: bool = False) -> Callable[[Context], Found]:
    """Return a check that passes on what the sheet's schema names under `checks` (or, `rest`, under no other)."""

    def check(context: Context) -> Found:
        if rest and (error := context.fact(sheet_error)):
            yield Draft(
                message=f"The clinical sheet cannot be read: {error}",
                hint="Fetch the sheet again, or name another one with --clinical.",
            )
            return
        for problem in context.fact(sheet_problems):
            if (problem.check not in _ELSEWHERE) if rest else (problem.check in checks):
                row = f"Row {problem.row}: " if problem.row else ""
                yield Draft(
                    severity=problem.severity,
                    message=f"{row}{problem.message}.",
                    hint="Compare with the official sheet; correct a copy, never the original.",
                    at=Place(patient_id=problem.patient_id),
                    evidence={"check": problem.check, "column": problem.column, "row": problem.row},
                )

    return check


_GROUPS = ("age_group", "afp_group", "clip_group")
_RESPONSE = ("response_code", "reader_partial")
#: Checks of the schema that have a rule of their own; the order of visits is HT701's.
_ELSEWHERE = frozenset({*_GROUPS, *_RESPONSE, "ttp_after_os", "interval_order"})


def _demographics(context: Context) -> Found:
    """Compare sex and age where headers have them; the archive removed them from nearly all."""
    sheet = context.fact(clinical_sheet)
    seen = context.fact(extra_headers)[["patient_sex", "patient_age"]].join(
        context.instances[["patient_id", "study_date"]]
    )
    seen = seen[(seen["patient_sex"].fillna("") != "") | (seen["patient_age"].fillna("") != "")].drop_duplicates()
    rows = {str(patient): place for place, patient in enumerate(sheet["TCIA_ID"])}
    for patient, found in seen.groupby("patient_id", sort=True):
        if patient not in rows:
            continue
        place = rows[str(patient)]
        sex = _SEX.get(int(_number(sheet["Sex"].iloc[place]) or 0), "")
        others = sorted({value for value in found["patient_sex"] if value in ("M", "F") and sex and value != sex})
        wrong = [f"sex is {others[0]} in the headers and {sex} in the sheet"] if others else []
        age = _number(sheet["age"].iloc[place])
        apart = [
            years
            for years in (_years(str(value)) for value in found["patient_age"])
            if years is not None and age is not None and abs(years - age) > _AGE_YEARS
        ]
        if apart:
            wrong.append(f"age is {apart[0]:.0f} in the headers and {age:.0f} at diagnosis in the sheet")
        if wrong:
            yield Draft(
                message=f"Row {place + 2}: {patient!s}: {'; '.join(wrong)}.",
                hint="One of the two is another person's: compare dates and tumour size before using either.",
                at=Place(patient_id=str(patient)),
                tag="00100040" if others else "00101010",
                evidence={
                    "row": place + 2,
                    "attributes": [*(["sex"] if others else []), *(["age"] if apart else [])],
                },
            )


def _years(text: str) -> float | None:
    """Return a DICOM age string in years.

    Examples
    --------
    >>> _years("079Y"), _years("018M"), _years("")
    (79.0, 1.5, None)
    """
    if len(text) != 4 or not text[:3].isdigit() or text[3] not in "DWMY":
        return None
    return int(text[:3]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[text[3]]


def _both(context: Context) -> Found:
    listed = {str(value) for value in context.fact(clinical_sheet)["TCIA_ID"]}
    table = context.fact(series_table)
    here = set(context.instances["patient_id"]) if len(context.instances) else set()
    known = here | (set(table["patient_id"]) if table is not None else set())
    if not known:
        raise Skip("neither files nor a series table to compare patients with")
    for patient in sorted((here or known) - listed):
        yield Draft(
            message=f"{patient} has images and no row in the clinical sheet.",
            hint="Leave the patient out of analyses of outcome, or fetch the full sheet.",
            at=Place(patient_id=patient),
        )
    for patient in sorted(listed - known):
        yield Draft(
            message=f"{patient} has a row in the clinical sheet and no images.",
            hint="Is it the sheet of another collection, or a misspelt TCIA_ID?",
            at=Place(patient_id=patient),
        )


_GLOSSARY = "glossary of the clinical sheet"
RULES: tuple[Rule, ...] = (
    Rule(
        code="HT701", name="interval-fits-studies", severity="error", scope="patient", depth="index",
        summary="Interval_FU of the sheet is the time between the patient's two study dates (to the day).",
        why="Time to progression counts from it; a slipped row gives one patient the course of another.",
        fix="Take the interval from the study dates, and report the row to the authors.",
        source=_GLOSSARY, check=interval_contradictions, needs_files=False,
    ),
    Rule(
        code="HT702", name="sheet-valid", severity="error", scope="patient", depth="index",
        summary="Values of the sheet have their type, range and vocabulary; required ones are there, patients once.",
        why="An invalid value is silently lost in every analysis.",
        fix="Compare with the official sheet.", source=_GLOSSARY, check=_problems(rest=True), needs_files=False,
    ),
    Rule(
        code="HT703", name="groups-fit-values", severity="warning", scope="patient", depth="index",
        summary="Age, AFP and CLIP groups are those of the values.",
        why="Two analyses of one sheet, by value and by group, must not contradict each other.",
        fix="Form groups from the values.", source=_GLOSSARY, check=_problems(*_GROUPS), needs_files=False,
    ),
    Rule(
        code="HT704", name="response-fits-measurements", severity="warning", scope="patient", depth="index",
        summary="RECIST and mRECIST categories are those of the measurements, and none of the three is missing alone.",
        why="Response is the endpoint of the collection's paper.",
        fix="Form categories from the measurements.", source="RECIST 1.1; mRECIST", check=_problems(*_RESPONSE),
        needs_files=False,
    ),
    Rule(
        code="HT705", name="progression-before-death", severity="warning", scope="patient", depth="index",
        summary="Time to progression is not longer than overall survival.",
        why="Nobody progresses after death: one of the two counts from another day.",
        fix="Leave the patient out of time-to-event analyses, or ask the authors.",
        source=_GLOSSARY, check=_problems("ttp_after_os"), needs_files=False,
    ),
    Rule(
        code="HT706", name="demographics-fit", severity="error", scope="patient", depth="headers",
        summary="Sex and age of the sheet are those of the headers, where headers have them.",
        why="A contradiction means that images and row are of two people.",
        fix="Find out which of the two is right before using the patient.",
        source="10.1038/s41597-023-01928-3", check=_demographics, local=True,
    ),
    Rule(
        code="HT707", name="patients-in-both", severity="error", scope="patient", depth="index",
        summary="Every patient with images has a row in the sheet, and every row a patient of the collection.",
        why="A join that drops patients silently changes every figure after it.",
        fix="Fetch the full sheet, or name the patients left out.",
        source=_GLOSSARY, check=_both, needs_files=False,
    ),
)  # fmt: skip
