"""STAPLE on a twin's simulated readers: equal to SimpleITK, planted skill recovered, better than every reader.

python benchmarks/readers.py [--size full] [--patient HCC_004 ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import SimpleITK as sitk

from hcc_tace_data import fuse_staple, make_phantom
from hcc_tace_data.labels.votes import vote

NAMES = ("reader_1", "reader_2", "reader_3")
LABELS = {1: "liver", 2: "tumour", 3: "portal vein", 4: "aorta"}


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other)))


def _load(path: Path) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0))


def compare(root: Path, patient: str) -> list[dict[str, object]]:
    """Return one row per label of one patient."""
    truth = _load(root / "truth" / "labels" / f"{patient}.nii.gz")
    readers = [_load(root / "annotations" / name / f"{patient}.nii.gz") for name in NAMES]
    planted = json.loads((root / "truth" / "readers.json").read_text())[patient]
    fused, majority = fuse_staple(readers), vote(readers)
    rows: list[dict[str, object]] = []
    for label, name in LABELS.items():
        staple = sitk.STAPLEImageFilter()
        staple.SetForegroundValue(1)
        image = staple.Execute([sitk.GetImageFromArray((reader == label).astype(np.uint8)) for reader in readers])
        theirs = sitk.GetArrayViewFromImage(image)
        p = np.array([planted[reader][str(label)]["sensitivity"] for reader in NAMES])
        q = np.array([planted[reader][str(label)]["specificity"] for reader in NAMES])
        true = truth == label
        error = np.sqrt(p * (1 - p) / max(1, np.count_nonzero(true)))
        rows.append(
            {
                "patient": patient,
                "label": name,
                "voxels": int(np.count_nonzero(true)),
                "probability_difference": float(np.abs(fused.probability[label] - theirs).max()),
                "p_difference": float(np.abs(fused.sensitivity[label] - staple.GetSensitivity()).max()),
                "q_difference": float(np.abs(fused.specificity[label] - staple.GetSpecificity()).max()),
                "iterations": [fused.iterations[label], int(staple.GetElapsedIterations())],
                "same_mask": bool(np.array_equal(fused.probability[label] >= 0.5, theirs >= 0.5)),
                "planted_p": p.round(4).tolist(),
                "recovered_p": fused.sensitivity[label].round(4).tolist(),
                "p_error_in_standard_errors": float(np.abs((fused.sensitivity[label] - p) / error).max()),
                "q_error": float(np.abs(fused.specificity[label] - q).max()),
                "dice_readers": [round(_dice(reader == label, true), 4) for reader in readers],
                "dice_fused": round(_dice(fused.label_map == label, true), 4),
                "dice_majority": round(_dice(majority == label, true), 4),
            }
        )
    return rows


def main() -> None:
    """Make the twin, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="full", choices=("tiny", "small", "full"))
    parser.add_argument("--patient", action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    patients = options.patient or ["HCC_004"]
    with TemporaryDirectory() as folder:
        root = make_phantom(Path(folder) / "twin", patients=patients, size=options.size)
        rows = [row for patient in patients for row in compare(root, patient)]
    print("| patient | label | voxels | readers' Dice | fused | majority | p planted | p recovered | q off by |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = [" ".join(map(str, row[name])) for name in ("dice_readers", "planted_p", "recovered_p")]
        print(
            f"| {row['patient']} | {row['label']} | {row['voxels']} | {cells[0]} | {row['dice_fused']} | "
            f"{row['dice_majority']} | {cells[1]} | {cells[2]} | {row['q_error']:.1e} |"
        )
    keys = ("probability_difference", "p_difference", "q_difference", "p_error_in_standard_errors")
    worst = {key: max(float(row[key]) for row in rows) for key in keys}
    same = all(row["iterations"][0] == row["iterations"][1] and row["same_mask"] for row in rows)
    beats = all(row["dice_fused"] > max(row["dice_readers"]) for row in rows)
    print(f"against SimpleITK.STAPLE: {worst}, same iterations and masks: {same}; fused beats every reader: {beats}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
