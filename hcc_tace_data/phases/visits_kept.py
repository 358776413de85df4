"""A patient's visits, and what is kept of their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hcc_tace_data.collection.kept import Kept, Kind

if TYPE_CHECKING:
    from hcc_tace_data.collection.model import Patient, Study
    from hcc_tace_data.facts.published import PublishedPhases

__all__ = ["COLUMNS", "Visit", "keep_visits", "recall_visits", "visits_of"]

#: Columns of the phase table.
COLUMNS = (
    "patient_id", "study_date", "study_uid", "series_uid", "series_number", "description", "volume", "phase",
    "source", "confidence", "evidence", "annotated", "instances", "phase_published", "phase_table", "phase_headers",
    "phase_pixels",
)  # fmt: skip
_KIND = Kind("phases")


@dataclass(frozen=True, eq=False, kw_only=True)
class Visit:
    """The studies of one patient's day, and how they are to be labelled.

    Attributes
    ----------
    day : str
        StudyDate; the study's UID where that is missing.
    studies : list of Study
    depth : {"pixels", "headers"}
    published : mapping of str to PublishedPhases
        Published phases by series UID.
    """

    day: str
    studies: list[Study]
    depth: str
    published: Mapping[str, PublishedPhases]

    @property
    def kept(self) -> Kept:
        """Where the labels are kept."""
        return self.studies[0].kept

    @cached_property
    def opened(self) -> list[str]:
        """The files that are opened, below the root."""
        kinds = ("CT", "SEG") if self.depth == "pixels" else ("SEG",)
        return [
            path
            for study in self.studies
            for series in study.series
            if series.modality in kinds
            for path in series.instances["path"]
        ]

    @cached_property
    def key(self) -> str:
        """Under which the labels are kept; empty where they are not."""
        paths = [path for study in self.studies for path in study.instances["path"]]
        held = sorted({str(uid) for study in self.studies for uid in study.instances["series_uid"]})
        stated = [[uid, *self.published[uid].phases] for uid in held if uid in self.published]
        return self.kept.key(_KIND, paths, self.day, self.depth, stated)


def visits_of(patient: Patient, depth: str, published: Mapping[str, PublishedPhases]) -> list[Visit]:
    """Return a patient's visits, to be labelled at one depth."""
    return [
        Visit(day=day, studies=studies, depth=depth, published=published) for day, studies in _days(patient).items()
    ]


def recall_visits(visits: Sequence[Visit]) -> list[list[dict[str, Any]] | None]:
    """Return the rows of the phase table for each visit that is kept, else None."""
    if not visits:
        return []
    sound = [visit for visit in visits if visit.kept.unchanged(visit.opened)]
    found = visits[0].kept.get(_KIND, [visit.key for visit in sound])
    return [_rows_of(found.get(visit.key)) if visit.key else None for visit in visits]


def keep_visits(rows: Mapping[Visit, list[dict[str, Any]]]) -> None:
    """Keep the rows of some visits, all of one collection."""
    sound = {visit.key: some for visit, some in rows.items() if visit.key and visit.kept.unchanged(visit.opened)}
    if sound:
        next(iter(rows)).kept.put(_KIND, sound)


def _rows_of(value: Any) -> list[dict[str, Any]] | None:
    """Return kept rows; None where they make no sense."""
    if not isinstance(value, list) or not all(isinstance(row, dict) and set(row) == set(COLUMNS) for row in value):
        return None
    return [{**row, "evidence": tuple(row["evidence"])} for row in value]


def _days(patient: Patient) -> dict[str, list[Study]]:
    """Return a patient's studies by day; one visit may be spread over several of them."""
    days: dict[str, list[Study]] = {}
    for study in patient.studies:
        days.setdefault(study.date or study.study_uid, []).append(study)
    return days
