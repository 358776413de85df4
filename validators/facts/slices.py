"""The CT slices of a collection, and the volumes they form, from the index alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcc_tace_data.collection.split import split_series
from hcc_tace_data.validators.context import Context

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ct_slices", "ct_volumes", "row_of_instance"]


def ct_slices(context: Context) -> pd.DataFrame:
    """Return the rows of CT slices: no localizers, no screens."""
    table = context.instances
    kinds = table["image_type"].str.upper()
    aside = kinds.str.contains("LOCALIZER") | kinds.str.contains("SCOUT") | kinds.str.contains("SCREEN SAVE")
    return table[(table["modality"] == "CT") & ~aside]


def ct_volumes(context: Context) -> list[pd.DataFrame]:
    """Return the CT phase volumes, by series; rows along +normal."""
    slices = context.fact(ct_slices)
    return [part for _, rows in slices.groupby("series_uid", sort=True) for part in split_series(rows)]


def row_of_instance(context: Context) -> dict[str, int]:
    """Return SOP Instance UID -> its (first) row of the instance table."""
    rows: dict[str, int] = {}
    for row, uid in enumerate(context.instances["sop_uid"]):
        rows.setdefault(uid, row)
    return rows
