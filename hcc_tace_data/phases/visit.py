"""One visit of a patient: its CT volumes, what each source says of them, and the phases that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.facts.published import PublishedPhases
from hcc_tace_data.phases.enhancement import Enhancement
from hcc_tace_data.phases.headers import agent_evidence, gap_evidence, visit_orders, visit_times
from hcc_tace_data.phases.model import PUBLISHED_RIGHT, log_likelihood, posterior
from hcc_tace_data.phases.names import KNOWN
from hcc_tace_data.phases.pixels import describe, enhancement_evidence
from hcc_tace_data.phases.table import TableLabel, label_day, named_phase

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.model import Series

__all__ = ["DOUBT", "SURE", "Judgement", "VisitVolume", "judge", "volumes_of"]

#: Below this probability a phase is called unknown.
SURE = 0.6
# Where the table is right for a visit, it is so for a single volume but for a rare slip.
_NAMED = 0.97
#: Pixels refute a published phase beyond doubt if they give it less than this probability against the other phases,
#: and it stays improbable when all sources are taken together.
DOUBT = 0.02

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class VisitVolume:
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
        The published one where there is one; else the likeliest, "unknown" where none is likelier than :data:`SURE`.
    source : {"published", "inferred"}
        Where the phase is from.
    confidence : float
        Probability of the phase, or of the likeliest if it is unknown.
    evidence : tuple of str
        One text per source, and one each where pixels overrule a description or refute a published phase.
    published, table, headers, pixels : str
        What each source alone says.
    """

    phase: str
    source: str
    confidence: float
    evidence: tuple[str, ...]
    published: str
    table: str
    headers: str
    pixels: str


def volumes_of(scans: Sequence[Series]) -> list[VisitVolume]:
    """Split the CT series of a visit into its volumes."""
    return [
        VisitVolume(series=series, number=number, rows=rows)
        for series in scans
        for number, rows in enumerate(series.volumes)
    ]


def judge(
    volumes: Sequence[VisitVolume],
    enhancement: Sequence[Enhancement] | None = None,
    published: Mapping[str, PublishedPhases] | None = None,
) -> list[Judgement]:
    """Label a visit's volumes from all that is known of them.

    Parameters
    ----------
    volumes : sequence of VisitVolume
        All of one patient's day.
    enhancement : sequence of Enhancement, optional
        What was measured in their pixels, if they were looked at.
    published : mapping of str to PublishedPhases, optional
        Published phases by series UID. They decide where the series was split into as many volumes.
    """
    if not volumes:
        return []
    labels = _table_labels(volumes)
    tables = [_own(labels[volume.series.series_uid], volume.number) for volume in volumes]
    stated, remarks = _published(volumes, published or {})
    times = visit_times([volume.rows for volume in volumes])
    orders = visit_orders([volume.rows for volume in volumes])
    gaps = gap_evidence(times)
    agents, reasons = agent_evidence([volume.rows for volume in volumes])
    seen = np.zeros_like(agents)
    if enhancement is not None:
        seen = np.array([enhancement_evidence(found) for found in enhancement])
    given = np.array([log_likelihood(phase, PUBLISHED_RIGHT) for phase in stated])
    chances = posterior(
        agents + seen + given, times, gaps, orders=orders,
        table=np.array([log_likelihood(phase, _NAMED) for phase in tables]),
        trust=min(label.confidence for label in labels.values()),
    )  # fmt: skip
    ordered = np.array(_differ([times, *(values for values, _ in orders)]))
    headers = _alone(agents, times, gaps, orders, own=np.asarray(ordered | agents.any(axis=1)))
    pixels = _alone(seen, [float("nan")] * len(volumes), own=np.asarray(seen.any(axis=1)))
    result = []
    for place, volume in enumerate(volumes):
        likeliest = int(chances[place].argmax())
        phase = KNOWN[likeliest] if chances[place, likeliest] >= SURE else "unknown"
        confidence = float(chances[place, likeliest])
        if stated[place] in KNOWN:
            phase = stated[place]
            confidence = float(chances[place, KNOWN.index(phase)])
        evidence = [*remarks[place], f"table: {tables[place]} ({labels[volume.series.series_uid].reason})"]
        evidence += _header_texts(volume, times, place, reasons[place])
        if enhancement is not None:
            evidence.append(f"pixels: {describe(enhancement[place])}")
        evidence += _contradictions(volume, (phase, confidence), stated[place], seen[place], pixels[place])
        result.append(
            Judgement(
                phase=phase, source="published" if stated[place] in KNOWN else "inferred", confidence=confidence,
                evidence=tuple(evidence), published=stated[place], table=tables[place], headers=headers[place],
                pixels=pixels[place],
            )
        )  # fmt: skip
    return result


def _published(
    volumes: Sequence[VisitVolume], published: Mapping[str, PublishedPhases]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the published phase of each volume, "unknown" where it does not decide, and a text about it."""
    counts = Counter(volume.series.series_uid for volume in volumes)
    phases: list[str] = []
    texts: list[tuple[str, ...]] = []
    for volume in volumes:
        one = published.get(volume.series.series_uid)
        if one is None:
            phases.append("unknown")
            texts.append(())
        elif len(one.phases) != counts[volume.series.series_uid]:
            phases.append("unknown")
            texts.append((f"published: {', '.join(one.phases)}, but the series is split into "
                          f"{counts[volume.series.series_uid]}",))  # fmt: skip
        else:
            phases.append(one.phases[volume.number])
            texts.append((f"published: {one.phases[volume.number]}",))
    return phases, texts


def _contradictions(
    volume: VisitVolume, found: tuple[str, float], published: str, seen: Array, pixels: str
) -> list[str]:
    """Return what pixels overrule or refute."""
    phase, confidence = found
    named = named_phase(volume.series.description)
    if published in KNOWN:
        chance = np.exp(seen - seen.max())
        if confidence < DOUBT and chance[KNOWN.index(published)] < DOUBT * chance.sum():
            return [f"pixels refute the published phase {published!r}"]
    elif named is not None and phase not in (named, "unknown") and pixels == phase:
        return [f"pixels overrule the description {volume.series.description!r}"]
    return []


def _differ(orders: Sequence[Sequence[float]]) -> list[bool]:
    """Return of which volumes any of the orders, a clock first, says something."""
    count = len(orders[0])
    # a clock gives the time between two sweeps; a mere order of two does not say of which phases they are
    least = [2, *[3] * (len(orders) - 1)]
    said = [len({value for value in order if value == value}) >= few for order, few in zip(orders, least, strict=True)]
    return [
        any(right and order[place] == order[place] for order, right in zip(orders, said, strict=True))
        for place in range(count)
    ]


def _table_labels(volumes: Sequence[VisitVolume]) -> dict[str, TableLabel]:
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


def _alone(
    evidence: Array,
    times: Sequence[float],
    pairs: Array | None = None,
    orders: Sequence[tuple[Sequence[float], float]] = (),
    *,
    own: Bools,
) -> list[str]:
    """Return the phases that one source would give by itself, for the volumes that it says anything of."""
    chances = posterior(evidence, times, pairs, orders=orders)
    return [
        KNOWN[int(row.argmax())] if said and row.max() >= SURE else "unknown"
        for row, said in zip(chances, own, strict=True)
    ]


def _header_texts(volume: VisitVolume, times: Sequence[float], place: int, agent: str) -> list[str]:
    known = sorted(time for time in times if time == time)
    texts = []
    if times[place] == times[place] and len(set(known)) > 1:
        texts.append(f"headers: acquired {times[place] - known[0]:.0f} s after the visit's first")
    else:
        numbers = sorted({int(number) for number in volume.rows["acquisition_number"].dropna()})
        texts += [f"headers: acquisition {', '.join(map(str, numbers))}"] if numbers else []
    if agent:
        texts.append(f"headers: {agent}")
    return texts
