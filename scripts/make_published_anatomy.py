"""Make hcc_tace_data/data/published_anatomy.csv: grid, liver and tumour of the annotated CT as others measured them.

    python scripts/make_published_anatomy.py FOLDER [--phases FILE]

FOLDER holds radiomics_liver.csv and radiomics_tumour.csv of a public study of TACE response, which measured the
collection's own segmentations with PyRadiomics. FILE says the phases of every series; default the table of the package.
None of the sources is part of the project; figures only are kept. The phantom draws its patients after them.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hcc_tace_data.facts.series_table import read_series_rows

DATA = Path(__file__).resolve().parents[1] / "hcc_tace_data" / "data"
HEAD = """\
# Grid, liver and tumour of the annotated CT of each patient, as published measurements of the real files have them.
# Source: PyRadiomics features of the collection's segmentations, from a public study of TACE response; figures only;
# data: https://doi.org/10.7937/TCIA.5FNA-0924, CC BY 4.0. Made by scripts/make_published_anatomy.py; mm, LPS.
"""
#: Patients whose segmentation was drawn on the arterial phase.
ARTERIAL = {"HCC_012", "HCC_023", "HCC_033", "HCC_036", "HCC_040"}


def numbers(text: str) -> list[float]:
    """Return the numbers in a text like '(0.78, 0.78, 2.5)'."""
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text or "")]


def rounded(value: float, digits: int) -> str:
    """Return a number without trailing zeros; empty for NaN."""
    return "" if value != value else f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def grid(row: Mapping[str, str]) -> dict[str, str]:
    """Return spacing, slices, origin and the value outside the circle of reconstruction."""
    spacing = numbers(row["diagnostics_Image-original_Spacing"])
    size = numbers(row["diagnostics_Image-original_Size"])
    centre = numbers(row["diagnostics_Mask-original_CenterOfMass"])
    index = numbers(row["diagnostics_Mask-original_CenterOfMassIndex"])
    origin = np.array(centre) - np.array(index) * spacing
    return {
        "pixel_mm": rounded(round(spacing[0] * 512, 2) / 512, 6), "slice_mm": rounded(spacing[2], 2),
        "slices": rounded(size[2], 0), "origin_x": rounded(origin[0], 2), "origin_y": rounded(origin[1], 2),
        "origin_z": rounded(origin[2], 2),
        "outside_hu": "-2048" if float(row["diagnostics_Image-original_Minimum"]) < -1100 else "-1024",
        "series_number": row["series_number"], "acquisition": row["acquisition"],
    }  # fmt: skip


def shape(row: Mapping[str, str], name: str) -> dict[str, str]:
    """Return volume, bounding box (first corner and extent) and centre of mass."""
    spacing = np.array(numbers(row["diagnostics_Image-original_Spacing"]))
    origin = np.array(numbers(row["diagnostics_Mask-original_CenterOfMass"])) - spacing * numbers(
        row["diagnostics_Mask-original_CenterOfMassIndex"]
    )
    box = np.array(numbers(row["diagnostics_Mask-original_BoundingBox"]))
    low, extent = origin + box[:3] * spacing, box[3:] * spacing
    centre = np.array(numbers(row["diagnostics_Mask-original_CenterOfMass"]))
    found = {f"{name}_ml": rounded(float(row["original_shape_VoxelVolume"]) / 1000, 2)}
    for axis, letter in enumerate("xyz"):
        found[f"{name}_{letter}"] = rounded(centre[axis], 1)
        found[f"{name}_low_{letter}"] = rounded(low[axis], 1)
        found[f"{name}_size_{letter}"] = rounded(extent[axis], 1)
    return found


def brightness(row: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the mean HU and the standard deviation within the mask."""
    return {
        f"{name}_hu": rounded(float(row["original_firstorder_Mean"]), 1),
        f"{name}_sd": rounded(float(row["original_firstorder_Variance"]) ** 0.5, 1),
    }


def table(folder: Path, phases_file: Path) -> str:
    """Return the table as CSV."""
    with phases_file.open(newline="", encoding="utf-8") as handle:
        lines = [line for line in handle if not line.startswith("#")]
    phases = {row["series_uid"]: row["phases"].split("+") for row in csv.DictReader(lines)}
    series = [row for row in read_series_rows() if row["modality"] == "CT"]
    tables = {}
    for name in ("liver", "tumour"):
        with (folder / f"radiomics_{name}.csv").open(newline="", encoding="utf-8") as handle:
            tables[name] = {row["patient_id"]: row for row in csv.DictReader(handle)}
    rows = []
    for patient in sorted({row["patient_id"] for row in series}):
        liver, tumour = (tables[name].get(patient) for name in ("liver", "tumour"))
        first = next((one for one in (tumour, liver) if one and one["diagnostics_Image-original_Spacing"]), None)
        row: dict[str, str] = {"patient_id": patient}
        if first is None:
            rows.append(row)
            continue
        row |= grid(first)
        measured = [
            one for one in series
            if (one["patient_id"], one["study_date"], int(one["series_number"]))
            == (patient, first["study_date"], int(first["series_number"]))
        ]  # fmt: skip
        held = phases[measured[0]["series_uid"]] if measured else []
        row["phase"] = "arterial" if patient in ARTERIAL and "arterial" in held else held[-1] if held else ""
        row["annotated"] = str(int(row["phase"] == ("arterial" if patient in ARTERIAL else "portal_venous")))
        if liver and liver["original_shape_VoxelVolume"]:
            row |= shape(liver, "liver") | brightness(liver, "liver")
        if tumour and tumour["original_shape_VoxelVolume"]:
            row |= shape(tumour, "tumour") | brightness(tumour, "tumour")
            row["tumour_parts"] = rounded(float(tumour["diagnostics_Mask-original_VolumeNum"]), 0)
            row["tumour_diameter"] = rounded(float(tumour["original_shape_Maximum2DDiameterSlice"]), 1)
            row["tumour_sphericity"] = rounded(float(tumour["original_shape_Sphericity"]), 3)
        rows.append(row)
    names = list(max(rows, key=len))
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return HEAD + buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--phases", type=Path, default=DATA / "published_phases.csv")
    options = parser.parse_args()
    (DATA / "published_anatomy.csv").write_text(table(options.folder, options.phases), encoding="utf-8")


if __name__ == "__main__":
    main()
