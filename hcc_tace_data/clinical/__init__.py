"""The clinical sheet: a typed table, its checks and its endpoints."""

from __future__ import annotations

from hcc_tace_data.clinical.columns import COLUMNS, Column
from hcc_tace_data.clinical.load import load_clinical, original_headers
from hcc_tace_data.clinical.schema import ClinicalProblem, check_sheet, response_code
from hcc_tace_data.clinical.sheet import find_sheet, read_glossary, read_sheet
from hcc_tace_data.clinical.typed import table_schema

__all__ = [
    "COLUMNS",
    "ClinicalProblem",
    "Column",
    "check_sheet",
    "find_sheet",
    "load_clinical",
    "original_headers",
    "read_glossary",
    "read_sheet",
    "response_code",
    "table_schema",
]
