"""The CT volume that each SEG was drawn on."""

from __future__ import annotations

from hcc_tace_data.collection.annotated import AnnotatedVolume, find_annotated
from hcc_tace_data.open import Study
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.segs import seg_facts

__all__ = ["annotated_series", "annotated_volumes"]


def annotated_volumes(context: Context) -> list[AnnotatedVolume | None]:
    """Return the CT volume of each of :func:`seg_facts`; None for a SEG that cannot be read."""
    return context.map(
        _find,
        [
            (None if facts.error else _study_of(context, row), str(context.instances["series_uid"].iloc[row]))
            for row, facts in context.fact(seg_facts)
        ],
    )


def annotated_series(context: Context) -> dict[int, str]:
    """Return row of the instance table of each SEG -> SeriesInstanceUID of the CT it was drawn on, where known."""
    segs, volumes = context.fact(seg_facts), context.fact(annotated_volumes)
    return {
        row: found.volume.series_uid
        for (row, _), found in zip(segs, volumes, strict=True)
        if found is not None and found.volume is not None
    }


def _study_of(context: Context, row: int) -> Study:
    """Return the study that a row of the instance table belongs to."""
    record = context.instances.iloc[row]
    patient = context.collection[str(record["patient_id"])]
    return next(study for study in patient.studies if study.study_uid == record["study_uid"])


def _find(job: tuple[Study | None, str]) -> AnnotatedVolume | None:
    """Find the CT of one SEG series of a study; None where its frames cannot be read."""
    study, uid = job
    return None if study is None else find_annotated(study, next(s for s in study.series if s.series_uid == uid))
