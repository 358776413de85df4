"""HT515: slices and voxels of each patient beside what others counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.facts.published import MASKS_FILE, PublishedMask, PublishedPhases
from hcc_tace_data.open import open_collection
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.rules import geometry

COLUMNS = "patient_id,slices,liver_voxels,tumour_voxels,liver_sources,tumour_sources,liver_other,tumour_other"
EQUAL, CHANGED, UNCOUNTED = "HCC_001", "HCC_002", "HCC_013"


@pytest.fixture(scope="module")
def twin(make_twin, tmp_path_factory) -> Path:
    return make_twin(tmp_path_factory.mktemp("twin") / "ph", patients=[EQUAL, CHANGED, UNCOUNTED])


@pytest.fixture
def copy(twin, tmp_path) -> Path:
    return Path(shutil.copytree(twin, tmp_path / "copy"))


def counted(root: Path, patient: str) -> tuple[int, int, int]:
    """Count slices, and voxels of liver and mass, with pydicom alone."""
    found = open_collection(root, cache=False)[patient].baseline
    dataset = pydicom.dcmread(found.segmentation.paths[0])
    labels = {int(one.SegmentNumber): str(one.SegmentLabel) for one in dataset.SegmentSequence}
    numbers = [
        int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    voxels = dict.fromkeys(("Liver", "Mass"), 0)
    for number, frame in zip(numbers, dataset.pixel_array, strict=True):
        if labels[number] in voxels:
            voxels[labels[number]] += int(np.count_nonzero(frame))
    return len(find_annotated(found).volume.sop_uids), voxels["Liver"], voxels["Mass"]


def write(root: Path, *rows: tuple[object, ...]) -> None:
    lines = [COLUMNS, *(",".join(map(str, row)) for row in rows)]
    (root / MASKS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def check(root: Path):
    report = validate(root, depth="pixels", select=["HT515"], workers=1)
    return {one.patient_id: one for one in report.findings}, report.rules[0]


def test_a_twin_without_its_own_table_is_not_judged(twin):
    found, status = check(twin)
    assert not found
    assert status.status == "skipped"
    assert MASKS_FILE in status.reason


def test_equality_is_information_and_a_difference_a_warning(copy):
    slices, liver, mass = counted(copy, EQUAL)
    other_slices, other_liver, other_mass = counted(copy, CHANGED)
    write(
        copy,
        (EQUAL, slices, liver, mass, 2, 1, "", ""),
        (CHANGED, other_slices, other_liver + 7, other_mass, 2, 2, "", ""),
    )
    found, status = check(copy)
    assert set(found) == {EQUAL, CHANGED}
    assert found[EQUAL].severity == "info"
    for number, sources in ((slices, "1 source"), (liver, "2 independent sources agree"), (mass, "1 source")):
        assert str(number) in found[EQUAL].message
        assert sources in found[EQUAL].message
    assert found[CHANGED].severity == "warning"
    said = f"liver {other_liver} voxels here, {other_liver + 7} published (2 independent sources agree)"
    assert said in found[CHANGED].message
    assert "tumour" not in found[CHANGED].message
    assert found[CHANGED].hint
    assert f"no count is published for {UNCOUNTED}" in status.reason


def test_a_second_source_and_the_whole_stack_count_as_equal(copy):
    slices, liver, mass = counted(copy, EQUAL)
    write(copy, (EQUAL, slices, liver + 1, mass + 1, 1, 1, liver, mass))
    assert check(copy)[0][EQUAL].severity == "info"
    write(copy, (EQUAL, slices + 1, liver, mass, 1, 1, "", ""))
    found = check(copy)[0][EQUAL]
    assert found.severity == "warning"
    assert f"{slices} slices here, {slices + 1} published (1 source)" in found.message


@pytest.mark.parametrize("text", [b"patient_id,slices\nHCC_001,3\n", b"\xff\xfe\0", b""])
def test_a_broken_table_skips_the_rule_and_says_so(copy, text):
    (copy / MASKS_FILE).write_bytes(text)
    found, status = check(copy)
    assert not found
    assert status.status == "skipped"
    assert MASKS_FILE in status.reason


def test_the_shipped_counts_hold_for_the_original_series_only(twin, monkeypatch):
    slices, liver, mass = counted(twin, EQUAL)
    series = open_collection(twin, cache=False)[EQUAL].studies[0].series[0].series_uid
    original = PublishedPhases(
        series_uid=series, patient_id=EQUAL, study_date="", phases=("arterial",), images=1, matched="uid"
    )
    counts = {
        one: PublishedMask(
            patient_id=one, slices=slices, liver_voxels=liver, tumour_voxels=mass, liver_sources=2, tumour_sources=2
        )
        for one in (EQUAL, CHANGED)
    }
    monkeypatch.setattr(geometry, "published_phases", lambda: {series: original})
    monkeypatch.setattr(geometry, "published_masks", lambda: counts)
    found, status = check(twin)
    assert {one: finding.severity for one, finding in found.items()} == {EQUAL: "info"}
    assert f"no count is published for {CHANGED}" in status.reason
