"""Measures the general phase rules against the published phases and writes the tables of docs/phases.md.

    python scripts/phase_accuracy.py [--dry-run]

Needs nothing but the shipped tables. The one parameter of the rules is chosen again without each patient in turn.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hcc_tace_data.facts.published import published_phases
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.phases.label import label_table
from hcc_tace_data.phases.matching import compare_published
from hcc_tace_data.phases.names import PHASES
from hcc_tace_data.phases.table import LONGER, TableLabel, label_day

DOCS = Path(__file__).resolve().parents[1] / "docs" / "phases.md"
BEGIN, END = "<!-- accuracy: begin -->", "<!-- accuracy: end -->"
FACTORS = [round(float(factor), 2) for factor in np.arange(1.0, 2.51, 0.05)]


def visits() -> dict[str, list[list[dict[str, Any]]]]:
    """Return patient -> visits -> series."""
    table = load_series_table()
    found = defaultdict(list)
    for (patient, _), rows in table[table["modality"] == "CT"].groupby(["patient_id", "study_date"]):
        found[str(patient)].append([{str(key): value for key, value in row.items()} for row in rows.to_dict("records")])
    return dict(found)


def right(labels: Mapping[str, TableLabel]) -> tuple[int, int]:
    """Return how many published volumes have their phase, and how many labels are too many."""
    agreed = more = 0
    for uid, label in labels.items():
        phases = published_phases()[uid].phases
        agreed += sum((Counter(label.phases) & Counter(phases)).values())
        more += max(0, len(label.phases) - len(phases))
    return agreed, more


def left_out() -> tuple[int, Counter[float]]:
    """Return right labels when the factor is chosen without the patient, and which factors were chosen.

    Of the factors that do equally well, the one in the middle is taken.
    """
    scores = {
        patient: np.array(
            [np.sum([right(label_day(day, longer=f)) for day in days], axis=0) @ (1, -1) for f in FACTORS]
        )
        for patient, days in visits().items()
    }
    total = np.sum(list(scores.values()), axis=0)
    agreed, chosen = 0, Counter[float]()
    for patient, days in visits().items():
        others = total - scores[patient]
        best = np.flatnonzero(others == others.max())
        factor = FACTORS[int(best[len(best) // 2])]
        chosen[factor] += 1
        agreed += sum(right(label_day(day, longer=factor))[0] for day in days)
    return agreed, chosen


def tables() -> str:
    """Return the section as Markdown."""
    compared = compare_published(label_table(load_series_table(), published=False), published_phases())
    share = 100 * compared.right / compared.volumes
    agreed, chosen = left_out()
    factors = ", ".join(f"{factor:g} ({count} times)" for factor, count in sorted(chosen.items()))
    columns = [*PHASES[:-1], "missing"]
    text = [
        f"General rules alone: **{compared.right} of {compared.volumes} volumes right ({share:.1f} %)**, "
        f"{compared.surplus} volume too many." if compared.surplus == 1 else
        f"General rules alone: **{compared.right} of {compared.volumes} volumes right ({share:.1f} %)**, "
        f"{compared.surplus} volumes too many.",
        "",
        "| published | " + " | ".join(name.replace("_", " ") for name in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]  # fmt: skip
    text += [
        f"| {true.replace('_', ' ')} | " + " | ".join(str(row[name]) for name in columns) + " |"
        for true, row in compared.matrix.items()
    ]
    text += [
        "",
        f"One rule has a parameter: a series alone with an injection is stacked if it has {LONGER} times the slices of "
        "the visit's",
        f"longest other series. Chosen without the patient in question it is {factors}, and",
        f"{agreed} of {compared.volumes} volumes are right ({100 * agreed / compared.volumes:.1f} %).",
        "",
        "What the rules miss:",
        "",
        "| patient | published | general rules |",
        "|---|---|---|",
    ]
    text += [
        f"| {one['patient_id']} | {one['published'].replace('_', ' ')} | {one['phase'].replace('_', ' ')} |"
        for one in sorted(compared.wrong, key=lambda one: (one["patient_id"], one["published"]))
    ]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the tables, do not write the page")
    text = tables()
    print(text)
    if not parser.parse_args().dry_run:
        page = DOCS.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
