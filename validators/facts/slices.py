"""The CT slices of a collection, and the volumes they form, from the index alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcc_tace_data.collection.model import SPLIT
from hcc_tace_data.collection.split import parts_at, places_of, split_series
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
    series = [rows for _, rows in slices.groupby("series_uid", sort=True)]
    paths = [rows["path"].tolist() for rows in series]
    # which rows each volume holds; the rows themselves are at hand
    places = context.kept_map(
        SPLIT,
        _places,
        series,
        paths,
        encode=lambda found: found,
        decode=lambda value: value,
        run=lambda function, jobs: [function(rows) for rows in jobs],
    )
    volumes: list[pd.DataFrame] = []
    for rows, found in zip(series, places, strict=True):
        try:
            volumes += split_series(rows) if found is None else parts_at(rows, found)
        except (ValueError, TypeError):
            volumes += split_series(rows)
    return volumes


def _places(rows: pd.DataFrame) -> list[list[int]] | None:
    return places_of(rows, split_series(rows))


def row_of_instance(context: Context) -> dict[str, int]:
    """Return SOP Instance UID -> its (first) row of the instance table."""
    rows: dict[str, int] = {}
    for row, uid in enumerate(context.instances["sop_uid"]):
        rows.setdefault(uid, row)
    return rows
