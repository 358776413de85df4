"""Digests: what an ETag says, and what it cannot say."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hcc_tace_data.downloads.check import digest_matches
from hcc_tace_data.integrity.ledger import md5_of

MIB = 1 << 20


def _etag(data: bytes, part: int) -> str:
    parts = [data[at : at + part] for at in range(0, len(data), part)]
    joined = b"".join(hashlib.md5(one).digest() for one in parts)
    return f"{hashlib.md5(joined).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize(
    ("size", "part"), [(9 * MIB, 8), (12 * MIB + 5, 5), (3 * MIB, 8), (16 * MIB, 16), (20 * MIB, 8)]
)
def test_the_etag_of_an_object_stored_in_parts(tmp_path: Path, size: int, part: int) -> None:
    path = tmp_path / "x"
    data = os.urandom(size)
    path.write_bytes(data)
    etag = _etag(data, part * MIB)
    assert digest_matches(path, size, md5_of(path), etag)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert digest_matches(path, size, md5_of(path), etag) is False


def test_plain_and_unusual_etags(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    md5 = hashlib.md5(b"abc").hexdigest()
    assert digest_matches(path, 3, md5, f'"{md5.upper()}"') is True
    assert digest_matches(path, 3, md5, "0" * 32) is False
    assert digest_matches(path, 3, md5, "") is None
    assert digest_matches(path, 3, md5, "opaque") is None
