"""STAPLE against SimpleITK on the same masks, in one process: equality first, then time.

python benchmarks/staple.py [--depth 100] [--side 512] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from hcc_tace_data import fuse_staple


def make_readers(depth: int, side: int, count: int, seed: int) -> list[np.ndarray]:
    """Return readers of one smooth body, each with a contour of their own."""
    rng = np.random.default_rng(seed)
    d, h, w = np.ogrid[:depth, :side, :side]
    inside = 1 - ((d / depth - 0.5) / 0.38) ** 2 - ((h / side - 0.48) / 0.22) ** 2 - ((w / side - 0.38) / 0.26) ** 2
    readers = []
    for _ in range(count):
        wobble = gaussian_filter(rng.standard_normal((depth, side, side), dtype=np.float32), 4)
        readers.append((inside + wobble * 0.08 / wobble.std() > 0).astype(np.uint8))
    return readers


def median_time(task: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median seconds of a task, and its last result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = task()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def main() -> None:
    """Compare, then time, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    readers = make_readers(options.depth, options.side, options.readers, seed=0)
    images = [sitk.GetImageFromArray(reader) for reader in readers]
    staple = sitk.STAPLEImageFilter()
    staple.SetForegroundValue(1)

    peer, image = median_time(lambda: staple.Execute(images), options.repeats)
    double, ours = median_time(lambda: fuse_staple(readers, labels=[1]), options.repeats)
    single, _ = median_time(lambda: fuse_staple(readers, labels=[1], dtype="float32"), options.repeats)
    theirs = sitk.GetArrayViewFromImage(image)
    difference = float(np.abs(ours.probability[1] - theirs).max())
    same = ours.iterations[1] == staple.GetElapsedIterations() and difference <= 1e-8
    result = {
        "shape": list(readers[0].shape),
        "readers": options.readers,
        "equal": bool(same and np.array_equal(ours.label_map, theirs >= 0.5)),
        "largest_difference": difference,
        "iterations": [ours.iterations[1], staple.GetElapsedIterations()],
        "simpleitk_s": peer,
        "float64_s": double,
        "float32_s": single,
        "ratio_float64": peer / double,
        "ratio_float32": peer / single,
    }
    for key, value in result.items():
        print(f"{key:<20} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    if not result["equal"]:
        raise SystemExit("the results differ")


if __name__ == "__main__":
    main()
