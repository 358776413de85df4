"""One value per series, study and patient: the attributes that Posda's consistency queries compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.extra_headers import extra_headers
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft, Partly

if TYPE_CHECKING:
    from hcc_tace_data.validators.rule import Severity

__all__ = ["PER_PATIENT", "PER_SERIES", "PER_STUDY", "Entity", "one_value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """What makes an entity, and which attributes have one value in it.

    Attributes
    ----------
    key : str
        Column whose value names the entity.
    index, headers : tuple of str
        Columns of the instance table, and of :mod:`~hcc_tace_data.validators.facts.extra_headers`.
    light : frozenset of str
        Attributes whose difference is a warning.
    blanks : bool
        Whether an empty value differs from a filled one.
    """

    key: str
    index: tuple[str, ...]
    headers: tuple[str, ...]
    light: frozenset[str] = frozenset()
    blanks: bool = False


#: Posda's SeriesConsistency, and what else a series has one of (PS3.3 A.1.2). Times may differ in stacked series.
PER_SERIES = Entity(
    key="series_uid",
    index=("patient_id", "study_uid", "modality", "sop_class_uid", "series_number", "series_date", "series_time",
           "series_description", "frame_of_reference_uid", "manufacturer", "pixel_representation"),
    headers=("laterality", "performing_physician", "protocol_name", "operators", "body_part", "patient_position",
             "smallest_pixel_in_series", "largest_pixel_in_series", "procedure_step_id", "procedure_step_date",
             "procedure_step_time", "procedure_step_description", "procedure_step_comments"),
    light=frozenset({"series_time", "procedure_step_time", "smallest_pixel_in_series", "largest_pixel_in_series"}),
    blanks=True,
)  # fmt: skip
#: Posda's StudyConsistencyWithPatientId.
PER_STUDY = Entity(
    key="study_uid",
    index=("patient_id", "study_date", "study_time", "study_description"),
    headers=("referring_physician", "study_id", "accession_number", "physicians_of_record", "reading_physicians",
             "admitting_diagnoses", "patient_age"),
    light=frozenset({"study_time"}),
)  # fmt: skip
#: Posda's PatientConsistency.
PER_PATIENT = Entity(
    key="patient_id",
    index=(),
    headers=("patient_name", "issuer_of_patient_id", "patient_birth_date", "patient_birth_time", "patient_sex",
             "other_patient_ids", "other_patient_names", "ethnic_group", "patient_comments"),
)  # fmt: skip

_PLACES = {
    "series_uid": ("patient_id", "study_uid", "series_uid"),
    "study_uid": ("patient_id", "study_uid"),
    "patient_id": ("patient_id",),
}


def one_value(context: Context, entity: Entity) -> Iterator[Draft | Partly]:
    """Yield every attribute that has several values in one entity; the values themselves are not shown."""
    keys = context.instances[entity.key]
    frames = [context.instances[list(entity.index)]]
    if entity.headers and context.depth != "index":
        frames.append(context.fact(extra_headers)[list(entity.headers)])
    elif entity.headers:
        yield Partly(f"needs --depth headers: {', '.join(entity.headers)}")
    what = entity.key.removesuffix("_uid").removesuffix("_id")
    for column, values in pd.concat(frames, axis=1).items():
        known = values.notna() & (entity.blanks | (values.astype(object).map(str) != ""))
        if column in context.instances:  # an absent number is a value like any other
            known |= values.isna() & entity.blanks
        counts = values[known].groupby(keys[known], sort=True).nunique(dropna=False)
        for uid in counts[counts > 1].index:
            rows = (keys == uid).to_numpy().nonzero()[0]
            place = context.place(int(rows[0]))
            severity: Severity = "warning" if column in entity.light else "error"
            yield Draft(
                severity=severity,
                message=f"{counts[uid]} values of {column} in the {len(rows)} files of one {what}.",
                hint="Files of different origin are mixed: look which files differ, and fetch them again.",
                at=Place(**{name: getattr(place, name) for name in _PLACES[entity.key]}),
                evidence={"attribute": str(column), "values": int(counts[uid])},
            )
