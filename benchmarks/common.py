"""What the benchmark scripts share: a full phantom patient, timing in turn, printing."""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hcc_tace_data import make_phantom

__all__ = ["full_patient", "report", "time_in_turn"]


@contextmanager
def full_patient(root: Path | None, patient: str) -> Iterator[Path]:
    """Yield a `full` phantom of one patient: `root` if it is given (made there once), else a temporary one."""
    if root is not None:
        if not (root / "series.csv").is_file():
            make_phantom(root, patients=[patient], size="full", workers=1)
        yield root
        return
    with tempfile.TemporaryDirectory() as folder:
        yield make_phantom(Path(folder) / "full", patients=[patient], size="full", workers=1)


def time_in_turn(tasks: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return seconds of each task and repeat.

    Tasks take turns, so that a drift of the machine hits all alike; each runs once untimed before it is timed, so that
    none pays for the memory and the caches that the one before it left. What was imported is kept out of garbage
    collection, which would charge a task for the modules of the others.
    """
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            task()
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    return times


def report(title: str, times: Mapping[str, list[float]], ours: str, file: Path | None, **more: Any) -> None:
    """Print medians and ratios to `ours`, and write them to `file`."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(title)
    for name, seconds in medians.items():
        print(f"  {name:<28} {1000 * seconds:9.1f} ms   {seconds / medians[ours]:6.1f} x ours")
    for name, value in more.items():
        print(f"  {name}: {value}")
    if file:
        file.write_text(json.dumps({"title": title, "median_s": medians, "seconds": dict(times), **more}, indent=2))
