"""Lesions: parts, sizes and places against bodies computed by hand and against other libraries."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from hcc_tace_data.errors import UsageError
from hcc_tace_data.measure.distances import distances_to, distances_to_surface
from hcc_tace_data.measure.intensity import hu_statistics
from hcc_tace_data.measure.lesions import find_lesions, measure_lesion, split_lesions


def _affine(spacing: tuple[float, float, float], origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Index (d, h, w) of an axial volume, feet to head -> LPS mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = origin
    return affine


def _ball(
    shape: tuple[int, int, int], centre: tuple[float, ...], radius: float, spacing: tuple[float, ...]
) -> np.ndarray:
    places = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij"))
    return ((places - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) <= radius**2


def test_a_ball_has_the_size_of_a_ball() -> None:
    spacing, radius = (1.0, 0.8, 0.8), 20.0
    mask = _ball((60, 75, 75), (29.0, 30.4, 28.8), radius, spacing)
    (found,) = find_lesions(mask, _affine(spacing, (-30, 10, -400)))
    assert found.voxels == mask.sum()
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
    assert found.diameter_mm == pytest.approx(2 * radius, abs=0.8)
    assert found.perpendicular_mm == pytest.approx(2 * radius, abs=0.8)
    assert found.diameter_3d_mm == pytest.approx(2 * radius, abs=1.0)
    # the outline goes in steps: see outline_surface
    assert 1.05 < found.surface_mm2 / (4 * np.pi * radius**2) < 1.1
    assert 0.91 < found.sphericity < 0.95
    assert (found.centre_x_mm, found.centre_y_mm, found.centre_z_mm) == pytest.approx((-1.2, 40.4, -371), abs=0.1)
    assert (found.box_min_z_mm, found.box_max_z_mm) == pytest.approx((-391, -351))
    assert (found.slice_first, found.slice_last, found.diameter_slice) == (9, 49, 29)


def test_lesions_come_largest_first_and_touch_by_corners() -> None:
    mask = np.zeros((6, 12, 12), dtype=bool)
    mask[0:2, 0:2, 0:2] = True
    mask[2, 2, 2] = True  # hangs on by a corner
    mask[4:6, 5:11, 5:11] = True
    found = find_lesions(mask, _affine((2.0, 1.0, 1.0)))
    assert [(one.lesion, one.voxels) for one in found] == [(1, 72), (2, 9)]
    assert [one.slice_first for one in found] == [4, 0]


def test_a_lesion_lies_where_its_index_says_in_an_oblique_volume() -> None:
    affine = np.eye(4)
    affine[:3, :3], _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    affine[:3, :3] *= (2.5, 0.7, 0.9)
    affine[:3, 3] = (-12.5, 40, -300)
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[2:4, 1:3, 4] = True
    (found,) = find_lesions(mask, affine)
    places = np.argwhere(mask)
    points = nibabel.affines.apply_affine(affine, places)
    assert (found.centre_x_mm, found.centre_y_mm, found.centre_z_mm) == pytest.approx(tuple(points.mean(axis=0)))
    assert (found.box_min_x_mm, found.box_max_y_mm) == pytest.approx((points[:, 0].min(), points[:, 1].max()))
    assert found.volume_ml == pytest.approx(len(places) * 2.5 * 0.7 * 0.9 / 1000)


def test_an_empty_lesion_is_refused_and_an_empty_mask_has_no_lesions() -> None:
    assert find_lesions(np.zeros((2, 3, 4), dtype=bool), np.eye(4)) == []
    with pytest.raises(UsageError, match="empty"):
        measure_lesion(np.zeros((2, 3, 4), dtype=bool), np.eye(4))
    with pytest.raises(UsageError, match="affine"):
        measure_lesion(np.ones((2, 3, 4), dtype=bool), np.zeros((4, 4)))


@given(arrays(bool, (4, 5, 6)))
def test_parts_are_simpleitks(mask: np.ndarray) -> None:
    numbers, count = split_lesions(mask)
    theirs = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    assert count == theirs.max()
    assert ((numbers > 0) == mask).all()
    pairs = {(int(ours), int(other)) for ours, other in zip(numbers[mask], theirs[mask], strict=True)}
    assert len(pairs) == count
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    assert (np.diff(sizes) <= 0).all()


def test_hu_of_voxels_that_have_data() -> None:
    image = np.array([[[10, 20, 30, -2048, 500]]], dtype=np.int16)
    mask = np.array([[[1, 1, 1, 1, 0]]], dtype=bool)
    found = hu_statistics(image, mask)
    assert (found["mean"], found["p50"], found["share"]) == (20, 20, 0.75)
    assert found["sd"] == pytest.approx(np.std([10, 20, 30]))
    valid = np.array([[[0, 1, 1, 1, 1]]], dtype=np.uint8)
    assert hu_statistics(image, mask, valid)["mean"] == 25
    nothing = hu_statistics(image, mask, np.zeros_like(valid))
    assert np.isnan(nothing["mean"])
    assert nothing["share"] == 0


def test_distances_in_mm() -> None:
    spacing = (2.0, 1.0, 1.0)
    liver = np.zeros((20, 40, 40), dtype=bool)
    liver[2:18, 5:35, 5:35] = True
    lesion, vein = np.zeros_like(liver), np.zeros_like(liver)
    lesion[9:11, 15:20, 15:20] = True
    vein[9:11, 15:20, 26:28] = True
    assert distances_to(lesion, vein, spacing).tolist() == [7.0]
    # ten pixels deep along rows and columns, seven slices of 2 mm above and below
    assert distances_to_surface(lesion, liver, spacing) == pytest.approx([10.5])
    lesion[9, 5, 15] = True
    assert distances_to_surface(lesion, liver, spacing) == pytest.approx([0.5])
    assert np.isnan(distances_to(lesion, np.zeros_like(liver), spacing)).tolist() == [True]
    assert np.isnan(distances_to_surface(lesion, np.zeros_like(liver), spacing)).tolist() == [True]


spaces = st.sampled_from([(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.3, 1.9, 0.8), (5.0, 0.75, 0.85)])
few = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, 0, 1, 2, 3]))


@given(lesions=few, spacing=spaces, data=st.data())
def test_distances_are_those_of_every_pair_of_voxels(
    lesions: np.ndarray, spacing: tuple[float, float, float], data: st.DataObject
) -> None:
    other = data.draw(arrays(bool, lesions.shape))
    outside = np.argwhere(~np.pad(other | (lesions > 0), 1)) - 1
    for found, places, less in [
        (distances_to(lesions, other, spacing), np.argwhere(other), 0.0),
        (distances_to_surface(lesions, other, spacing), outside if other.any() else outside[:0], min(spacing) / 2),
    ]:
        assert found.shape == (lesions.max(),)
        for number, one in enumerate(found, start=1):
            own = np.argwhere(lesions == number)
            if len(own) and len(places):
                nearest = cdist(own * np.array(spacing), places * np.array(spacing)).min()
                assert one == pytest.approx(max(0.0, nearest - less), abs=1e-12)
            else:
                assert np.isnan(one)


def test_lesions_that_share_faces_are_measured_each() -> None:
    lesions = np.ones((5, 5, 9), np.uint8)
    lesions[:, :, 4] = 2  # between two parts of the first
    lesions[2, 2, 4] = 3  # within the second
    other = np.zeros(lesions.shape, bool)
    other[2, 2, 8] = True
    assert distances_to(lesions, other, (1, 1, 1)).tolist() == [0.0, pytest.approx(17**0.5), 4.0]
