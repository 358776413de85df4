"""Which contrast phase each CT volume is.

Sources are combined by :mod:`hcc_tace_data.phase_model`: the series table (:mod:`hcc_tace_data.phase_table`) and the
headers (:mod:`hcc_tace_data.phase_headers`). Pixels are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.phase_headers import acquired_at, agent_evidence, gap_evidence
from hcc_tace_data.phase_model import KNOWN, log_likelihood, posterior
from hcc_tace_data.phase_table import TableLabel, label_day

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection import Collection, Series, Study

__all__ = ["COLUMNS", "count_phases", "label_phases", "label_table"]

#: Columns of the phase table.
COLUMNS = (
    "patient_id", "study_date", "study_uid", "series_uid", "series_number", "description", "volume", "phase",
    "confidence", "evidence", "annotated", "instances",
)  # fmt: skip

# Below this probability a phase is called unknown.
_SURE = 0.6


def label_phases(collection: Collection) -> pd.DataFrame:
    """Tell the contrast phase of every CT volume of a collection on disk.

    Parameters
    ----------
    collection : Collection
        From :func:`hcc_tace_data.open_collection`.

    Returns
    -------
    pandas.DataFrame
        One row a phase volume, with :data:`COLUMNS`. `volume` counts from 0 within a stacked series; `phase` is
        "unknown" where no phase is likelier than 0.6; `confidence` is the probability of `phase`; `evidence` is a
        tuple of texts, one a source; `annotated` tells whether a SEG of the study was drawn on the volume, None
        where it cannot be told on which one it was; `instances` counts slices.

    Notes
    -----
    The volumes of one patient's day are labelled together, also where they are spread over several studies. Pixels
    are not read: where descriptions, order and times mislead alike, so does the label.
    """
    from hcc_tace_data.annotated import find_annotated

    rows: list[dict[str, Any]] = []
    for patient in collection.values():
        days: dict[str, list[Study]] = {}
        for study in patient.studies:
            days.setdefault(study.date or study.study_uid, []).append(study)
        for day, studies in days.items():
            drawn: dict[str, tuple[str, int] | None] = {}
            for study in studies:
                if study.segmentation is not None:
                    found = find_annotated(study).volume
                    drawn[study.study_uid] = None if found is None else (found.series_uid, found.volume)
            rows += _label_visit(day, [s for study in studies for s in study.series if s.modality == "CT"], drawn)
    return _frame(rows)


def label_table(table: pd.DataFrame) -> pd.DataFrame:
    """Tell the contrast phase of every CT volume from a series table alone, with no data on disk.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`hcc_tace_data.series_table.load_series_table`.

    Returns
    -------
    pandas.DataFrame
        As :func:`label_phases` gives; `annotated` is None, and `instances` of a stacked series are shared out evenly.
    """
    scans = table[table["modality"] == "CT"]
    rows: list[dict[str, Any]] = []
    for (_, day), visit in scans.groupby(["patient_id", "study_date"], sort=True):
        records = visit.sort_values(["series_number", "series_uid"]).to_dict("records")
        labels = label_day([{str(key): value for key, value in record.items()} for record in records])
        for record in records:
            label = labels[str(record["series_uid"])]
            share, more = divmod(int(record["instances"]), len(label.phases))
            for volume, phase in enumerate(label.phases):
                rows.append(
                    {
                        **{key: record[key] for key in ("patient_id", "study_uid", "series_uid", "series_number")},
                        "study_date": str(day),
                        "description": record["series_description"],
                        "volume": volume,
                        "phase": phase,
                        "confidence": label.confidence if phase != "unknown" else 0.0,
                        "evidence": (f"table: {label.reason}",),
                        "annotated": None,
                        "instances": share + (volume < more),
                    }
                )
    return _frame(rows)


def count_phases(volumes: pd.DataFrame) -> dict[str, int]:
    """Count volumes by phase, and the series that hold several.

    Returns
    -------
    dict of str to int
        `volumes`, each phase, `unknown`, and `stacked_series`.
    """
    stacked = int((volumes.groupby("series_uid").size() > 1).sum()) if len(volumes) else 0
    counts = {phase: int((volumes["phase"] == phase).sum()) for phase in (*KNOWN, "unknown")}
    return {"volumes": len(volumes), **counts, "stacked_series": stacked}


def _label_visit(day: str, scans: Sequence[Series], drawn: dict[str, tuple[str, int] | None]) -> list[dict[str, Any]]:
    from hcc_tace_data.phase_split import split_series

    split = {series.series_uid: split_series(series.instances) for series in scans}
    labels = label_day(
        [
            {
                "series_uid": series.series_uid,
                "series_number": series.number,
                "series_description": series.description,
                "instances": len(series.instances),
            }
            for series in scans
        ],
        {uid: len(parts) for uid, parts in split.items()},
    )
    volumes = [(series, number, part) for series in scans for number, part in enumerate(split[series.series_uid])]
    told = np.array(
        [_from_table(labels[series.series_uid], number) for series, number, _ in volumes], dtype=float
    ).reshape(len(volumes), len(KNOWN))
    agents, reasons = agent_evidence([part for _, _, part in volumes])
    times = [acquired_at(part) for _, _, part in volumes]
    chances = posterior(told + agents, times, gap_evidence(times))
    rows = []
    for place, (series, number, part) in enumerate(volumes):
        best = int(chances[place].argmax())
        confidence = float(chances[place, best])
        annotated: bool | None = False
        if series.study_uid in drawn:
            target = drawn[series.study_uid]
            annotated = None if target is None else target == (series.series_uid, number)
        rows.append(
            {
                "patient_id": series.patient_id,
                "study_date": day,
                "study_uid": series.study_uid,
                "series_uid": series.series_uid,
                "series_number": series.number,
                "description": series.description,
                "volume": number,
                "phase": KNOWN[best] if confidence >= _SURE else "unknown",
                "confidence": round(confidence, 4),
                "evidence": _reasons(labels[series.series_uid], number, times, place, reasons[place]),
                "annotated": annotated,
                "instances": len(part),
            }
        )
    return rows


def _from_table(label: TableLabel, number: int) -> Any:
    return log_likelihood(label.phases[number] if number < len(label.phases) else "unknown", label.confidence)


def _reasons(label: TableLabel, number: int, times: Sequence[float], place: int, agent: str) -> tuple[str, ...]:
    phase = label.phases[number] if number < len(label.phases) else "unknown"
    known = sorted(time for time in times if time == time)
    texts = [f"table: {phase} ({label.reason})"]
    if times[place] == times[place] and len(set(known)) > 1:
        texts.append(f"headers: acquired {times[place] - known[0]:.0f} s after the visit's first")
    if agent:
        texts.append(f"headers: {agent}")
    return tuple(texts)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["series_number"] = frame["series_number"].astype("Int64")
    return frame
