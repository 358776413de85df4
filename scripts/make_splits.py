"""Make hcc_tace_data/data/splits.csv from the clinical sheet.

    python scripts/make_splits.py SHEET [OUT]
    python scripts/make_splits.py SHEET --balance      prints the table of docs/split.md instead

Patients are sorted into strata by TACE response (refractory, susceptible, unknown) and, within those, by tumour size;
each run of five neighbours is dealt to the test set or a fold by a seeded shuffle. The table is shipped and not
remade: a result is only comparable on the same patients.
"""

from __future__ import annotations

import csv
import io
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from hcc_tace_data.clinical import load_clinical
from hcc_tace_data.facts.splits import patients_of

OUT = Path(__file__).resolve().parents[1] / "hcc_tace_data" / "data" / "splits.csv"
FOLDS, TEST, SEED = 5, 20, 2023


def make_splits(sheet: Path) -> list[dict[str, str]]:
    """Return rows of patient_id, split and fold, by patient."""
    table = load_clinical(sheet)
    response = table["tace_response"].astype(object).fillna("unknown").astype(str)
    # the sheet has a size for half of the patients; readers measured nearly all in mm
    measured = table[[f"reader{reader}_recist_bl_mm" for reader in (1, 2, 3)]].astype(float).mean(axis=1)
    size = measured.fillna(table["tumour_size_cm"].astype(float) * 10).fillna(measured.median())
    order = table.assign(_response=response, _size=size).sort_values(["_response", "_size", "patient_id"])
    patients = order["patient_id"].tolist()
    rng = np.random.default_rng(SEED)
    # of about every five neighbours one goes to the test set, the others to the folds in turn
    edges = np.linspace(0, len(patients), TEST + 1).round().astype(int)
    test = {patients[int(rng.integers(first, last))] for first, last in pairwise(edges)}
    others = [patient for patient in patients if patient not in test]
    folds: dict[str, int] = {}
    for start in range(0, len(others), FOLDS):
        group = others[start : start + FOLDS]
        folds.update(zip(group, rng.permutation(FOLDS)[: len(group)].tolist(), strict=True))
    return [
        {
            "patient_id": patient,
            "split": "test" if patient in test else "development",
            "fold": "" if patient in test else str(folds[patient]),
        }
        for patient in sorted(patients)
    ]


def balance(sheet: Path) -> str:
    """Return a Markdown table of what the parts of the shipped split hold."""
    table = load_clinical(sheet).set_index("patient_id")
    size = table[[f"reader{reader}_recist_bl_mm" for reader in (1, 2, 3)]].astype(float).mean(axis=1)
    parts = {"test": patients_of("test"), **{f"fold {n}": patients_of("validation", n) for n in range(FOLDS)}}
    lines = [
        "| part | patients | refractory | susceptible | response unknown | median diameter, mm | died | male |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, patients in parts.items():
        rows = table.loc[patients]
        response = rows["tace_response"].astype(object)
        counts = ((response == "refractory").sum(), (response == "susceptible").sum(), response.isna().sum())
        others = (f"{size[patients].median():.0f}", int(rows["died"].sum()), (rows["sex"] == "male").sum())
        lines.append("| " + " | ".join(map(str, (name, len(patients), *counts, *others))) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write the table, or print the balance."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if "--balance" in sys.argv:
        print(balance(Path(sys.argv[1])))
        return
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["patient_id", "split", "fold"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(make_splits(Path(sys.argv[1])))
    out.write_text(buffer.getvalue(), encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
