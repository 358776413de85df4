"""Threads fill every row of every batch once, in order, no further ahead than asked, and say what went wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.loaders.supply.gather import Filling, filled


def _batches(
    sizes: list[int], begun: list[int], *, broken: int | None = None, at: str = ""
) -> list[Callable[[], Filling]]:
    """Batches whose rows count how often they were filled; number `broken` fails, at its beginning or at row 0."""

    def begin(number: int) -> Filling:
        begun.append(number)
        if number == broken and at == "begin":
            raise OSError("cannot begin")
        rows = [0] * sizes[number]

        def fill(first: int, last: int) -> None:
            if number == broken and first == 0:
                raise OSError("cannot fill")
            for row in range(first, last):
                rows[row] += 1

        return Filling({"number": number, "rows": rows}, len(rows), fill)

    return [lambda number=number: begin(number) for number in range(len(sizes))]  # type: ignore[misc]


@given(sizes=st.lists(st.integers(1, 9), max_size=12), threads=st.integers(0, 4), ahead=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_every_row_once_in_order_and_not_too_far_ahead(sizes: list[int], threads: int, ahead: int) -> None:
    begun: list[int] = []
    for taken, batch in enumerate(filled(_batches(sizes, begun), threads=threads, ahead=ahead), start=1):
        assert batch == {"number": taken - 1, "rows": [1] * sizes[taken - 1]}
        assert len(begun) <= taken + ahead + 1
    assert begun == list(range(len(sizes)))


@pytest.mark.parametrize("at", ["begin", "fill"])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_went_wrong_is_raised_in_its_turn(at: str, threads: int) -> None:
    source = filled(_batches([4] * 8, [], broken=3, at=at), threads=threads, ahead=4)
    assert [next(source)["number"] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match=f"cannot {at}"):
        next(source)
    _all_ended()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_caller_takes_the_place_of_a_thread(threads: int) -> None:
    lock, filling, most, who = threading.Lock(), 0, 0, set()

    def fill(first: int, last: int) -> None:
        nonlocal filling, most
        with lock:
            filling, most = filling + 1, max(most, filling + 1)
            who.add(threading.current_thread().name)
        time.sleep(0.001)
        with lock:
            filling -= 1

    batches = list(filled([lambda: Filling({}, 8, fill)] * 12, threads=threads, ahead=2))
    assert len(batches) == 12
    assert most <= threads
    assert threading.current_thread().name in who
    assert threads == 1 or "gather" in who


def test_batches_are_filled_ahead_while_the_caller_is_away() -> None:
    made: list[list[int]] = []

    def begin() -> Filling:
        rows = [0] * 4
        made.append(rows)

        def fill(first: int, last: int) -> None:
            rows[first:last] = [1] * (last - first)

        return Filling({}, 4, fill)

    source = filled([begin] * 9, threads=2, ahead=3)
    next(source)
    limit = time.monotonic() + 10
    while sum(map(all, made)) < 4:
        assert time.monotonic() < limit, f"{len(made)} batches were begun, {sum(map(all, made))} filled"
        time.sleep(0.01)
    source.close()  # type: ignore[attr-defined]  # a generator
    _all_ended()


def test_an_interrupt_does_not_wait_for_its_turn() -> None:
    main = threading.current_thread()

    def fill(first: int, last: int) -> None:
        if threading.current_thread() is main:
            raise KeyboardInterrupt
        time.sleep(0.001)

    source = filled([lambda: Filling({}, 4, fill)] * 1000, threads=2, ahead=4)
    with pytest.raises(KeyboardInterrupt):
        for _ in source:
            pass
    _all_ended()


def test_threads_end_when_a_loop_is_left() -> None:
    source = filled(_batches([4] * 50, []), threads=3, ahead=2)
    next(source)
    source.close()  # type: ignore[attr-defined]  # a generator
    _all_ended()


def _all_ended() -> None:
    limit = time.monotonic() + 10
    while any(thread.name == "gather" for thread in threading.enumerate()):
        assert time.monotonic() < limit, "a thread is still there"
        time.sleep(0.01)


@pytest.mark.parametrize("left", ["at its end", "in the middle", "in the middle and forgotten"])
def test_the_end_of_the_program_waits_for_rows_but_not_for_batches(left: str) -> None:
    # PyTorch ends the whole program if a thread is thrown out of one of its operations
    program = f"""
import time, torch
from hcc_tace_data.loaders.supply.gather import Filling, filled
def fill(first, last):
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        torch.ones(100_000).add_(1)
kept = filled([lambda: Filling({{}}, 3, fill)] * {1 if left == "at its end" else 1000}, threads=2, ahead=2)
next(kept)
{"del kept" if "forgotten" in left else ""}
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 30


def test_no_thread_stays_after_interrupts_at_any_moment() -> None:
    """Short epochs are begun and interrupted again and again."""

    def fill(first: int, last: int) -> None:
        time.sleep(0.0002)

    interrupted, limit = 0, time.monotonic() + 4
    handler = signal.signal(signal.SIGALRM, _interrupt)
    try:
        while interrupted < 600 and time.monotonic() < limit:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.003 * (interrupted % 17) / 17)
                for _ in range(100):
                    for _ in filled([lambda: Filling({}, 4, fill)] * 3, threads=2, ahead=2):
                        pass
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert interrupted > 20
    _all_ended()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
