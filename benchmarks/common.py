"""What the benchmark scripts share: a full phantom patient, timing in turn, printing."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from hcc_tace_data import make_phantom

__all__ = [
    "TEN_PATIENTS",
    "folder_bytes",
    "full_patient",
    "full_patients",
    "rate_options",
    "report",
    "time_in_turn",
]

# without gaps between slices, which raw DICOM would show; seven of them hold a patch of 96^3
TEN_PATIENTS = (
    "HCC_002", "HCC_005", "HCC_007", "HCC_012", "HCC_016", "HCC_028", "HCC_037", "HCC_063", "HCC_075", "HCC_097",
)  # fmt: skip


def full_patient(root: Path | None, patient: str) -> AbstractContextManager[Path]:
    """Give a `full` phantom of one patient; see :func:`full_patients`."""
    return full_patients(root, [patient])


@contextmanager
def full_patients(root: Path | None, patients: Sequence[str]) -> Iterator[Path]:
    """Yield a `full` phantom: `root` if it is given (made there once), else a temporary one."""
    workers = min(2, len(patients))
    if root is not None:
        if not (root / "series.csv").is_file():
            make_phantom(root, patients=list(patients), size="full", workers=workers)
        yield root
        return
    with tempfile.TemporaryDirectory() as folder:
        yield make_phantom(Path(folder) / "full", patients=list(patients), size="full", workers=workers)


def rate_options(description: str | None, *, seconds: float) -> argparse.Namespace:
    """Read the options of a benchmark that counts samples per second, and silence what would be said meanwhile."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="full phantom of ten patients; made there if it is missing")
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    return parser.parse_args()


def folder_bytes(folders: Iterable[Path]) -> int:
    """Bytes of all files below, Arrow files beside a store left out."""
    return sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file() and "hf" not in f.parts)


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
