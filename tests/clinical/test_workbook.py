"""Workbooks as exporters leave them: every row is read, or the file is refused."""

from __future__ import annotations

import re
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.system.workbook import read_rows

ROWS = [["id", "a", "b"], ["HCC_001", 1, None], ["HCC_002", 2.5, "x"], ["HCC_003", None, None]]
QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _write(path: Path, rows: list[list[object]] = ROWS) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "data"
    for row in rows:
        sheet.append(row)
    book.save(path)
    return path


@cache
def _whole() -> bytes:
    """Return a workbook, the same for every example: one that is written again holds another time, and length."""
    with tempfile.TemporaryDirectory() as folder:
        return _write(Path(folder) / "a.xlsx").read_bytes()


def _read(path: Path) -> list[list[object]]:
    return read_rows(path, "data", error=ClinicalError, max_rows=100, max_columns=20)


def _changed(path: Path, change: re.Pattern[bytes] | str, to: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    members[name] = re.sub(change, to, members[name])  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)


@pytest.mark.parametrize("stated", [b"A1", b"A1:B2", b"A1:A1", b"A1:ZZ9999", b"", None])
def test_the_stated_range_is_not_trusted(tmp_path: Path, stated: bytes | None) -> None:
    path = _write(tmp_path / "a.xlsx")
    element = b"" if stated is None else b'<dimension ref="' + stated + b'"/>'
    _changed(path, re.compile(rb"<dimension[^>]*/>"), element)
    if stated == b"":  # not a reference at all
        try:
            assert _read(path) == ROWS
        except ClinicalError:
            return
    assert _read(path) == ROWS


def test_formulas_that_were_never_calculated(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.xlsx", [*ROWS, ["HCC_004", "=1+1", None]])
    with pytest.raises(ClinicalError, match=r"B5 .* never calculated"):
        _read(path)
    _changed(path, re.compile(rb"<v\s*/>|<v></v>"), b"<v>2</v>")
    assert _read(path)[4][:2] == ["HCC_004", 2]


@given(data=st.data())
@QUICK
def test_damage_is_one_kind_of_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(_whole())
    if data.draw(st.booleans()):  # inside a member, whose checksum is then right
        with zipfile.ZipFile(path) as archive:
            members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
        member = members[data.draw(st.sampled_from(sorted(members)))]
        for _ in range(data.draw(st.integers(1, 3))):
            member[data.draw(st.integers(0, len(member) - 1))] = data.draw(st.integers(0, 255))
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(content))
    else:
        whole = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(whole))
    try:
        _read(path)
    except ClinicalError as error:
        assert path.name in str(error)  # noqa: PT017 - undamaged parts may still read
