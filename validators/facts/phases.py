"""The phase table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hcc_tace_data.phases.label import label_visit, phase_frame, published_for
from hcc_tace_data.phases.visits_kept import Visit, keep_visits, recall_visits, visits_of
from hcc_tace_data.validators.context import Context

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from hcc_tace_data.open import Patient
    from hcc_tace_data.phases.label import Depth

__all__ = ["phase_table"]

Rows = list[dict[str, Any]]

#: Patients per job.
_PATIENTS = 5


def phase_table(context: Context) -> pd.DataFrame:
    """Return the phase table, by all sources that the depth allows; each patient is labelled without the others."""
    depth: Depth = "pixels" if context.depth == "pixels" else "headers"
    published = published_for(context.root)
    visits = {name: visits_of(patient, depth, published) for name, patient in context.collection.items()}
    every = [visit for some in visits.values() for visit in some]
    rows = {visit: known for visit, known in zip(every, recall_visits(every), strict=True) if known is not None}
    missing = [name for name, some in visits.items() if any(visit not in rows for visit in some)]
    groups = [missing[i : i + _PATIENTS] for i in range(0, len(missing), _PATIENTS)]
    jobs = [(context.root, [context.collection[name] for name in group], depth) for group in groups]
    new: dict[Visit, Rows] = {}
    for group, labelled in zip(groups, context.map(_label, jobs), strict=True):
        some = [visit for name in group for visit in visits[name]]
        for visit, (found, whole) in zip(some, labelled, strict=True):
            rows[visit] = found
            if whole:
                new[visit] = found
    keep_visits(new)
    return phase_frame([row for visit in every for row in rows[visit]])


def _label(job: tuple[Path, list[Patient], Depth]) -> list[tuple[Rows, bool]]:
    """Label the visits of some patients, in their order."""
    root, patients, depth = job
    published = published_for(root)
    return [label_visit(visit) for patient in patients for visit in visits_of(patient, depth, published)]
