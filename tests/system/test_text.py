"""Text of unknown origin is shown, never acted on."""

from __future__ import annotations

import ast
import csv
import io
import json
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcc_tace_data.system.text import CsvWriter, csv_cell, csv_rows, csv_table, visible, visible_json, visible_lines

ANY = st.text(st.characters(codec=None), max_size=30)


@given(ANY)
def test_nothing_that_a_terminal_acts_on_is_left(text):
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    shown.encode("utf-8")
    assert visible(shown) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=30))
def test_what_can_be_seen_stays(text):
    assert visible(text) == text


def test_bytes_of_a_file_name_that_is_not_utf_8():
    assert visible(b"a\xff\x1b.dcm".decode("utf-8", "surrogateescape")) == "a\\xff\\x1b.dcm"


@given(ANY)
def test_json_keeps_its_meaning_and_holds_nothing_a_terminal_acts_on(text):
    document = visible_json(json.dumps({"a": text}, indent=2, ensure_ascii=False))
    assert json.loads(document) == {"a": text}
    assert document.replace("\n", "") == visible(document.replace("\n", ""))
    document.encode("utf-8")


def test_lines_stay_lines():
    assert visible_lines("a\nb\x1b[2J\n") == "a\nb\\x1b[2J\n"


@given(ANY)
def test_no_cell_is_a_formula(text):
    cell = csv_cell(text)
    assert not cell.startswith(("=", "@", "\t", "\r"))
    if cell.startswith(("+", "-")):
        assert set(cell) <= set("0123456789+-.eE\\")


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_spreadsheets_run_is_escaped_in_tables(text):
    table = pd.DataFrame({"description": [text, "ABD"], "kind": pd.Categorical([text, None]), "n": [-1.5, 2.0]})
    table["text"] = pd.Series([text, None], dtype="string")
    rows = list(csv.DictReader(io.StringIO(csv_table(table))))
    for name in ("description", "kind", "text"):
        assert rows[0][name].startswith("'")
        assert rows[1][name] == ("ABD" if name == "description" else "")
    assert [row["n"] for row in rows] == ["-1.5", "2.0"]


def test_what_spreadsheets_run_is_escaped_in_rows():
    text = io.StringIO(newline="")
    CsvWriter(text, "\t").writerows([["=1+1", -2, None, "-2"], ["@a", 1.5, "b", "+1+cmd"]])
    assert text.getvalue() == "'=1+1\t-2\t\t-2\n'@a\t1.5\tb\t'+1+cmd\n"
    assert csv_rows(["=a", "b"], [{"=a": "=1", "c": 3}]) == "'=a,b\n'=1,\n"


def test_every_table_goes_through_one_writer():
    """No module but one makes CSV by itself, so that no table holds a formula."""
    root = Path(__file__).resolve().parents[2]
    allowed = {
        "hcc_tace_data/system/text.py",
        "hcc_tace_data/export/nifti_study.py",  # the text is hashed, not written
    }
    found = set()
    for folder in ("hcc_tace_data", "loaders", "validators"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in {"to_csv", "DictWriter", "write_csv", "savetxt"}:
                    found.add(path.relative_to(root).as_posix())
                if isinstance(node, ast.Attribute) and node.attr == "writer" and getattr(node.value, "id", "") == "csv":
                    found.add(path.relative_to(root).as_posix())
                if isinstance(node, ast.ImportFrom) and node.module == "csv":
                    found.add(path.relative_to(root).as_posix())
    assert found == allowed
