"""Threads that fill a batch together, and the next ones ahead.

All threads work on the same batch before any begins the next. So a batch is ready early, few are under way at a time,
and the memory that is written is still in the processor's cache. A thread that waits for a batch helps: waking up
threads costs more than filling a row.
"""

from __future__ import annotations

import _thread
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from hcc_tace_data.errors import StoreError

__all__ = ["Batch", "Filling", "filled"]

logger = logging.getLogger(__name__)

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
        How many fill at a time: threads of their own, one less of them while the caller waits and fills too; 0 for
        none, then each batch is made when it is asked for.
    ahead : int
        Batches that are begun before they are asked for.

    Raises
    ------
    Exception
        What a batch raised that failed to start or to fill, when its turn comes.
    StoreError
        The epoch goes on in a forked child of the process in which it was begun.
    """
    if not threads:
        yield from map(_at_once, begin)
        return
    crew, process = _Crew(begin, threads, ahead), os.getpid()
    try:
        # An interrupt in the middle of `Thread.start` leaves a thread that never begins and never ends. Only the main
        # thread is interrupted, so another one starts them; nobody need wait for it, as the caller fills rows too.
        _thread.start_new_thread(crew.start, ())
        for _ in begin:
            if os.getpid() != process:
                raise StoreError(
                    "this epoch was begun in the parent process, whose threads a fork does not copy. "
                    "Iterate over the batches again in this process."
                )
            yield crew.take()
    finally:
        # An assignment and no call first: an interrupt may arrive at any call, and the threads would stay for ever.
        crew.over = True
        if os.getpid() == process:
            crew.wake()


def _at_once(begin: Callable[[], Filling]) -> Batch:
    filling = begin()
    filling.fill(0, filling.rows)
    return filling.batch


Share = tuple[Filling, int, int]

# s after which a thread looks whether the caller, who took its place, has gone
_AWAY = 0.005
# s after which a thread that waits looks whether the program has come to its end
_ENDED = 0.1


class _Crew:
    """What the threads share with the consumer of batches, who takes the place of one of them while waiting."""

    def __init__(self, begin: Sequence[Callable[[], Filling]], threads: int, ahead: int) -> None:
        self._begin = begin
        self._threads, self._ahead = threads, ahead
        self._begun: deque[Filling] = deque()
        self._next = 0
        self._busy = 0  # threads that fill just now
        self._taking = False
        self.over = False
        # of a lock that its owner may take again: the garbage collector may end a loop at any moment, in any thread
        self._lock = threading.RLock()
        # The caller waits for rows here and at no condition: an interrupt that arrives while a condition takes its lock
        # back leaves it without the lock, and the caller, unlike the threads, is interrupted.
        self._progress: SimpleQueue[None] = SimpleQueue()
        self._waiting = False
        self._room = threading.Condition(self._lock)  # threads wait until a batch may be begun
        self._place = threading.Condition(self._lock)  # a thread waits while the caller has its place

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._threads):
            # No daemons: the interpreter would throw them out of their copying when it ends, and PyTorch then aborts
            # the program. They see themselves that the program ends.
            try:
                threading.Thread(target=self.work, name="gather", daemon=False).start()
            except RuntimeError as error:  # the system's limit, or the program has ended meanwhile
                logger.debug("%d of %d threads fill batches: %s", number, self._threads, error)
                return

    def take(self) -> Batch:
        """Return the next batch; fill what there is to fill until it is ready."""
        self._taking = True
        try:
            while (filling := self._ready()) is None:
                pass
        finally:
            self._taking = False
        if filling.error is not None:
            raise filling.error
        return filling.batch

    def _ready(self) -> Filling | None:
        """Return the next batch, or None after a piece was filled, or some time."""
        with self._lock:
            if self._first_is_ready():
                self._room.notify_all()
                return self._begun.popleft()
            piece = self._piece() if self._busy < self._threads else None
            # one that could not be begun is ready to be raised
            self._waiting = piece is None and not self._first_is_ready()
            waiting = self._waiting
        if piece is None:
            if waiting:
                self._progress.get()
            return None
        error = self._fill(*piece)
        if error is not None and not isinstance(error, Exception):
            raise error  # Ctrl-C does not wait for its turn
        return None

    def wake(self) -> None:
        """Wake the threads that wait. Where `over` is set they end, each after its present share; nobody waits."""
        with self._lock:
            self._room.notify_all()
            self._place.notify_all()

    def work(self) -> None:
        """Fill pieces of batches until none are left."""
        while self._work():
            pass

    def _work(self) -> bool:
        # A method of its own, so that no thread holds on to the memory of a batch while it waits for the next.
        with self._lock:
            while True:
                if self.over or not threading.main_thread().is_alive():
                    return False
                if self._next == len(self._begin) and not self._rows_left():
                    return False
                if self._busy >= self._threads - self._taking:
                    # mostly the caller is back at once: not worth waking anybody up
                    self._place.wait(_AWAY)
                    continue
                piece = self._piece()
                if piece is not None:
                    break
                self._room.wait(_ENDED)
            self._busy += 1
        self._fill(*piece)
        with self._lock:
            self._busy -= 1
            self._tell()
        return True

    def _tell(self) -> None:
        """Tell the caller, if it waits, that there is something new; called with the lock held."""
        if self._waiting:
            self._waiting = False
            self._progress.put(None)

    def _first_is_ready(self) -> bool:
        return bool(self._begun) and self._begun[0].done == self._begun[0].rows

    def _rows_left(self) -> bool:
        return bool(self._begun) and self._begun[-1].given < self._begun[-1].rows

    def _piece(self) -> Share | None:
        """Give out some rows; None if none are ready."""
        while not self._rows_left():
            if self._next == len(self._begin) or len(self._begun) > self._ahead:
                return None
            self._begun.append(_begun(self._begin[self._next]))
            self._next += 1
            if self._begun[-1].error is not None:
                self._tell()
        filling = self._begun[-1]
        first = filling.given
        filling.given = min(filling.rows, first + -(-filling.rows // (2 * self._threads)))
        return filling, first, filling.given

    def _fill(self, filling: Filling, first: int, last: int) -> BaseException | None:
        """Fill rows; return what went wrong, which is also kept to be raised where the batch is taken."""
        error = None
        try:
            filling.fill(first, last)
        except BaseException as raised:
            error = raised
        with self._lock:
            filling.error = filling.error or error
            filling.done += last - first
        return error


def _begun(begin: Callable[[], Filling]) -> Filling:
    """Begin a batch; one that fails to start has no rows and re-raises its error when taken."""
    try:
        return begin()
    except Exception as error:
        return Filling({}, 0, lambda first, last: None, error=error)
