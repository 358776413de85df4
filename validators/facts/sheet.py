"""The clinical sheet, and what its own schema says of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.clinical import check_sheet, find_sheet, read_sheet
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.rule import Skip

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.clinical import ClinicalProblem

__all__ = ["clinical_sheet", "sheet_error", "sheet_path", "sheet_problems", "sheet_read"]


def sheet_path(context: Context) -> Path:
    """Return the clinical sheet's file.

    Raises
    ------
    Skip
        It is missing.
    """
    try:
        return find_sheet(context.given_sheet or context.root)
    except CollectionNotFoundError:
        raise Skip("no clinical sheet in the folder; name one with --clinical") from None


def sheet_read(context: Context) -> tuple[pd.DataFrame | None, str]:
    """Return the clinical sheet under its original headers, or why it cannot be read.

    Raises
    ------
    Skip
        It is missing.
    """
    path = context.fact(sheet_path)
    try:
        return read_sheet(path), ""
    except ClinicalError as error:
        return None, str(error).replace(str(path), path.name)


def clinical_sheet(context: Context) -> pd.DataFrame:
    """Return the clinical sheet under its original headers.

    Raises
    ------
    Skip
        It is missing, or it cannot be read (which HT702 reports).
    """
    table, _ = context.fact(sheet_read)
    if table is None:
        raise Skip("the clinical sheet cannot be read (HT702)")
    return table


def sheet_error(context: Context) -> str:
    """Return why the clinical sheet cannot be read; empty if it can.

    Raises
    ------
    Skip
        It is missing.
    """
    return context.fact(sheet_read)[1]


def sheet_problems(context: Context) -> list[ClinicalProblem]:
    """Return every defect that the sheet's own schema names."""
    return check_sheet(context.fact(clinical_sheet))
