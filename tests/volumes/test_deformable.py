"""Displacement fields, and greedy's deformable registration with its checks."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hcc_tace_data.errors import RegistrationError, UsageError
from hcc_tace_data.volumes import deformable
from hcc_tace_data.volumes.deformable import Field
from hcc_tace_data.volumes.judgement import Judge
from hcc_tace_data.volumes.registration import Registration, register, resample
from hcc_tace_data.volumes.similarity import body_mask, coarse_image, to_image

FRAME = "1.2.3"
GRID = np.array([[0, 0, 3.0, -20], [0, 2.5, 0, -15], [4.0, 0, 0, 30], [0, 0, 0, 1]])


def volume(array: np.ndarray, affine: np.ndarray) -> highdicom.Volume:
    return highdicom.Volume(array, affine, "PATIENT", frame_of_reference_uid=FRAME)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int] = (7, 9, 8), size: float = 4.0) -> Field:
    shifts = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), (1.5, 1.5, 1.5, 0))
    return Field((shifts * size / np.abs(shifts).max()).astype(np.float32), GRID)


def registration(matrix: np.ndarray, field: Field) -> Registration:
    return Registration(
        matrix=matrix, engine="greedy (deformable)", similarity_before=1.1, similarity_after=1.2, plausible=True,
        doubts=("one",), inverse_mm=0.5, field=field,
    )  # fmt: skip


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_jacobian_of_a_linear_field_is_its_determinant(seed):
    rng = np.random.default_rng(seed)
    linear = rng.normal(scale=0.3, size=(3, 3))
    places = np.stack(np.meshgrid(*(np.arange(n) for n in (4, 5, 6)), np.ones(1), indexing="ij"), -1)[..., 0, :]
    points = (places @ GRID.T)[..., :3]
    found = Field((points @ linear.T).astype(np.float32), GRID).jacobian()
    np.testing.assert_allclose(found, np.linalg.det(np.eye(3) + linear), atol=1e-4)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_displacements_and_what_they_resample_are_itks(seed):
    """ITK's own displacement field, followed by its affine transform, on another grid."""
    rng = np.random.default_rng(seed)
    field = smooth_field(rng)
    inside = rng.uniform(0, 1, (20, 3)) * (np.array([7, 9, 8]) - 1)
    points = inside @ GRID[:3, :3].T + GRID[:3, 3]
    itk = field.transform()
    expected = np.array([itk.TransformPoint(point.tolist()) for point in points]) - points
    np.testing.assert_allclose(field.at(points), expected, atol=1e-4)

    matrix = np.eye(4)
    matrix[:3] += rng.normal(scale=0.02, size=(3, 4))
    moving = volume(rng.integers(-1000, 1000, (9, 11, 10), dtype=np.int16), GRID)
    grid = GRID.copy()
    grid[:3, :3] *= 0.7
    grid[:3, 3] += 3
    like = volume(np.zeros((6, 7, 8), np.int16), grid)
    image, valid = resample(moving, like=like, registration=registration(matrix, field))
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    source = to_image(moving.array.astype(np.float64), moving.affine)
    seen = sitk.GetArrayFromImage(
        sitk.Resample(source, to_image(like.array, grid), sitk.CompositeTransform([affine, itk]), sitk.sitkLinear, -5e3)
    )
    both = (seen > -4999) & (valid > 0)
    assert both.mean() > 0.5
    assert np.abs(seen[both] - image[both]).max() <= 1.0


def test_a_stored_field_comes_back_and_is_itks(tmp_path):
    field = smooth_field(np.random.default_rng(0))
    registration(np.eye(4), field).save(tmp_path / "t.tfm")
    back = Registration.load(tmp_path / "t.tfm")
    assert back.field is not None
    np.testing.assert_allclose(back.field.shifts, field.shifts)
    np.testing.assert_allclose(back.field.affine, field.affine)
    assert (back.engine, back.doubts, back.inverse_mm) == ("greedy (deformable)", ("one",), 0.5)
    itk = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "t.tfm.field.mha"), sitk.sitkVectorFloat64))
    point = (GRID @ [3, 4, 5, 1])[:3]
    np.testing.assert_allclose(np.array(itk.TransformPoint(point.tolist())) - point, field.shifts[3, 4, 5], atol=1e-4)
    (tmp_path / "t.tfm.field.mha").unlink()
    with pytest.raises(RegistrationError, match=r"t\.tfm"):
        Registration.load(tmp_path / "t.tfm")


@pytest.fixture(scope="module")
def breath() -> tuple[highdicom.Volume, highdicom.Volume, np.ndarray, np.ndarray]:
    """A body, the same one after a breath that no affine transform follows, points, and where these lie then."""
    rng = np.random.default_rng(3)
    affine = np.array([[0, 0, 7.0, -147], [0, 7.0, 0, -105], [7.0, 0, 0, 0], [0, 0, 0, 1]])
    shape = (28, 31, 43)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    at = index @ affine[:3, :3].T + affine[:3, 3]
    organs = ndimage.gaussian_filter(rng.normal(size=shape), 1.8)
    body = np.square(at[..., 0] / 140) + np.square(at[..., 1] / 95) < 1
    hu = np.where(body, 40 + 60 * np.sign(organs), -1000.0)
    hu = ndimage.gaussian_filter(hu, 0.6)

    def bend(points: np.ndarray) -> np.ndarray:
        """From where a point lies after the breath to where it lay."""
        away = np.square((points - (-50, 0, 100)) / (70.0, 70.0, 70.0)).sum(axis=-1)
        return points + np.exp(-away)[..., None] * np.array([0.0, 3.0, 14.0]) + (2.0, -1.0, 3.0)

    back = np.linalg.inv(affine)
    places = np.moveaxis(bend(at) @ back[:3, :3].T + back[:3, 3], -1, 0)
    moved = ndimage.map_coordinates(hu, places, order=1, mode="nearest")
    fixed, moving = (volume((one + rng.normal(0, 8, shape)).round().astype(np.int16), affine) for one in (hu, moved))
    near = np.linalg.norm(at - (-50, 0, 100), axis=-1) < 60
    here = at[near][::11]
    return fixed, moving, bend(here), here


def test_a_breath_that_bends_the_liver_is_followed(breath):
    fixed, moving, points, here = breath
    found = register(fixed, moving, deformable=True)
    assert found.engine == "greedy (deformable)", found.doubts
    assert found.field is not None
    by_affine = points @ found.matrix[:3, :3].T + found.matrix[:3, 3]
    bent = (points + found.field.at(points)) @ found.matrix[:3, :3].T + found.matrix[:3, 3]
    errors = [np.linalg.norm(one - here, axis=1).mean() for one in (by_affine, bent)]
    assert errors[1] < 0.6 * errors[0]
    assert found.inverse_mm < 4
    assert found.field.jacobian().min() > 0


def test_a_field_that_fails_is_not_used(breath, monkeypatch):
    """One that folds the body, one that makes it less alike, and one that does not lead back."""
    fixed, moving, *_ = breath
    still, moved = coarse_image(fixed, 3.0), coarse_image(moving, 3.0)
    judge = Judge(still, moved, body_mask(still))
    shape = fixed.array.shape
    steep = np.zeros((*shape, 3), np.float32)
    steep[..., 2] = -1.1 * 7.0 * np.arange(shape[0])[:, None, None]
    away = np.full((*shape, 3), 20.0, np.float32)
    nothing = np.zeros_like(away)
    for fields, said in (
        ((steep, nothing), "changes volumes in the body -0.10"),
        ((away, nothing), "less alike with it"),
        ((nothing, away), "misses the body by 34.6 mm"),
    ):
        found = iter([Field(one, np.asarray(fixed.affine)) for one in fields])
        monkeypatch.setattr(deformable, "_find", lambda *_, found=found: next(found))
        with pytest.raises(RegistrationError, match=said):
            deformable.register_deformably(judge, np.eye(4), 1)

    def refuse(*_: object) -> None:
        raise RegistrationError("it folds")

    monkeypatch.setattr("hcc_tace_data.volumes.registration.register_deformably", refuse)
    found = register(fixed, moving, deformable=True)
    assert found.plausible
    assert found.field is None
    assert "the deformable registration was refused: it folds" in found.doubts
    with pytest.raises(UsageError, match="greedy"):
        register(fixed, moving, engine="simpleitk", deformable=True)


def test_a_stored_field_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tfm"
    field = Field(np.zeros((2, 2, 2, 3), np.float32), np.eye(4))
    found = Registration(
        matrix=np.eye(4), engine="greedy", similarity_before=1.0, similarity_after=1.1, plausible=True, field=field
    )
    found.save(path)
    assert Registration.load(path).field is not None
    stored = tmp_path / "a.tfm.field.mha"
    stored.write_bytes(stored.read_bytes().replace(b"DimSize = 2 2 2", b"DimSize = 2000 2000 2000", 1))
    with pytest.raises(RegistrationError, match=r"field\.mha"):
        Registration.load(path)
