"""Series are split into the volumes they hold, and the annotated one is found."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data import open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.collection.split import split_series


@pytest.fixture(scope="module")
def truth(twin: Path) -> dict[str, int]:
    """SOPInstanceUID -> number of its volume."""
    with open(twin / "truth" / "phases.csv", newline="") as handle:
        return {row["sop_uid"]: int(row["volume"]) for row in csv.DictReader(handle)}


def test_every_series_of_the_twin(twin: Path, truth: dict[str, int]) -> None:
    instances = open_collection(twin).instances
    stacked = 0
    for uid, rows in instances[instances["modality"] == "CT"].groupby("series_uid"):
        parts = split_series(rows)
        assert [{truth[sop] for sop in part["sop_uid"]} for part in parts] == [{n} for n in range(len(parts))], uid
        assert sorted(sop for part in parts for sop in part["sop_uid"]) == sorted(rows["sop_uid"])
        assert len({truth[sop] for sop in rows["sop_uid"]}) == len(parts)
        stacked += len(parts) > 1
    assert stacked >= 5


def test_a_missing_slice_is_no_second_phase(shared_data: Path) -> None:
    instances = open_collection(shared_data / "dicom" / "ge_missing_slice", cache=False).instances
    (part,) = split_series(instances)
    assert sorted(np.diff(part["position_z"]).round().tolist()) == [5, 5, 10]


def _series(positions: list[float], **columns: object) -> pd.DataFrame:
    count = len(positions)
    frame = pd.DataFrame(
        {
            "position_x": 0.0, "position_y": 0.0, "position_z": positions,
            "orientation_0": 1.0, "orientation_1": 0.0, "orientation_2": 0.0,
            "orientation_3": 0.0, "orientation_4": 1.0, "orientation_5": 0.0,
            "acquisition_number": pd.array([1] * count, dtype="Int64"),
            "instance_number": pd.array(range(1, count + 1), dtype="Int64"),
            "acquisition_time": "", "content_time": "", "sop_uid": [f"1.{i}" for i in range(count)],
        }
    )  # fmt: skip
    for name, values in columns.items():
        frame[name] = values
    return frame


@given(
    first=st.integers(4, 20),
    second=st.integers(4, 20),
    offset=st.sampled_from([0.0, 0.5]),
    mark=st.sampled_from(["acquisition", "time", "sweep", "rank"]),
    descending=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=120)
def test_two_phases_by_each_mark(
    first: int, second: int, offset: float, mark: str, descending: bool, seed: int
) -> None:
    if mark == "rank":
        offset, second = 0.0, first  # order at a position needs the same positions
    a, b = [2.5 * i for i in range(first)], [2.5 * i + offset for i in range(second)]
    if descending:
        a, b = a[::-1], b[::-1]
    order = [(p, 0) for p in a] + [(p, 1) for p in b]
    if mark == "rank":
        order = [pair for both in zip([(p, 0) for p in a], [(p, 1) for p in b], strict=True) for pair in both]
    frame = _series([p for p, _ in order])
    phase = [which for _, which in order]
    frame["true"] = phase
    if mark == "acquisition":
        frame["acquisition_number"] = pd.array([3 + which for which in phase], dtype="Int64")
    if mark == "time":
        frame["acquisition_time"] = [f"1000{10 + 30 * which}.{i:06d}" for i, which in enumerate(phase)]
        frame["instance_number"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    shuffled = frame.sample(frac=1, random_state=seed)
    parts = split_series(shuffled)
    assert [part["true"].unique().tolist() for part in parts] == [[0], [1]]
    assert all((np.diff(part["position_z"]) > 0).all() for part in parts)


@pytest.mark.parametrize(
    "positions",
    [
        [0, 5, 15, 20, 25],  # a slice is missing
        [0, 2.5, 5, 7.5, 12.5, 17.5, 22.5],  # two thicknesses
        [float(i) for i in range(30)],
        [0, 5],
        [7.0],
    ],
)
def test_one_volume_stays_one(positions: list[float]) -> None:
    assert len(split_series(_series(positions))) == 1


def test_two_regions_one_after_the_other_are_no_phases() -> None:
    chest_and_abdomen = [2.5 * i for i in range(20)] + [52.5 + 2.5 * i for i in range(20)]
    numbers = pd.array([1] * 20 + [2] * 20, dtype="Int64")
    assert len(split_series(_series(chest_and_abdomen, acquisition_number=numbers))) == 1


def test_no_rows_no_volumes() -> None:
    assert split_series(_series([])) == []


def test_the_annotated_volume_of_every_patient(twin: Path) -> None:
    with open(twin / "truth" / "annotated.csv", newline="") as handle:
        wanted = {row["patient_id"]: (row["series_uid"], int(row["volume"])) for row in csv.DictReader(handle)}
    collection = open_collection(twin)
    for patient_id, patient in collection.items():
        assert patient.baseline is not None
        found = find_annotated(patient.baseline)
        assert found.volume is not None, (patient_id, found.reason)
        assert (found.volume.series_uid, found.volume.volume) == wanted[patient_id], found.reason
        assert len(found.paths) == len(found.volume.sop_uids)


def test_no_ct_is_said(twin: Path) -> None:
    study = open_collection(twin)["HCC_012"].baseline
    assert study is not None
    lonely = type(study)(study.root, study.instances[study.instances["modality"] == "SEG"], catalog=study.catalog)
    found = find_annotated(lonely)
    assert found.volume is None
    assert "no CT" in found.reason
    bare = type(study)(study.root, study.instances[study.instances["modality"] == "CT"], catalog=study.catalog)
    assert "no segmentation" in find_annotated(bare).reason
