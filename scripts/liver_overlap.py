"""How alike the livers of the twin's 105 patients are, once laid over each other.

    python scripts/liver_overlap.py [--seed 0] [--refine 40]

Every pair is first laid over each other by the best translation, found by cross-correlation on a coarse grid. The most
alike pairs are then rotated and moved from several starts. Exit code 1 if any pair's Dice exceeds 0.85.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from hcc_tace_data.phantom.body import Body, draw_bodies
from hcc_tace_data.phantom.plan import load_table, plan_patient
from hcc_tace_data.phantom.sheet import draw_course

MOST = 0.85
COARSE = 8.0
FINE = 4.0
#: First rotations tried, as rotation vectors in degrees along x, y and z.
STARTS = ((0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 20, 0), (0, -20, 0), (0, 0, 20), (0, 0, -20))

Points = NDArray[np.float64]


class Liver:
    """A liver with its tumour, about its centre of mass.

    Attributes
    ----------
    points : numpy.ndarray
        (n, 3) places inside, mm, one for each cube of :data:`FINE` mm.
    """

    def __init__(self, body: Body) -> None:
        liver, mass = body.liver, body.lesions.mass
        self._low, self._step = np.array(liver.low)[::-1], liver.on.step
        self._depth = np.maximum(liver.values, mass.at(*np.broadcast_arrays(*liver.on.mesh)))
        high = np.array(liver.high)[::-1]
        grid = np.stack(
            np.meshgrid(*(np.arange(a, b, FINE) for a, b in zip(self._low, high, strict=True)), indexing="ij"), axis=-1
        ).reshape(-1, 3)
        inside = grid[self._at(grid) > 0]
        self._centre = inside.mean(axis=0)
        self.points: Points = inside - self._centre

    def _at(self, places: Points) -> Points:
        index = ((places - self._low) / self._step).T
        out: Points = map_coordinates(self._depth, index, order=1, mode="constant", cval=-100.0, prefilter=False)
        return out

    def depth(self, places: Points) -> Points:
        """Return about how deep places (n, 3) relative to the centre of mass are inside, mm; negative outside."""
        return self._at(places + self._centre)

    def mask(self, size: int) -> NDArray[np.float32]:
        """Return the liver on a cube of `size` points, :data:`COARSE` mm apart, about its centre of mass."""
        axis = (np.arange(size) - size // 2) * COARSE
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        return (self.depth(grid) > 0).astype(np.float32).reshape(size, size, size)


def draw_livers(seed: int) -> dict[str, Liver]:
    """Return the liver of every patient at baseline."""
    table = load_table()
    found = {}
    for name in sorted(table["patient_id"].unique()):
        course = draw_course(seed, name)
        person = plan_patient(table, name, size="full", seed=seed).person
        found[name] = Liver(draw_bodies(person, shrink=course.shrink, viable=course.viable)[0])
    return found


def by_translation(livers: dict[str, Liver], size: int = 48) -> list[tuple[float, str, str, Points]]:
    """Return Dice, names and shift (mm) of all pairs, most alike first."""
    masks = {name: liver.mask(size) for name, liver in livers.items()}
    spectra = {name: fft.rfftn(mask) for name, mask in masks.items()}
    sums = {name: float(mask.sum()) for name, mask in masks.items()}
    found = []
    for one, other in combinations(livers, 2):
        both = fft.irfftn(spectra[other] * spectra[one].conj(), s=(size,) * 3)
        place = int(both.argmax())
        shift = np.array(np.unravel_index(place, both.shape))
        shift = np.where(shift > size // 2, shift - size, shift) * COARSE
        found.append((2 * float(both.ravel()[place]) / (sums[one] + sums[other]), one, other, shift))
    return sorted(found, key=lambda row: -row[0])


def by_rotation(one: Liver, other: Liver, shift: Points, starts: tuple[tuple[int, int, int], ...] = STARTS) -> float:
    """Return the best Dice of two livers after any rotation and shift."""
    points = one.points

    def overlap(pose: Points, sharp: bool) -> float:
        turn = Rotation.from_rotvec(np.deg2rad(pose[:3]))
        depth = other.depth(turn.apply(points) + pose[3:])
        both = np.count_nonzero(depth > 0) if sharp else np.clip(0.5 + depth / 6.0, 0, 1).sum()
        return 2 * float(both) / (len(points) + len(other.points))

    best = 0.0
    for start in starts:
        first = np.concatenate([start, shift])
        found = minimize(
            lambda pose: -overlap(pose, False), first, method="Powell", options={"xtol": 0.1, "ftol": 1e-4}
        )
        best = max(best, overlap(found.x, True))
    return best


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refine", type=int, default=40)
    options = parser.parse_args()
    livers = draw_livers(options.seed)
    pairs = by_translation(livers)
    refined = []
    for moved, one, other, shift in pairs[: options.refine]:
        refined.append((by_rotation(livers[one], livers[other], shift), moved, one, other))
    refined.sort(reverse=True)
    print(f"{len(pairs)} pairs of {len(livers)} livers, seed {options.seed}")
    print(f"by translation: {pairs[0][0]:.3f} at most; median {np.median([row[0] for row in pairs]):.3f}")
    for turned, moved, one, other in refined[:10]:
        print(f"{one} {other}: {moved:.3f} by translation, {turned:.3f} with rotation")
    return int(refined[0][0] > MOST)


if __name__ == "__main__":
    sys.exit(main())
