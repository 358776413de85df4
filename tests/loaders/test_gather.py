"""Threads fill every row of every batch once, in order, no further ahead than asked, and say what went wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.loaders.gather import Filling, filled


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


def test_a_loop_left_in_the_middle_does_not_hold_up_the_end_of_the_program() -> None:
    program = """
from hcc_tace_data.loaders.gather import Filling, filled
kept = filled([lambda: Filling({}, 3, lambda first, last: None)] * 50, threads=2, ahead=2)
next(kept)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
