"""The matrix of patients and contrast phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.phases.label import count_phases
from hcc_tace_data.phases.names import PHASES, UNKNOWN, phase_records

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.open import Collection

__all__ = ["phase_matrix"]

#: Below this probability a label is shown as unsure.
_UNSURE = 0.8


def phase_matrix(collection: Collection, volumes: pd.DataFrame) -> dict[str, Any]:
    """Arrange the phase table by patient and visit.

    Parameters
    ----------
    collection : Collection
    volumes : pandas.DataFrame
        From :func:`hcc_tace_data.label_phases`.

    Returns
    -------
    dict
        ``phases`` (key, name, heading), ``rows`` (a patient, with a cell a visit and phase), ``totals`` beside the
        paper's numbers, ``sources`` (how many labels are as published, and how many inferred).
    """
    catalog = load_catalog()
    names = {phase: record.name for phase, record in phase_records().items()}
    by_patient = dict(list(volumes.groupby("patient_id", sort=True)))
    rows = []
    for patient_id, patient in collection.items():
        baseline = patient.baseline.date if patient.baseline is not None else ""
        own = by_patient.get(patient_id)
        visits = []
        for is_baseline in (True, False):
            part = None if own is None else own[(own["study_date"] == baseline) == is_baseline]
            visits.append([_cell(part, phase, names[phase]) for phase in PHASES])
        rows.append({"patient_id": patient_id, "visits": visits})
    totals = count_phases(volumes)
    known = volumes[volumes["phase"] != UNKNOWN]
    paper = catalog.counts.paper
    published = {
        "volumes": paper.phase_volumes,
        "stacked_series": paper.stacked_series,
        **paper.phases,
    }
    return {
        "phases": [phase_records()[phase].model_dump(include={"key", "name", "heading"}) for phase in PHASES],
        "rows": rows,
        "totals": [
            {"name": names.get(key, key.replace("_", " ").capitalize()), "here": number, "paper": published.get(key)}
            for key, number in totals.items()
        ],
        "sources": {name: int((known["source"] == name).sum()) for name in ("published", "inferred")},
        "whole": len(rows) == catalog.identity.patients,
    }


def _cell(part: pd.DataFrame | None, phase: str, name: str) -> dict[str, Any]:
    found = None if part is None else part[part["phase"] == phase]
    if found is None or not len(found):
        return {"count": 0, "text": f"no {name.lower()} volume"}
    confidence = float(found["confidence"].min())
    drawn = bool((found["annotated"].astype(object) == True).any())  # noqa: E712  # None if unknown tell
    known = phase != UNKNOWN
    inferred = int((found["source"] == "inferred").sum()) if known else 0
    details = [f"{len(found)} {name.lower()} volume{'s' if len(found) > 1 else ''}"]
    if known:
        details.append(_source(len(found), inferred))
        details.append(f"confidence {confidence:.2f}")
    if drawn:
        details.append("segmented")
    return {
        "count": len(found),
        "drawn": drawn,
        "inferred": inferred > 0,
        "unsure": known and confidence < _UNSURE,
        "text": ", ".join(details),
        "evidence": "; ".join(str(text) for text in found["evidence"].iloc[0]),
    }


def _source(count: int, inferred: int) -> str:
    if inferred in (0, count):
        return "inferred" if inferred else "as published"
    return f"{count - inferred} as published, {inferred} inferred"
