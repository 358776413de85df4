"""The plan of the whole twin against the published numbers; nothing is written."""

from __future__ import annotations

from collections import Counter

import pytest

from hcc_tace_data.errors import PatientNotFoundError, UsageError
from hcc_tace_data.phantom.plan import SIZES, PatientPlan, load_table, plan_patient


@pytest.fixture(scope="module")
def table():
    return load_table()


def whole(table, size: str) -> list[PatientPlan]:
    return [plan_patient(table, name, size=size) for name in sorted(table["patient_id"].unique())]


def test_full_twin_has_the_published_counts(table) -> None:
    plans = whole(table, "full")
    series = [one for plan in plans for one in plan.series]
    stacked = [one for one in series if len(one.volumes) > 1]
    phases = Counter(volume.phase for one in series for volume in one.volumes)
    assert phases == {"pre_contrast": 203, "arterial": 204, "portal_venous": 210, "delayed": 4}
    assert len(plans) == 105
    assert len(series) == 572
    assert len(stacked) == 48
    assert sorted(Counter(len(one.volumes) for one in stacked).items()) == [(2, 47), (3, 1)]
    assert {one.split for one in stacked} == {"number", "order"}


def test_full_twin_has_every_file_of_every_series(table) -> None:
    real = table[(table["modality"] == "CT") & (table["source"] == "collection")].set_index("series_uid")["instances"]
    planned = {one.real_series_uid: one.files for plan in whole(table, "full") for one in plan.series}
    assert planned == real.to_dict()
    assert sum(planned.values()) == 51_863


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_smaller_twins_keep_enough_slices(table, size: str) -> None:
    for plan in whole(table, size):
        for one in plan.series:
            for volume in one.volumes:
                assert len(volume.positions) >= SIZES[size].minimum
                assert list(volume.positions) == sorted(set(volume.positions))


def test_annotated_volume_covers_the_liver(table) -> None:
    for plan in whole(table, "full"):
        seg, liver = plan.segmentation, plan.person.liver
        volume = plan.find(seg.annotated_series).volumes[seg.annotated_volume]
        assert volume.positions[0] <= liver.low[2] + volume.spacing
        assert volume.positions[-1] >= liver.high[2] - volume.spacing


def test_stacks_told_apart_by_order_share_positions(table) -> None:
    stacks = [one for plan in whole(table, "tiny") for one in plan.series if one.split == "order"]
    assert stacks
    for one in stacks:
        assert len({volume.positions for volume in one.volumes}) == 1


def test_bad_requests_are_refused(table) -> None:
    with pytest.raises(PatientNotFoundError, match="HCC_106"):
        plan_patient(table, "HCC_106")
    with pytest.raises(UsageError, match="huge"):
        plan_patient(table, "HCC_001", size="huge")
