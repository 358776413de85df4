"""Baseline and follow-up are what their dates say."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

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


def test_a_subset_says_of_its_patients_what_the_whole_says(twin: Path) -> None:
    whole = open_collection(twin)
    chosen = ["HCC_012", "HCC_001", "HCC_999"]
    part = whole.subset(chosen)
    assert list(part) == ["HCC_001", "HCC_012"]
    assert set(part.instances["patient_id"]) == set(part)
    assert whole.subset([]).instances.empty
    expected = whole.phase_volumes[whole.phase_volumes["patient_id"].isin(chosen)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.phase_volumes, expected)


def test_the_volumes_of_a_series_are_its_rows(twin: Path) -> None:
    for patient in open_collection(twin).values():
        for series in (series for study in patient.studies for series in study.series if series.modality == "CT"):
            assert sorted(path for part in series.volumes for path in part["path"]) == sorted(series.instances["path"])
