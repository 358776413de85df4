"""Worker processes that a script or a notebook may start without a guard around its main module."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Lock, Thread
from typing import Any, TypeVar

__all__ = ["in_parallel", "process_pool", "workers_for"]

_hiding = Lock()
_Result = TypeVar("_Result")
_WORTH_A_POOL = 128_000_000


class _Pool(ProcessPoolExecutor):
    """A pool of spawned processes that do not import the caller's main module.

    Spawned, not forked: the caller may hold threads and locks that a fork would break. But a spawned process first
    runs the main module again, which starts the caller's script anew where it has no ``if __name__ == "__main__"``,
    and fails where there is no file (notebooks, standard input). The functions that this package sends to workers
    live in the package, so the main module is hidden while processes start.
    """

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        with _hidden_main():
            return super().submit(*args, **kwargs)


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
    """Return how many processes to use for files of `size` bytes: what was asked for, else one a core, or one for few.

    A process takes seconds to start: for small data that costs more than it saves.
    """
    if workers is not None:
        return workers
    return (os.cpu_count() or 1) if size > _WORTH_A_POOL else 1


def in_parallel(
    function: Callable[..., _Result], calls: Sequence[tuple[Any, ...]], workers: int | None = None
) -> Iterator[_Result]:
    """Yield the results of a function of this package for many arguments, in their order, from several processes.

    At most two results a worker wait to be taken. A consumer that stops, or Ctrl-C, cancels what has not begun.

    Parameters
    ----------
    function : callable
    calls : sequence of tuple
        Arguments of each call.
    workers : int, optional
        Processes; default one a core. One, or a single call: this process.

    Examples
    --------
    >>> list(in_parallel(pow, [(2, 3), (3, 2)], workers=1))
    [8, 9]
    """
    count = min(workers or os.cpu_count() or 1, len(calls))
    if count <= 1:
        for arguments in calls:
            yield function(*arguments)
        return
    with process_pool(count) as pool:
        waiting: deque[Future[_Result]] = deque()
        try:
            for arguments in calls:
                waiting.append(pool.submit(function, *arguments))
                if len(waiting) >= 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
