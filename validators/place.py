"""Where a finding is: a patient, a study, a series, an instance, a file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOWHERE", "Place"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was found; what does not apply is empty. Paths are relative to the collection's root."""

    patient_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    path: str = ""


#: The collection as a whole.
NOWHERE = Place()
