"""How hard the twin is: what finds its tumours by brightness alone.

    python scripts/twin_difficulty.py [--patients 30] [--seed 7] [--size small] [--root FOLDER]

The best band of HU within the true liver is sought on the very patients it is scored on, once for all and once for
each: no threshold can do better. With one band for all, the mean Dice of the tumour must not exceed 0.35 in the volume
that the readers drew on. What the arterial phase adds is printed as well: the best band of either phase, or of the
difference of both.
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


def best_for_all(every: np.ndarray) -> tuple[float, int, int]:
    """Return the best mean Dice of a band over patients, from (patients, bands, bands), and its HU."""
    mean = every.mean(axis=0)
    first, last = np.unravel_index(int(mean.argmax()), mean.shape)
    return float(mean.max()), -100 + STEP * int(first), -100 + STEP * int(last)


def two_phases(root: Path) -> str:
    """Say what one band for all finds in either phase, or in the difference of both."""
    seen: dict[str, list[np.ndarray]] = {"portal-venous": [], "arterial": [], "arterial minus portal-venous": []}
    for sample in load_hcc_tace(root, phases=("portal_venous", "arterial")):
        portal, arterial = sample["image"].numpy()
        label = sample["label"].numpy()
        for scores, values in zip(seen.values(), (portal, arterial, arterial - portal), strict=True):
            scores.append(band_scores(*histograms(values, label)))
    found = {name: best_for_all(np.array(scores)) for name, scores in seen.items()}
    name = max(found, key=lambda one: found[one][0])
    dice, low, high = found[name]
    return f"best band for all of two phases, {low} to {high} HU of {name}: Dice {dice:.3f}"


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
        both = two_phases(root)
    every = np.array(scores)
    dice, low, high = best_for_all(every)
    quartiles = np.quantile(differences, [0.25, 0.5, 0.75]).round(1)
    near = np.mean(np.abs(differences) < 17)
    print(f"{len(every)} {options.size} patients, seed {options.seed}")
    print(f"tumour minus liver: quartiles {quartiles[0]}, {quartiles[1]}, {quartiles[2]} HU; {near:.0%} within 17 HU")
    print(f"best band for all, {low} to {high} HU in the true liver: Dice {dice:.3f}")
    print(f"best band of each patient: mean Dice {every.max(axis=(1, 2)).mean():.3f}")
    print(f"all of the liver called tumour: Dice {every[:, 0, -1].mean():.3f}")
    print(both)
    return int(dice > MOST)


if __name__ == "__main__":
    sys.exit(main())
