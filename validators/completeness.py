"""HT1: is everything here that should be?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.rule import Rule, Skip

__all__ = ["RULES"]


def _series_counts(context: Context) -> Iterator[dict[str, Any]]:
    """Compare with the table beside the files. Unreadable files are absent here too."""
    if context.table is None:
        raise Skip("no series.csv beside the files; 'hcc-tace verify' compares with the collection's own table")
    held: dict[Any, int] = context.instances["series_uid"].value_counts().to_dict()
    for row in context.table.itertuples(index=False):
        have = held.get(row.series_uid, 0)
        if have != row.instances:
            yield {
                "message": f"{have} of {row.instances} files of the series are here and readable.",
                "hint": "Download the series again.",
                "patient_id": str(row.patient_id),
                "study_uid": str(row.study_uid),
                "series_uid": str(row.series_uid),
                "evidence": {"expected": row.instances, "found": have},
            }


def _two_studies(context: Context) -> Iterator[dict[str, Any]]:
    for patient, count in context.instances.groupby("patient_id")["study_uid"].nunique().items():
        if count != 2:
            yield {
                "message": f"{count} studies; a patient has a baseline and a follow-up.",
                "hint": "Download the missing study, or merge one that was split.",
                "patient_id": str(patient),
                "evidence": {"studies": int(count)},
            }


def _one_seg(context: Context) -> Iterator[dict[str, Any]]:
    table = context.instances
    held = table[table["modality"] == "SEG"].groupby("patient_id")["sop_uid"].nunique()
    for patient in sorted(set(table["patient_id"])):
        if held.get(patient, 0) < 1:
            yield {
                "message": "No segmentation.",
                "hint": "Download the SEG series of the baseline study.",
                "patient_id": str(patient),
            }


RULES: tuple[Rule, ...] = (
    Rule(
        code="HT101", name="series-complete", severity="error", scope="series", depth="index",
        summary="Each series holds as many readable files as the series table says.",
        why="A missing slice shifts or shortens every volume made from the series.",
        fix="Run 'hcc-tace verify', then 'hcc-tace download', which fetches what is missing.",
        source="Series table (IDC index)", check=_series_counts,
    ),
    Rule(
        code="HT102", name="two-studies", severity="warning", scope="patient", depth="index",
        summary="Each patient has two studies.",
        why="Response to TACE is read from the pair of a baseline and a follow-up.",
        fix="Download the missing study.",
        source="10.1038/s41597-023-01928-3", check=_two_studies,
    ),
    Rule(
        code="HT103", name="segmentation-present", severity="error", scope="patient", depth="index",
        summary="Each patient has a segmentation.",
        why="Without it the patient gives no labels.",
        fix="Download the SEG series of the patient.",
        source="10.1038/s41597-023-01928-3", check=_one_seg,
    ),
)  # fmt: skip
