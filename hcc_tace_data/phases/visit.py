"""One visit of a patient: its CT volumes, what each source says of them, and the phases that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.phases.headers import agent_evidence, gap_evidence, visit_times
from hcc_tace_data.phases.model import KNOWN, log_likelihood, posterior
from hcc_tace_data.phases.organs import Enhancement
from hcc_tace_data.phases.pixels import describe, enhancement_evidence
from hcc_tace_data.phases.table import TableLabel, label_day, named_phase

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.model import Series

__all__ = ["SURE", "Judgement", "Volume", "judge", "volumes_of"]

#: Below this probability a phase is called unknown.
SURE = 0.6
# Where the table is right for a visit, it is so for a single volume but for a rare slip.
_NAMED = 0.97

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Volume:
    """One volume of a visit: its series, its number there, its rows of the instance table along +normal."""

    series: Series
    number: int
    rows: pd.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The phase of one volume.

    Attributes
    ----------
    phase : str
        "unknown" where nothing is likelier than :data:`SURE`.
    confidence : float
        Probability of the likeliest phase.
    evidence : tuple of str
        One text a source, and one where pixels overrule a description.
    table, headers, pixels : str
        What each source alone says.
    """

    phase: str
    confidence: float
    evidence: tuple[str, ...]
    table: str
    headers: str
    pixels: str


def volumes_of(scans: Sequence[Series]) -> list[Volume]:
    """Split the CT series of a visit into its volumes."""
    return [
        Volume(series=series, number=number, rows=rows)
        for series in scans
        for number, rows in enumerate(series.volumes)
    ]


def judge(volumes: Sequence[Volume], enhancement: Sequence[Enhancement] | None = None) -> list[Judgement]:
    """Tell the phases of a visit's volumes from all that is known of them.

    Parameters
    ----------
    volumes : sequence of Volume
        All of one patient's day.
    enhancement : sequence of Enhancement, optional
        What was measured in their pixels, if they were looked at.
    """
    if not volumes:
        return []
    labels = _table_labels(volumes)
    tables = [_own(labels[volume.series.series_uid], volume.number) for volume in volumes]
    told = np.array([log_likelihood(phase, _NAMED) for phase in tables])
    trust = min(label.confidence for label in labels.values())
    agents, reasons = agent_evidence([volume.rows for volume in volumes])
    times = visit_times([volume.rows for volume in volumes])
    gaps = gap_evidence(times)
    seen = np.zeros_like(told)
    if enhancement is not None:
        seen = np.array([enhancement_evidence(found) for found in enhancement])
    chances = posterior(agents + seen, times, gaps, table=told, trust=trust)
    known = {time for time in times if time == time}
    timed = np.array([time == time and len(known) > 1 for time in times])
    headers = _alone(agents, times, gaps, own=np.asarray(timed | agents.any(axis=1)))
    pixels = _alone(seen, [float("nan")] * len(volumes), own=np.asarray(seen.any(axis=1)))
    result = []
    for place, volume in enumerate(volumes):
        best = int(chances[place].argmax())
        confidence = float(chances[place, best])
        phase = KNOWN[best] if confidence >= SURE else "unknown"
        evidence = [f"table: {tables[place]} ({labels[volume.series.series_uid].reason})"]
        evidence += _header_texts(times, place, reasons[place])
        if enhancement is not None:
            evidence.append(f"pixels: {describe(enhancement[place])}")
        named = named_phase(volume.series.description)
        if named == tables[place] and phase not in (named, "unknown") and pixels[place] == phase:
            evidence.append(f"pixels overrule the description {volume.series.description!r}")
        result.append(
            Judgement(
                phase=phase, confidence=confidence, evidence=tuple(evidence),
                table=tables[place], headers=headers[place], pixels=pixels[place],
            )
        )  # fmt: skip
    return result


def _table_labels(volumes: Sequence[Volume]) -> dict[str, TableLabel]:
    counts: dict[str, int] = {}
    for volume in volumes:
        counts[volume.series.series_uid] = counts.get(volume.series.series_uid, 0) + 1
    return label_day(
        [
            {
                "series_uid": volume.series.series_uid,
                "series_number": volume.series.number,
                "series_description": volume.series.description,
                "instances": len(volume.series.instances),
            }
            for volume in volumes
            if volume.number == 0
        ],
        counts,
    )


def _own(label: TableLabel, number: int) -> str:
    return label.phases[number] if number < len(label.phases) else "unknown"


def _alone(evidence: Array, times: Sequence[float], pairs: Array | None = None, *, own: Bools) -> list[str]:
    """Return the phases that one source would give by itself, for the volumes that it says anything of."""
    chances = posterior(evidence, times, pairs)
    return [
        KNOWN[int(row.argmax())] if said and row.max() >= SURE else "unknown"
        for row, said in zip(chances, own, strict=True)
    ]


def _header_texts(times: Sequence[float], place: int, agent: str) -> list[str]:
    known = sorted(time for time in times if time == time)
    texts = []
    if times[place] == times[place] and len(set(known)) > 1:
        texts.append(f"headers: acquired {times[place] - known[0]:.0f} s after the visit's first")
    if agent:
        texts.append(f"headers: {agent}")
    return texts
