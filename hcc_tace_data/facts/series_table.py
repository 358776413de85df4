"""The series table: what the collection holds, without any of it on disk.

The real collection's is frozen and shipped (made by ``scripts/make_index.py``); a phantom brings its own
``series.csv``.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import zlib
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import CatalogError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "load_series_table", "read_series_rows"]

#: Columns that every series table has.
COLUMNS = (
    "patient_id", "study_uid", "study_date", "series_uid", "modality", "series_number", "series_description",
    "instances", "bytes", "bucket", "prefix", "source",
)  # fmt: skip

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,62}|")
_MODALITY = re.compile(r"[A-Z0-9_ ]{1,16}")
_PATIENT = re.compile(r"[A-Za-z0-9_-]+")


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
        One row per series. `bytes` is the exact sum of its files' sizes, `source` "collection" or
        "bamf_aimi_annotations", ``s3://<bucket>/<prefix>/`` its place in the object store.

    Raises
    ------
    CatalogError
        No such file, a column missing, or a value that cannot be; the line is named.
    """
    import pandas as pd

    columns, rows = _read_table(path, with_bamf)
    table = pd.DataFrame(rows, columns=columns)
    whole = {"instances": "int64", "bytes": "int64", "series_number": "Int64"}
    return table.astype({name: whole.get(name, "str") for name in columns})


def read_series_rows(path: str | os.PathLike[str] | None = None, *, with_bamf: bool = False) -> list[dict[str, Any]]:
    """Read a series table as :func:`load_series_table` does, as plain rows: half a second less to start.

    Returns
    -------
    list of dict
        One a series; `instances` and `bytes` are int, `series_number` int or None, all else str.

    Raises
    ------
    CatalogError
        No such file, a column missing, or a value that cannot be; the line is named.
    """
    return _read_table(path, with_bamf)[1]


def _read_table(path: str | os.PathLike[str] | None, with_bamf: bool) -> tuple[list[str], list[dict[str, Any]]]:
    if path is not None:
        columns, rows = _read(Path(path))
    else:
        with as_file(files("hcc_tace_data") / "data" / "series.csv.gz") as shipped:
            columns, rows = _read(shipped)
    return columns, rows if with_bamf else [row for row in rows if row["source"] == "collection"]


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            columns = list(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise CatalogError(f"no series table at {path}.") from None
    except (ValueError, OSError, EOFError, csv.Error, zlib.error) as error:
        raise CatalogError(f"{path} is not a series table: {error}") from error
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise CatalogError(f"{path} lacks the columns {', '.join(missing)}; a series table has {', '.join(COLUMNS)}.")
    if len(set(columns)) != len(columns):
        raise CatalogError(f"{path} names a column twice; a series table has {', '.join(COLUMNS)}.")
    seen: set[str] = set()
    for line, row in rows:
        if None in row or None in row.values():
            raise CatalogError(f"{path}, line {line}: it has more or fewer fields than the {len(columns)} columns.")
        for column, allowed in _ALLOWED.items():
            if not allowed(row[column]):
                raise CatalogError(f"{path}, line {line}: {column} is {row[column]!r}.")
        if row["series_uid"] in seen:
            raise CatalogError(f"{path}, line {line}: series_uid (twice) is {row['series_uid']!r}.")
        seen.add(row["series_uid"])
        row["instances"], row["bytes"] = _integer(row["instances"]), _integer(row["bytes"])
        row["series_number"] = _integer(row["series_number"])
    return columns, [row for _, row in rows]


def _integer(text: str) -> int | None:
    """Return a whole number (``12`` or ``12.0``, as tables with gaps are saved); None if it is not one."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _is_count(text: str) -> bool:
    number = _integer(text)
    return number is not None and 0 <= number < 2**63


def _is_uid(text: str) -> bool:
    return bool(_UID.fullmatch(text)) and len(text) < 65


#: What a value may be; all of it can become part of a path, an address or a command.
_ALLOWED: dict[str, Callable[[str], bool]] = {
    "instances": _is_count,
    "bytes": _is_count,
    "series_number": lambda text: not text or (abs(_integer(text) or 0) < 2**31 and _integer(text) is not None),
    "study_uid": _is_uid,
    "series_uid": _is_uid,
    "prefix": lambda text: bool(_PREFIX.fullmatch(text)) and ".." not in text and text[:1] != "/",
    "bucket": lambda text: bool(_BUCKET.fullmatch(text)) and ".." not in text,
    "modality": lambda text: bool(_MODALITY.fullmatch(text)) and ".." not in text,
    "patient_id": lambda text: bool(_PATIENT.fullmatch(text)),
}
