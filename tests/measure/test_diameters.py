"""Diameters of bodies whose size is known, and of any mask against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist

from hcc_tace_data.measure.diameters import axial_diameters, longest_3d, outline_points

SPACING = (2.5, 0.7, 0.8)


def test_one_voxel_is_one_voxel_long() -> None:
    mask = np.zeros((3, 4, 5), dtype=bool)
    mask[1, 2, 3] = True
    found = axial_diameters(mask, SPACING)
    assert (found.slice, found.longest_mm) == (1, pytest.approx(0.8))
    assert longest_3d(mask, SPACING) == pytest.approx(2.5)


def test_an_empty_mask_has_none() -> None:
    found = axial_diameters(np.zeros((2, 3, 4), dtype=bool), SPACING)
    assert (found.slice, found.longest_mm, found.perpendicular_mm) == (-1, 0.0, 0.0)
    assert longest_3d(np.zeros((2, 3, 4), dtype=bool), SPACING) == 0.0


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 1.4])
def test_an_ellipse_of_known_axes_within_a_pixel(angle: float) -> None:
    rows, columns = np.mgrid[:120, :120] * 0.7
    u = (rows - 42) * np.cos(angle) + (columns - 40) * np.sin(angle)
    v = -(rows - 42) * np.sin(angle) + (columns - 40) * np.cos(angle)
    mask = ((u / 30) ** 2 + (v / 17) ** 2 <= 1)[None]
    found = axial_diameters(mask, (1.0, 0.7, 0.7))
    assert found.longest_mm == pytest.approx(60, abs=0.7)
    assert found.perpendicular_mm == pytest.approx(34, abs=0.9)


def test_the_longest_slice_is_the_one_measured() -> None:
    mask = np.zeros((4, 30, 30), dtype=bool)
    mask[1, 10:20, 10:14] = True
    mask[2, 10:12, 2:28] = True
    found = axial_diameters(mask, (5.0, 1.0, 1.0))
    assert found.slice == 2
    # the corners of the outline are cut: 26 long at half height, 25 at the edges
    assert 26 <= found.longest_mm <= np.hypot(26, 1)
    assert found.perpendicular_mm == pytest.approx(2, abs=0.1)


@given(arrays(bool, (3, 6, 7)), st.tuples(*[st.floats(0.3, 5)] * 3))
def test_equal_to_every_pair_of_outline_points(mask: np.ndarray, spacing: tuple[float, float, float]) -> None:
    if not mask.any():
        return
    flat = [outline_points(one, spacing[1:]) for one in mask if one.any()]
    assert axial_diameters(mask, spacing).longest_mm == pytest.approx(max(pdist(points).max() for points in flat))
    assert longest_3d(mask, spacing) == pytest.approx(pdist(outline_points(mask, spacing)).max())


@given(arrays(bool, (1, 6, 7)))
def test_the_perpendicular_is_never_longer(mask: np.ndarray) -> None:
    found = axial_diameters(mask, (1.0, 0.8, 0.8))
    assert 0 <= found.perpendicular_mm <= found.longest_mm + 1e-9
