"""Baseline and follow-up are what their dates say."""

from __future__ import annotations

from pathlib import Path

from hcc_tace_data import open_collection


def test_baseline_is_annotated_and_follow_up_later(twin: Path) -> None:
    for patient in open_collection(twin).values():
        assert patient.baseline is not None
        assert patient.baseline.segmentation is not None
        assert patient.follow_up is not None
        assert patient.follow_up.date > patient.baseline.date
        assert patient.follow_up.segmentation is None


def test_a_study_before_the_annotated_one_is_no_follow_up(twin: Path) -> None:
    patient = open_collection(twin)["HCC_012"]
    rows = patient.instances.copy()
    later = rows["study_uid"] != patient.baseline.study_uid  # type: ignore[union-attr]  # tested above
    rows.loc[later, "study_date"] = "19000101"
    moved = type(patient)(patient.root, rows)
    assert moved.baseline is not None
    assert moved.baseline.segmentation is not None
    assert moved.follow_up is None
