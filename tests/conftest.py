"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Where real files to test with lie (they are not part of the project).
SHARED_DATA = Path(os.environ.get("HCC_TACE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files, set by ``$HCC_TACE_TEST_DATA`` (default ``../shared/data`` beside the checkout)."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real files at {SHARED_DATA}; set HCC_TACE_TEST_DATA to a folder that has them")
    return SHARED_DATA
