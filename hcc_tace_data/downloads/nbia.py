"""Fetching from TCIA's NBIA server: one zip a series, with the server's own digests in it.

Queries go through ``tcia_utils.nbia``. Of its download only the address is used: ``downloadSeries`` holds a whole
series in memory, waits for ever, never tries again, logs an error where it should raise one, and never compares the
digests it asks for.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import as_completed
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from hcc_tace_data.downloads.archive import unpack_series
from hcc_tace_data.downloads.check import Checked, Expected, WrongContent, check_series
from hcc_tace_data.downloads.place import Stage
from hcc_tace_data.downloads.retries import RetryPolicy, is_passing, no_room
from hcc_tace_data.downloads.selection import Wanted
from hcc_tace_data.errors import DiskFullError, DownloadError, IntegrityError
from hcc_tace_data.system.parallel import thread_pool
from hcc_tace_data.system.words import count

__all__ = ["NbiaClient", "NbiaSource"]

logger = logging.getLogger(__name__)

_BLOCK = 1 << 18
_CONNECT_S = 15.0
#: Both give a zip with ``md5hashes.csv``; servers know the one, the other, or both.
_ENDPOINTS = ("getImage?NewFileNames=Yes&IncludeMD5=Yes&SeriesInstanceUID=", "getImageWithMD5Hash?SeriesInstanceUID=")
_loading = threading.Lock()


class _Refused(DownloadError):
    """The server answered with an error."""

    def __init__(self, message: str, status: int, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.wait_s = wait_s


def _own_nbia() -> Any:
    """Return a copy of ``tcia_utils.nbia`` of our own, to redirect without touching what the user may have imported."""
    with _loading:
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        try:
            spec = importlib.util.find_spec("tcia_utils.nbia")
            if spec is None or spec.loader is None:
                raise DownloadError("tcia_utils is not installed; 'pip install tcia-utils' brings it.")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:  # importing it sets up logging for the whole process: that is the user's to do
            root.handlers[:] = handlers
            root.setLevel(level)
    module._log.setLevel(logging.WARNING)
    return module


class NbiaClient:
    """The NBIA server, through ``tcia_utils.nbia``.

    Parameters
    ----------
    url : str, optional
        Another server; default ``$HCC_TACE_NBIA_URL``, else what ``nbia.setApiUrl`` says.
    timeout_s : float
        Seconds without a byte after which a request is given up.
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 60.0) -> None:
        self._timeout = (min(_CONNECT_S, timeout_s), timeout_s)
        self._nbia = _own_nbia()
        self._errors = threading.local()
        requests = self._nbia.requests
        # tcia_utils waits for ever and swallows errors: its requests go through here, which does neither
        self._nbia.requests = SimpleNamespace(get=self._get, exceptions=requests.exceptions)
        self._requests = requests
        url = url or os.environ.get("HCC_TACE_NBIA_URL")
        if url:
            base = _base(url)
            self._nbia.setApiUrl = lambda endpoint, api_url="nbia": base

    def _get(self, url: str, params: Mapping[str, str] | None = None, proxies: Any = None) -> Any:
        self._errors.last = None
        try:
            response = self._requests.get(url, params=params, proxies=proxies, timeout=self._timeout)
            response.raise_for_status()
            if response.content.strip():
                response.json()
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            self._errors.last = error
            raise
        return response

    def _query(self, function: Callable[..., Any], **options: str) -> list[dict[str, Any]]:
        """Call a query of tcia_utils; an error is an error, and no rows are an empty list."""
        self._errors.last = None
        try:
            rows = function(**options)
        except ValueError as error:
            raise DownloadError(f"{self.address}: what came is no JSON") from error
        if self._errors.last is not None:
            raise self._error(self._errors.last)
        if rows is None:
            return []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DownloadError(f"{self.address}: the answer has an unexpected form")
        return rows

    def _error(self, error: BaseException) -> DownloadError:
        response = getattr(error, "response", None)
        if response is not None:
            return _Refused(f"{self.address}: status {response.status_code}", response.status_code, _wait_of(response))
        return DownloadError(f"{self.address}: {type(error).__name__}")

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._nbia.setApiUrl("getImage"))

    def series(self, collection: str) -> list[dict[str, Any]]:
        """Return what the server says of each series of a collection."""
        return self._query(self._nbia.getSeries, collection=collection)

    def sop_uids(self, series_uid: str) -> set[str]:
        """Return the SOP Instance UIDs of a series; empty if the server has none."""
        rows = self._query(self._nbia.getSopInstanceUids, seriesUid=series_uid)
        return {str(value) for row in rows for key, value in row.items() if "sop" in key.lower()}

    def zip(
        self,
        series_uid: str,
        path: Path,
        *,
        limit: int,
        stop: threading.Event,
        advance: Callable[[int], None],
        first: int = 0,
    ) -> None:
        """Write the zip of a series to `path`; `first` is the endpoint to begin with.

        Raises
        ------
        DownloadError
            No answer, an error, more than `limit` bytes, or an answer that ends early.
        """
        for turn in range(len(_ENDPOINTS)):
            endpoint = _ENDPOINTS[(first + turn) % len(_ENDPOINTS)]
            try:
                self._stream(f"{self.address}{endpoint}{series_uid}", path, limit, stop, advance)
                return
            except _Refused as error:
                if error.status not in (400, 404) or turn == len(_ENDPOINTS) - 1:
                    raise

    def _stream(self, url: str, path: Path, limit: int, stop: threading.Event, advance: Callable[[int], None]) -> None:
        size = 0
        try:
            with self._requests.get(
                url, stream=True, timeout=self._timeout, proxies=self._nbia.get_proxy()
            ) as response:
                response.raise_for_status()
                with open(path, "wb") as handle:
                    for block in response.iter_content(_BLOCK):
                        if stop.is_set():
                            raise DownloadError("stopped")
                        size += len(block)
                        if size > limit:
                            raise IntegrityError(f"the server sends more than {limit:,} bytes")
                        handle.write(block)
                        advance(len(block))
        except (self._requests.exceptions.RequestException, OSError) as error:
            advance(-size)
            if isinstance(error, self._requests.exceptions.RequestException):
                raise self._error(error) from error
            raise
        advance(-size)  # packed bytes: the bar counts whole files when they are placed
        if not size:
            raise _Refused(f"{self.address} has no such series (an empty answer)", 404)


def _base(url: str) -> str:
    """Return the base of the API from an address given with or without its path."""
    url = url.rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"$HCC_TACE_NBIA_URL is {url!r}; it begins with http:// or https://.")
    if not re.search(r"/v\d+$", url):
        url += (
            "/v4"
            if url.endswith("/nbia-api/services")
            else "/services/v4"
            if url.endswith("/nbia-api")
            else "/nbia-api/services/v4"
        )
    return url + "/"


def _wait_of(response: Any) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


class NbiaSource:
    """Fetches series as zips; the interface is that of :class:`~hcc_tace_data.downloads.idc.IdcSource`."""

    name = "nbia"

    def __init__(self, url: str | None, stage: Stage, *, workers: int, retries: RetryPolicy, timeout_s: float) -> None:
        self._client = NbiaClient(url, timeout_s=timeout_s)
        self._stage = stage
        self._workers = workers
        self._retries = retries
        self._stop = threading.Event()

    def fetch(
        self,
        wanted: Iterable[Wanted],
        *,
        candidates: Callable[[Wanted], Iterable[Path]],
        recorded: Callable[[Wanted], Mapping[str, str]],
        arrived: Callable[[Wanted, list[Checked]], None],
        failed: Callable[[Wanted, str], None],
        advance: Callable[[int], None],
    ) -> None:
        """Fetch series; tell of each whether it arrived or failed."""
        with thread_pool(self._workers, "nbia") as pool:
            try:
                futures = {}
                for one in wanted:
                    left = [path for path in candidates(one) if path.suffix == ".zip"]
                    futures[pool.submit(self._one, one, left, dict(recorded(one)), advance)] = one
                for future in as_completed(futures):
                    one = futures[future]
                    try:
                        checked = future.result()
                    except DiskFullError:
                        raise
                    except DownloadError as error:
                        failed(one, str(error))
                    else:
                        advance(sum(item.size for item in checked))
                        arrived(one, checked)
            finally:
                self._stop.set()  # before the pool waits for its threads

    def _one(
        self, wanted: Wanted, left: list[Path], recorded: Mapping[str, str], advance: Callable[[int], None]
    ) -> list[Checked]:
        """Fetch one series, trying again where that may help."""
        archive = self._stage.folder / f"{wanted.series_uid}.zip"
        for path in left:  # an earlier run may have been ended after the last byte
            try:
                return self._unpacked(wanted, path, recorded)
            except DownloadError as error:
                logger.info("%s is not used: %s", path.name, error)
        failures = 0
        while True:
            try:
                limit = 2 * wanted.bytes + (16 << 20)
                self._client.zip(
                    wanted.series_uid, archive, limit=limit, stop=self._stop, advance=advance, first=failures
                )
                checked = self._unpacked(wanted, archive, recorded)
                archive.unlink()
                return checked
            except (WrongContent, DiskFullError):
                archive.unlink(missing_ok=True)
                raise
            except DownloadError as error:
                archive.unlink(missing_ok=True)
                failures += 1
                lasting = getattr(error, "status", 0) == 404 or not is_passing(str(error))
                if lasting or failures >= self._retries.attempts or self._stop.is_set():
                    raise
                logger.info("series %s is tried again: %s", wanted.series_uid, error)
                wait = min(getattr(error, "wait_s", 0.0), self._retries.cap_s)
                self._wait(max(wait, self._retries.delay_s(failures)))
            except OSError as error:
                if no_room(error):
                    archive.unlink(missing_ok=True)
                    raise DiskFullError(str(error)) from error
                raise DownloadError(f"a file could not be written: {error}") from error

    def _wait(self, seconds: float) -> None:
        if self._retries.sleep is time.sleep:
            self._stop.wait(seconds)  # the same, but ends when the run does
        else:
            self._retries.sleep(seconds)

    def _unpacked(self, wanted: Wanted, archive: Path, recorded: Mapping[str, str]) -> list[Checked]:
        folder = self._stage.of(wanted.series_uid)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            unpacked = unpack_series(archive, folder, files=wanted.instances, limit=2 * wanted.bytes + (16 << 20))
            files = {path: Expected(size=None, etag=digest) for path, digest in unpacked.digests.items()}
            checked = check_series(wanted, files, exact_bytes=False, recorded=recorded)
            named = self._client.sop_uids(wanted.series_uid)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        found = {one.sop_uid for one in checked}
        if named and named != found:
            shutil.rmtree(folder, ignore_errors=True)
            raise IntegrityError(
                f"the archive lacks {len(named - found)} of the {count(len(named), 'file')} that the server names"
            )
        size = sum(one.size for one in checked)
        if size != wanted.bytes:
            logger.warning(
                "series %s: NBIA has %d bytes where the table, made from IDC, has %d",
                wanted.series_uid,
                size,
                wanted.bytes,
            )
        return checked
