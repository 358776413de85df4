"""What verbs share that print tables: which series table is meant, and rows as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.series_table import load_series_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["plain_rows", "series_table_of"]


def series_table_of(root: Path | None, table: Path | None, *, with_bamf: bool = False) -> pd.DataFrame:
    """Return the series table at `table`, else the one in `root`, else the real collection's.

    Raises
    ------
    UsageError
        `root` has no series.csv.
    """
    if table is None and root is not None:
        table = root / "series.csv"
        if not table.is_file():
            raise UsageError(f"{root} has no series.csv; leave ROOT out for the table of the real collection.")
    return load_series_table(table, with_bamf=with_bamf)


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dicts of plain values for JSON; None where a value is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in plain.to_dict("records")]
