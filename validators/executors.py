"""Where the reading is done: in this process, in worker processes, or on a Dask cluster.

Rules are judged in one process, in one order, from what was read; so the engine decides how long it takes and never
what comes out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, TypeVar

from hcc_tace_data.errors import DependencyError, UsageError
from hcc_tace_data.system.parallel import process_pool

__all__ = ["Mapper", "open_mapper"]

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Fewer jobs than this are done here before a pool is started: a process costs seconds of imports.
_FEW = 4


class Mapper:
    """Runs one function of this package over many jobs and returns the results in the order of the jobs.

    Parameters
    ----------
    start : callable, optional
        Makes the executor, on first use; None to run here.
    """

    def __init__(self, start: Callable[[], Executor] | None = None) -> None:
        self._start = start
        self._executor: Executor | None = None

    def __call__(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """Return ``[function(job) for job in jobs]``; `function` must be a top-level one of the package."""
        if self._start is None or len(jobs) < _FEW:
            return [function(job) for job in jobs]
        if self._executor is None:
            self._executor = self._start()
        waiting = [self._executor.submit(function, job) for job in jobs]
        try:
            return [future.result() for future in waiting]
        except BaseException:  # Ctrl-C too: what has not begun is not worth waiting for
            for future in waiting:
                future.cancel()
            raise

    def close(self) -> None:
        """End the workers that were started."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None


@contextmanager
def open_mapper(workers: int | None = None, dask: str | None = None) -> Iterator[Mapper]:
    """Yield a :class:`Mapper`, and end its workers afterwards.

    Parameters
    ----------
    workers : int, optional
        Processes; default one a core, two at most. One means this process.
    dask : str, optional
        Address of a Dask scheduler (``tcp://host:8786``). Its workers must have this package, and see the
        collection under the same path.

    Raises
    ------
    DependencyError
        `dask` without ``distributed`` (extra ``[dask]``).
    UsageError
        No scheduler answers at `dask`.
    """
    if dask is not None:
        with _dask(dask) as mapper:
            yield mapper
        return
    count = workers if workers is not None else min(2, os.cpu_count() or 1)
    mapper = Mapper((lambda: process_pool(count)) if count > 1 else None)
    try:
        yield mapper
    finally:
        mapper.close()


@contextmanager
def _dask(address: str) -> Iterator[Mapper]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError("--dask needs distributed: pip install 'hcc-tace-data[dask]'.") from error
    # distributed logs a traceback for a scheduler that does not answer; the error below says it in one line
    noisy: list[Any] = [logging.getLogger(name) for name in ("distributed.client", "distributed.comm")]
    levels = [one.level for one in noisy]
    for one in noisy:
        one.setLevel(logging.CRITICAL)
    try:
        connect: Any = Client  # not typed
        client = connect(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"No Dask scheduler answers at {address!r} ({type(error).__name__}); give its address, as tcp://host:8786."
        ) from error
    finally:
        for one, level in zip(noisy, levels, strict=True):
            one.setLevel(level)
    try:
        mapper = Mapper(lambda: client.get_executor(pure=False))
        yield mapper
        mapper.close()
    finally:
        client.close()
