"""Archives that are damaged or hostile end in one kind of error, whatever the library underneath raises."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.downloads.archive import unpack_series
from hcc_tace_data.errors import IntegrityError


def _good() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("md5hashes.csv", "a.dcm,9d4e1e23bd5b727046a9e3b4b7db57bd\n")
        archive.writestr("a.dcm", b"xy" * 500)
    return buffer.getvalue()


GOOD = _good()


def _without_name() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        member = zipfile.ZipInfo("q")
        member.filename = ""
        archive.writestr(member, b"x")
    return buffer.getvalue()


def _moved(by: int) -> bytes:
    data, end = bytearray(GOOD), GOOD.rindex(b"PK\5\6")
    struct.pack_into("<I", data, end + 16, struct.unpack_from("<I", GOOD, end + 16)[0] + by)
    return bytes(data)


@pytest.mark.parametrize("data", [_without_name(), _moved(50), _moved(-3), b"", b"<html>", GOOD[:-30]])
def test_broken_archives_are_named_as_such(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    (tmp_path / "out").mkdir()
    with pytest.raises(IntegrityError):
        unpack_series(tmp_path / "a.zip", tmp_path / "out", files=1, limit=10_000)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_flipped_byte_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD)
    for place, value in places:
        data[place] = value
    folder = tmp_path_factory.mktemp("zip")
    (folder / "a.zip").write_bytes(data)
    try:
        found = unpack_series(folder / "a.zip", folder, files=1, limit=10_000)
    except IntegrityError:
        return
    assert [path.read_bytes() for path in found.digests] == [b"xy" * 500]


def test_no_room_to_unpack_is_no_fault_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(GOOD)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "000000.dcm").symlink_to("/dev/full")
    with pytest.raises(FileExistsError):  # a file that is in the way is not opened, and said as what it is
        unpack_series(tmp_path / "a.zip", tmp_path / "out", files=1, limit=10_000)
