"""The phase table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.open import Collection
from hcc_tace_data.phases.label import label_phases
from hcc_tace_data.validators.context import Context

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.phases.label import Depth

__all__ = ["phase_table"]

#: Patients per job.
_PATIENTS = 5


def phase_table(context: Context) -> pd.DataFrame:
    """Return the phase table, by all sources that the depth allows; each patient is labelled without the others."""
    import pandas as pd

    depth: Depth = "pixels" if context.depth == "pixels" else "headers"
    groups = [rows for _, rows in context.instances.groupby("patient_id", sort=True)]
    parts = [groups[i : i + _PATIENTS] for i in range(0, len(groups), _PATIENTS)]
    jobs = [(context.root, pd.concat(part), context.collection.problems[:0], depth) for part in parts]
    tables = context.map(_label, jobs)
    filled = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(filled, ignore_index=True) if filled else context.collection.phase_volumes


def _label(job: tuple[Path, pd.DataFrame, pd.DataFrame, Depth]) -> pd.DataFrame:
    """Label the phases of some patients."""
    root, instances, problems, depth = job
    return label_phases(Collection(root, instances.reset_index(drop=True), problems), depth=depth, workers=1)
