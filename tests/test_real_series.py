"""One whole series of the collection, HCC_048's porto-venous CT, through the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.validators import validate

#: What is true of a folder that holds this series alone, and of the series: its tube current is below the paper's.
TRUE = {"HT102", "HT103", "HT104", "HT105", "HT513"}


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shared_data / "dicom" / "hcc_048_portal_venous"
    if not folder.is_dir():
        pytest.skip("the real series is not there")
    return Path(shutil.copytree(folder, tmp_path_factory.mktemp("real") / "series"))


def test_validators_find_what_is_true_and_nothing_else(real: Path) -> None:
    report = validate(real, depth="pixels")
    assert {finding.code for finding in report.findings} == TRUE


def test_verify_finds_it_whole(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(real), "--json"]) == 1  # the others are missing
    problems = json.loads(capsys.readouterr().out)["problems"]
    (study,) = open_collection(real, cache=False)["HCC_048"].studies
    assert study.series[0].series_uid not in {problem["series_uid"] for problem in problems}


def test_geometry_is_that_of_the_publication(real: Path) -> None:
    (study,) = open_collection(real, cache=False)["HCC_048"].studies
    volume = read_ct(study.series[0])
    assert volume.array.shape == (89, 512, 512)
    assert volume.spacing == pytest.approx((2.5, 0.703125, 0.703125))
    assert volume.array.min() == -2048
    assert volume.array.max() == 3071
