"""Worker processes that a script or a notebook may start without a guard around its main module."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from threading import Lock
from typing import Any

__all__ = ["process_pool"]

_hiding = Lock()


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
    return _Pool(workers, mp_context=get_context("spawn"))
