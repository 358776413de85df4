"""Reading the clinical sheet as it is, from a file that is not trusted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical.columns import COLUMNS
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError
from hcc_tace_data.system.roots import default_root
from hcc_tace_data.system.words import count
from hcc_tace_data.system.workbook import read_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SHEET_NAME", "find_sheet", "read_glossary", "read_sheet"]

SHEET_NAME = "HCC-TACE-Seg_clinical_data-V2.xlsx"
_DATA, _GLOSSARY = "data table", "glossary"

# The real workbook unpacks to about 0.4 MB; these bounds only stop what was made to exhaust memory.
_MAX_FILE_BYTES = 32 * 2**20
_MAX_ROWS, _MAX_COLUMNS = 20_000, 512
_LIMITS: dict[str, Any] = {"error": ClinicalError, "max_rows": _MAX_ROWS, "max_columns": _MAX_COLUMNS}
_MAX_UNPACKED_BYTES = 256 * 2**20
_MOST_COMMAS = 10_000


def find_sheet(root_or_path: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the clinical sheet.

    Parameters
    ----------
    root_or_path : path-like, optional
        The sheet itself, or a folder that holds it directly, in `clinical/`, or anywhere one level down.
        Default: the collection's root (``$HCC_TACE_HOME`` or the user's data folder).

    Raises
    ------
    CollectionNotFoundError
        No sheet there.
    """
    place = default_root() if root_or_path is None else Path(root_or_path).expanduser()
    if place.is_file():
        return place
    for pattern in (f"clinical/{SHEET_NAME}", SHEET_NAME, "clinical/*.xlsx", "*linical*.xlsx", f"*/{SHEET_NAME}"):
        found = sorted(path for path in place.glob(pattern) if path.is_file() and not path.name.startswith(("~", ".")))
        if found:
            return found[0]
    raise CollectionNotFoundError(
        f"No clinical sheet at {place}. Expected {SHEET_NAME} there or in its folder 'clinical'; "
        f"'hcc-tace download {place}' fetches it."
    )


def read_sheet(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the sheet's 57 columns as they are, under their original headers.

    Empty cells are missing values; the literal string ``NA`` stays a string. Besides the workbook, tables in CSV or
    Parquet load too, and the spelling that NCI Imaging Data Commons gives the headers (lower case, other
    punctuation) is matched to the original one.

    Parameters
    ----------
    path : path-like
        ``.xlsx``, ``.csv`` or ``.parquet``.

    Returns
    -------
    pandas.DataFrame
        One row per patient, object columns under the 57 headers of the sheet, in its order.

    Raises
    ------
    ClinicalError
        Not such a table, columns missing or doubled, or sizes no clinical sheet has.
    """
    path = Path(path)
    if not path.is_file():
        raise CollectionNotFoundError(f"No clinical sheet at {path}.")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ClinicalError(f"{path} has {path.stat().st_size:,} bytes; a clinical sheet has at most a few hundred kB.")
    suffix = path.suffix.lower()
    if suffix == ".xlsx":
        rows = read_rows(path, _DATA, **_LIMITS)
        table = _frame(rows, path)
    elif suffix in {".csv", ".parquet"}:
        table = _flat_table(path, suffix)
    else:
        raise ClinicalError(f"{path}: '{suffix}' is not a format of the clinical sheet; use .xlsx, .csv or .parquet.")
    return _original_headers(table, path)


def read_glossary(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the workbook's own glossary: header -> definition."""
    rows = read_rows(Path(path), _GLOSSARY, **_LIMITS)
    return {str(row[0]).strip(): str(row[1]).strip() for row in rows if len(row) > 1 and row[0] is not None}


def _frame(rows: list[list[Any]], path: Path) -> pd.DataFrame:
    import pandas as pd

    if not rows:
        raise ClinicalError(f"{path}: sheet '{_DATA}' is empty.")
    header = [str(cell).strip() if cell is not None else "" for cell in rows[0]]
    used = [index for index, name in enumerate(header) if name]
    names = [header[index] for index in used]
    body = [
        [row[index] if index < len(row) else None for index in used]
        for row in rows[1:]
        if any(cell is not None for cell in row)
    ]
    return pd.DataFrame(body, columns=pd.Index(names), dtype=object)


def _flat_table(path: Path, suffix: str) -> pd.DataFrame:
    import pandas as pd

    try:
        if suffix == ".parquet":
            table = _parquet(path)
        else:
            with open(path, "rb") as handle:
                if max((line.count(b",") for line in handle), default=0) > _MOST_COMMAS:
                    raise ClinicalError(f"{path} has a line with more than {_MOST_COMMAS:,} commas.")
            table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except ClinicalError:
        raise
    except Exception as error:
        raise ClinicalError(f"{path} is not a readable table ({type(error).__name__}: {error}).") from error
    if len(table) > _MAX_ROWS or len(table.columns) > _MAX_COLUMNS:
        raise ClinicalError(
            f"{path} has {count(len(table), 'row')} and {count(len(table.columns), 'column')}: not a clinical sheet."
        )
    table = table.astype(object)
    return table.where(table.notna(), None)


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file whose own account of its size is that of a clinical sheet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        claims, schema = file.metadata, file.schema_arrow
        groups = [claims.row_group(number) for number in range(min(claims.num_row_groups, _MAX_ROWS + 1))]
        values = [group.column(number).num_values for group in groups for number in range(group.num_columns)]
        if (
            claims.num_rows > _MAX_ROWS
            or claims.num_row_groups > _MAX_ROWS
            or claims.num_columns > _MAX_COLUMNS
            or max(values, default=0) > _MAX_ROWS
            or sum(group.total_byte_size for group in groups) > _MAX_UNPACKED_BYTES
        ):
            raise ClinicalError(
                f"{path} claims {count(claims.num_rows, 'row')} and {count(claims.num_columns, 'column')}: not "
                "a clinical sheet."
            )
    # texts stay as references into their dictionary: a long one that stands in each row is there once
    texts = [one.name for one in schema if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)]
    table: pd.DataFrame = pq.read_table(path, read_dictionary=texts).to_pandas()
    return table


def _key(header: str) -> str:
    return re.sub(r"[^a-z0-9]", "", header.lower())


def _original_headers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Match headers to the sheet's own spelling and order; refuse missing and doubled ones."""
    known = {_key(column.header): column.header for column in COLUMNS}
    # a database's field cannot start with a digit: some letter or underscore is put before it
    known.update({f"c{key}": header for key, header in known.items() if key[0].isdigit()})
    known["dicompatientid"] = "TCIA_ID"  # IDC adds it to every clinical table, equal to the collection's own column
    names = [known.get(_key(str(name)), "") for name in table.columns]
    first = {name: names.index(name) for name in dict.fromkeys(names) if name}
    doubled = [name for name in first if names.count(name) > 1 and name != "TCIA_ID"]
    if doubled:
        raise ClinicalError(f"{path}: columns stand twice: {', '.join(map(repr, doubled))}.")
    missing = [column.header for column in COLUMNS if column.header not in first]
    if missing:
        raise ClinicalError(
            f"{path} lacks {len(missing)} of the sheet's {len(COLUMNS)} columns: {', '.join(map(repr, missing[:6]))}"
            f"{' ...' if len(missing) > 6 else ''}. Is this {SHEET_NAME}?"
        )
    ordered = table.iloc[:, [first[column.header] for column in COLUMNS]].copy()
    ordered.columns = [column.header for column in COLUMNS]
    return ordered
