"""Predictions are drawn and scored only where they fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.sample import read_case
from hcc_tace_data.report.patients import make_cards, read_evaluation, read_prediction


def test_dice_is_that_of_the_drawn_labels(twin: Path, predicted: Path) -> None:
    collection = open_collection(twin)
    (card,) = make_cards(collection, ["HCC_003"], predictions=predicted, workers=1)
    (case,), _ = find_cases(collection, ["HCC_003"])
    arrays = read_case(case, load_catalog().classes("standard"))
    moved = np.roll(arrays.label, 1, axis=2)
    for number, name in ((1, "liver"), (2, "tumour"), (3, "portal vein"), (4, "aorta")):
        both = np.logical_and(arrays.label == number, moved == number).sum()
        expected = 2 * both / ((arrays.label == number).sum() + (moved == number).sum())
        assert card.dice[name] == pytest.approx(expected)
    assert card.dice_source == "computed for this page"
    millilitre = np.prod(arrays.spacing) / 1000
    assert card.volumes_ml[2] == pytest.approx((arrays.label == 2).sum() * millilitre)


def test_a_prediction_elsewhere_is_not_drawn(twin: Path, predicted: Path) -> None:
    (card,) = make_cards(open_collection(twin), ["HCC_017"], predictions=predicted, workers=1)
    assert card.slices
    assert card.dice == {}
    assert not any(contour.predicted for one in card.slices for contour in one.contours)
    assert "3.00 mm from its CT" in card.remarks[0]


@pytest.mark.parametrize("content", [b"", b"not a nifti", b"\x1f\x8b broken"])
def test_a_prediction_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "HCC_003.nii.gz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"HCC_003\.nii\.gz cannot be read"):
        read_prediction(path, np.eye(4), (2, 2, 2))


@pytest.mark.parametrize("value", [0.5, -1.0, 300.0])
def test_values_that_are_no_classes_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "HCC_003.nii.gz"
    array = np.full((2, 2, 2), value, dtype=np.float32)
    swap = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    nibabel.save(nibabel.Nifti1Image(array, swap[:, [2, 1, 0, 3]]), path)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ swap
    with pytest.raises(UsageError, match="not class numbers"):
        read_prediction(path, lps, (2, 2, 2))


@pytest.mark.parametrize("document", ["[", "[]", '{"cases": [{"patient_id": "HCC_001"}]}', '{"cases": 3}'])
def test_an_evaluation_that_is_none_is_refused(tmp_path: Path, document: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(document)
    with pytest.raises(UsageError, match="not an evaluation"):
        read_evaluation(path)


def test_scores_without_a_value_are_left_out(tmp_path: Path) -> None:
    labels: dict[str, Any] = {"portal_vein": {"dice": None}, "tumour": {"dice": 0.5, "volume": 3}}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"cases": [{"patient_id": "HCC_001", "series_uid": "1", "labels": labels}]}))
    assert read_evaluation(path) == {"HCC_001": {"tumour": 0.5}}
    assert read_evaluation(tmp_path / "none.json") == {}


def test_a_ct_that_cannot_be_read_is_said_so(twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hcc_tace_data.errors import DicomReadError
    from hcc_tace_data.loaders import sample

    def broken(*_: Any) -> None:
        raise DicomReadError("slice 7 is cut short")

    monkeypatch.setattr(sample, "read_case", broken)
    (card,) = make_cards(open_collection(twin), ["HCC_012"], predictions=tmp_path, workers=1)
    assert card.slices == ()
    assert "slice 7 is cut short" in card.remarks[0]
