"""How hard the twin is: what finds its tumours by brightness alone.

    python scripts/twin_difficulty.py [--patients 30] [--seed 7] [--size small] [--root FOLDER]

The best band of HU within the true liver is sought on the very patients it is scored on, once for all and once for
each: no threshold can do better. With one band for all, the mean Dice of the tumour must not exceed 0.35.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from hcc_tace_data import load_hcc_tace, make_phantom
from hcc_tace_data.phantom.plan import load_table

MOST = 0.35
STEP = 5


def histograms(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many voxels of the whole liver, and of the tumour, lie in each band of :data:`STEP` HU."""
    whole, tumour = np.isin(label, (1, 2, 3)), label == 2
    edges = np.arange(-100, 401, STEP)
    return tuple(np.histogram(np.clip(image[mask], -100, 399), edges)[0] for mask in (whole, tumour))  # type: ignore[return-value]


def band_scores(whole: np.ndarray, tumour: np.ndarray) -> np.ndarray:
    """Return the Dice of each band [from, to): shape (bands, bands)."""
    found, hit = (np.concatenate([[0], np.cumsum(counts)]) for counts in (whole, tumour))
    first, last = np.meshgrid(np.arange(len(found)), np.arange(len(found)), indexing="ij")
    dice = 2 * (hit[last] - hit[first]) / np.maximum(found[last] - found[first] + tumour.sum(), 1)
    return np.where(last > first, dice, 0.0)


def main() -> int:
    """Make the patients, seek bands, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--size", default="small")
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    names = sorted(load_table()["patient_id"].unique())
    chosen = [names[k] for k in np.linspace(0, len(names) - 1, options.patients).round().astype(int)]
    with tempfile.TemporaryDirectory() if options.root is None else nullcontext(options.root) as folder:
        root = Path(folder) / "twin"
        if not root.exists():
            make_phantom(root, patients=chosen, size=options.size, seed=options.seed)
        scores, differences = [], []
        for sample in load_hcc_tace(root, phases="annotated"):
            image, label = sample["image"][0].numpy(), sample["label"].numpy()
            scores.append(band_scores(*histograms(image, label)))
            differences.append(float(image[label == 2].mean() - image[label == 1].mean()))
    every = np.array(scores)
    mean = every.mean(axis=0)
    first, last = np.unravel_index(int(mean.argmax()), mean.shape)
    quartiles = np.quantile(differences, [0.25, 0.5, 0.75]).round(1)
    near = np.mean(np.abs(differences) < 17)
    print(f"{len(every)} {options.size} patients, seed {options.seed}")
    print(f"tumour minus liver: quartiles {quartiles[0]}, {quartiles[1]}, {quartiles[2]} HU; {near:.0%} within 17 HU")
    print(
        f"best band for all, {-100 + STEP * first} to {-100 + STEP * last} HU in the true liver: Dice {mean.max():.3f}"
    )
    print(f"best band of each patient: mean Dice {every.max(axis=(1, 2)).mean():.3f}")
    print(f"all of the liver called tumour: Dice {every[:, 0, -1].mean():.3f}")
    return int(mean.max() > MOST)


if __name__ == "__main__":
    sys.exit(main())
