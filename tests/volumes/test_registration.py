"""Registration of phases, and resampling onto another grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from hcc_tace_data import open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.errors import NotAVolumeError, RegistrationError, UsageError
from hcc_tace_data.volumes import engines
from hcc_tace_data.volumes.judgement import Judge
from hcc_tace_data.volumes.registration import Registration, register, resample
from hcc_tace_data.volumes.similarity import body_mask, coarse_image, mutual_information, place_roughly, to_image

FRAME = "1.2.3"
#: Whose three phases of the baseline are three series.
PATIENT = "HCC_048"


def volume(array: np.ndarray, affine: np.ndarray, frame: str = FRAME) -> highdicom.Volume:
    return highdicom.Volume(array, affine, "PATIENT", frame_of_reference_uid=frame)


def registration(matrix: np.ndarray) -> Registration:
    return Registration(matrix=matrix, engine="greedy", similarity_before=1.1, similarity_after=1.2, plausible=True)


def turned(rng: np.random.Generator, spacing: tuple[float, float, float], origin: np.ndarray) -> np.ndarray:
    """A right-handed affine in a random orientation."""
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if np.linalg.det(axes) < 0:
        axes[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing)
    affine[:3, 3] = origin
    return affine


@pytest.fixture(scope="module")
def phases(twin: Path) -> dict[str, highdicom.Volume]:
    """The phases of a baseline, and what the phantom did to each."""
    rows = json.loads((twin / "truth" / "transforms.json").read_text())
    truth = {row["series_uid"]: row for row in rows}
    return {
        truth[series.series_uid]["phase"]: (read_ct(series), np.array(truth[series.series_uid]["annotated_to_volume"]))
        for series in open_collection(twin)[PATIENT].baseline.series
        if series.modality == "CT"
    }


def liver_points(twin: Path) -> np.ndarray:
    label = sitk.ReadImage(str(twin / "truth" / "labels" / f"{PATIENT}.nii.gz"))
    where = np.argwhere(np.isin(sitk.GetArrayFromImage(label), (1, 2)))[::7]
    points = [label.TransformContinuousIndexToPhysicalPoint([float(x) for x in index[::-1]]) for index in where]
    return np.c_[np.array(points), np.ones(len(points))]


@pytest.mark.parametrize(("engine", "allowed_mm"), [("greedy", 1.5), ("simpleitk", 2.5)])
def test_a_known_motion_of_the_liver_is_found(twin, phases, engine, allowed_mm, capfd):
    fixed, _ = phases["portal_venous"]
    moving, truth = phases["pre_contrast"]
    found = register(fixed, moving, engine=engine)
    points = liver_points(twin)
    error = np.linalg.norm((points @ (found.matrix - truth).T)[:, :3], axis=1).mean()
    untouched = np.linalg.norm((points @ (np.eye(4) - truth).T)[:, :3], axis=1).mean()
    assert untouched > 3.0
    assert error < allowed_mm
    assert found.engine == engine
    assert found.plausible
    assert found.similarity_after > found.similarity_before
    assert found.doubts == ()
    assert found.inverse_mm < 3
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    again = register(fixed, moving, engine=engine)
    np.testing.assert_array_equal(again.matrix, found.matrix)


def test_another_frame_of_reference_is_laid_over_first(twin, phases):
    fixed, _ = phases["portal_venous"]
    moving, truth = phases["pre_contrast"]
    far = np.eye(4)
    far[:3, 3] = (12.0, -30.0, 400.0)  # another day, another place of the table
    found = register(fixed, volume(moving.array, far @ moving.affine, "1.2.4"))
    points = liver_points(twin)
    error = np.linalg.norm((points @ (found.matrix - far @ truth).T)[:, :3], axis=1).mean()
    assert error < 1.5
    assert found.plausible


def test_what_no_body_does_is_not_plausible(phases):
    fixed, _ = phases["portal_venous"]
    noise = np.random.default_rng(0).normal(0, 200, fixed.array.shape).astype(np.int16)
    found = register(fixed, volume(noise, fixed.affine, str(fixed.frame_of_reference_uid)))
    assert not found.plausible
    assert found.reason


def _misread(read: Any, change: str) -> Any:
    """Return the volume as a wrong header would place it: turned round along an axis, or with a wrong spacing."""
    if change.startswith("flip"):
        return volume(np.flip(read.array, int(change[-1])).copy(), read.affine, str(read.frame_of_reference_uid))
    axes, factor = change.split("*")
    affine, middle = np.array(read.affine), np.append((np.array(read.array.shape) - 1) / 2, 1)
    affine[:3, [int(axis) for axis in axes]] *= float(factor)
    affine[:3, 3] += (read.affine @ middle - affine @ middle)[:3]
    return volume(read.array, affine, str(read.frame_of_reference_uid))


@pytest.mark.parametrize("phase", ["pre_contrast", "arterial"])
@pytest.mark.parametrize("change", ["flip 0", "flip 1", "flip 2", "0*1.3", "0*0.77", "12*1.3", "12*0.77"])
def test_a_volume_of_wrong_orientation_or_spacing_is_refused(phases, change, phase):
    """None of these passes, be it by another transform that makes the images a little more alike."""
    fixed, _ = phases["portal_venous"]
    moving, _ = phases[phase]
    found = register(fixed, _misread(moving, change))
    assert not found.plausible
    assert found.reason


@pytest.fixture(scope="module")
def trunk() -> tuple[Any, Any, Any]:
    """A body with a lung in its upper half and an even lower half, its mask, and the same body with other noise."""
    rng = np.random.default_rng(5)
    affine = np.array([[0, 0, 3.0, -150], [0, 3.0, 0, -105], [5.0, 0, 0, 0], [0, 0, 0, 1]])
    d, h, w = np.meshgrid(np.arange(48), np.arange(70), np.arange(100), indexing="ij")
    body = np.square((w - 50) / 45) + np.square((h - 35) / 30) < 1
    lung = (np.square((w - 30) / 16) + np.square((h - 35) / 22) < 1) & (d > 30 + 3 * np.cos(w / 6))
    hu = np.where(lung, -800.0, np.where(body, 50.0, -1000.0))
    still, moved = (coarse_image(volume(hu + rng.normal(0, 10, hu.shape), affine), 3.0) for _ in range(2))
    return still, body_mask(still), moved


def shifted(*by: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix


def box(like: Any, *slices: slice) -> Any:
    """A mask on the grid of an image."""
    mask = np.zeros(like.GetSize()[::-1], np.float32)
    mask[slices] = 1
    found = sitk.GetImageFromArray(mask)
    found.CopyInformation(like)
    return found


def test_a_transform_is_compared_with_none_where_the_liver_is(trunk, monkeypatch):
    """Below the lung its edge shows where it is; in the even middle of the body nothing does."""
    monkeypatch.setattr(Judge, "_elsewhere", lambda *_: "")  # mirrors and stretches have tests of their own
    still, body, moved = trunk
    below_the_lung = Judge(still, moved, body, box(still, slice(20, 31), slice(20, 50), slice(18, 42)))
    none, up = np.eye(4), shifted(0, 0, 9)
    assert below_the_lung.verdict(none, none, 1.0).reason == ""
    assert "moves the liver by 9.0 mm, which is then less alike" in below_the_lung.verdict(none, up, 1.0).reason
    found = below_the_lung.verdict(up, shifted(0, 0, -9), 1.0)  # moved back where it belongs
    assert (found.reason, found.doubts) == ("", ())
    assert below_the_lung.verdict(none, shifted(0, 0, 1.0), 1.0).doubts == ()  # too little to do harm

    inside = Judge(still, moved, body, box(still, slice(8, 14), slice(25, 45), slice(40, 60)))
    (doubt,) = inside.verdict(none, shifted(0, 0, 6), 1.0).doubts
    assert doubt.startswith("moves the liver by 6.0 mm, which is hardly more alike for it")


def test_a_liver_that_lies_on_lung_is_refused(trunk):
    still, body, moved = trunk
    liver = box(still, slice(34, 44), slice(22, 48), slice(20, 40))
    assert (
        "% of the liver lies on soft tissue"
        in Judge(still, moved, body, liver).verdict(np.eye(4), np.eye(4), 1.0).reason
    )


def test_a_registration_that_does_not_lead_back_is_doubtful(phases, monkeypatch):
    fixed, _ = phases["portal_venous"]
    moving, _ = phases["arterial"]
    known = engines.choose_engine("greedy")
    off = replace(known, rigid=lambda *_: shifted(8, 0, 0))
    monkeypatch.setattr("hcc_tace_data.volumes.registration.choose_engine", lambda name: off)
    found = register(fixed, moving)
    assert found.plausible
    assert found.inverse_mm > 5
    assert any("the other way round misses the body" in one for one in found.doubts)


@given(seed=st.integers(0, 2**32 - 1))
def test_resampling_equals_itk(seed):
    """Values where both have data, and the field itself, in any orientation."""
    rng = np.random.default_rng(seed)
    moving = volume(
        rng.integers(-1000, 1000, (5, 7, 6), dtype=np.int16), turned(rng, (3, 0.8, 1.1), rng.normal(size=3))
    )
    middle = moving.affine @ [2, 3, 2.5, 1]
    like_affine = turned(rng, (2.5, 1, 0.9), rng.normal(size=3))
    like_affine[:3, 3] += middle[:3] - (like_affine @ [3, 4, 2, 1])[:3]
    like = volume(np.zeros((7, 9, 5), np.int16), like_affine)
    matrix = np.eye(4)
    matrix[:3] += rng.normal(scale=0.05, size=(3, 4))
    image, valid = resample(moving, like=like, registration=registration(matrix))

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    source = to_image(moving.array.astype(np.float64), moving.affine)
    grid = to_image(like.array, like.affine)
    expected = sitk.GetArrayFromImage(
        sitk.Resample(source, grid, transform, sitk.sitkLinear, -5000.0, sitk.sitkFloat64)
    )
    inside = expected > -4999
    assert np.mean(inside != (valid > 0)) < 0.02  # the rim, to rounding
    both = inside & (valid > 0)
    assert np.abs(expected[both] - image[both]).max(initial=0) <= 0.51
    assert (image[valid == 0] == -1024).all()


@given(seed=st.integers(0, 2**32 - 1), halves=st.booleans())
def test_resampling_equals_scipy(seed, halves):
    """Up to half a voxel outside the outermost centres, which count there; with filling, in slabs of a slice."""
    rng = np.random.default_rng(seed)
    array = rng.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    array[rng.random(array.shape) < 0.05] = -2000
    moving = volume(array, turned(rng, (3, 0.8, 1.1), rng.normal(size=3)))
    steps = np.eye(4)
    steps[:3, 3] = rng.integers(-3, 3, 3) / 2  # places at the very rim
    if not halves:
        steps[:3] += rng.normal(scale=0.1, size=(3, 4))
    like = volume(np.zeros((6, 5, 4), np.int16), moving.affine)
    found = registration(moving.affine @ steps @ np.linalg.inv(moving.affine))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hcc_tace_data.volumes.registration._SLAB_VOXELS", 1)
        image, valid = resample(moving, like=like, registration=found)

    places = np.einsum("ij,jdhw->idhw", steps[:3, :3], np.indices(like.array.shape)) + steps[:3, 3, None, None, None]
    known = np.where(array < -1200, -1024, array).astype(np.float64)
    values = map_coordinates(known, places, order=1, mode="nearest")
    filling = map_coordinates((array < -1200).astype(np.float64), places, order=1, mode="nearest")
    rim = np.reshape(array.shape, (3, 1, 1, 1)) - 0.5 + 1e-6
    inside = ((places >= -0.5 - 1e-6) & (places <= rim)).all(axis=0) & (filling < 1e-3)
    assert np.array_equal(valid, inside)
    assert np.abs(values[inside] - image[inside]).max(initial=0) <= 0.5 + 1e-3
    assert (image[~inside] == -1024).all()


def test_the_same_grid_changes_nothing():
    rng = np.random.default_rng(1)
    one = volume(rng.integers(-1000, 1000, (4, 5, 6), dtype=np.int16), turned(rng, (2, 1, 1), np.zeros(3)))
    image, valid = resample(one, like=one)
    assert np.array_equal(image, one.array)
    assert valid.all()


def test_filling_of_the_scanner_is_no_air():
    array = np.full((4, 8, 8), 40, dtype=np.int16)
    array[:, :2] = -2000
    affine = np.diag([2.0, 1.0, 1.0, 1.0])
    shifted = affine.copy()
    shifted[1, 3] = 0.5
    for grid in (affine, shifted):
        image, valid = resample(volume(array, affine), like=volume(np.zeros_like(array), grid))
        assert not valid[:, :1].any()
        assert (image[valid == 0] == -1024).all()
        assert (image[valid == 1] == 40).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_a_stored_transform_is_itks(seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3] += rng.normal(scale=[0.1, 0.1, 0.1, 30], size=(3, 4))
    path = tmp_path_factory.mktemp("transform") / "arterial.txt"
    one = registration(matrix)
    one.save(path)
    point = rng.normal(scale=100, size=3)
    assert np.allclose(sitk.ReadTransform(str(path)).TransformPoint(point.tolist()), (matrix @ [*point, 1])[:3])
    back = Registration.load(path)
    assert np.array_equal(back.matrix, matrix)
    assert (back.engine, back.plausible, back.similarity_after) == (one.engine, one.plausible, one.similarity_after)


@pytest.mark.parametrize(
    "text", ["", "#Insight\nTransform: AffineTransform_double_3_3\nParameters: 1 2\n", "Parameters: nan"]
)
def test_a_broken_transform_is_refused(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    (tmp_path / "t.txt.json").write_text("{}")
    with pytest.raises(RegistrationError, match=r"t\.txt"):
        Registration.load(tmp_path / "t.txt")


def test_bad_input(phases):
    fixed, _ = phases["portal_venous"]
    with pytest.raises(UsageError, match="elastix"):
        register(fixed, fixed, engine="elastix")
    with pytest.raises(NotAVolumeError, match="two slices"):
        register(fixed, volume(fixed.array[:1], fixed.affine))


def test_likeness_is_highest_in_place(phases):
    fixed, _ = phases["portal_venous"]
    moving, truth = phases["arterial"]
    one, two = coarse_image(fixed, 3.0), coarse_image(moving, 3.0)
    off = truth.copy()
    off[2, 3] += 10
    assert mutual_information(one, two, truth) > mutual_information(one, two, off) > 1
    far = np.eye(4)
    far[0, 3] = 1e4
    assert mutual_information(one, two, far) == 1.0


def test_rough_placing_finds_the_table(phases):
    fixed, _ = phases["portal_venous"]
    one = coarse_image(fixed, 3.0)
    two = coarse_image(volume(fixed.array, fixed.affine), 3.0)
    two.SetOrigin((np.array(two.GetOrigin()) + np.array([0, 20, -333])).tolist())
    assert np.allclose(place_roughly(one, two), (0, 20, -333), atol=8)
