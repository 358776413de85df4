"""The series table: what the collection holds, without any of it on disk.

The real collection's is frozen and shipped (made by ``scripts/make_index.py``); a phantom brings its own
``series.csv``.
"""

from __future__ import annotations

import os
import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.errors import CatalogError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "load_series_table"]

#: Columns that every series table has.
COLUMNS = (
    "patient_id", "study_uid", "study_date", "series_uid", "modality", "series_number", "series_description",
    "instances", "bytes", "bucket", "prefix", "source",
)  # fmt: skip

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")


def load_series_table(path: str | os.PathLike[str] | None = None, *, with_bamf: bool = False) -> pd.DataFrame:
    """Read a series table.

    Parameters
    ----------
    path : path-like, optional
        A CSV file (``.gz`` too) of the columns :data:`COLUMNS`; default the real collection's.
    with_bamf : bool
        Keep the segmentations that BAMF AIMI added in Imaging Data Commons (10.5281/zenodo.8345959). They are not part
        of the TCIA collection, so they are left out unless asked for.

    Returns
    -------
    pandas.DataFrame
        One row a series. `bytes` is the exact sum of its files' sizes, `source` "collection" or
        "bamf_aimi_annotations", ``s3://<bucket>/<prefix>/`` its place in the object store.

    Raises
    ------
    CatalogError
        No such file, a column missing, or a value that cannot be; the row is named.
    """
    if path is not None:
        table = _read(Path(path))
    else:
        with as_file(files("hcc_tace_data") / "data" / "series.csv.gz") as shipped:
            table = _read(shipped)
    return table if with_bamf else table[table["source"] == "collection"].reset_index(drop=True)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise CatalogError(f"no series table at {path}.") from None
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not a series table: {error}") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise CatalogError(f"{path} lacks the columns {', '.join(missing)}; a series table has {', '.join(COLUMNS)}.")
    for column in ("instances", "bytes"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        _refuse(path, column, table[column], numbers.isna() | (numbers < 0) | (numbers % 1 != 0))
        table[column] = numbers.astype("int64")
    numbers = pd.to_numeric(table["series_number"].replace("", None), errors="coerce")
    _refuse(path, "series_number", table["series_number"], numbers.isna() & (table["series_number"] != ""))
    table["series_number"] = numbers.astype("Int64")
    for column in ("study_uid", "series_uid"):
        _refuse(
            path, column, table[column], ~table[column].map(lambda uid: bool(_UID.fullmatch(uid) and len(uid) < 65))
        )
    _refuse(path, "series_uid (twice)", table["series_uid"], table["series_uid"].duplicated())
    unsafe = ~table["prefix"].map(lambda key: bool(_PREFIX.fullmatch(key)) and ".." not in key and key[:1] != "/")
    _refuse(path, "prefix", table["prefix"], unsafe)
    for column, form in (("bucket", r"[a-z0-9][a-z0-9.-]{1,62}|"), ("modality", r"[A-Z0-9_ ]{1,16}")):
        _refuse(
            path,
            column,
            table[column],
            ~table[column].str.fullmatch(form) | table[column].str.contains("..", regex=False),
        )
    _refuse(path, "patient_id", table["patient_id"], ~table["patient_id"].str.fullmatch(r"[A-Za-z0-9_-]+"))
    return table


def _refuse(path: Path, column: str, values: pd.Series[str], wrong: pd.Series[bool]) -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise CatalogError(f"{path}, line {row + 2}: {column} is {values.iloc[row]!r}.")
