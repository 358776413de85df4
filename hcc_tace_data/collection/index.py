"""Scan a folder of DICOM files into an instance table, and cache it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.dicom.folder import Failure, scan_files
from hcc_tace_data.dicom.headers import COLUMNS, FLOATS, INTEGERS, HeaderReader
from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.system.parallel import in_parallel
from hcc_tace_data.system.roots import cache_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Progress", "empty_index", "read_index"]

logger = logging.getLogger(__name__)

_VERSION = 1
_PARALLEL_FROM = 4000
_CHUNK = 500

Progress = Callable[[int, int], None]


def read_index(
    folder: Path,
    *,
    workers: int | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the instance table of a folder, and what could not be read.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; it must exist.
    workers, cache, progress
        See :func:`hcc_tace_data.open_collection`.

    Returns
    -------
    instances : pandas.DataFrame
        One row per file, sorted by `path`.
    problems : pandas.DataFrame
        Files and folders that could not be read: `path`, `reason`.
    """
    import pandas as pd

    files, failures = scan_files(folder)
    known = _load_cache(folder) if cache else None
    kept = None
    todo = list(files)
    if known is not None and len(known):
        same = [
            files.get(path) == (size, mtime)
            for path, size, mtime in zip(known["path"], known["size"], known["mtime_ns"], strict=True)
        ]
        kept = known[same]
        fresh = set(kept["path"])
        todo = [path for path in files if path not in fresh]
    rows, bad = _read_all(folder, todo, workers, progress)
    table = _frame(rows)
    if kept is not None and len(kept):
        table = pd.concat([kept, table], ignore_index=True) if len(table) else kept
    table = table.sort_values("path", ignore_index=True)
    if cache and (known is None or rows or len(table) != len(known)):
        _save_cache(folder, table)
    problems = pd.DataFrame(sorted([*failures, *bad]), columns=["path", "reason"], dtype=object)
    if len(problems):
        logger.warning("%d of %d files under %s could not be read", len(problems), len(files), folder)
    return table, problems


def empty_index() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of :func:`read_index` for a folder without files."""
    import pandas as pd

    return _frame([]), pd.DataFrame(columns=["path", "reason"], dtype=object)


def _read_chunk(root: str, names: list[str]) -> tuple[list[tuple[Any, ...]], list[Failure]]:
    rows: list[tuple[Any, ...]] = []
    bad: list[Failure] = []
    reader = HeaderReader()
    for name in names:
        try:
            row = reader.read(f"{root}/{name}", name)
        except DicomReadError as error:
            bad.append((name, str(error).replace(f"{root}/", "")))
        except OSError as error:
            bad.append((name, f"cannot be opened: {error.strerror}"))
        else:
            rows.append(tuple([row[column] for column in COLUMNS]))
    return rows, bad


def _read_all(
    root: Path, names: list[str], workers: int | None, progress: Progress | None
) -> tuple[list[tuple[Any, ...]], list[Failure]]:
    count = workers or (min(2, os.cpu_count() or 1) if len(names) >= _PARALLEL_FROM else 1)
    chunks = [names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)]
    rows: list[tuple[Any, ...]] = []
    bad: list[Failure] = []
    done = 0
    results = in_parallel(_read_chunk, [(str(root), chunk) for chunk in chunks], count)
    for chunk, (good, failed) in zip(chunks, results, strict=True):
        rows += good
        bad += failed
        done += len(chunk)
        if progress:
            progress(done, len(names))
    return rows, bad


def _frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Make the typed table."""
    import pandas as pd

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    data: dict[str, Any] = {}
    for name, values in zip(COLUMNS, columns, strict=True):
        if name in INTEGERS:
            data[name] = pd.array(list(values), dtype="Int64")
        elif name in FLOATS:
            data[name] = pd.array(list(values), dtype="float64")
        elif name in {"size", "mtime_ns", "pixel_offset", "pixel_length"}:
            data[name] = pd.array(list(values), dtype="int64")
        else:
            data[name] = pd.Series(list(values), dtype=object)
    return pd.DataFrame(data)


def _cache_files(root: Path) -> tuple[Path, Path]:
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    return root / ".hcc-tace" / "index.parquet", cache_folder() / f"index-{digest}.parquet"


def _load_cache(root: Path) -> pd.DataFrame | None:
    """Return the cached table, or None where there is none to trust."""
    import pandas as pd

    for file in _cache_files(root):
        try:
            table = pd.read_parquet(file)
        except FileNotFoundError:
            continue
        except Exception as error:  # a broken cache is rebuilt, whatever broke it
            logger.warning("cache %s is not usable and is rebuilt: %s", file, type(error).__name__)
            continue
        if table.attrs.get("version") == _VERSION and tuple(table.columns) == COLUMNS:
            table.attrs = {}
            return table
    return None


def _save_cache(root: Path, table: pd.DataFrame) -> None:
    stamped = table.copy(deep=False)
    stamped.attrs = {"version": _VERSION}
    for file in _cache_files(root):
        try:
            with atomic_path(file) as temporary:
                stamped.to_parquet(temporary, index=False)
            return
        except OSError:
            continue
    logger.warning("the index of %s could not be cached: no folder to write to", root)
