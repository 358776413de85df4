"""A small synthetic sheet in the real sheet's 57 columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hcc_tace_data.clinical.columns import COLUMNS
from hcc_tace_data.clinical.schema import response_code


def _row(index: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in COLUMNS:
        if column.kind == "flag":
            row[column.header] = (index + len(column.header)) % 2
        elif column.codes:
            row[column.header] = column.codes[index % len(column.codes)][0]
    age = 45 + 7 * (index % 5)
    afp = 12.5 if index % 3 else 950.0
    score = index % 5
    row.update(
        {
            "TCIA_ID": f"HCC_{index + 1:03d}",
            "Interval_BL": -20 - index,
            "Interval_FU": 7.0 + index / 3,
            "TTP": 10.0 + 3 * index,
            "OS": 40.0 + 9 * index,
            "age": age,
            "agegp": next(
                g for top, g in ((40, "<=40"), (50, "41-50"), (60, "51-60"), (70, "61-70"), (99, ">70")) if age <= top
            ),
            "Tr_Size": 2.0 + index,
            "AFP": afp,
            "AFP_group": ">=400" if afp >= 400 else "<400",
            "CLIP_Score": f"Stage_{score}",
            "CLIP": "Stage_ 0-2" if score < 3 else "Stage_3" if score == 3 else "Stage_4-6",
            "1_EASL_BL": 900.0,
            "1_EASL_FU": 400.0,
            "1_EASL": 4,
        }
    )
    for criterion in ("RECIST", "mRECIST"):
        for reader in (1, 2, 3):
            before = 50.0 + index + reader
            after = before * (0.0, 0.6, 0.95, 1.3)[(index + reader // 3) % 4]
            row[f"{reader}_{criterion}_BL"], row[f"{reader}_{criterion}_FU"] = before, after
            row[f"{reader}_{criterion}"] = response_code(before, after)
    return {column.header: row[column.header] for column in COLUMNS}


@pytest.fixture
def sheet() -> pd.DataFrame:
    """Twelve sound rows under the original headers."""
    return pd.DataFrame([_row(index) for index in range(12)], dtype=object)


@pytest.fixture
def write_sheet(tmp_path: Path) -> Callable[[pd.DataFrame], Path]:
    """Return a function that writes a table as the workbook and gives its path."""

    def write(table: pd.DataFrame) -> Path:
        path = tmp_path / "sheet.xlsx"
        with pd.ExcelWriter(path) as writer:
            table.to_excel(writer, sheet_name="data table", index=False)
            pd.DataFrame([("TCIA_ID", "Patient ID")]).to_excel(writer, sheet_name="glossary", index=False, header=False)
        return path

    return write


@pytest.fixture(scope="session")
def real_sheet(shared_data: Path) -> Path:
    """The published sheet."""
    path = shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx"
    if not path.is_file():
        pytest.skip(f"the published clinical sheet (CC BY 4.0, from TCIA) is not part of the project, nor at {path}")
    return path
