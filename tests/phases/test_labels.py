"""Contrast phases from the series table and from headers."""

from __future__ import annotations

import json
import re
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
from hcc_tace_data.errors import CatalogError
from hcc_tace_data.facts.published import published_phases
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.phases.headers import agent_evidence, visit_orders, visit_times
from hcc_tace_data.phases.label import PUBLISHED_FILE, label_table, phase_paths
from hcc_tace_data.phases.model import log_likelihood, posterior
from hcc_tace_data.phases.names import KNOWN
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
    wrong = both[both["phase"] != both["phase_true"]]
    # what the published table alone knows: a stack of arterial to delayed sweeps, a visit without arterial one
    assert {(row.patient_id, row.study_date) for row in wrong.itertuples()} == {
        ("HCC_011", "19980523"), ("HCC_012", "20010406"),
    }  # fmt: skip
    drawn = pd.read_csv(twin / "truth" / "annotated.csv")
    found = volumes[volumes["annotated"] == True]  # noqa: E712  (None where it cannot be determined)
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
    assert main(["phases", str(twin), "--depth", "headers", "--evidence"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 84
    assert sum("headers: acquisition" in line for line in lines) >= document["totals"]["volumes"] // 2
    table = [line for line in lines if re.match(r"HCC_\d{3} +\d{4}-\d{2}-\d{2} ", line)]
    assert len(table) == document["totals"]["volumes"]
    assert any(re.match(r".{20} +\d+\.1 ", line) for line in table), "volumes of a stacked series are numbered"
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


@pytest.fixture(scope="module")
def own_table(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient of the twin with a published table of its own."""
    root = tmp_path_factory.mktemp("published")
    shutil.copytree(twin / "HCC_012", root / "HCC_012")
    return root


def _publish(root: Path, phases: dict[str, str]) -> None:
    text = "".join(f"{uid},{names}\n" for uid, names in phases.items())
    (root / PUBLISHED_FILE).write_text(f"# a table\nseries_uid,phases\n{text}")


def test_published_phases_decide(own_table: Path) -> None:
    collection = open_collection(own_table)
    plain = label_phases(collection, depth="headers").set_index("series_uid")
    assert set(plain["source"]) == {"inferred"}
    assert set(plain["phase_published"]) == {"unknown"}
    uid = plain.index[(plain["phase"] == "arterial") & ~plain.index.duplicated(keep=False)][0]
    _publish(own_table, {uid: "delayed"})
    volumes = label_phases(collection, depth="headers").set_index("series_uid")
    assert volumes.loc[uid, ["phase", "source", "phase_published"]].tolist() == ["delayed", "published", "delayed"]
    assert volumes.loc[uid, "phase_table"] == plain.loc[uid, "phase_table"]
    assert volumes.loc[uid, "confidence"] < 0.9  # the other sources disagree
    others = volumes.index != uid
    assert (volumes.loc[others, "source"] == "inferred").all()
    alone = label_phases(collection, depth="headers", published=False).set_index("series_uid")
    pd.testing.assert_frame_equal(alone, plain)
    study = next(one for one in collection["HCC_012"].studies if uid in {series.series_uid for series in one.series})
    assert "delayed" in phase_paths(study)
    assert "delayed" in set(open_collection(own_table).phase_volumes["phase"])


def test_a_series_split_otherwise_is_inferred(own_table: Path) -> None:
    collection = open_collection(own_table)
    uid = next(series.series_uid for study in collection["HCC_012"].studies for series in study.series)
    _publish(own_table, {uid: "arterial+portal_venous"})
    volumes = label_phases(collection, depth="headers").set_index("series_uid")
    assert volumes.loc[uid, "source"] == "inferred"
    assert volumes.loc[uid, "phase_published"] == "unknown"
    assert "split into 1" in volumes.loc[uid, "evidence"][0]


def test_a_published_table_of_its_own_must_be_sound(own_table: Path) -> None:
    _publish(own_table, {"1.2.3": "late"})
    with pytest.raises(CatalogError, match=r"row 1: 'late'"):
        label_phases(open_collection(own_table), depth="headers")
    (own_table / PUBLISHED_FILE).write_text("series,phase\n")
    with pytest.raises(CatalogError, match="lacks the columns series_uid, phases"):
        label_phases(open_collection(own_table), depth="headers")


def test_the_real_table_is_published() -> None:
    table = load_series_table()
    volumes = label_table(table)
    published = published_phases()
    assert len(volumes) == 621
    assert set(volumes["source"]) == {"published"}
    for uid, rows in volumes.groupby("series_uid"):
        assert tuple(rows["phase"]) == tuple(rows["phase_published"]) == published[str(uid)].phases
    assert set(label_table(table, published=False)["source"]) == {"inferred"}


def test_the_command_counts_what_the_rules_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phases", "--from-table"]) == 0
    text = capsys.readouterr().out
    assert "621 of 621 published" in text
    right = int(text.split("general rules alone: ")[1].split(" of 621")[0])
    assert right >= 603
    assert main(["phases", "--from-table", "--no-published", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["general_rules"]["right"] == right
    assert document["published"] == 0
    assert {row["source"] for row in document["volumes"]} == {"inferred"}
    row = document["volumes"][0]
    assert {"source", "phase_published", "phase_table", "phase_headers", "phase_pixels"} <= set(row)


def _part(**columns: list[object]) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    return frame.assign(contrast_agent="") if "contrast_agent" not in frame else frame


def test_acquisition_numbers_and_creation_times_order_sweeps() -> None:
    early = _part(acquisition_number=[2, 2], instance_creation_time=["235950", "235959"], contrast_route=["", ""])
    late = _part(acquisition_number=[3, 3], instance_creation_time=["000312", "000315"], contrast_route=["", ""])
    (numbers, _), (made, _) = visit_orders([late, early])
    assert numbers == [3, 2]
    assert made[0] - made[1] == 202  # over midnight
    assert visit_orders([early, early]) == []
    only, _ = visit_orders([_part(acquisition_number=[None, None]), early, late])
    assert np.isnan(only[0][0])
    assert only[0][1:] == [2, 3]
    # two sweeps of unknown phase, and a pre-contrast one: the order says which is which
    evidence = np.array([log_likelihood("pre_contrast", 0.97), *np.zeros((2, 4))])
    chances = posterior(evidence, [np.nan] * 3, orders=[([1.0, 3.0, 2.0], 0.9)])
    assert chances.argmax(axis=1).tolist() == [0, 2, 1]


def test_intravenous_contrast_marks_enhanced_sweeps() -> None:
    oral = _part(contrast_route=["Oral"])
    venous = _part(contrast_route=["Oral & IV"])
    evidence, reasons = agent_evidence([oral, venous])
    assert evidence[0].argmax() == 0
    assert evidence[1].argmin() == 0
    assert reasons == ["no contrast agent", "contrast agent"]
    assert not agent_evidence([oral, oral])[0].any()


def test_wrong_orders_cost_little() -> None:
    """Numbers that restart, or a sweep reconstructed again, do not beat two agreeing sources."""
    evidence = np.array([log_likelihood(phase, 0.97) for phase in KNOWN[:3]])
    table = np.array([log_likelihood(phase, 0.97) for phase in KNOWN[:3]])
    chances = posterior(evidence, [np.nan] * 3, table=table, orders=[([3.0, 2.0, 1.0], 0.9), ([3.0, 2.0, 1.0], 0.8)])
    assert chances.argmax(axis=1).tolist() == [0, 1, 2]
