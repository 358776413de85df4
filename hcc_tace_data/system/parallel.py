"""The one place that runs jobs elsewhere: in worker processes, in threads, or on a Dask cluster.

Worker processes may be started by a script or a notebook without a guard around its main module.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures import wait as futures_wait
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Lock, Thread
from typing import Any, TypeVar

from hcc_tace_data.errors import DependencyError, UsageError, WorkerLostError

__all__ = ["Runner", "in_parallel", "in_threads", "open_runner", "process_pool", "thread_pool", "workers_for"]

_hiding = Lock()
_Result = TypeVar("_Result")
_Job = TypeVar("_Job")

#: Bytes of input below which starting processes costs more than it saves.
_WORTH_A_POOL = 128_000_000
#: :meth:`Runner.map` does fewer jobs than this in the calling process.
_FEW = 4
_SCHEDULER_S = 10
#: Calls that wait for a Dask cluster at a time, whose size may change: enough for any cluster.
_DASK_AHEAD = 4096


class _Pool(ProcessPoolExecutor):
    """A pool of spawned processes that do not import the caller's main module.

    Spawned, not forked: the caller may hold threads and locks that a fork would break. But a spawned process first
    runs the main module again, which restarts the caller's script where it has no ``if __name__ == "__main__"``,
    and fails where there is no file (notebooks, standard input). The functions that this package sends to workers
    live in the package, so the main module is hidden while processes start.
    """

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        with _hidden_main():
            return super().submit(*args, **kwargs)


class _DaskPool(Executor):
    """Calls on a Dask cluster, whose results the cluster forgets as soon as they are here.

    It would repeat a call whose result it still holds when the worker that made it dies: a second process would then
    write what the first has written, perhaps after this one believes that all is done.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._under_way: dict[Any, Future[Any]] = {}

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        there, here = self._client.submit(function, *args, pure=False, **kwargs), Future[Any]()
        here.add_done_callback(lambda one: there.cancel() if one.cancelled() else None)
        self._under_way[there.key] = here
        there.add_done_callback(self._hand_over)
        return here

    def _hand_over(self, there: Any) -> None:
        here = self._under_way.pop(there.key)
        try:
            result = there.result()
        except BaseException as error:
            there.release()
            if here.set_running_or_notify_cancel():
                here.set_exception(error)
            return
        there.release()
        if here.set_running_or_notify_cancel():
            here.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for here in list(self._under_way.values()):
            if cancel_futures:
                here.cancel()
            elif wait:
                futures_wait([here])


@contextmanager
def _hidden_main() -> Iterator[None]:
    main = sys.modules["__main__"]
    with _hiding:
        missing = object()
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", missing)
        main.__spec__ = None
        if file is not missing:
            del main.__file__
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is not missing:
                main.__file__ = file  # type: ignore[assignment]  # what was there before


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of `workers` processes for functions of this package.

    Examples
    --------
    >>> from math import factorial
    >>> with process_pool(1) as pool:
    ...     pool.submit(factorial, 5).result()
    120
    """
    return _Pool(workers, mp_context=get_context("spawn"), initializer=_behave)


def _behave() -> None:
    """Let a worker end as it should: quietly at Ctrl-C, and when the process that started it is gone."""

    def leave(*_: object) -> None:
        raise SystemExit(130)  # files are tidied up; no traceback for each worker

    signal.signal(signal.SIGINT, leave)
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)  # a killed parent can tell its workers nothing

    Thread(target=watch, name="end-with-parent", daemon=True).start()


def workers_for(size: int, workers: int | None = None) -> int:
    """Return how many processes to use for files of `size` bytes: `workers`, else one per core, or one for few.

    A process takes seconds to start: for small data that costs more than it saves.
    """
    if workers is not None:
        return workers
    return (os.cpu_count() or 1) if size > _WORTH_A_POOL else 1


class Runner:
    """Runs functions of this package in the calling process, in worker processes or on a Dask cluster.

    Made by :func:`open_runner`. ``Runner()`` runs everything in the calling process.

    Parameters
    ----------
    start : callable, optional
        Makes the executor, on first use.
    workers : int
        How many workers the executor has.
    remote : bool
        Whether even a single call is worth sending to the executor.
    """

    def __init__(self, start: Callable[[], Executor] | None = None, workers: int = 1, *, remote: bool = False) -> None:
        self._start = start
        self._workers = workers
        self._remote = remote
        self._executor: Executor | None = None

    def map(self, function: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
        """Return ``[function(job) for job in jobs]``.

        Parameters
        ----------
        function : callable
            A top-level function of this package.
        jobs : sequence
            Fewer than four are done in the calling process.
        """
        if len(jobs) < _FEW:
            return [function(job) for job in jobs]
        return list(self.ordered(function, [(job,) for job in jobs]))

    def ordered(self, function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]]) -> Iterator[_Result]:
        """Yield the results of many calls, in the order of `calls`.

        At most two calls per worker are under way or wait to be taken. If the consumer stops, or on Ctrl-C, calls that
        have not started are cancelled.

        Parameters
        ----------
        function : callable
            A top-level function of this package.
        calls : sequence of tuple
            Arguments of each call.

        Raises
        ------
        WorkerLostError
            A worker was killed, or the Dask cluster is gone.
        """
        if self._alone(len(calls)):
            for arguments in calls:
                yield function(*arguments)
            return
        yield from _in_order(self._pool(), function, calls, 2 * self._workers)

    def finished(
        self, function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, _Result]]:
        """Yield the place in `calls` and the result of each call, as they finish.

        The parameters and errors are those of :meth:`ordered`.
        """
        if self._alone(len(calls)):
            for place, arguments in enumerate(calls):
                yield place, function(*arguments)
            return
        pool = self._pool()
        futures: dict[Future[_Result], int] = {}
        try:
            with _workers_alive():
                for place, arguments in enumerate(calls):
                    futures[pool.submit(function, *arguments)] = place
            for future in as_completed(futures):
                with _workers_alive():
                    result = future.result()
                yield futures[future], result
        finally:
            _cancel(futures)

    def close(self) -> None:
        """End the workers that were started."""
        if self._executor is not None:
            self._executor.shutdown(wait=True)  # calls under way were cancelled where they were made
            self._executor = None

    def _alone(self, calls: int) -> bool:
        return self._start is None or (calls <= 1 and not self._remote)

    def _pool(self) -> Executor:
        if self._executor is None:
            if self._start is None:
                raise ValueError("this runner has no workers; its calls are made in this process")
            self._executor = self._start()
        return self._executor


def _in_order(
    pool: Executor, function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]], ahead: int
) -> Iterator[_Result]:
    waiting: deque[Future[_Result]] = deque()
    try:
        for arguments in calls:
            with _workers_alive():
                waiting.append(pool.submit(function, *arguments))
            if len(waiting) >= ahead:
                yield _result_of(waiting.popleft())
        while waiting:
            yield _result_of(waiting.popleft())
    finally:
        _cancel(waiting)


def _result_of(future: Future[_Result]) -> _Result:
    with _workers_alive():
        return future.result()


def _cancel(futures: Any) -> None:
    for future in futures:
        future.cancel()


@contextmanager
def _workers_alive() -> Iterator[None]:
    """Turn the loss of a worker into an error that says what happened and what to do."""
    try:
        yield
    except (BrokenExecutor, CancelledError) as error:
        raise _lost() from error
    except Exception as error:
        kind = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
        if kind not in {"distributed.KilledWorker", "distributed.CommClosedError"}:
            raise
        raise _lost() from error


def _lost() -> WorkerLostError:
    return WorkerLostError(
        "A worker process was killed from outside, most often by the system because memory ran out. What was finished "
        "is kept. Free memory or use fewer workers (--workers 1), then run the same command again."
    )


@contextmanager
def open_runner(workers: int = 1, dask: str | None = None) -> Iterator[Runner]:
    """Yield a :class:`Runner`, and end its workers afterwards.

    Parameters
    ----------
    workers : int
        Processes. One means the calling process.
    dask : str, optional
        Address of a Dask scheduler (``tcp://host:8786``), used instead of processes. Its workers must have this
        package, and see the collection under the same path.

    Raises
    ------
    DependencyError
        `dask` without ``distributed`` (extra ``[dask]``).
    UsageError
        No scheduler answers at `dask`.
    """
    if dask is not None:
        with _dask_client(dask) as client:
            runner = Runner(lambda: _DaskPool(client), _DASK_AHEAD, remote=True)
            try:
                yield runner
            finally:
                runner.close()
        return
    runner = Runner((lambda: process_pool(workers)) if workers > 1 else None, workers)
    try:
        yield runner
    finally:
        runner.close()


@contextmanager
def _dask_client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise DependencyError("--dask needs distributed: pip install 'hcc-tace-data[dask]'.") from error
    # distributed logs a traceback for a scheduler that does not answer; the error below says it in one line
    noisy = [logging.getLogger(name) for name in ("distributed.client", "distributed.comm")]
    levels = [one.level for one in noisy]
    for one in noisy:
        one.setLevel(logging.CRITICAL)
    try:
        connect: Any = Client  # not typed
        client = connect(address, timeout=_SCHEDULER_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"No Dask scheduler answers at {address!r} ({type(error).__name__}). Give its address, for example "
            "tcp://host:8786, or use --workers."
        ) from error
    finally:
        for one, level in zip(noisy, levels, strict=True):
            one.setLevel(level)
    try:
        yield client
    finally:
        client.close()


def in_parallel(
    function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]], workers: int | None = None
) -> Iterator[_Result]:
    """Yield the results of a function of this package for many arguments, in their order, from several processes.

    See :meth:`Runner.ordered`.

    Parameters
    ----------
    function : callable
    calls : sequence of tuple
        Arguments of each call.
    workers : int, optional
        Processes; default one per core. With one, or for a single call, the calling process does the work.

    Examples
    --------
    >>> list(in_parallel(pow, [(2, 3), (3, 2)], workers=1))
    [8, 9]
    """
    with open_runner(min(workers or os.cpu_count() or 1, len(calls))) as runner:
        yield from runner.ordered(function, calls)


@contextmanager
def thread_pool(workers: int, name: str = "") -> Iterator[Executor]:
    """Yield an executor of threads; on leaving, cancel what has not started and wait for the rest.

    Parameters
    ----------
    workers : int
        Threads, at least one.
    name : str
        Prefix of the threads' names.
    """
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_threads(function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]], workers: int) -> Iterator[_Result]:
    """Yield the results of a function for many arguments, in their order, from several threads.

    Worth it where the function leaves the interpreter free: reading, hashing, filtering. With one worker, or for a
    single call, the calling thread does the work.

    Examples
    --------
    >>> list(in_threads(pow, [(2, 3), (3, 2)], workers=2))
    [8, 9]
    """
    if workers < 2 or len(calls) < 2:
        for arguments in calls:
            yield function(*arguments)
        return
    with thread_pool(min(workers, len(calls))) as pool:
        yield from _in_order(pool, function, calls, 2 * workers)
