"""The CT reader against SimpleITK on real files."""

from __future__ import annotations

import numpy as np
import pytest

from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.errors import DicomReadError, GapError, NotAVolumeError


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_equals_simpleitk(shared_data, dtype):
    import SimpleITK as sitk

    files = [shared_data / "dicom" / "dcmqi_liver_ct" / f"0{i}.dcm" for i in (2, 3, 1)]
    volume = read_ct(files, dtype=dtype)
    ordered = sorted(files, key=lambda f: sitk.ReadImage(str(f)).GetOrigin()[2])
    theirs = sitk.ReadImage([str(f) for f in ordered])
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(theirs))
    index = np.array([2, 5, 9])
    np.testing.assert_allclose(
        (volume.affine @ [*index, 1])[:3], theirs.TransformIndexToPhysicalPoint([9, 5, 2]), atol=1e-4
    )


def test_missing_slice(shared_data):
    folder = shared_data / "dicom" / "ge_missing_slice"
    with pytest.raises(GapError) as caught:
        read_ct(folder)
    assert len(caught.value.positions) == 2
    kept, filled = read_ct(folder, on_gap="keep"), read_ct(folder, on_gap="fill")
    assert (len(kept.array), len(filled.array)) == (4, 5)
    assert len(kept.positions) == 4


def test_two_series(shared_data):
    with pytest.raises(NotAVolumeError, match="2 series"):
        read_ct([*(shared_data / "dicom/ge_missing_slice").iterdir(), shared_data / "dicom/dcmqi_liver_ct/01.dcm"])


def test_damaged_files(shared_data, tmp_path):
    whole = (shared_data / "dicom/dcmqi_liver_ct/01.dcm").read_bytes()
    for size in (0, 100, 300, 1500, len(whole) - 2):
        file = tmp_path / f"{size}.dcm"
        file.write_bytes(whole[:size])
        with pytest.raises(DicomReadError):
            read_ct([file])
