"""Threads that fill a batch together, and the next ones ahead.

All threads work on the same batch before any begins the next. So a batch is ready early, few are under way at a time,
and the memory that is written was written a moment ago and still lies in the processor's cache.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Batch", "Filling", "filled"]

Batch = dict[str, Any]


@dataclass(slots=True)
class Filling:
    """A batch whose rows are still to be filled.

    Attributes
    ----------
    batch : dict
        What is filled.
    rows : int
        How many rows it has.
    fill : callable
        Takes (first, one after the last) and fills these rows; called by several threads at once.
    """

    batch: Batch
    rows: int
    fill: Callable[[int, int], None]
    given: int = 0
    done: int = 0
    error: BaseException | None = None


def filled(begin: Sequence[Callable[[], Filling]], *, threads: int, ahead: int) -> Iterator[Batch]:
    """Yield the batches that `begin` begins, in order, filled.

    Parameters
    ----------
    begin : sequence of callables
        Each begins a batch; called by the threads, one call at a time, in order.
    threads : int
        How many fill; 0 for none, then each batch is made when it is asked for.
    ahead : int
        Batches that are begun before they are asked for.

    Raises
    ------
    Exception
        Whatever a batch raised that could not be begun or filled, in its turn.
    """
    if not threads:
        yield from map(_at_once, begin)
        return
    crew = _Crew(begin, threads, ahead)
    for _ in range(threads):
        # Nobody waits for them at the end of the program: a loop that was left in the middle must not hold it up.
        threading.Thread(target=crew.work, name="gather", daemon=True).start()
    try:
        for _ in begin:
            yield crew.take()
    finally:
        crew.stop()


def _at_once(begin: Callable[[], Filling]) -> Batch:
    filling = begin()
    filling.fill(0, filling.rows)
    return filling.batch


class _Crew:
    """What the threads and whoever takes the batches share."""

    def __init__(self, begin: Sequence[Callable[[], Filling]], threads: int, ahead: int) -> None:
        self._begin = begin
        self._pieces, self._ahead = 2 * threads, ahead
        self._begun: deque[Filling] = deque()
        self._next = 0
        self._over = False
        # of a lock that its owner may take again: the garbage collector may end a loop at any moment, in any thread
        self._changed = threading.Condition(threading.RLock())

    def take(self) -> Batch:
        """Wait for the next batch."""
        with self._changed:
            while not (self._begun and self._begun[0].done == self._begun[0].rows):
                self._changed.wait()
            filling = self._begun.popleft()
            self._changed.notify_all()
        if filling.error is not None:
            raise filling.error
        return filling.batch

    def stop(self) -> None:
        """Let the threads end, each with the piece it is at; they are not waited for."""
        with self._changed:
            self._over = True
            self._begun.clear()
            self._changed.notify_all()

    def work(self) -> None:
        """Fill pieces of batches until there are none."""
        while self._work():
            pass

    def _work(self) -> bool:
        # A method of its own, so that no thread holds on to the memory of a batch while it waits for the next.
        piece = self._piece()
        if piece is None:
            return False
        filling, first, last = piece
        error = None
        try:
            filling.fill(first, last)
        except BaseException as raised:
            error = raised  # is raised where the batch is taken
        with self._changed:
            filling.error = filling.error or error
            filling.done += last - first
            if filling.done == filling.rows:
                self._changed.notify_all()
        return True

    def _piece(self) -> tuple[Filling, int, int] | None:
        with self._changed:
            while not self._over:
                if self._begun and self._begun[-1].given < self._begun[-1].rows:
                    filling = self._begun[-1]
                    first = filling.given
                    filling.given = min(filling.rows, first + -(-filling.rows // self._pieces))
                    return filling, first, filling.given
                if self._next == len(self._begin):
                    return None
                if len(self._begun) > self._ahead:
                    self._changed.wait()
                    continue
                self._begun.append(self._started(self._begin[self._next]))
                self._next += 1
        return None

    def _started(self, begin: Callable[[], Filling]) -> Filling:
        try:
            return begin()
        except BaseException as error:
            self._changed.notify_all()
            return Filling({}, 0, lambda first, last: None, error=error)
