"""Damaged headers: the fast walk gives what pydicom gives, hands the file over, or refuses it."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from hcc_tace_data.dicom import headers
from hcc_tace_data.errors import DicomReadError

_ELSEWHERE = {"path", "size", "mtime_ns", "pixel_offset", "pixel_length", "pixel_vr"}


def _same(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or one == other


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_byte_never_gives_another_value_than_pydicom(
    twin: Path, shared_data: Path, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [*sorted(twin.glob("HCC_0*/*/CT_*/*.dcm"))[::40], *sorted((shared_data / "dicom").glob("*/*.dcm"))]
    files = [path for path in files if path.stat().st_size < 700_000]
    by_pydicom = headers._by_pydicom
    handed_over = []
    monkeypatch.setattr(headers, "_by_pydicom", lambda path: (handed_over.append(path), by_pydicom(path))[1])
    rng = random.Random(seed)
    path, compared = tmp_path / "damaged.dcm", 0
    for _ in range(250):
        data = bytearray(rng.choice(files).read_bytes())
        for _ in range(rng.choice([1, 1, 2, 4])):
            data[rng.randrange(132, min(len(data), 4000))] = rng.choice([0, 1, 255, rng.randrange(256), 49, 57])
        path.write_bytes(data)
        handed_over.clear()
        try:
            ours = headers.read_header(str(path))
        except DicomReadError:
            continue
        if handed_over:
            continue
        try:
            theirs = by_pydicom(str(path))
        except Exception:  # pydicom refuses a damaged element that the table does not need
            continue
        compared += 1
        differing = [key for key in theirs if key not in _ELSEWHERE and not _same(ours[key], theirs[key])]
        assert not differing, [(key, ours[key], theirs[key]) for key in differing]
    assert compared > 80
