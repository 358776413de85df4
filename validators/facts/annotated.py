"""The CT volume that each SEG was drawn on."""

from __future__ import annotations

from hcc_tace_data.collection.annotated import (
    ANNOTATED,
    AnnotatedVolume,
    annotated_files,
    annotated_from_plain,
    find_annotated,
    plain_annotated,
)
from hcc_tace_data.open import Series, Study
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.segs import seg_facts

__all__ = ["annotated_series", "annotated_volumes"]


def annotated_volumes(context: Context) -> list[AnnotatedVolume | None]:
    """Return the CT volume of each of :func:`seg_facts`; None for a SEG that cannot be read."""
    jobs: list[_Job] = []
    files: list[list[str]] = []
    for row, facts in context.fact(seg_facts):
        study = None if facts.error else _study_of(context, row)
        uid = str(context.instances["series_uid"].iloc[row])
        jobs.append((study, uid))
        # for what cannot be read nothing is looked up: a file outside the index has no key
        files.append([""] if study is None else annotated_files(study, _seg_of(study, uid)))
    return context.kept_map(
        ANNOTATED,
        _find,
        jobs,
        files,
        encode=lambda found: None if found is None else plain_annotated(found, context.root),
        decode=lambda value: annotated_from_plain(value, context.root),
    )


_Job = tuple[Study | None, str]


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


def _find(job: _Job) -> AnnotatedVolume | None:
    """Find the CT of one SEG series of a study; None where its frames cannot be read."""
    study, uid = job
    return None if study is None else find_annotated(study, _seg_of(study, uid))


def _seg_of(study: Study, uid: str) -> Series:
    return next(series for series in study.series if series.series_uid == uid)
