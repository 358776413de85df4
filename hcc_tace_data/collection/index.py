"""Scan a folder of DICOM files into an instance table, and cache it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hcc_tace_data.dicom.folder import Failure, scan_files
from hcc_tace_data.dicom.headers import COLUMNS, FLOATS, INTEGERS, HeaderReader
from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.files import atomic_write_bytes, read_regular
from hcc_tace_data.system.identity import Identity
from hcc_tace_data.system.parallel import in_parallel
from hcc_tace_data.system.roots import cache_folder
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Index", "Progress", "drop_index", "empty_index", "read_index"]

logger = logging.getLogger(__name__)

#: Stands in the cache before the digest of the file; changes with the columns or their meaning.
_MARK = b"hcc-tace-index-2:"
_BLANK = b"0" * 64
#: Columns of the cache beside those of the table: what shows that a file was replaced under its size and time.
_STAMPS = ("ctime_ns", "inode")
_MOST_BYTES, _MOST_ROWS = 1 << 30, 5_000_000
_PARALLEL_FROM = 4000
_CHUNK = 500

Progress = Callable[[int, int], None]
_cells = itemgetter(*COLUMNS)


class Index(NamedTuple):
    """The files of a folder.

    Attributes
    ----------
    instances : pandas.DataFrame
        One row per file, sorted by `path`.
    problems : pandas.DataFrame
        Files and folders that could not be read: `path`, `reason`.
    files : mapping of str to Identity
        Path below the folder -> size, times and inode, as they were before the files were read.
    """

    instances: pd.DataFrame
    problems: pd.DataFrame
    files: Mapping[str, Identity]


def read_index(
    folder: Path,
    *,
    workers: int | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> Index:
    """Return the instance table of a folder, and what could not be read.

    Parameters
    ----------
    folder : pathlib.Path
        The folder; it must exist.
    workers, cache, progress
        See :func:`hcc_tace_data.open_collection`.

    Returns
    -------
    Index
    """
    import pandas as pd

    files, failures = scan_files(folder)
    known = _load_cache(folder) if cache else None
    kept = None
    todo = list(files)
    if known is not None and len(known):
        recorded = zip(*(known[name] for name in ("path", "size", "mtime_ns", *_STAMPS)), strict=True)
        same = [files.get(path) == tuple(identity) for path, *identity in recorded]
        kept = known[list(COLUMNS)] if all(same) else known.loc[same, list(COLUMNS)]
        fresh = set(kept["path"])
        todo = [path for path in files if path not in fresh]
    rows, bad = _read_all(folder, todo, workers, progress)
    table = _frame(rows)
    if kept is not None and len(kept):
        table = pd.concat([kept, table], ignore_index=True) if len(table) else kept
    if not (table["path"].is_monotonic_increasing and isinstance(table.index, pd.RangeIndex)):
        table = table.sort_values("path", ignore_index=True)
    if cache and (known is None or rows or len(table) != len(known)):
        noted = {path for path, _ in bad}  # read again the next time, so that the reason is given again
        _save_cache(folder, table[~table["path"].isin(noted)], files)
    problems = pd.DataFrame(sorted([*failures, *bad]), columns=["path", "reason"], dtype=object)
    if len(problems):
        found = count(len(problems), "entry")
        logger.warning("%s under %s could not be read; see the collection's problems", found, folder)
    return Index(table, problems, files)


def empty_index() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of an index of a folder without files."""
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
        except Exception as error:  # whatever one file holds, the others are read
            bad.append((name, f"cannot be read: {reason_of(error)}"))
        else:
            rows.append(_cells(row))
    return rows, bad


def _read_all(
    root: Path, names: list[str], workers: int | None, progress: Progress | None
) -> tuple[list[tuple[Any, ...]], list[Failure]]:
    processes = workers or (min(2, os.cpu_count() or 1) if len(names) >= _PARALLEL_FROM else 1)
    chunks = [names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)]
    rows: list[tuple[Any, ...]] = []
    bad: list[Failure] = []
    done = 0
    results = in_parallel(_read_chunk, [(str(root), chunk) for chunk in chunks], processes)
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
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return root / ".hcc-tace" / "index.parquet", cache_folder() / f"index-{digest}.parquet"


def _load_cache(root: Path) -> pd.DataFrame | None:
    """Return the cached table, or None if none can be trusted."""
    for file in _cache_files(root):
        try:
            return _from_bytes(read_regular(file, limit=_MOST_BYTES))
        except FileNotFoundError:
            continue
        except Exception as error:  # a broken cache is rebuilt, whatever broke it
            logger.warning("cache %s is not usable and is rebuilt: %s", file, reason_of(error))
    return None


def drop_index(root: Path) -> None:
    """Forget the cached table of a folder: the next time every header is read."""
    for file in _cache_files(root):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _save_cache(root: Path, table: pd.DataFrame, files: Mapping[str, Identity]) -> None:
    identities = [files[path] for path in table["path"]]
    stamped = table.assign(**{name: [getattr(one, name) for one in identities] for name in _STAMPS})
    reason = ""
    for file in _cache_files(root):
        try:
            atomic_write_bytes(file, _to_bytes(stamped))
            return
        except Exception as error:  # the table is there without a cache, too
            reason = reason_of(error)
    logger.warning("the index of %s could not be cached: %s", root, reason)


def _to_bytes(table: pd.DataFrame) -> bytes:
    """Return the table as a Parquet file that holds its own digest: no flipped bit goes unnoticed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    described = {**(arrow.schema.metadata or {}), b"hcc-tace": _MARK + _BLANK}
    sink = pa.BufferOutputStream()
    pq.write_table(arrow.replace_schema_metadata(described), sink)
    data = bytes(sink.getvalue())
    before, mark, after = data.rpartition(_MARK)
    digest = hashlib.sha256(data).hexdigest().encode()
    return before + mark + digest + after[len(digest) :]


def _from_bytes(data: bytes) -> pd.DataFrame:
    """Return the table of :func:`_to_bytes`.

    Raises
    ------
    ValueError
        It is damaged, of another version, or claims to be larger than any index.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = data.rfind(_MARK) + len(_MARK)
    if start < len(_MARK):
        raise ValueError("another version")
    view, end = memoryview(data), start + len(_BLANK)
    digest = hashlib.sha256(view[:start])
    digest.update(_BLANK)
    digest.update(view[end:])
    if digest.hexdigest().encode() != data[start:end]:
        raise ValueError("damaged")
    claims = pq.read_metadata(pa.BufferReader(data))
    if claims.num_rows > _MOST_ROWS:
        raise ValueError(f"{claims.num_rows:,} rows")
    table = pd.read_parquet(BytesIO(data))
    if tuple(table.columns) != (*COLUMNS, *_STAMPS):
        raise ValueError("other columns")
    return table
