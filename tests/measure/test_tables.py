"""Tables of measurements of a twin, whose masks are known, and of a collection with a bad patient."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from hcc_tace_data import load_clinical, load_hcc_tace, measure_lesions
from hcc_tace_data.cli.main import main
from hcc_tace_data.collection.visits import days_between
from hcc_tace_data.errors import UsageError
from hcc_tace_data.measure.pairs import common_phase


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("measured") / "t", patients=["HCC_002", "HCC_012", "HCC_017"])


@pytest.fixture(scope="module")
def lesions(root: Path) -> pd.DataFrame:
    return measure_lesions(root)


def test_lesions_add_up_to_the_labels_that_are_served(root: Path, lesions: pd.DataFrame) -> None:
    served = load_hcc_tace(root, phases="annotated", labels={"tumour": 1, "necrosis": 1})
    for sample in served:
        own = lesions[lesions["patient_id"] == sample["patient_id"]]
        voxels = int((np.asarray(sample["label"]) == 1).sum())
        assert own["voxels"].sum() == voxels
        unit = float(np.prod(np.asarray(sample["spacing"]))) / 1000
        assert own["volume_ml"].sum() == pytest.approx(voxels * unit)
        assert own["volume_ml"].is_monotonic_decreasing


def test_hu_are_those_of_the_annotated_ct(root: Path, lesions: pd.DataFrame) -> None:
    sample = next(s for s in load_hcc_tace(root, phases="annotated", labels="lesion") if s["patient_id"] == "HCC_002")
    own = lesions[lesions["patient_id"] == "HCC_002"].iloc[0]
    image, label = np.asarray(sample["image"])[0], np.asarray(sample["label"])
    if (lesions["patient_id"] == "HCC_002").sum() == 1:
        assert own["hu_annotated_mean"] == pytest.approx(float(image[label == 2].mean()))
    assert own["hu_annotated_p10"] <= own["hu_annotated_p50"] <= own["hu_annotated_p90"]


def test_patients_sum_their_lesions(root: Path, lesions: pd.DataFrame) -> None:
    table = measure_lesions(root, by="patient").set_index("patient_id")
    grouped = lesions.groupby("patient_id")
    assert (table["lesions"] == grouped.size()).all()
    assert table["tumour_ml"].to_numpy() == pytest.approx(grouped["volume_ml"].sum().to_numpy())
    assert table["diameter_mm"].to_numpy() == pytest.approx(grouped["diameter_mm"].max().to_numpy())
    assert ((table["tumour_burden"] > 0) & (table["tumour_burden"] < 1)).all()
    assert table.loc["HCC_012", "annotated_phase"] == "arterial"
    assert table.loc["HCC_017", "necrosis_ml"] > 0


def test_pairs_have_days_between_the_studies_and_a_common_phase(root: Path) -> None:
    table = measure_lesions(root, by="pair", patients=["HCC_002"], phases="portal_venous").set_index("patient_id")
    lesion = measure_lesions(root, by="patient", patients=["HCC_002"], phases="portal_venous").iloc[0]
    row = table.loc["HCC_002"]
    assert row["tumour_hu_baseline_portal_venous"] == pytest.approx(lesion["tumour_hu_portal_venous_mean"])
    change = row["tumour_hu_follow_up_portal_venous"] - row["tumour_hu_baseline_portal_venous"]
    assert row["change_tumour_hu_portal_venous"] == pytest.approx(change)
    table = measure_lesions(root, by="pair").set_index("patient_id")
    assert (table["days"] > 0).all()
    assert (table["common_phase"] == "portal_venous").all()
    sheet = load_clinical(root).set_index("patient_id")
    readers = sheet.loc["HCC_002", [f"reader{n}_recist_bl_mm" for n in (1, 2, 3)]].astype(float)
    assert table.loc["HCC_002", "sheet_recist_bl_mm"] == pytest.approx(readers.mean(), nan_ok=True)
    assert table.loc["HCC_002", "sheet_mrecist_consensus"] in ("", "CR", "PR", "SD", "PD")
    # the collection has no masks of follow-ups, and says so
    assert table["not_measured"].str.contains("follow-up").all()


def test_a_bad_patient_is_named_and_stops_nobody(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "t")
    (seg,) = (tmp_path / "t").glob("HCC_012/*/SEG_*/*.dcm")
    seg.write_bytes(seg.read_bytes()[: seg.stat().st_size // 2])
    table = measure_lesions(tmp_path / "t")
    assert set(table["patient_id"]) == {"HCC_002", "HCC_017"}
    assert set(table.attrs["left_out"]) == {"HCC_012"}


def test_the_command_writes_tables(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", str(root), "--patients", "HCC_002,HCC_017", "--json", "--with-outcomes"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["patient_id"] for row in document["rows"]} == {"HCC_002", "HCC_017"}
    assert "os_weeks" in document["rows"][0]
    assert not [key for key in document["rows"][0] if "_fu" in key]
    assert main(["measure", str(root), "--patients", "HCC_002", "--out", str(tmp_path / "t.csv"), "-q"]) == 0
    assert set(pd.read_csv(tmp_path / "t.csv")["patient_id"]) == {"HCC_002"}
    assert main(["measure", str(root), "--out", str(tmp_path / "t.xls")]) == 2
    assert main(["measure", str(root), "--patients", "HCC_099"]) == 2
    with pytest.raises(UsageError, match="'lesion', 'patient' or 'pair'"):
        measure_lesions(root, by="organ")  # type: ignore[arg-type]


def test_days_and_phases() -> None:
    assert days_between("19991231", "20000301") == 61
    assert days_between("", "20000301") is None
    assert days_between("20000231", "20000301") is None
    assert common_phase(["arterial", "portal_venous"], ["portal_venous"]) == "portal_venous"
    assert common_phase(["arterial"], ["pre_contrast"]) == ""


def test_published_diameters_follow_the_readers(shared_data: Path) -> None:
    """The longest axial diameter of the real masks, measured by others, against the readers' RECIST baseline."""
    masks = pd.read_csv(shared_data / "published" / "radiomics_tumour.csv").set_index("patient_id")
    sheet = load_clinical(shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx").set_index("patient_id")
    readers = sheet[[f"reader{n}_recist_bl_mm" for n in (1, 2, 3)]].astype("Float64").mean(axis=1)
    both = pd.concat([masks["original_shape_Maximum2DDiameterSlice"], readers], axis=1).dropna().astype(float)
    assert len(both) == 96
    assert spearmanr(both.iloc[:, 0], both.iloc[:, 1]).statistic == pytest.approx(0.86, abs=0.005)
    assert (both.iloc[:, 0] - both.iloc[:, 1]).median() == pytest.approx(7.05, abs=0.01)
