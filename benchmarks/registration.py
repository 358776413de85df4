"""Registration of two phases against peers: error in the liver on known motions, and seconds, in one run.

    python benchmarks/registration.py [--root FOLDER] [--patient HCC_008] [--json FILE]

The phantom moved each phase by a known affine; the error is the mean distance, over liver and tumour, between where
a transform puts a voxel and where the phantom did. Peers get the same images as we do, at the size their users
would give them: SimpleITK the coarse ones, elastix the coarse ones with its default affine parameters. Peers that
are not installed are left out, by name.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from common import full_patient

from hcc_tace_data import open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.collection.split import split_series
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.volumes.registration import register
from hcc_tace_data.volumes.similarity import coarse_image

Engine = Callable[[object, object], np.ndarray]


def by_elastix(fixed: object, moving: object) -> np.ndarray:
    """elastix's default affine parameter map on the coarse images."""
    import itk

    def to_itk(image: sitk.Image) -> object:
        result = itk.image_view_from_array(sitk.GetArrayFromImage(image))
        result.SetSpacing(list(image.GetSpacing()))
        result.SetOrigin(list(image.GetOrigin()))
        return result

    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(itk.ParameterObject.GetDefaultParameterMap("affine"))
    _, found = itk.elastix_registration_method(
        to_itk(coarse_image(fixed, 3.0)), to_itk(coarse_image(moving, 3.0)), parameter_object=parameters
    )
    values = found.GetParameterMap(0)
    numbers = np.array(values["TransformParameters"], dtype=float)
    centre = np.array(values["CenterOfRotationPoint"], dtype=float)
    matrix = np.eye(4)
    matrix[:3, :3] = numbers[:9].reshape(3, 3)
    matrix[:3, 3] = numbers[9:] + centre - matrix[:3, :3] @ centre
    return matrix


ENGINES: dict[str, Engine] = {
    "hcc-tace-data (greedy)": lambda fixed, moving: register(fixed, moving, engine="greedy").matrix,
    "SimpleITK, Mattes": lambda fixed, moving: register(fixed, moving, engine="simpleitk").matrix,
    "elastix, default affine": by_elastix,
}


def liver_points(root: Path, patient: str) -> np.ndarray:
    """Every fiftieth voxel of liver and tumour, LPS mm, homogeneous."""
    label = sitk.ReadImage(str(root / "truth" / "labels" / f"{patient}.nii.gz"))
    where = np.argwhere(np.isin(sitk.GetArrayFromImage(label), (1, 2)))[::50]
    points = [label.TransformContinuousIndexToPhysicalPoint([float(x) for x in index[::-1]]) for index in where]
    return np.c_[np.array(points), np.ones(len(points))]


def main() -> None:
    """Register each phase of the baseline study, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patient", default="HCC_008")
    parser.add_argument("--root", type=Path, help="keep the phantom here, or take the one that is here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with full_patient(options.root, options.patient) as root:
        study = open_collection(root)[options.patient].baseline
        fixed = read_ct(find_annotated(study).paths, on_gap="fill")
        points = liver_points(root, options.patient)
        truth = json.loads((root / "truth" / "transforms.json").read_text(encoding="utf-8"))
        moved = {(row["series_uid"], row["volume"]): row for row in truth}
        for series in study.series:
            if series.modality != "CT":
                continue
            for number, part in enumerate(split_series(series.instances)):
                row = moved[series.series_uid, number]
                known = np.array(row["annotated_to_volume"])
                if np.allclose(known, np.eye(4)):
                    continue
                moving = read_ct([series.root / path for path in part["path"]], on_gap="fill")
                before = float(np.linalg.norm((points @ (np.eye(4) - known).T)[:, :3], axis=1).mean())
                for name, engine in ENGINES.items():
                    start, worked = time.perf_counter(), time.process_time()
                    try:
                        matrix = engine(fixed, moving)
                    except ImportError as error:
                        print(f"  {name} is not installed: {error}")
                        continue
                    seconds, processor = time.perf_counter() - start, time.process_time() - worked
                    error = float(np.linalg.norm((points @ (matrix - known).T)[:, :3], axis=1).mean())
                    rows.append({
                        "engine": name, "phase": row["phase"], "before_mm": before, "error_mm": error,
                        "seconds": seconds, "processor_seconds": processor,
                    })  # fmt: skip
                    print(
                        f"  {row['phase']:<14} {name:<26} {before:6.2f} -> {error:6.3f} mm  "
                        f"{seconds:6.1f} s ({processor:.1f} s of processor)",
                        flush=True,
                    )
    for name in ENGINES:
        mine = [row for row in rows if row["engine"] == name]
        if mine:
            error = statistics.mean(row["error_mm"] for row in mine)
            print(
                f"{name:<28} mean {error:.3f} mm, median {statistics.median(r['seconds'] for r in mine):.1f} s a pair"
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
