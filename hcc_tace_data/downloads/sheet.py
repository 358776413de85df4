"""The clinical sheet, by HTTPS."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.downloads.retries import RetryPolicy, is_passing
from hcc_tace_data.errors import DownloadError, IntegrityError
from hcc_tace_data.system.files import atomic_write_bytes

if TYPE_CHECKING:
    from hcc_tace_data.facts.catalog import Clinical

__all__ = ["fetch_sheet", "sheet_path"]

logger = logging.getLogger(__name__)

_LIMIT = 16 << 20
_BLOCK = 1 << 16


def sheet_path(root: Path, clinical: Clinical) -> Path:
    """Return the path of the sheet in `root`."""
    return root / "clinical" / clinical.file


def fetch_sheet(
    root: Path, clinical: Clinical, *, retries: RetryPolicy, timeout_s: float, url: str | None = None
) -> str:
    """Fetch the clinical sheet, if it is not here; return its SHA-256.

    Another digest than the one reported for the official file is a warning, not an error: it was reported by users,
    and the sheet may be revised.

    Raises
    ------
    DownloadError
        It could not be fetched.
    IntegrityError
        What came is no workbook.
    """
    path = sheet_path(root, clinical)
    if path.is_file():
        data = path.read_bytes()
    else:
        data = _fetch(url or os.environ.get("HCC_TACE_SHEET_URL") or clinical.url, retries, timeout_s)
        atomic_write_bytes(path, data)
    digest = hashlib.sha256(data).hexdigest()
    if digest != clinical.sha256:
        logger.warning(
            "the clinical sheet %s has %d bytes, SHA-256 %s...; reported for the official file are %d bytes and %s...",
            path, len(data), digest[:12], clinical.bytes, clinical.sha256[:12],
        )  # fmt: skip
    return digest


def _fetch(url: str, retries: RetryPolicy, timeout_s: float) -> bytes:
    failures = 0
    while True:
        try:
            data = _once(url, timeout_s)
        except DownloadError as error:
            failures += 1
            if failures >= retries.attempts or not is_passing(str(error)):
                raise
            retries.wait(failures)
        else:
            return data


def _once(url: str, timeout_s: float) -> bytes:
    import requests

    data = bytearray()
    try:
        with requests.get(url, stream=True, timeout=(min(15.0, timeout_s), timeout_s)) as response:
            if response.status_code != 200:
                raise DownloadError(f"the clinical sheet: {url}: status {response.status_code}")
            for block in response.iter_content(_BLOCK):
                data += block
                if len(data) > _LIMIT:
                    raise IntegrityError(f"the clinical sheet: {url} sends more than {_LIMIT:,} bytes")
    except requests.exceptions.RequestException as error:
        raise DownloadError(f"the clinical sheet: {url}: {type(error).__name__}") from error
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as book:
            book.getinfo("xl/workbook.xml")
            if book.testzip() is not None:
                raise zipfile.BadZipFile
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise IntegrityError(f"the clinical sheet: what {url} sends is not a workbook") from error
    return bytes(data)
