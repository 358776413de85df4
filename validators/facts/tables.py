"""The series table that a folder is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.validators.context import Context

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["full_table", "series_table"]


def full_table(context: Context) -> pd.DataFrame | None:
    """Return the series table with what was added to the collection later (BAMF AIMI).

    None where the files belong to no table: none is beside them, and no series of the collection is among them.
    Where only some patients are checked, the table lists only those.
    """
    table = _table(context)
    return table if table is None or context.patients is None else table[table["patient_id"].isin(context.patients)]


def _table(context: Context) -> pd.DataFrame | None:
    if context.given_table is not None:
        return context.given_table
    beside = context.root / "series.csv"
    if beside.is_file():
        return load_series_table(beside, with_bamf=True)
    shipped = load_series_table(with_bamf=True)
    return shipped if shipped["series_uid"].isin(set(context.instances["series_uid"])).any() else None


def series_table(context: Context) -> pd.DataFrame | None:
    """Return the collection's own part of the series table; None where there is no table."""
    full = context.fact(full_table)
    return None if full is None else full[full["source"] == "collection"].reset_index(drop=True)
