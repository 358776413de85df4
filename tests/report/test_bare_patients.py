"""Patients without a segmented CT are shown all the same."""

from __future__ import annotations

from pathlib import Path

from hcc_tace_data import open_collection
from hcc_tace_data.open import Collection
from hcc_tace_data.report.patients import make_cards


def test_the_ct_is_shown_where_no_segmentation_is(twin: Path, tmp_path: Path) -> None:
    whole = open_collection(twin)
    rows = whole.instances[(whole.instances["modality"] != "SEG") & (whole.instances["patient_id"] == "HCC_048")]
    (card,) = make_cards(Collection(whole.root, rows, whole.problems), ["HCC_048"], predictions=tmp_path, slices=3)
    assert len(card.slices) == 3
    assert not any(slice_.contours for slice_ in card.slices)
    assert card.phase == "portal_venous"
    assert card.remarks[0].startswith("Shown without the annotation: no segmentation")
    assert not card.volumes_ml


def test_a_patient_of_whom_nothing_can_be_shown_says_why(twin: Path, tmp_path: Path) -> None:
    whole = open_collection(twin)
    rows = whole.instances[(whole.instances["modality"] == "SEG") & (whole.instances["patient_id"] == "HCC_048")]
    (card,) = make_cards(Collection(whole.root, rows, whole.problems), ["HCC_048"], predictions=tmp_path)
    assert not card.slices
    assert card.remarks[0].startswith("Nothing drawn: ")
