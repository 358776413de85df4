"""Make hcc_tace_data/data/published_phases.csv and published_masks.csv from what others published.

    python scripts/make_published.py WORKBOOK [--counts FOLDER]

WORKBOOK is Supplementary Table 1 of the data descriptor (.xlsx). FOLDER, by default the workbook's, holds the voxel
counts of two independent groups: mask_voxels.csv, radiomics_tumour.csv and radiomics_liver.csv. None of these files is
part of the project.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections import Counter
from pathlib import Path

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.series_table import read_series_rows
from hcc_tace_data.phases.matching import match_rows
from hcc_tace_data.phases.published import read_published

DATA = Path(__file__).resolve().parents[1] / "hcc_tace_data" / "data"
VOXELS = "diagnostics_Mask-original_VoxelNum"
SIZE = "diagnostics_Image-original_Size"


def phases(workbook: Path) -> str:
    """Return published_phases.csv: one row per CT series, in the order of the series table."""
    series = [row for row in read_series_rows() if row["modality"] == "CT"]
    matches, left = match_rows(read_published(workbook), series)
    if left or len({match.series_uid for match in matches}) != len(series):
        raise SystemExit(f"{len(matches)} rows of {workbook} match; unmatched: {[row.line for row in left]}")
    by_uid = {match.series_uid: match for match in matches}
    rows = []
    for one in series:
        match = by_uid[one["series_uid"]]
        instead = {"date": match.row.study_date, "description": match.row.description}.get(match.differs, "")
        rows.append(
            {
                "series_uid": one["series_uid"], "patient_id": one["patient_id"], "study_date": one["study_date"],
                "phases": "+".join(match.row.phases), "images": match.row.images, "matched": match.how,
                "differs": match.differs, "as_published": instead,
            }
        )  # fmt: skip
    print(Counter(match.how for match in matches), Counter(match.differs for match in matches if match.differs))
    return _csv(load_catalog().published["phases"].heading(), rows)


def masks(folder: Path) -> str:
    """Return published_masks.csv: one row per patient that at least one group counted."""
    first = {row["case_id"]: row for row in _read(folder / "mask_voxels.csv")}
    tumours = {row["patient_id"]: row for row in _read(folder / "radiomics_tumour.csv")}
    livers = {row["patient_id"]: row for row in _read(folder / "radiomics_liver.csv")}
    rows = []
    for patient in sorted(first.keys() | tumours.keys() | livers.keys()):
        own = first.get(patient, {})
        second = {"liver": livers.get(patient, {}), "tumour": tumours.get(patient, {})}
        size = re.findall(r"\d+", second["tumour"].get(SIZE, ""))
        row = {"patient_id": patient, "slices": own.get("z") or (size[2] if size else "")}
        for name, column in (("liver", "liver_voxels"), ("tumour", "tumor_voxels")):
            counts = [count for count in (own.get(column), second[name].get(VOXELS)) if count]
            row[f"{name}_voxels"] = counts[0] if counts else ""
            row[f"{name}_sources"] = str(counts.count(counts[0])) if counts else ""
            row[f"{name}_other"] = counts[-1] if len(set(counts)) > 1 else ""
        if all(row[name] for name in ("slices", "liver_voxels", "tumour_voxels")):
            rows.append(row)
    names = ("patient_id", "slices", "liver_voxels", "tumour_voxels", "liver_sources", "tumour_sources")
    names += ("liver_other", "tumour_other")
    print(f"{len(rows)} patients")
    return _csv(load_catalog().published["masks"].heading(), [{name: row[name] for name in names} for row in rows])


def _read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def _csv(heading: list[str], rows: list[dict[str, object]] | list[dict[str, str]]) -> str:
    out = io.StringIO()
    out.writelines(f"# {line}\n" for line in heading)
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workbook", type=Path)
    parser.add_argument("--counts", type=Path, help="folder of the three count tables; default the workbook's")
    options = parser.parse_args()
    tables = {
        "published_phases.csv": phases(options.workbook),
        "published_masks.csv": masks(options.counts or options.workbook.parent),
    }
    for name, text in tables.items():
        (DATA / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
