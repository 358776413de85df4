"""Decimals that differ in their last digits are one number: no slice is lost, no volume split, no voxel moved."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.geometry import check_shear, size_groups
from hcc_tace_data.dicom.tolerance import (
    SHARE,
    base_step,
    cluster,
    cluster_rows,
    direction_bound,
    even_step,
    position_bound,
    same_spacing,
)
from hcc_tace_data.errors import GapError, NotAVolumeError

QUICK = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _written(draw: st.DataObject, value: float, digits: int) -> str:
    """Write a decimal with some number of digits, at least `digits`, off by up to one in its last."""
    places = draw.draw(st.integers(digits, 9))
    step = Decimal(1).scaleb(-places)
    return str(Decimal(repr(value)).quantize(step) + draw.draw(st.sampled_from([-1, 0, 0, 1])) * step)


@given(seed=st.integers(0, 30), reverse=st.booleans(), draw=st.data())
@QUICK
def test_jitter_in_the_last_digits_of_every_decimal_moves_nothing(
    write_ct: Callable[..., list[Path]], tmp_path: Path, seed: int, reverse: bool, draw: st.DataObject
) -> None:
    files = write_ct(tmp_path, seed=seed, reverse=reverse)
    exact = read_ct(files)
    for file in files:
        ds = pydicom.dcmread(file)
        # the decimals of a position in 0.01 mm, of a direction and a spacing in 1e-4
        ds.ImagePositionPatient = [_written(draw, float(v), 2) for v in ds.ImagePositionPatient]
        ds.ImageOrientationPatient = [_written(draw, float(v), 4) for v in ds.ImageOrientationPatient]
        ds.PixelSpacing = [_written(draw, float(v), 4) for v in ds.PixelSpacing]
        ds.save_as(file)
    jittered = read_ct(files)
    np.testing.assert_array_equal(jittered.array, exact.array)
    assert not jittered.left_out
    depth, rows, columns = exact.array.shape
    corners = np.array([[d, h, w, 1] for d in (0, depth - 1) for h in (0, rows - 1) for w in (0, columns - 1)]).T
    apart = np.abs((jittered.affine - exact.affine) @ corners)
    assert apart.max() <= 2 * SHARE * min(exact.spacing)


@given(step=st.floats(0.4, 10), count=st.integers(2, 400), start=st.floats(-900, 900), digits=st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_spacing_comes_from_the_ends(step: float, count: int, start: float, digits: int) -> None:
    places = np.array([round(start + step * i, digits) for i in range(count)])
    rounding = 0.5 * 10.0**-digits
    if 2 * rounding > SHARE * step:  # written too coarsely to tell
        return
    found = even_step(places)
    assert found is not None
    assert abs(found - step) * (count - 1) <= 2 * rounding + 1e-9
    assert base_step(places) == found


@given(
    step=st.floats(0.4, 10), gone=st.sets(st.integers(1, 18), min_size=1, max_size=8), jitter=st.integers(0, 2**32 - 1)
)
@settings(deadline=None, max_examples=200)
def test_missing_slices_are_a_gap_on_the_same_grid(step: float, gone: set[int], jitter: int) -> None:
    noise = np.random.default_rng(jitter).uniform(-0.03, 0.03, 20) * step
    kept = [i for i in range(20) if i not in gone]
    if not (np.diff(kept) == 1).any():
        return
    places = np.array([step * i + noise[i] for i in kept])
    assert even_step(places) is None
    assert base_step(places) == pytest.approx(step, rel=0.01)


def test_positions_with_one_decimal(write_ct: Callable[..., list[Path]], tmp_path: Path) -> None:
    files = write_ct(tmp_path)
    exact = read_ct(files)
    for d, file in enumerate(files):
        ds = pydicom.dcmread(file)
        ds.ImagePositionPatient = [-120.5, 33.3, round(-410.0 + 1.25 * d, 1)]
        ds.save_as(file)
    rounded = read_ct(files)
    np.testing.assert_array_equal(rounded.array, exact.array)
    assert abs(rounded.spacing[0] - 1.25) <= 0.1 / (len(files) - 1)
    with pytest.raises(GapError):
        read_ct([*files[:2], *files[3:]])
    kept, filled = (read_ct([*files[:2], *files[3:]], on_gap=what) for what in ("keep", "fill"))
    for volume in (kept, filled):
        assert abs(volume.spacing[0] - 1.25) <= 0.1 / (len(files) - 1)
    other = [d for d in range(len(files)) if d != 2]
    np.testing.assert_array_equal(filled.array[other], exact.array[other])


@given(
    sizes=st.lists(st.sampled_from([(512, 0.7), (512, 0.75), (256, 0.7)]), min_size=1, max_size=12),
    jitter=st.lists(st.floats(-4e-5, 4e-5), min_size=24, max_size=24),
)
@settings(deadline=None, max_examples=100)
def test_sizes_group_whatever_the_digits(sizes: list[tuple[int, float]], jitter: list[float]) -> None:
    rows = [
        {"rows": n, "columns": n, "spacing_row": mm + jitter[2 * i], "spacing_column": mm + jitter[2 * i + 1]}
        for i, (n, mm) in enumerate(sizes)
    ]
    groups = size_groups(rows)
    for one, size in zip(groups, sizes, strict=True):
        for other, another in zip(groups, sizes, strict=True):
            assert (one == other) == (size == another)


@given(values=st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=30), bound=st.floats(1e-6, 10))
def test_groups_have_no_boundary_inside(values: list[float], bound: float) -> None:
    groups = cluster(values, bound)
    for value, group in zip(values, groups, strict=True):
        assert (group == -1) == (value != value)
        near = [other for place, other in zip(values, groups, strict=True) if abs(place - value) <= bound]
        assert set(near) <= {group}
    known = groups[groups >= 0]
    assert set(known) == set(range(len(set(known))))


def test_groups_of_rows() -> None:
    assert cluster_rows([[512, 512, 256], [0.685, 0.6850000023, 0.685]], [0, 1e-4]).tolist() == [1, 1, 0]
    assert cluster([], 1.0).shape == (0,)
    assert len(set(cluster([float("inf"), float("inf"), 1.0], 0.1).tolist())) == 2


def test_bounds_are_shares_of_a_voxel() -> None:
    assert same_spacing(0.7421875, 0.742188, 512)
    assert not same_spacing(0.7421875, 0.744, 512)
    assert same_spacing(float("nan"), float("nan"), 512)
    assert not same_spacing(float("nan"), 0.7, 512)
    assert direction_bound(512) * 511 == pytest.approx(SHARE)
    assert position_bound(0.7) == pytest.approx(0.07)


def test_corners_may_scatter_by_rounding_but_not_jump() -> None:
    normal = np.array([0.0, 0.0, 1.0])
    place = np.outer(np.arange(10) * 2.5, normal)
    check_shear(place + np.round(np.random.default_rng(0).uniform(-0.05, 0.05, (10, 3)), 2), normal, 0.14)
    place[5:, 0] += 0.7
    with pytest.raises(NotAVolumeError, match="jump"):
        check_shear(place, normal, 0.14)
