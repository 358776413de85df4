"""Contrast phases from the series table and from headers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcc_tace_data import label_phases, open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.facts.published import published_phases
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.phases.headers import visit_times
from hcc_tace_data.phases.label import label_table
from hcc_tace_data.phases.model import KNOWN, log_likelihood, posterior
from hcc_tace_data.phases.table import label_day, named_phase


def _row(uid: str, number: int, description: str, instances: int) -> dict[str, object]:
    return {"series_uid": uid, "series_number": number, "series_description": description, "instances": instances}


def test_general_rules_on_the_real_table() -> None:
    """At least 97 % of the published phases, and hardly any series split otherwise: totals alone prove nothing."""
    labels = {}
    scans = load_series_table().query("modality == 'CT'")
    for _, visit in scans.groupby(["patient_id", "study_date"]):
        labels |= label_day([{str(key): value for key, value in row.items()} for row in visit.to_dict("records")])
    published = published_phases()
    right = sum(sum((Counter(labels[uid].phases) & Counter(one.phases)).values()) for uid, one in published.items())
    assert right >= 612
    assert sum(len(labels[uid].phases) != len(one.phases) for uid, one in published.items()) <= 3
    assert all("unknown" not in label.phases for label in labels.values())


def test_slices_of_the_table_are_all_shared_out() -> None:
    table = load_series_table()
    volumes = label_table(table)
    shared = volumes.groupby("series_uid")["instances"].sum()
    scans = table[table["modality"] == "CT"].set_index("series_uid")["instances"]
    assert shared.sort_index().equals(scans.sort_index())


@pytest.mark.parametrize(
    ("description", "phase"),
    [
        ("Recon 2: PRE LIVER", "pre_contrast"), ("PRE CONTRAST", "pre_contrast"), ("ARTERIAL", "arterial"),
        ("VENOUS", "portal_venous"), ("5 MIN DELAY", "delayed"), ("LIVER 3 PHASE (C/A/P)", None),
        ("2.5 STANDARD", None),
        ("ARTERIAL AND VENOUS", None), ("", None), ("PRESSURE", None),
        ("CT ABD W/O CON", "pre_contrast"), ("CT ABD W/WO CON", None), ("ABDOMEN W&W/O CONT", None),
        ("PRE AND POST", None),
    ],
)  # fmt: skip
def test_descriptions(description: str, phase: str | None) -> None:
    assert named_phase(description) == phase


def _phases(*day: dict[str, object]) -> dict[str, tuple[str, ...]]:
    return {uid: label.phases for uid, label in label_day(day).items()}


@pytest.mark.parametrize("number", [3, 103])
def test_the_protocols_own_images_follow_its_reconstruction(number: int) -> None:
    """'X' beside 'Recon 2: X' is the later sweep, also under a lower number (published for 33 visits)."""
    day = [_row("1", 2, "PRE LIVER", 20), _row("2", 4, "Recon 2: X", 69), _row("3", number, "X", 69)]
    assert _phases(*day) == {"1": ("pre_contrast",), "2": ("arterial",), "3": ("portal_venous",)}
    assert _phases(*day[1:]) == {"2": ("arterial",), "3": ("portal_venous",)}
    other = [*day[:2], _row("3", 3, "Y", 69)]  # another protocol: in the order of numbers
    assert _phases(*other)["3"] == ("arterial",)


def test_reconstructions_of_one_protocol_are_one_sweep_each() -> None:
    day = [_row("1", 5, "Recon 2: X", 77), _row("2", 6, "Recon 3: X", 192)]
    assert _phases(*day) == {"1": ("arterial",), "2": ("portal_venous",)}
    assert _phases(_row("0", 3, "PRE", 90), *day)["2"] == ("portal_venous",)


@pytest.mark.parametrize(
    ("description", "instances", "phases"),
    [
        ("2.5 STANDARD", 190, ("arterial", "portal_venous")),
        ("2.5 STANDARD", 90, ("portal_venous",)),
        ("LIVER 2 PHASE (C/A/P)", 90, ("arterial", "portal_venous")),
        ("LIVER 2PHASE CAP", 90, ("arterial", "portal_venous")),
        ("Recon 2: LIVER 3 PHASE (AP)", 90, ("portal_venous",)),
        ("Recon 2: LIVER 3 PHASE (AP)", 190, ("arterial", "portal_venous")),
    ],
)
def test_a_series_alone_with_an_injection(description: str, instances: int, phases: tuple[str, ...]) -> None:
    assert _phases(_row("1", 2, "PRE LIVER", 100), _row("2", 4, description, instances))["2"] == phases


def test_a_visit_of_a_single_series() -> None:
    assert _phases(_row("1", 7, "2.5 STANDARD", 236)) == {"1": ("arterial", "portal_venous")}
    assert _phases(_row("1", 103, "3 PHASE LIVER (ABD)", 160)) == {"1": ("arterial", "portal_venous")}
    assert _phases(_row("1", 2, "C-A-P", 185)) == {"1": ("portal_venous",)}


@given(st.permutations(range(4)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    day = [
        _row("1", 2, "PRE LIVER", 20), _row("2", 4, "Recon 2: X", 69), _row("3", 5, "Recon 3: X", 69),
        _row("4", 6, "2.5 STANDARD", 60),
    ]  # fmt: skip
    assert label_day([day[i] for i in order]) == label_day(day)


@given(st.lists(st.sampled_from(KNOWN), min_size=1, max_size=4), st.data())
def test_probabilities(phases: list[str], data: st.DataObject) -> None:
    evidence = np.array([log_likelihood(phase, 0.9) for phase in phases])
    times = data.draw(st.lists(st.floats(0, 1000) | st.just(float("nan")), min_size=len(phases), max_size=len(phases)))
    chances = posterior(evidence, times)
    assert np.allclose(chances.sum(axis=1), 1)
    order = data.draw(st.permutations(range(len(phases))))
    again = posterior(evidence[order], [times[i] for i in order])
    assert np.allclose(again, chances[order])


def test_times_overrule_the_order_of_numbers() -> None:
    # by number: pre-contrast, arterial, porto-venous; a clock that swaps the last two is believed
    nothing = np.zeros((3, 4))
    table = np.array([log_likelihood(phase, 0.97) for phase in KNOWN[:3]])
    assert posterior(nothing, [0.0, 150.0, 190.0], table=table).argmax(axis=1).tolist() == [0, 1, 2]
    assert posterior(nothing, [0.0, 190.0, 150.0], table=table).argmax(axis=1).tolist() == [0, 2, 1]


def test_a_wrong_source_is_discarded_at_a_price() -> None:
    """Whatever the clock and the numbers say together, strong evidence of each volume by itself wins."""
    evidence = np.array([log_likelihood(phase, 0.9995) for phase in KNOWN[:3]])
    backwards = np.array([log_likelihood(phase, 0.97) for phase in reversed(KNOWN[:3])])
    chances = posterior(evidence, [300.0, 200.0, 100.0], table=backwards)
    assert chances.argmax(axis=1).tolist() == [0, 1, 2]


def test_labels_of_the_twin(twin: Path) -> None:
    volumes = label_phases(open_collection(twin), depth="headers")
    truth = pd.read_csv(twin / "truth" / "phases.csv")[["series_uid", "volume", "phase"]].drop_duplicates()
    both = volumes.merge(truth, on=["series_uid", "volume"], how="outer", suffixes=("", "_true"))
    assert (both["phase"] == both["phase_true"]).all()
    drawn = pd.read_csv(twin / "truth" / "annotated.csv")
    found = volumes[volumes["annotated"] == True]  # noqa: E712  (None where it cannot be told)
    assert set(zip(found["series_uid"], found["volume"], strict=True)) == set(
        zip(drawn["series_uid"], drawn["volume"], strict=True)
    )


def test_wrong_series_numbers_are_overruled_by_the_clock(twin: Path, tmp_path: Path) -> None:
    collection = open_collection(twin)
    patient = next(
        name for name, one in collection.items() if len([s for s in one.follow_up.series if s.modality == "CT"]) == 3
    )
    shutil.copytree(twin / patient, tmp_path / patient)
    spoilt = open_collection(tmp_path)
    visit = spoilt[patient].follow_up.study_uid
    rows = spoilt.instances["study_uid"] == visit
    highest = spoilt.instances.loc[rows, "series_number"].max()
    spoilt.instances.loc[rows, "series_number"] = highest + 1 - spoilt.instances.loc[rows, "series_number"]
    before = collection.phase_volumes.set_index(["series_uid", "volume"])["phase"]
    after = label_phases(spoilt, depth="headers").set_index(["series_uid", "volume"])
    assert after["phase"].equals(before.loc[after.index])


def test_command(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phases", str(twin), "--depth", "headers", "--json", "--csv", str(tmp_path / "phases.csv")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["totals"]["volumes"] == len(document["volumes"]) == len(pd.read_csv(tmp_path / "phases.csv"))
    wanted = {"patient_id", "study_uid", "series_uid", "volume", "phase", "confidence", "evidence", "annotated"}
    assert wanted | {"instances"} <= set(document["volumes"][0])
    assert main(["phases", "--from-table"]) == 0
    text = capsys.readouterr().out
    assert "paper 204" in text
    assert "paper 48" in text
    assert main(["phases", str(tmp_path / "nothing")]) == 3
    assert main(["phases", "--table", "x.csv"]) == 2


def test_list_by_phase(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--phase", "delayed", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["series"]
    assert 1 <= len(rows) <= 7
    assert {row["modality"] for row in rows} == {"CT"}
    assert main(["list", "--phase", "nephrographic"]) == 2


def _sweep(**columns: list[str]) -> pd.DataFrame:
    names = ("acquisition_time", "acquisition_date", "content_time", "series_time", "series_date")
    count = max(len(values) for values in columns.values())
    return pd.DataFrame({name: columns.get(name, [""] * count) for name in names})


def test_times_of_a_visit_are_of_one_kind_and_run_over_midnight() -> None:
    late = _sweep(acquisition_time=["235950", "235948"], content_time=["235959", "235959"])
    early = _sweep(acquisition_time=["000233", "000235"], content_time=["000240", "000240"])
    first, second = visit_times([late, early])
    assert second - first == 165
    # one volume without AcquisitionTime: all are compared by their ContentTime
    bare = _sweep(content_time=["000323", "000323"])
    times = visit_times([late, early, bare])
    assert [times[1] - times[0], times[2] - times[1]] == [161, 43]
    assert all(np.isnan(visit_times([_sweep(content_time=[""]), _sweep(content_time=["x"])])))


def test_a_single_volume_of_nothing_known_is_unknown() -> None:
    assert posterior(np.zeros((1, 4)), [float("nan")]).max() < 0.6
