"""Workbooks that would take much memory, or that are broken, are refused before they do harm."""

from __future__ import annotations

import os
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.system.workbook import read_rows


def _book(path: Path) -> Path:
    book = openpyxl.Workbook()
    book.active.title = "data table"
    for row in (["a", "b"], [1, " "], ["x", 2.5]):
        book.active.append(row)
    book.save(path)
    return path


def _rows(path: Path) -> list[list[object]]:
    return read_rows(path, "data table", error=ClinicalError, max_rows=100, max_columns=2)


def _with(path: Path, change: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in (parts | change).items():
            new.writestr(name, data)
    return path


def test_values_come_back(tmp_path: Path) -> None:
    assert _rows(_book(tmp_path / "a.xlsx")) == [["a", "b"], [1, None], ["x", 2.5]]


@pytest.mark.parametrize(
    "sheet",
    [
        pytest.param(b"<worksheet><sheetData><row>" + b"<c/>" * 3_000_000 + b"</row></sheetData>", id="row"),
        pytest.param(b"<x " + b"a" * (40 << 20) + b"/>", id="unpacked"),
        pytest.param(b"<!-- " + b" " * 5000 + b" --><!DOCTYPE x><worksheet/>", id="doctype behind a comment"),
        pytest.param("<worksheet/>".encode("utf-16"), id="UTF-16"),
        pytest.param(b"<worksheet><sheetData><row><c r='A1'", id="cut short"),
        pytest.param(b"\xff\xfe\xfd", id="no XML"),
    ],
)
def test_hostile_sheets_are_refused_in_little_memory(tmp_path: Path, sheet: bytes) -> None:
    path = _with(_book(tmp_path / "a.xlsx"), {"xl/worksheets/sheet1.xml": sheet})
    del sheet
    tracemalloc.start()
    try:
        with pytest.raises(ClinicalError):
            _rows(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_pipe_in_place_of_a_workbook_does_not_block(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo(tmp_path / "a.xlsx")
    with pytest.raises(ClinicalError, match="not a workbook"):
        _rows(tmp_path / "a.xlsx")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _book(tmp_path_factory.mktemp("book") / "a.xlsx").read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
def test_no_mutation_gives_another_error(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, place: float, value: int, cut: bool
) -> None:
    data = bytearray(whole)
    where = int(place * len(data))
    data[where] = value
    path = tmp_path_factory.mktemp("flip") / "a.xlsx"
    path.write_bytes(data[:where] if cut else data)
    with suppress(ClinicalError):
        _rows(path)
