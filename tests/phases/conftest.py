"""The twin's labels by pixels, made once, and its true phases."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hcc_tace_data import label_phases, open_collection


@pytest.fixture(scope="session")
def true_phases(twin: Path) -> pd.Series:
    """(series UID, volume) -> phase."""
    table = pd.read_csv(twin / "truth" / "phases.csv").drop_duplicates(["series_uid", "volume"])
    return table.set_index(["series_uid", "volume"])["phase"]


@pytest.fixture(scope="session")
def labelled(twin: Path) -> pd.DataFrame:
    """What label_phases says of the twin, pixels included."""
    return label_phases(open_collection(twin))
