"""What the clinical sheet must satisfy: a pandera schema over its 57 original columns.

All failures are collected (pandera's lazy validation) and come back as :class:`ClinicalProblem` records, one for a
row and a check, so that a report can name every defect and a loader can refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from hcc_tace_data.clinical.columns import COLUMNS, READERS, Column
from hcc_tace_data.facts.catalog import Catalog, Identity, load_catalog
from hcc_tace_data.system.masking import mask

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

__all__ = ["ClinicalProblem", "as_code", "check_sheet", "reader_headers", "response_code", "sheet_schema"]

# Rounding of the sheet: weeks and diameters carry at most nine significant digits.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalProblem:
    """A defect of the sheet.

    Attributes
    ----------
    check : str
        Name of the check that failed: ``type``, ``range``, ``vocabulary``, ``missing``, ``patient_id``,
        ``duplicate_patient``, ``age_group``, ``afp_group``, ``clip_group``, ``ttp_after_os``, ``interval_order``,
        ``response_code``, ``reader_partial``.
    severity : {"error", "warning"}
        An error makes the sheet unusable as it is; a warning is a value that contradicts its meaning.
    message : str
        What is wrong, and where. Values outside the vocabulary are masked: they may be anything.
    patient_id : str
        Whose row, or the empty string.
    column : str
        Header of the column, of the first of the columns compared, or of the first that is empty.
    row : int
        Row in the sheet as a spreadsheet numbers it (the header is row 1), or 0 for the whole sheet.
    """

    check: str
    severity: Literal["error", "warning"]
    message: str
    patient_id: str = ""
    column: str = ""
    row: int = 0


def response_code(baseline: float, follow_up: float) -> int:
    """Return the RECIST code of a change of diameters: 1 CR, 2 PR, 3 SD, 4 PD.

    Parameters
    ----------
    baseline, follow_up : float
        Sums of diameters in mm.

    Notes
    -----
    Nothing left is CR, a decrease of 30 % or more PR, an increase of 20 % or more PD, else SD. This reproduces
    every published category of RECIST and mRECIST in the sheet.

    Examples
    --------
    >>> [response_code(100, diameter) for diameter in (0, 70, 71, 119, 120)]
    [1, 2, 3, 3, 4]
    """
    if follow_up == 0:
        return 1
    change = (follow_up - baseline) / baseline if baseline else float("inf")
    if change <= -0.30 + _TOLERANCE:
        return 2
    return 4 if change >= 0.20 - _TOLERANCE else 3


def check_sheet(raw: pd.DataFrame, *, catalog: Catalog | None = None) -> list[ClinicalProblem]:
    """Return every defect of a sheet read by :func:`~hcc_tace_data.clinical.sheet.read_sheet`.

    Parameters
    ----------
    raw : pandas.DataFrame
        The 57 original columns.
    catalog : Catalog, optional
        Has the form of PatientIDs; default: the catalogue of HCC-TACE-Seg.

    Returns
    -------
    list of ClinicalProblem
        In the order of rows, then columns; empty when nothing is wrong.
    """
    import pandera.errors

    identity = (load_catalog() if catalog is None else catalog).identity
    try:
        sheet_schema(identity.patient_id_pattern).validate(raw.reset_index(drop=True), lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
    else:
        return []
    problems: dict[tuple[str, str, int], ClinicalProblem] = {}
    for case in cases.to_dict("records"):
        problem = _problem(case, raw, identity)
        problems.setdefault((problem.check, problem.column, problem.row), problem)
    order = {column.header: index for index, column in enumerate(COLUMNS)}
    return sorted(problems.values(), key=lambda p: (p.row, order.get(p.column, 99), p.check))


@cache
def sheet_schema(patient_id_pattern: str) -> pa.DataFrameSchema:
    """Return the pandera schema of the sheet under its original headers, for PatientIDs of a form."""
    import pandera.pandas as pa

    columns = {
        column.header: pa.Column(nullable=True, checks=_column_checks(column, patient_id_pattern)) for column in COLUMNS
    }
    return pa.DataFrameSchema(columns, checks=_row_checks(), strict=True, ordered=True, name="clinical sheet")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _column_checks(column: Column, patient_id_pattern: str) -> list[pa.Check]:
    import pandera.pandas as pa

    def each(name: str, test: Any) -> pa.Check:
        def check(series: pd.Series[Any]) -> pd.Series[bool]:
            return series.map(lambda value: bool(test(value))).astype(bool)

        return pa.Check(check, name=f"{name}:{column.header}", ignore_na=False)

    checks: list[pa.Check] = []
    if column.kind == "id":
        pattern = re.compile(patient_id_pattern)
        checks.append(each("patient_id", lambda value: isinstance(value, str) and pattern.fullmatch(value)))

        def unique(series: pd.Series[Any]) -> pd.Series[bool]:
            return ~series.duplicated()

        checks.append(pa.Check(unique, name="duplicate_patient:TCIA_ID", ignore_na=False))
        return checks
    if column.required:
        checks.append(each("missing", lambda value: not _is_missing(value)))
    if column.kind == "flag":
        checks.append(each("vocabulary", lambda value: _is_missing(value) or _number(value) in (0.0, 1.0)))
    elif column.kind == "category":
        allowed = [code for code, _ in column.codes]
        extra = _aliases(column)
        checks.append(each("vocabulary", lambda value: _is_missing(value) or as_code(value) in {*allowed, *extra}))
    else:
        whole = column.kind == "integer"
        checks.append(
            each(
                "type",
                lambda value: _is_missing(value) or ((n := _number(value)) is not None and (not whole or n == int(n))),
            )
        )
        low, high = column.minimum, column.maximum
        checks.append(
            each(
                "range",
                lambda value: (
                    (n := _number(value)) is None or ((low is None or n >= low) and (high is None or n <= high))
                ),
            )
        )
    return checks


def as_code(value: Any) -> object:
    """Return the code that a cell means: spreadsheets give whole numbers as floats, databases as text.

    Examples
    --------
    >>> as_code(1.0), as_code("2"), as_code("Stage-II")
    (1, 2, 'Stage-II')
    """
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 1e15 and value == int(value) else value
    if isinstance(value, str) and re.fullmatch(r"\d{1,6}(\.0*)?", value.strip()):
        return int(float(value))
    return value


def _aliases(column: Column) -> tuple[str, ...]:
    """Spellings the published sheet has beside its vocabulary; the loader reports them."""
    return ("NA", "Cisplastin") if column.header == "chemotherapy" else ()


def _row_checks() -> list[pa.Check]:
    import pandera.pandas as pa

    def rows(name: str, headers: Iterable[str], test: Any) -> pa.Check:
        headers = tuple(headers)

        def check(frame: pd.DataFrame) -> pd.Series[bool]:
            def holds(row: pd.Series[Any]) -> bool:
                values = [row[header] for header in headers]
                return bool(test(*values))

            return frame.apply(holds, axis=1).astype(bool) if len(frame) else frame.index.to_series().astype(bool)

        return pa.Check(check, name=f"{name}:{'+'.join(headers)}", ignore_na=False)

    checks = [
        rows("age_group", ("agegp", "age"), _age_group_fits),
        rows("afp_group", ("AFP_group", "AFP"), _afp_group_fits),
        rows("clip_group", ("CLIP", "CLIP_Score"), _clip_group_fits),
        rows("ttp_after_os", ("TTP", "OS"), _not_after),
        rows("interval_order", ("Interval_FU",), lambda value: (n := _number(value)) is None or n > 0),
    ]
    for criterion in ("RECIST", "mRECIST"):
        for reader in READERS:
            headers = tuple(f"{reader}_{criterion}{part}" for part in ("", "_BL", "_FU"))
            checks.append(rows("response_code", headers, _response_fits))
    checks += [rows("reader_partial", reader_headers(reader), _all_or_none) for reader in READERS]
    return checks


def reader_headers(reader: int) -> tuple[str, ...]:
    """Return the headers of all that one reader recorded: who did not read a patient left all of them empty."""
    return tuple(column.header for column in COLUMNS if column.header.startswith(f"{reader}_"))


# The checks between columns hold their tongue about values that a check of one column already names.


def _age_group_fits(group: Any, age: Any) -> bool:
    years = _number(age)
    bounds = {"<=40": (0, 40), "41-50": (41, 50), "51-60": (51, 60), "61-70": (61, 70), ">70": (71, 999)}
    if years is None or years != int(years) or group not in bounds:
        return True
    return bounds[group][0] <= years <= bounds[group][1]


def _afp_group_fits(group: Any, afp: Any) -> bool:
    level = _number(afp)
    return level is None or level < 0 or group not in {"<400", ">=400"} or (group == ">=400") == (level >= 400)


def _clip_group_fits(group: Any, score: Any) -> bool:
    members = {"Stage_ 0-2": "012", "Stage_3": "3", "Stage_4-6": "456"}
    digit = str(score).removeprefix("Stage_")
    return group not in members or digit not in tuple("0123456") or digit in members[group]


def _not_after(first: Any, second: Any) -> bool:
    a, b = _number(first), _number(second)
    return a is None or b is None or a <= b + _TOLERANCE


def _response_fits(code: Any, baseline: Any, follow_up: Any) -> bool:
    published, before, after = _number(code), _number(baseline), _number(follow_up)
    if published is None or before is None or after is None or before <= 0 or after < 0:
        return True
    return published == response_code(before, after)


def _all_or_none(*values: Any) -> bool:
    return len({_is_missing(value) for value in values}) == 1


_WARNINGS = {
    "interval_order",
    "reader_partial",
    "age_group",
    "afp_group",
    "clip_group",
    "ttp_after_os",
    "response_code",
}

_TEXTS = {
    "type": "{column} of {who} is {shown}, not a {kind}",
    "range": "{column} of {who} is {shown}, outside {low:g} to {high:g} {unit}",
    "vocabulary": "{column} of {who} is {masked}, which is not in its vocabulary",
    "missing": "{column} of {who} is empty, and every patient has one",
    "patient_id": "row {row}: TCIA_ID is {masked}, not of the form {example}",
    "duplicate_patient": "row {row}: {who} stands in the sheet twice",
    "age_group": "age group and age of {who} contradict each other: {pair}",
    "afp_group": "AFP group and AFP of {who} contradict each other: {pair}",
    "clip_group": "CLIP group and CLIP score of {who} contradict each other: {pair}",
    "ttp_after_os": "time to progression of {who} is longer than the overall survival: {pair} weeks",
    "interval_order": "Interval_FU of {who} is {shown} weeks: the follow-up would not lie after the baseline study",
    "response_code": "{column} of {who} contradicts its measurements (code, baseline, follow-up): {pair}",
    "reader_partial": "reader {reader} of {who} left {missing} empty but recorded the rest: all or nothing is missing",
}


def _problem(case: dict[str, Any], raw: pd.DataFrame, identity: Identity) -> ClinicalProblem:
    name = str(case["check"])
    check, _, joined = name.partition(":")
    headers = joined.split("+") if joined else []
    if check not in _TEXTS or case["index"] is None or case["index"] != case["index"]:
        # a failure of the table as a whole: a column missing, extra or out of order
        where = str(case.get("column") or case.get("failure_case") or "")
        return ClinicalProblem(check="columns", severity="error", message=f"columns of the sheet: {name} {where}")
    index = int(case["index"])
    record = raw.reset_index(drop=True).iloc[index]
    identifier = record["TCIA_ID"]
    known = isinstance(identifier, str) and re.fullmatch(identity.patient_id_pattern, identifier)
    patient = str(identifier) if known else ""
    missing = [header for header in headers if _is_missing(record[header])]
    concerned = missing[0] if check == "reader_partial" and missing else headers[0]
    column = next(c for c in COLUMNS if c.header == concerned)
    value = record[concerned]
    numeric = _number(value) is not None
    message = _TEXTS[check].format(
        column=column.header,
        who=patient or f"row {index + 2}",
        row=index + 2,
        example=identity.patient_id_example,
        kind="whole number" if column.kind == "integer" else "number",
        shown=f"{_number(value):g}" if numeric else f"'{mask(value)}'",
        masked=f"{_number(value):g}" if numeric else f"'{mask(value)}'",
        low=column.minimum if column.minimum is not None else float("-inf"),
        high=column.maximum if column.maximum is not None else float("inf"),
        unit=column.unit,
        pair=", ".join(str(as_code(record[header])) for header in headers),
        reader=concerned.partition("_")[0],
        missing=", ".join(missing),
    )
    severity: Literal["error", "warning"] = "warning" if check in _WARNINGS else "error"
    return ClinicalProblem(
        check=check, severity=severity, message=message, patient_id=patient, column=column.header, row=index + 2
    )
