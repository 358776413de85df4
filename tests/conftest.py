"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from hcc_tace_data import make_phantom

# The same examples in every run; HYPOTHESIS_PROFILE=default draws new ones.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

#: Where real files to test with lie (they are not part of the project).
SHARED_DATA = Path(os.environ.get("HCC_TACE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files, set by ``$HCC_TACE_TEST_DATA`` (default ``../shared/data`` beside the checkout)."""
    if not SHARED_DATA.is_dir():
        if "HCC_TACE_TEST_DATA" in os.environ:
            pytest.fail(f"HCC_TACE_TEST_DATA names {SHARED_DATA}, which is not a folder")
        pytest.skip(f"real files are not part of the project, and none lie at {SHARED_DATA}; set HCC_TACE_TEST_DATA")
    return SHARED_DATA


#: Patients whose series or segmentations have a quirk.
QUIRKY = ["HCC_001", "HCC_003", "HCC_008", "HCC_011", "HCC_012", "HCC_017", "HCC_021", "HCC_041", "HCC_048"]
QUIRKY += ["HCC_065", "HCC_089", "HCC_099"]


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny twin of the patients with quirks, made once for a run."""
    return make_phantom(tmp_path_factory.mktemp("twin") / "t", patients=QUIRKY, workers=1)
