"""A reader of many headers gives what reading each alone gives, also when some are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.dicom.folder import scan_files
from hcc_tace_data.dicom.headers import HeaderReader, read_header
from hcc_tace_data.errors import DicomReadError

QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _same(left: dict, right: dict) -> bool:
    return list(left) == list(right) and all(
        a == b or (isinstance(a, float) and isinstance(b, float) and np.isnan(a) and np.isnan(b))
        for a, b in zip(left.values(), right.values(), strict=True)
    )


def test_all_headers_of_a_twin(twin: Path) -> None:
    reader = HeaderReader()
    paths = [str(twin / name) for name in sorted(scan_files(twin)[0])]
    for path in paths:
        assert _same(reader.read(path), read_header(path)), path
    assert reader._hits > len(paths) / 2  # or nothing of this was tested


def test_real_headers(shared_data: Path) -> None:
    reader = HeaderReader()
    for path in sorted((shared_data / "dicom").rglob("*.dcm")):
        assert _same(reader.read(str(path)), read_header(str(path)))


@pytest.fixture(scope="module")
def alike(twin: Path) -> list[bytes]:
    """Files of one series."""
    series = next(path for path in sorted(twin.glob("HCC_008/*/CT_*")) if len(list(path.iterdir())) > 8)
    return [path.read_bytes() for path in sorted(series.iterdir())[:8]]


@given(data=st.data())
@QUICK
def test_changed_bytes(alike: list[bytes], tmp_path: Path, data: st.DataObject) -> None:
    reader = HeaderReader()
    for number, content in enumerate(alike[:5]):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        reader.read(str(path))
    path = tmp_path / "changed.dcm"

    def outcome(read) -> dict | str:  # type: ignore[no-untyped-def, type-arg]
        try:
            return read(str(path))
        except DicomReadError as error:
            return str(error)

    for intact in (False, False, True):  # what the reader learned of one file must not hold for the next
        changed = bytearray(data.draw(st.sampled_from(alike)))
        for _ in range(0 if intact else data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(132, 3000))] = data.draw(st.integers(0, 255))
        if not intact and data.draw(st.booleans()):
            del changed[data.draw(st.integers(0, len(changed))) :]
        path.write_bytes(bytes(changed))
        alone, along = outcome(read_header), outcome(reader.read)
        assert alone == along or _same(alone, along)  # type: ignore[arg-type]
