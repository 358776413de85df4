"""STAPLE against SimpleITK on the same masks, in one process: equality first, then time.

python benchmarks/staple.py [--depth 100] [--side 512] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from common import report, time_in_turn
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

    tasks = {
        "SimpleITK": lambda: staple.Execute(images),
        "float64": lambda: fuse_staple(readers, labels=[1]),
        "float32": lambda: fuse_staple(readers, labels=[1], dtype="float32"),
    }
    image, ours = tasks["SimpleITK"](), tasks["float64"]()
    theirs = sitk.GetArrayViewFromImage(image)
    difference = float(np.abs(ours.probability[1] - theirs).max())
    same = ours.iterations[1] == staple.GetElapsedIterations() and difference <= 1e-8
    if not same or not np.array_equal(ours.label_map, theirs >= 0.5):
        raise SystemExit(f"the results differ by up to {difference}")
    single = float(np.abs(tasks["float32"]().probability[1] - theirs).max())
    report(
        f"{options.readers} readers, {readers[0].shape}: probabilities differ by at most {difference:.1e} "
        f"(float32 {single:.1e}), {ours.iterations[1]} iterations in both, same mask",
        time_in_turn(tasks, options.repeats),
        "float64",
        options.json,
    )


if __name__ == "__main__":
    main()
