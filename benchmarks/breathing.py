"""Registration where breathing is not affine: error at points of the liver, what was refused, and what was doubted.

    python benchmarks/breathing.py [--patients 10] [--size small] [--seed 0] [--no-liver]
        [--deformable] [--visit 0] [--root FOLDER] [--json FILE]

The phantom moves the dome of the liver more than its lower edge, the right lobe more than the left, and spine and wall
hardly. For each volume of both visits: the mean distance between where points of the liver lie and where they are
looked for, without registration (bodies of two visits laid over each other), after it, and after the best affine
transform of these very points, which no affine registration can beat. Transforms are judged on the true liver of the
annotated volume; with --no-liver, on the body.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from hcc_tace_data import make_phantom, open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.collection.split import split_series
from hcc_tace_data.dicom.ct import CTVolume, read_ct
from hcc_tace_data.volumes.registration import register
from hcc_tace_data.volumes.similarity import coarse_image, place_roughly, to_image

COARSE_MM = 3.0


def distances(matrix: np.ndarray, points: np.ndarray, here: np.ndarray) -> float:
    """Return the mean distance in mm of moved points to where they are."""
    return float(np.linalg.norm((np.c_[points, np.ones(len(points))] @ matrix.T)[:, :3] - here, axis=1).mean())


def best_affine(points: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Return the affine transform (4, 4) with the least squares."""
    found, *_ = np.linalg.lstsq(np.c_[points, np.ones(len(points))], here, rcond=None)
    return np.vstack([found.T, [0, 0, 0, 1]])


def on_grid(label: sitk.Image, fixed: CTVolume) -> np.ndarray:
    """Return the true liver, tumour included, on the grid of a volume."""
    grid = to_image(np.zeros(fixed.array.shape, np.uint8), np.asarray(fixed.affine))
    return np.isin(
        sitk.GetArrayFromImage(sitk.Resample(label, grid, sitk.Transform(), sitk.sitkNearestNeighbor)), (1, 2)
    )


def summary(rows: list[dict]) -> str:
    """Return the errors of what was taken, and how well refusals and doubts foretell them."""
    taken = [row for row in rows if row["plausible"]]
    sure = [row["after"] for row in taken if not row["doubts"]]
    doubted = [row["after"] for row in taken if row["doubts"]]
    errors = np.array(sure + doubted)
    bent = [row for row in taken if row["engine"].endswith("(deformable)")]
    by_field = ""
    if bent:
        affine, after = (np.mean([row[key] for row in bent]) for key in ("affine", "after"))
        worsened = sum(row["after"] > row["affine"] for row in bent)
        by_field = (
            f"; {len(bent)} followed by a field: mean {affine:.2f} mm, then {after:.2f}, {worsened} of them worse"
        )
    worse = [row for row in taken if row["after"] > row["before"]]
    return (
        f"{len(rows)} volumes, {len(rows) - len(taken)} refused, {len(doubted)} doubted; taken: mean "
        f"{errors.mean():.2f} mm, median {np.median(errors):.2f}, worst {errors.max():.2f} (before: mean "
        f"{np.mean([row['before'] for row in taken]):.2f}; best affine {np.mean([row['best'] for row in taken]):.2f}); "
        f"without doubt: mean {np.mean(sure):.2f}, worst {np.max(sure):.2f}; doubted: "
        f"{', '.join(f'{error:.2f}' for error in doubted) or 'none'}; worse than no registration: {len(worse)}, "
        f"without doubt {sum(not row['doubts'] for row in worse)}; "
        f"{np.mean([row['seconds'] for row in rows]):.2f} s of processor time each{by_field}"
    )


def main() -> None:
    """Register the volumes of every patient, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=10)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-liver", action="store_true", help="judge by the body alone")
    parser.add_argument("--deformable", action="store_true", help="follow what the affine transform leaves")
    parser.add_argument("--visit", type=int, choices=(0, 1), help="one visit alone")
    parser.add_argument("--root", type=Path, help="keep the phantom here, or take the one that is here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() if options.root is None else nullcontext(options.root) as folder:
        root = Path(folder) / "twin"
        if not root.exists():
            make_phantom(root, patients=options.patients, size=options.size, seed=options.seed, breathing="deformable")
        moved = {
            (row["series_uid"], row["volume"]): row
            for row in json.loads((root / "truth" / "transforms.json").read_text(encoding="utf-8"))
        }
        for patient in open_collection(root).values():
            fixed = read_ct(find_annotated(patient.baseline).paths, on_gap="fill")
            label = sitk.ReadImage(str(root / "truth" / "labels" / f"{patient.patient_id}.nii.gz"))
            liver = None if options.no_liver else on_grid(label, fixed)
            for study in patient.studies:
                if options.visit is not None and options.visit != int(study is not patient.baseline):
                    continue
                for series in (one for one in study.series if one.modality == "CT"):
                    for number, part in enumerate(split_series(series.instances)):
                        row = moved.get((series.series_uid, number), {})
                        if "here" not in row:
                            continue
                        moving = read_ct([series.root / path for path in part["path"]], on_gap="fill")
                        points, here = np.array(row["annotated"]), np.array(row["here"])
                        low, high = (moving.affine @ [*at, 1] for at in ([0, 0, 0], np.array(moving.array.shape) - 1))
                        seen = (here[:, 2] >= min(low[2], high[2])) & (here[:, 2] <= max(low[2], high[2]))
                        if seen.sum() < 50:
                            continue
                        points, here = points[seen], here[seen]
                        began = time.process_time()
                        found = register(fixed, moving, liver=liver, deformable=options.deformable)
                        took = time.process_time() - began
                        bent = points if found.field is None else points + found.field.at(points)
                        start = np.eye(4)
                        if study is not patient.baseline:  # lay one body over the other first
                            start[:3, 3] = place_roughly(*(coarse_image(one, COARSE_MM) for one in (fixed, moving)))
                        rows.append({
                            "patient": patient.patient_id, "visit": int(study is not patient.baseline),
                            "phase": row["phase"], "before": distances(start, points, here),
                            "after": distances(found.matrix, bent, here),
                            "affine": distances(found.matrix, points, here),
                            "best": distances(best_affine(points, here), points, here),
                            "plausible": found.plausible, "engine": found.engine, "reason": found.reason,
                            "doubts": list(found.doubts), "inverse": found.inverse_mm, "seconds": took,
                        })  # fmt: skip
                        last = rows[-1]
                        print(
                            f"{last['patient']} visit {last['visit']} {last['phase']:<14} {last['before']:6.1f} -> "
                            f"{last['after']:5.2f} mm (best affine {last['best']:.2f}; "
                            f"{last['inverse'] or 0:.1f} there and back; "
                            f"{last['seconds']:.1f} s) {last['reason']}{'; '.join(last['doubts'])}",
                            flush=True,
                        )
    for visit in sorted({row["visit"] for row in rows}):
        print(f"visit {visit}: {summary([row for row in rows if row['visit'] == visit])}")
    print(f"all: {summary(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
