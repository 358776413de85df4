"""Labels against a published table, and the command's options."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.series_table import load_series_table, read_series_rows
from hcc_tace_data.phases.label import label_table
from hcc_tace_data.phases.matching import compare_phases, match_rows
from hcc_tace_data.phases.picture import phase_figure
from hcc_tace_data.phases.published import PublishedRow, phases_in, read_published

HEADER = ["Name", "Study Date", "Series UID", "Series Description", "Phase", "Number of Images"]
_SPELT = {
    "pre_contrast": "Pre-contrast",
    "arterial": "Arterial",
    "portal_venous": "Porto-venous",
    "delayed": "Delayed",
}


def _workbook(path: Path, rows: list[list[Any]], header: list[str] = HEADER, before: int = 3) -> Path:
    book = openpyxl.Workbook()
    book.active.title = "Notes"
    book.active.append(["see the other sheet"])
    sheet = book.create_sheet("Table S1")
    for number in range(before):
        sheet.append(["Supplementary table 1: series of the collection"] if number == 0 else [])
    for row in [header, *rows]:
        sheet.append(row)
    sheet.append(["Total", None, None, None, None, 621])
    book.save(path)
    return path


def _rows(volumes: pd.DataFrame) -> list[list[Any]]:
    return [
        [row["patient_id"], row["study_date"], row["series_uid"], row["description"], _SPELT[row["phase"]],
         row["instances"]]
        for row in volumes.to_dict("records")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "phases"),
    [
        ("Pre-contrast", ("pre_contrast",)), ("Non contrast", ("pre_contrast",)), ("ARTERIAL ", ("arterial",)),
        ("late arterial", ("arterial",)), ("Porto-venous", ("portal_venous",)), ("portovenous", ("portal_venous",)),
        ("Portal venous phase", ("portal_venous",)), ("venous", ("portal_venous",)), ("Delayed", ("delayed",)),
        ("Arterial + Portal", ("arterial", "portal_venous")),
        ("porto-venous and arterial", ("portal_venous", "arterial")), ("", ()), (None, ()), (7, ()),
        ("pv", ("portal_venous",)), ("A/PV", ("arterial", "portal_venous")), ("D", ()), ("DAY", ()),
        ("A/PV/D", ("arterial", "portal_venous", "delayed")),
    ],
)  # fmt: skip
def test_words(text: object, phases: tuple[str, ...]) -> None:
    assert phases_in(text) == phases


def test_the_real_table_against_itself(tmp_path: Path) -> None:
    volumes = label_table(load_series_table())
    compared = compare_phases(volumes, read_published(_workbook(tmp_path / "s1.xlsx", _rows(volumes))))
    assert (compared.volumes, compared.right, compared.surplus) == (621, 621, 0)
    assert not compared.not_here
    assert not compared.wrong


def test_other_order_of_columns_and_a_csv(tmp_path: Path) -> None:
    volumes = label_table(load_series_table()).head(40)
    order = [4, 2, 5, 0, 3, 1]
    rows = [[row[place] for place in order] for row in _rows(volumes)]
    header = ["CT phase", "Series Instance UID", "No. of images", "Patient name", "Series description", "Date of study"]
    assert compare_phases(volumes, read_published(_workbook(tmp_path / "s1.xlsx", rows, header, 6))).right == 40
    frame = pd.DataFrame(rows, columns=header)
    frame.to_csv(tmp_path / "s1.csv", index=False)
    assert read_published(tmp_path / "s1.csv") == read_published(tmp_path / "s1.xlsx")


def test_the_workbook_as_published(shared_data: Path) -> None:
    series = [row for row in read_series_rows() if row["modality"] == "CT"]
    rows = read_published(shared_data / "published" / "supplementary_table_1.xlsx")
    matches, left = match_rows(rows, series)
    assert not left
    assert len({match.series_uid for match in matches}) == len(matches) == len(rows) == 572
    assert Counter(match.how for match in matches) == {"uid": 53, "exact": 484, "tolerance": 35}
    assert Counter(match.differs for match in matches if match.differs) == {"date": 5, "description": 28, "images": 2}
    assert sum(row.images or 0 for row in rows) == load_catalog().counts.paper.ct_instances
    # the order of rows and of series plays no part
    again, _ = match_rows(rows[::-1], series[::-1])
    assert {match.row.line: match.series_uid for match in again} == {m.row.line: m.series_uid for m in matches}


def _published(line: int, date: str, description: str, images: int) -> PublishedRow:
    return PublishedRow(
        line=line, series_uid="", patient_id="A", study_date=date, description=description,
        phases=("arterial",), images=images,
    )  # fmt: skip


def _series(uid: str, date: str, description: str, instances: int) -> dict[str, Any]:
    return {
        "series_uid": uid, "patient_id": "A", "study_date": date, "series_description": description,
        "instances": instances,
    }  # fmt: skip


def test_one_difference_is_tolerated_and_named() -> None:
    series = [_series("1.1", "2001-01-01", "Recon 2: X", 10), _series("1.2", "2001-01-01", "Recon 3: X", 10)]
    series += [_series("1.3", "2001-02-01", "PRE", 20), _series("1.4", "2001-02-01", "Y", 30)]
    rows = [
        _published(5, "2001-01-01", "Recon 3: X.", 10), _published(6, "2001-01-01", "Recon 2: X.", 10),
        _published(7, "2001-03-01", "PRE", 20), _published(8, "2001-02-01", "Y", 31),
    ]  # fmt: skip
    matches, left = match_rows(rows, series)
    assert not left
    assert [(match.series_uid, match.how, match.differs) for match in matches] == [
        ("1.2", "tolerance", "description"), ("1.1", "tolerance", "description"),
        ("1.3", "tolerance", "date"), ("1.4", "tolerance", "images"),
    ]  # fmt: skip


def test_a_row_that_fits_two_series_or_none_is_left() -> None:
    alike = [_series("1.1", "2001-01-01", "X", 10), _series("1.2", "2001-01-01", "X", 10)]
    assert match_rows([_published(5, "2001-01-01", "X", 10)], alike)[0] == []
    assert match_rows([_published(5, "2001-01-01", "Y", 10)], alike)[0] == []
    assert match_rows([_published(5, "2001-01-02", "Y", 10)], alike[:1])[0] == []  # two differences
    assert len(match_rows([_published(5, "2001-01-01", "Y", 10)], alike[:1])[0]) == 1


def test_what_differs_is_counted_where_it_belongs(tmp_path: Path) -> None:
    volumes = pd.DataFrame(
        {
            "patient_id": "HCC_001", "series_uid": ["1.2.1", "1.2.2", "1.2.2", "1.2.3", "1.2.5"],
            "volume": [0, 0, 1, 0, 0], "phase": ["arterial", "arterial", "portal_venous", "unknown", "delayed"],
            "instances": [20, 30, 31, 10, 10],
        }
    )  # fmt: skip
    rows = [
        ["HCC_001", "2004", "1.2.1", "", "Pre-contrast", 20],
        ["HCC_001", "2004", "1.2.2", "", "Porto-venous", 30],  # by their numbers of images the two are swapped
        ["HCC_001", "2004", "1.2.2", "", "Arterial", 31],
        ["HCC_001", "2004", "1.2.3", "", "Arterial and porto-venous", 10],
        ["HCC_001", "2004", "1.2.4", "", "Arterial", 10],
    ]
    compared = compare_phases(volumes, read_published(_workbook(tmp_path / "s1.xlsx", rows)))
    assert compared.matrix["pre_contrast"]["arterial"] == 1
    assert compared.matrix["portal_venous"] == {
        "pre_contrast": 0, "arterial": 1, "portal_venous": 0, "delayed": 0, "unknown": 0, "missing": 1,
    }  # fmt: skip
    assert compared.matrix["arterial"]["portal_venous"] == 1
    assert compared.matrix["arterial"]["unknown"] == 1
    assert (compared.volumes, compared.right) == (5, 0)
    assert compared.not_here == ("1.2.4",)
    assert compared.not_published == 1
    rows = [[*row[:5], None] for row in rows[1:3]]  # without numbers of images the table does not tell which is which
    assert compare_phases(volumes, read_published(_workbook(tmp_path / "s2.xlsx", rows))).right == 2


def test_tables_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CollectionNotFoundError):
        read_published(tmp_path / "none.xlsx")
    with pytest.raises(UsageError, match="no header"):
        read_published(_workbook(tmp_path / "a.xlsx", [], ["a", "b", "c", "d", "e", "f"]))
    with pytest.raises(UsageError, match=r"row 5.*not a phase"):
        read_published(_workbook(tmp_path / "b.xlsx", [["HCC_001", "", "1.2.3", "", "best", 3]]))
    with pytest.raises(UsageError, match="no row"):
        read_published(_workbook(tmp_path / "c.xlsx", []))
    (tmp_path / "d.xlsx").write_text("<html>not found</html>")
    with pytest.raises(UsageError, match="not a workbook"):
        read_published(tmp_path / "d.xlsx")
    (tmp_path / "e.txt").write_text("x")
    with pytest.raises(UsageError, match="format"):
        read_published(tmp_path / "e.txt")


def test_command_on_files(
    twin: Path,
    labelled: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def label(collection: object, *, depth: str, **_: object) -> pd.DataFrame:
        asked.append(depth)
        return labelled

    monkeypatch.setattr("hcc_tace_data.cli.phases.label_phases", label)
    rows = _rows(labelled)
    wrong = next(row for row in rows if row[4] == "Arterial")
    wrong[4] = "Porto-venous"
    truth = _workbook(tmp_path / "s1.xlsx", rows)
    picture = tmp_path / "p.png"
    arguments = ["phases", str(twin), "--truth", str(truth), "--picture", str(picture)]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["truth"]["right"] == document["truth"]["volumes"] - 1 == len(labelled) - 1
    assert document["truth"]["wrong"][0]["series_uid"] == wrong[2]
    assert document["overruled"] == []
    assert {"phase_table", "phase_headers", "phase_pixels"} <= set(document["volumes"][0])
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main([*arguments, "--depth", "headers"]) == 0
    text = capsys.readouterr().out
    assert f"{len(labelled) - 1} of {len(labelled)} published volumes agree" in text
    assert asked == ["pixels", "headers"]
    assert main(["phases", str(twin), "--truth", str(tmp_path / "none.xlsx")]) == 3
    assert main(["phases", str(twin), "--depth", "deep"]) == 2


@pytest.fixture(scope="module")
def whole() -> tuple[pd.DataFrame, Any]:
    """Labels of the whole collection, and their picture."""
    volumes = label_table(load_series_table())
    return volumes, phase_figure(volumes, title="A title")


def test_picture_of_the_whole_collection(whole: tuple[pd.DataFrame, Any]) -> None:
    volumes, figure = whole
    assert len(figure.axes) == 3
    names = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert names == sorted(volumes["patient_id"].unique())
    # a coloured square for each phase that a visit has
    cells = volumes.groupby(["patient_id", "study_date"])["phase"].nunique().sum()
    drawn = [
        patch
        for axes in figure.axes
        for patch in axes.patches
        if patch.get_facecolor()[:3] != (0.9333333333333333,) * 3
    ]
    assert len(drawn) == cells
    assert any("621 volumes" in text.get_text() for text in figure.texts)


def test_picture_marks_what_is_inferred(whole: tuple[pd.DataFrame, Any]) -> None:
    volumes, figure = whole
    by_rules = volumes["source"] == "inferred"
    cell = ["patient_id", "study_date", "phase"]

    def marked(figure: Any) -> int:
        (legend,) = figure.legends
        assert "inferred, not published" in [text.get_text() for text in legend.get_texts()]
        return sum(line.get_gid() == "inferred" for axes in figure.axes for line in axes.lines)

    known = volumes["phase"] != "unknown"
    assert marked(figure) == len(volumes.loc[by_rules & known, cell].drop_duplicates()) < 20
    rules = label_table(load_series_table(), published=False)
    assert set(rules["source"]) == {"inferred"}
    few = rules[rules["patient_id"] <= "HCC_020"]
    assert marked(phase_figure(few)) == len(few.loc[few["phase"] != "unknown", cell].drop_duplicates()) > 80
