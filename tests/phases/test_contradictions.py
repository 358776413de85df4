"""What contradicts a phase is reported: descriptions of stacked series, pixels, and a real series without any."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk

from hcc_tace_data import label_phases, open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.phases.label import overruled
from hcc_tace_data.validators import validate


@pytest.fixture(scope="module")
def misnamed(twin: Path, true_phases: pd.Series, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A patient whose stacked series is described as pre-contrast, and the series."""
    root = tmp_path_factory.mktemp("misnamed")
    stacked = {uid for uid, volume in true_phases.index if volume == 1}
    series = next(
        one
        for patient in open_collection(twin).values()
        for study in patient.studies
        for one in study.series
        if one.series_uid in stacked and "pre_contrast" not in set(true_phases[one.series_uid])
    )
    shutil.copytree(twin / series.patient_id, root / series.patient_id)
    for path in series.paths:
        copy = root / path.relative_to(twin)
        dataset = pydicom.dcmread(copy)
        dataset.SeriesDescription = "PRE LIVER"
        dataset.save_as(copy)
    return root, series.series_uid


def test_a_stacked_series_described_as_one_phase_is_reported(misnamed: tuple[Path, str]) -> None:
    root, uid = misnamed
    report = validate(root, select=["HT601"], depth="pixels")
    found = [finding for finding in report.findings if finding.series_uid == uid]
    assert found
    assert all("description: pre_contrast" in finding.message for finding in found)


def test_pixels_overrule_the_description_of_a_stacked_series(
    misnamed: tuple[Path, str], true_phases: pd.Series
) -> None:
    root, uid = misnamed
    volumes = label_phases(open_collection(root))
    rows = volumes[volumes["series_uid"] == uid]
    assert rows["phase"].tolist() == true_phases[uid].tolist()
    assert set(overruled(volumes)["series_uid"]) == {uid}


@pytest.fixture(scope="module")
def real_series(shared_data: Path) -> Path:
    folder = shared_data / "dicom" / "hcc_048_portal_venous"
    if not folder.is_dir():
        pytest.skip("the real series is not here")
    return folder


@pytest.mark.parametrize("published", [True, False])
def test_a_real_series_is_porto_venous(real_series: Path, published: bool) -> None:
    (row,) = label_phases(open_collection(real_series, cache=False), published=published).to_dict("records")
    assert row["phase"] == row["phase_table"] == row["phase_pixels"] == "portal_venous"
    assert row["source"] == ("published" if published else "inferred")
    assert row["confidence"] > 0.95
    assert row["instances"] == 89


def test_a_real_series_is_read_as_by_simpleitk(real_series: Path) -> None:
    (study,) = open_collection(real_series, cache=False)["HCC_048"].studies
    (series,) = study.series
    volume = read_ct(series)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in series.volumes[0]["path"].map(lambda path: real_series / path)])
    assert (sitk.GetArrayFromImage(reader.Execute()) == volume.array).all()


def test_a_real_series_raises_no_false_alarm(real_series: Path) -> None:
    report = validate(real_series, depth="pixels", select=["HT2", "HT3", "HT5"])
    # true: the tube current of the upper slices is below the range that the paper gives
    assert {finding.code for finding in report.findings} <= {"HT513"}
    assert all(finding.severity == "info" for finding in report.findings)
