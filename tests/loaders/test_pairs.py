"""Both visits of a patient as one sample, and the flow of patients up to it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from hcc_tace_data import load_hcc_tace, open_collection
from hcc_tace_data.errors import UsageError
from hcc_tace_data.loaders import PairDataset
from hcc_tace_data.loaders.flow import CRITERIA, Reason, cohort_flow


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_twin(tmp_path_factory.mktemp("pairs") / "t", patients=["HCC_002", "HCC_004"])
    # the follow-up of the second patient is gone
    study = open_collection(root)["HCC_004"].follow_up
    assert study is not None
    for path in study.instances["path"]:
        (root / path).unlink()
    return root


@pytest.fixture(scope="module")
def pairs(root: Path) -> PairDataset:
    return load_hcc_tace(root, unit="pair")


def test_a_pair_is_one_phase_at_both_visits(root: Path, pairs: PairDataset) -> None:
    assert isinstance(pairs, PairDataset)
    assert pairs.patient_ids == ("HCC_002",)
    sample = pairs[0]
    assert sample["phases"] == ["portal_venous", "follow_up_portal_venous"]
    patient = open_collection(root)["HCC_002"]
    assert patient.baseline is not None
    assert patient.follow_up is not None
    first, second = (pd.to_datetime(one.date) for one in (patient.baseline, patient.follow_up))
    assert sample["days"] == (second - first).days > 0
    assert sample["follow_up_study_uid"] == patient.follow_up.study_uid
    follow_up_series = {series.series_uid for series in patient.follow_up.series}
    assert sample["series_uids"][1] in follow_up_series
    # registered: livers at both visits are of tissue in the same place
    liver = np.asarray(sample["label"]) == 1
    inside = [np.asarray(channel)[liver] for channel in sample["image"]]
    assert all(20 < np.median(values) < 250 for values in inside)
    assert repr(pairs).startswith("<PairDataset: 1 pair of 1 patient; portal_venous, follow_up_portal_venous")


def test_a_patient_without_a_follow_up_is_left_out_or_has_no_data_there(root: Path, pairs: PairDataset) -> None:
    assert "follow_up_portal_venous" in dict(pairs.left_out.to_numpy())["HCC_004"]
    both = load_hcc_tace(root, unit="pair", missing="nan")
    sample = both.subset("HCC_004")[0]
    assert np.isnan(np.asarray(sample["image"][1])).all()
    assert (sample["days"], sample["follow_up_study_uid"]) == (-1, "")
    with pytest.raises(UsageError, match="'annotated'"):
        load_hcc_tace(root, unit="pair", phases="annotated")
    with pytest.raises(UsageError, match="does not go with format='hf'"):
        load_hcc_tace(root, unit="pair", format="hf")  # type: ignore[call-overload]


def test_the_flow_counts_down_from_the_collection(pairs: PairDataset, tmp_path: Path) -> None:
    table = pairs.flow.table.set_index("code")
    assert list(table.index) == ["collection", *CRITERIA]
    assert table.loc["collection", "remaining"] == 105
    assert table.loc["not_in_folder", "left_out"] == 103
    assert table.loc["no_phase", "patients"] == "HCC_004"
    assert table["remaining"].iloc[-1] == len(pairs.patient_ids) == 1
    assert (table["remaining"].diff().iloc[1:] == -table["left_out"].iloc[1:]).all()
    pairs.flow.save(tmp_path / "flow.csv")
    assert pd.read_csv(tmp_path / "flow.csv")["remaining"].tolist() == table["remaining"].tolist()
    pairs.flow.save(tmp_path / "flow.svg")
    texts = [node.text for node in ElementTree.parse(tmp_path / "flow.svg").iter() if node.tag.endswith("text")]
    assert texts[:2] == ["105 patients", "of the collection"]
    assert "1 left out: no phase" in texts
    with pytest.raises(UsageError, match="neither"):
        pairs.flow.save(tmp_path / "flow.pdf")


def test_reasons_are_texts_with_a_code() -> None:
    reason = Reason("no liver", "no_annotation")
    assert reason == "no liver"
    again = pickle.loads(pickle.dumps(reason))
    assert (again, again.code) == (reason, "no_annotation")
    flow = cohort_flow(["A", "B", "C"], ["A", "B"], {"A": "a truncated file", "B": reason}, published=["A", "D"])
    codes = {step.code: step.patients for step in flow.steps if step.patients}
    assert codes == {
        "not_in_folder": ("D",), "not_asked_for": ("C",), "no_annotation": ("B",), "not_readable": ("A",),
    }  # fmt: skip
