"""`load_clinical`: the sheet as a typed table with its endpoints."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Literal

from hcc_tace_data.clinical.columns import COLUMNS, CRITERIA, READERS, RESPONSES, Column
from hcc_tace_data.clinical.schema import as_code, check_sheet
from hcc_tace_data.clinical.sheet import find_sheet, read_sheet
from hcc_tace_data.errors import ClinicalError, UsageError
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.facts.catalog import Catalog

__all__ = ["RESPONSE_CUTOFF_WEEKS", "load_clinical", "original_headers"]

logger = logging.getLogger(__name__)

#: Progression within this time after TACE makes a tumour refractory (Moawad et al. 2023).
RESPONSE_CUTOFF_WEEKS = 14.0


def load_clinical(
    root_or_path: str | os.PathLike[str] | None = None,
    *,
    on_problem: Literal["raise", "warn", "ignore"] = "raise",
    cutoff_weeks: float = RESPONSE_CUTOFF_WEEKS,
    catalog: Catalog | None = None,
) -> pd.DataFrame:
    """Load the clinical sheet as a typed table.

    Parameters
    ----------
    root_or_path : path-like, optional
        The sheet (``.xlsx``, or a CSV or Parquet table of the same columns) or the collection's root.
        Default: ``$HCC_TACE_HOME`` or the user's data folder.
    on_problem : {"raise", "warn", "ignore"}
        What a defect of severity "error" does. Warnings (values that contradict each other) are always logged
        and listed in ``df.attrs["problems"]``.
    cutoff_weeks : float
        Progression up to and including this time after TACE counts as refractory.
    catalog : Catalog, optional
        Has the form of PatientIDs; default: the catalogue of HCC-TACE-Seg.

    Returns
    -------
    pandas.DataFrame
        One row per patient, in the order of the sheet. Columns: those of
        :data:`hcc_tace_data.clinical.COLUMNS` under their snake_case names (nullable integers and floats, booleans,
        categories, ordered where the meaning is), and derived ones:

        ``tace_response``
            "refractory" (progressed within `cutoff_weeks`), "susceptible" (followed for longer without
            progression), missing if censored before, as the response is then unknown.
        ``recist_consensus``, ``mrecist_consensus``
            The median of the three readers' categories, where all three read.
        ``reader{1,2,3}_{recist,mrecist}_change_pct``
            Change of the sum of diameters in per cent of baseline.

        ``df.attrs`` holds ``source`` (path), ``headers`` (snake_case name -> original header), ``units``,
        ``definitions`` (from the sheet's glossary), ``problems`` and ``notes`` (what was read differently from how it
        is written, and how many responses are unknown). :func:`hcc_tace_data.clinical.original_headers` gives the
        57 columns back under the sheet's own headers.

    Raises
    ------
    CollectionNotFoundError
        No sheet there.
    ClinicalError
        Not the clinical sheet, or (``on_problem="raise"``) a sheet with defects; all are named.
    """
    if on_problem not in {"raise", "warn", "ignore"}:
        raise UsageError(f"on_problem is {on_problem!r}; use 'raise', 'warn' or 'ignore'.")
    path = find_sheet(root_or_path)
    raw = read_sheet(path)
    problems = check_sheet(raw, catalog=catalog)
    errors = [problem.message for problem in problems if problem.severity == "error"]
    if errors and on_problem == "raise":
        shown = "\n  ".join(errors[:20])
        more = f"\n  ... and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise ClinicalError(
            f"{path} has {count(len(errors), 'defect')}:\n  {shown}{more}\n"
            "Repair the sheet, or load it with on_problem='warn' (values that cannot be read become missing)."
        )
    if on_problem != "ignore":
        for problem in problems:
            logger.warning("%s: %s", path.name, problem.message)
    table = _typed(raw)
    _add_endpoints(table, cutoff_weeks)
    table.attrs["source"] = str(path)
    table.attrs["headers"] = {column.name: column.header for column in COLUMNS}
    table.attrs["units"] = {column.name: column.unit for column in COLUMNS if column.unit}
    table.attrs["definitions"] = {column.name: column.definition for column in COLUMNS}
    table.attrs["problems"] = [problem.message for problem in problems]
    table.attrs["notes"] = _notes(raw) + _unknown_responses(table, cutoff_weeks)
    return table


def original_headers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the 57 columns of the sheet, typed, under its own headers and in its order; derived ones are left out.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`load_clinical`, or a part of it that has all columns of the sheet.
    """
    missing = [column.name for column in COLUMNS if column.name not in table]
    if missing:
        raise UsageError(f"not a whole clinical table: it lacks {', '.join(map(repr, missing[:5]))}.")
    return table[[column.name for column in COLUMNS]].rename(columns={column.name: column.header for column in COLUMNS})


def _typed(raw: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    data = {column.name: _typed_column(raw[column.header], column) for column in COLUMNS}
    return pd.DataFrame(data).reset_index(drop=True)


def _typed_column(values: pd.Series[Any], column: Column) -> pd.Series[Any]:
    import pandas as pd

    if column.kind == "id":
        return values.map(lambda value: None if value is None else str(value)).astype("string")
    if column.kind == "category":
        names = dict(column.codes)
        names["Cisplastin"] = "cisplatin"
        order = list(dict.fromkeys(name for _, name in column.codes))
        mapped = values.map(lambda value: names.get(as_code(value)))
        return pd.Series(pd.Categorical(mapped, categories=order, ordered=column.ordered), index=values.index)
    numbers = pd.to_numeric(values, errors="coerce").astype("Float64")
    if column.kind == "number":
        return numbers
    whole = numbers.where((numbers % 1 == 0).fillna(False)).astype("Int64")
    return whole.where(whole.isin([0, 1])).astype("boolean") if column.kind == "flag" else whole


def _add_endpoints(table: pd.DataFrame, cutoff_weeks: float) -> None:
    import pandas as pd

    early = table["ttp_weeks"] <= cutoff_weeks
    refractory = (table["progressed"] & early).fillna(False).astype(bool)
    susceptible = (table["ttp_weeks"] > cutoff_weeks).fillna(False).astype(bool)
    response = pd.Series(pd.NA, index=table.index, dtype="object")
    response[refractory] = "refractory"
    response[susceptible] = "susceptible"
    table["tace_response"] = pd.Categorical(response, categories=["refractory", "susceptible"])
    for criterion in CRITERIA:
        codes = [table[f"reader{reader}_{criterion}"].cat.codes for reader in READERS]
        ranks = pd.concat(codes, axis=1)
        median = ranks.median(axis=1).astype(int).where((ranks >= 0).all(axis=1))
        names = median.map(lambda rank: None if pd.isna(rank) else RESPONSES[int(rank)])
        table[f"{criterion}_consensus"] = pd.Categorical(names, categories=list(RESPONSES), ordered=True)
        for reader in READERS:
            before, after = (table[f"reader{reader}_{criterion}_{visit}_mm"] for visit in ("bl", "fu"))
            table[f"reader{reader}_{criterion}_change_pct"] = 100 * (after - before) / before.where(before > 0)


def _unknown_responses(table: pd.DataFrame, cutoff_weeks: float) -> list[str]:
    unknown = int(table["tace_response"].isna().sum())
    if not unknown:
        return []
    return [f"tace_response: unknown for {count(unknown, 'patient')}, censored before {cutoff_weeks:g} weeks"]


def _notes(raw: pd.DataFrame) -> list[str]:
    notes = []
    chemotherapy = raw["chemotherapy"]
    unknown = int((chemotherapy == "NA").sum())
    if unknown:
        notes.append(
            f"chemotherapy: 'NA' in {count(unknown, 'row')} read as missing (details of the procedure not recorded)"
        )
    misspelt = int((chemotherapy == "Cisplastin").sum())
    if misspelt:
        notes.append(f"chemotherapy: 'Cisplastin' in {count(misspelt, 'row')} read as 'cisplatin'")
    return notes
