"""Worker processes start from any main program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hcc_tace_data.errors import WorkerLostError
from hcc_tace_data.system.parallel import in_parallel, in_threads, open_runner

CODE = """
import operator
from hcc_tace_data.system.parallel import process_pool
with process_pool(2) as pool:
    results = list(pool.map(operator.add, range(4), range(4)))
print("once", results, __file__ if "__file__" in globals() else "no file")
"""


@pytest.mark.parametrize("how", ["script", "stdin", "option"])
def test_an_unguarded_program_runs_once(tmp_path: Path, how: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(CODE)
    words = {"script": [str(script)], "stdin": ["-"], "option": ["-c", CODE]}[how]
    done = subprocess.run(
        [sys.executable, *words],
        input=CODE if how == "stdin" else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once [0, 2, 4, 6]") == 1
    if how == "script":
        assert str(script) in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_worker_is_reported_as_such() -> None:
    """A worker that the system kills, for lack of memory say, is not an internal error."""
    calls = [(signal.SIGCONT,), (signal.SIGCONT,), (signal.SIGKILL,), (signal.SIGCONT,), (signal.SIGCONT,)]
    with open_runner(2) as runner, pytest.raises(WorkerLostError, match=r"killed from outside.*--workers 1"):
        list(runner.ordered(signal.raise_signal, calls))
    with open_runner(2) as runner, pytest.raises(WorkerLostError, match="memory"):
        list(runner.finished(signal.raise_signal, calls))


def test_results_come_in_order_or_as_they_finish() -> None:
    calls = [(2, 3), (3, 2), (5, 1), (7, 0)]
    with open_runner(2) as runner:
        assert list(runner.ordered(pow, calls)) == [8, 9, 5, 1]
        assert sorted(runner.finished(pow, calls)) == [(0, 8), (1, 9), (2, 5), (3, 1)]
        assert runner.map(len, ["a", "bb", "ccc", "dddd"]) == [1, 2, 3, 4]
    assert list(in_parallel(pow, calls, 2)) == [8, 9, 5, 1]
    assert list(in_threads(pow, calls, 2)) == [8, 9, 5, 1]


def test_an_error_in_a_job_is_raised_and_ends_the_threads() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_threads(divmod, [(1, 1), (1, 0), (1, 1)], 2))
    assert threading.active_count() == before


def test_a_consumer_that_stops_cancels_what_has_not_started() -> None:
    started = []
    stop = in_threads(started.append, [(n,) for n in range(1000)], 2)
    next(stop)
    stop.close()
    assert len(started) < 20
