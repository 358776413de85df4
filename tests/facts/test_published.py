"""The shipped tables of others: complete, sound, and equal to the files they were made from."""

from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from hcc_tace_data.clinical import load_clinical
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.published import published_masks, published_phases
from hcc_tace_data.facts.series_table import read_series_rows
from hcc_tace_data.phases.names import PHASES
from hcc_tace_data.phases.published import read_published


def test_every_series_has_its_published_phases() -> None:
    series = {row["series_uid"]: row for row in read_series_rows() if row["modality"] == "CT"}
    table = published_phases()
    assert table.keys() == series.keys()
    paper = load_catalog().counts.paper
    phases = Counter(phase for one in table.values() for phase in one.phases)
    assert phases == paper.phases
    assert sum(phases.values()) == paper.phase_volumes
    assert sum(len(one.phases) > 1 for one in table.values()) == paper.stacked_series
    assert Counter(one.matched for one in table.values()) == {"uid": 53, "exact": 484, "tolerance": 35}
    for uid, one in table.items():
        assert (one.patient_id, one.study_date) == (series[uid]["patient_id"], series[uid]["study_date"])
        assert (one.matched == "tolerance") == (one.differs != "")
        assert (one.as_published != "") == (one.differs in ("date", "description"))
        assert (one.images != series[uid]["instances"]) == (one.differs == "images")


def test_two_series_explain_the_images_that_the_paper_does_not_count() -> None:
    series = {row["series_uid"]: row for row in read_series_rows() if row["modality"] == "CT"}
    counts = load_catalog().counts
    assert sum(one.images for one in published_phases().values()) == counts.paper.ct_instances
    more = {
        one.patient_id: series[uid]["instances"] - one.images
        for uid, one in published_phases().items()
        if one.differs == "images"
    }
    assert more == {"HCC_044": 11, "HCC_089": 20}
    assert sum(more.values()) == counts.idc.ct_instances - counts.paper.ct_instances


def test_masks() -> None:
    masks = published_masks()
    assert len(masks) == load_catalog().counts.idc.patients - 1
    assert "HCC_089" not in masks
    assert sum(one.tumour_sources == 2 for one in masks.values()) == 96
    assert sum(one.liver_sources == 2 for one in masks.values()) == 91
    for one in masks.values():
        assert one.slices > 0
        assert one.liver_voxels > 0
        assert one.tumour_voxels > 0
        assert one.liver_other is None or (one.liver_sources == 1 and one.liver_other != one.liver_voxels)
        assert one.tumour_other is None or (one.tumour_sources == 1 and one.tumour_other != one.tumour_voxels)


@pytest.mark.parametrize("name", ["phases", "masks"])
def test_heads_name_the_source(name: str) -> None:
    table = load_catalog().published[name]
    head = (files("hcc_tace_data") / table.table).read_text(encoding="utf-8").splitlines()
    assert head[:2] == [f"# {line}" for line in table.heading()]
    assert table.licence == "CC BY 4.0"


def test_phases_against_the_workbook(shared_data: Path) -> None:
    rows = read_published(shared_data / "published" / "supplementary_table_1.xlsx")
    table = published_phases()
    by_uid = {row.series_uid: row for row in rows if row.series_uid}
    assert all(table[uid].phases == row.phases and table[uid].images == row.images for uid, row in by_uid.items())
    # each row by patient, phases and images: independent of how it was matched
    kept = Counter((one.patient_id, one.phases, one.images) for one in table.values())
    assert kept == Counter((row.patient_id, row.phases, row.images) for row in rows)


def test_masks_against_the_counts(shared_data: Path) -> None:
    counted = _read(shared_data / "published" / "mask_voxels.csv", "case_id")
    voxels = "diagnostics_Mask-original_VoxelNum"
    second = {
        name: {patient: int(row[voxels]) for patient, row in _read(path, "patient_id").items() if row[voxels]}
        for name, path in (
            ("liver", shared_data / "published" / "radiomics_liver.csv"),
            ("tumour", shared_data / "published" / "radiomics_tumour.csv"),
        )
    }
    for patient, one in published_masks().items():
        row = counted.get(patient)
        first = (int(row["liver_voxels"]), int(row["tumor_voxels"])) if row else (None, None)
        for count, other, sources, own, name in (
            (one.liver_voxels, one.liver_other, one.liver_sources, first[0], "liver"),
            (one.tumour_voxels, one.tumour_other, one.tumour_sources, first[1], "tumour"),
        ):
            known = [value for value in (own, second[name].get(patient)) if value is not None]
            assert count == known[0]
            assert sources == known.count(count)
            assert other == next((value for value in known if value != count), None)


def _read(path: Path, key: str) -> dict[str, dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as handle:
        return {row[key]: row for row in csv.DictReader(handle)}


def _issues(code: str) -> dict[str, set[str]]:
    return {one.patient_id: set(one.series) for one in load_catalog().known_issues if one.code == code}


def _published_days() -> dict[tuple[str, str], dict[str, tuple[str, ...]]]:
    """Return patient and day -> series number -> published phases."""
    days: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {}
    for row in read_series_rows():
        if row["modality"] == "CT":
            day = row["patient_id"], row["study_date"].replace("-", "")
            days.setdefault(day, {})[f"{row['series_number']} {row['series_uid']}"] = published_phases()[
                row["series_uid"]
            ].phases
    return days


def test_known_stacked_series_are_the_published_ones() -> None:
    stacked: dict[str, set[str]] = {}
    for (patient, day), series in _published_days().items():
        for number, phases in series.items():
            if len(phases) > 1:
                stacked.setdefault(patient, set()).add(f"{day} {number.split()[0]}")
    assert _issues("HT604") == stacked


def test_known_missing_phases_are_the_published_ones() -> None:
    places: dict[str, set[str]] = {}
    for (patient, day), series in _published_days().items():
        counts = Counter(phase for phases in series.values() for phase in phases)
        words = [phase for phase in PHASES[:3] if not counts[phase]]
        words += [f"{phase} twice" for phase, count in counts.items() if count == 2]
        if words:
            places.setdefault(patient, set()).add(f"{day} {', '.join(words)}")
    del places["HCC_007"]  # its arterial series has the length of two sweeps; see the notes
    assert _issues("HT602") == places


def test_known_large_tumours_are_the_counted_ones() -> None:
    larger = {one.patient_id for one in published_masks().values() if one.tumour_voxels > one.liver_voxels}
    assert set(_issues("HT506")) == larger
    note = next(note for note in load_catalog().notes if note.topic == "tumours larger than the liver")
    assert set(note.patients) == larger
    twice = {
        one for one in larger if min(published_masks()[one].liver_sources, published_masks()[one].tumour_sources) == 2
    }
    assert larger - twice == {"HCC_099"}


def test_notes_say_what_the_tables_say() -> None:
    notes = {note.topic: note for note in load_catalog().notes}
    counts = load_catalog().counts
    text = notes["number of CT files"].text
    assert f"{counts.paper.ct_instances:,}" in text
    assert f"{counts.idc.ct_instances:,}" in text
    slips = Counter(one.differs for one in published_phases().values())
    assert f"spells {slips['description']} series" in notes["slips of Supplementary Table 1"].text
    dated = {one.patient_id for one in published_phases().values() if one.differs == "date"}
    assert set(notes["slips of Supplementary Table 1"].patients) == dated


def test_several_tumours_in_the_sheet_and_the_masks(shared_data: Path) -> None:
    text = next(note.text for note in load_catalog().notes if note.topic == "single or several tumours")
    sheet = load_clinical(shared_data / load_catalog().clinical.file)
    parts = _read(shared_data / "published" / "radiomics_tumour.csv", "patient_id")
    several = [int(row["diagnostics_Mask-original_VolumeNum"] or 0) for row in parts.values()]
    assert f"{(sheet['tumour_nodularity'] == 'multinodular').sum()} multinodular" in text
    assert f"{(sheet['bclc'] == 'C').sum()} of BCLC" in text
    assert f"{sum(n > 1 for n in several)} of {sum(n > 0 for n in several)} patients" in text
