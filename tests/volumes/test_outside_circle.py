"""What lies outside the scanner's circle of reconstruction: -2048 HU in most series, -1024 in others, air in use."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from hcc_tace_data import open_collection
from hcc_tace_data.baseline.stages import scale_image
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.measure.intensity import hu_statistics
from hcc_tace_data.phases.planes import read_planes
from hcc_tace_data.volumes.registration import resample


@pytest.fixture(scope="module")
def volume(twin: Path) -> highdicom.Volume:
    """The annotated CT of a patient whose real files hold -2048 HU outside the circle."""
    return read_ct(find_annotated(open_collection(twin)["HCC_048"].baseline).paths)


@pytest.fixture(scope="module")
def filled(volume: highdicom.Volume) -> highdicom.Volume:
    """The same CT with air outside the circle."""
    return volume.with_array(np.where(volume.array < -1024, -1024, volume.array).astype(np.int16))


def test_reading_keeps_the_stored_value(twin: Path, volume: highdicom.Volume) -> None:
    paths = find_annotated(open_collection(twin)["HCC_048"].baseline).paths
    names = sorted((str(path) for path in paths), key=lambda name: sitk.ReadImage(name).GetOrigin()[2])
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(names))
    assert volume.array.min() == theirs.min() == -2048
    assert np.array_equal(np.sort(volume.array, axis=None), np.sort(theirs, axis=None))


def test_resampling_gives_air_and_says_that_nothing_is_known(volume: highdicom.Volume) -> None:
    image, valid = resample(volume, like=volume)
    assert image.min() >= -1024
    assert np.array_equal(valid == 0, volume.array < -1200)
    matrix = np.eye(4)
    matrix[:3, 3] = (1.3, -2.1, 3.7)
    moved = highdicom.Volume(volume.array, matrix @ volume.affine, coordinate_system="PATIENT")
    image, valid = resample(volume, like=moved)
    assert image.min() >= -1024  # no value between air and filling is made up
    assert 0 < np.count_nonzero(valid) < valid.size


def test_statistics_leave_it_out(volume: highdicom.Volume, filled: highdicom.Volume) -> None:
    everywhere = np.ones(volume.array.shape, bool)
    found = hu_statistics(volume.array, everywhere)
    body = volume.array[volume.array >= -1024]
    assert found["mean"] == pytest.approx(float(body.mean()))
    assert found["share"] == pytest.approx(body.size / volume.array.size)


@pytest.mark.parametrize("window", [None, (-160.0, 240.0)])
def test_networks_see_air(
    volume: highdicom.Volume, filled: highdicom.Volume, window: tuple[float, float] | None
) -> None:
    one, other = (torch.from_numpy(each.array) for each in (volume, filled))
    assert one.min() == -2048
    assert torch.equal(scale_image(one, window), scale_image(other, window))


def test_evidence_of_phases_sees_air(twin: Path, volume: highdicom.Volume) -> None:
    study = open_collection(twin)["HCC_048"].baseline
    series = next(one for one in study.series if one.number == 6)
    planes = read_planes(series.instances, series.root, [0, 1])
    assert volume.array.min() == -2048
    assert planes.hu.min() == -1024
