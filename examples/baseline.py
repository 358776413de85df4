"""The reference baseline from Python: data, training, prediction, scores.

Run it without arguments and it works on a small synthetic twin that it writes first; give it the folder of the real
collection and it reads that. Here two folds are trained for a few steps, to show the way; for the baseline itself use
``hcc-tace baseline reproduce``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import mkdtemp

from hcc_tace_data import make_phantom, open_collection
from hcc_tace_data.baseline.config import load_config
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.baseline.reproduce import Tell, reproduce
from hcc_tace_data.facts.splits import patients_of


def main(root: Path | None = None, steps: int = 60) -> None:
    """Reproduce the baseline in small and print what it scored."""
    work = Path(mkdtemp())
    if root is None:
        patients = [*patients_of("test")[:2], *(patients_of("validation", fold)[0] for fold in range(5))]
        root = make_phantom(work / "twin", patients=patients, size="tiny", workers=1)
    config = load_config("modern", ["model.widths=[8,16]", "batch_size=8", "optimizer.lr=0.01", "ema=null"])
    request = ReproduceRequest(config=config, folds=(0, 1), steps=steps, control=False)
    report = reproduce(open_collection(root), work / "run", request, tell=Tell(print))
    for label, scores in report["evaluation"]["summary"]["labels"].items():
        dice = scores["dice"]
        print(f"{label}: Dice {dice['mean']:.3f}, 95 % interval {dice['low']:.3f} to {dice['high']:.3f}")
    for name, row in report["evaluation"]["trivial"].items():
        print(f"trivial, {name}: liver {row['dice']['liver']:.3f}, tumour {row['dice']['tumour']:.3f}")
    print(f"report: {work / 'run' / 'report.html'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
