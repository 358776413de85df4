"""Tasks: which columns may be features, who is left out, and how own features are joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcc_tace_data import load_clinical, load_task
from hcc_tace_data.clinical.columns import COLUMNS
from hcc_tace_data.clinical.roles import OUTCOMES, role_of
from hcc_tace_data.errors import UsageError
from hcc_tace_data.outcome.models import encode
from hcc_tace_data.outcome.tasks import CLINICAL


@pytest.fixture(scope="module")
def sheet(shared_data: Path) -> Path:
    return shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx"


def test_every_column_has_a_role(sheet: Path) -> None:
    table = load_clinical(sheet)
    roles = {column: role_of(column) for column in table.columns}
    assert {column for column, role in roles.items() if role == "outcome"} == set(OUTCOMES)
    # whatever the follow-up decides is never a baseline column
    assert not [
        c for c, role in roles.items() if role == "baseline" and ("_fu" in c or "change" in c or "consensus" in c)
    ]
    assert {role_of(one.name) for one in COLUMNS} == {"id", "baseline", "treatment", "post", "outcome"}
    assert all(roles[column] == "baseline" for column in CLINICAL)


@pytest.mark.parametrize(
    "column", ["reader1_recist_fu_mm", "mrecist_consensus", "interval_fu_weeks", "chemotherapy", "os_weeks"]
)
def test_what_was_not_known_before_treatment_is_refused_by_name(sheet: Path, column: str) -> None:
    with pytest.raises(UsageError, match=column):
        load_task("os", sheet, features=["age_years", column])


def test_targets_are_the_sheets(sheet: Path) -> None:
    table = load_clinical(sheet).set_index("patient_id")
    survival = load_task("os", sheet)
    assert (len(survival), int(survival.target["event"].sum())) == (105, 93)
    assert (survival.target["weeks"] == table["os_weeks"].astype(float)).all()
    response = load_task("tace_response", sheet)
    assert (len(response), int(response.target["refractory"].sum()), len(response.left_out)) == (77, 11, 28)
    early = table.loc[list(response.left_out)]
    assert (~early["progressed"]).all()
    assert (early["ttp_weeks"] < 14).all()
    assert int(survival.fold.isna().sum()) == 20


def test_own_features_are_joined_by_patient(sheet: Path) -> None:
    own = pd.DataFrame({"patient_id": ["HCC_002", "HCC_001"], "volume_ml": [2.0, 1.0]})
    task = load_task("ttp", sheet, features=["age_years"], extra=own)
    assert task.features["volume_ml"].loc[["HCC_001", "HCC_002"]].tolist() == [1.0, 2.0]
    assert int(task.features["volume_ml"].isna().sum()) == 103
    assert task.extra == ("volume_ml",)
    with pytest.raises(UsageError, match="more than once"):
        load_task("ttp", sheet, extra=pd.concat([own, own]))
    with pytest.raises(UsageError, match="os_weeks"):
        load_task("ttp", sheet, extra=own.assign(os_weeks=1.0))
    for later in ("follow_up_diameter_mm", "change_tumour_ml", "sheet_recist_fu_mm"):
        with pytest.raises(UsageError, match=later):
            load_task("ttp", sheet, extra=own.assign(**{later: 1.0}))
    with pytest.raises(UsageError, match="no task"):
        load_task("response", sheet)  # type: ignore[arg-type]


def test_encoding_learns_nothing_from_the_rows(sheet: Path) -> None:
    features = load_task("os", sheet).features
    whole = encode(features)
    part = encode(features.iloc[:7])
    pd.testing.assert_frame_equal(whole.iloc[:7], part)
    assert whole.dtypes.eq(float).all()
    assert whole["afp_ng_ml"].max() == pytest.approx(np.log10(1 + features["afp_ng_ml"].astype(float).max()))
