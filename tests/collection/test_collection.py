"""Baseline and follow-up are what their dates say."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

import pandas as pd

from hcc_tace_data import open_collection
from hcc_tace_data.open import Patient


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
    moved = type(patient)(patient.root, rows, catalog=patient.catalog)
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


def test_objects_show_themselves_in_one_line(twin: Path) -> None:
    collection = open_collection(twin)
    patient = collection["HCC_003"]
    study = patient.studies[0]
    for shown in (collection, patient, study, study.series[0]):
        text = repr(shown)
        assert len(text.splitlines()) == 1
        assert len(text) < 100 + len(str(twin))
        assert text.startswith("<")
        assert text.endswith(("file>", "files>", "series>"))
    for shown in (collection, patient, study, *study.series):
        html = shown._repr_html_()
        assert html.count("<tr>") == html.count("</tr>") > 1
        assert html.startswith(f"<table><caption>{escape(repr(shown))}</caption>")
    assert "HCC_003" in repr(patient)
    assert re.match(r"<baseline \d{4}-\d{2}-\d{2} of HCC_003: ", repr(patient.baseline))
    annotated = patient.baseline.annotated
    assert re.match(r"<AnnotatedVolume: volume \d of series [\d.]+, \d+ slices; cites ", repr(annotated))
    assert len(repr(annotated.volume)) < 400
    volume = patient.baseline.series[0].read()
    assert f"<td>{' x '.join(map(str, volume.spatial_shape))}</td>" in volume._repr_html_()
    assert re.fullmatch(r"<CTVolume: \d+ x 64 x 64 int16, [\d.]+ x [\d.]+ x [\d.]+ mm, -?\d+ to \d+ HU>", repr(volume))


def test_html_is_escaped(twin: Path) -> None:
    collection = open_collection(twin)
    rows = collection["HCC_003"].instances.assign(patient_id="<script>", modality="<b>")
    html = Patient(twin, rows, catalog=collection.catalog)._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
