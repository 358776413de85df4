"""Volumes on any grid: turned or resampled for the networks, and the answer back on the grid that came."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.baseline.images import InputVolume, read_nifti, stand_upright
from hcc_tace_data.baseline.lits import find_lits, load_lits
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.volumes.nifti import write_nifti

#: Index (d, h, w) -> LPS mm of an upright grid.
UPRIGHT = np.array([[0, 0, 0.8, -90.0], [0, 0.8, 0, -70.0], [2.5, 0, 0, 30.0], [0, 0, 0, 1]])


def _turned(axes: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    array = np.random.default_rng(0).integers(-100, 100, (4, 5, 6)).astype(np.int16)
    other, affine = array.transpose(axes), UPRIGHT[:, [*axes, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (other.shape[axis] - 1)
            affine[:3, axis] *= -1
            other = np.flip(other, axis)
    return array, other, affine


@given(st.sampled_from(list(permutations((0, 1, 2)))), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=30, deadline=None)
def test_any_axes_and_directions_are_turned_without_loss(axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    array, other, affine = _turned(axes, flips)
    upright = stand_upright(InputVolume(name="x", array=other, affine=affine), 0.8)
    assert not upright.resampled
    assert np.array_equal(upright.array[0], array)
    assert np.allclose(upright.affine, UPRIGHT)
    label = (array > 0).astype(np.uint8)
    back = upright.back(label)
    assert np.array_equal(back, (other > 0).astype(np.uint8))
    assert np.array_equal(upright.forth(back), label)


def test_an_oblique_grid_of_other_pixels_is_resampled_and_comes_back() -> None:
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 1.0, 1.0])[:, [2, 1, 0]] * [2.0, 2.0, 2.0]
    d, h, w = np.mgrid[:20, :24, :28]
    ball = ((d - 10) ** 2 + (h - 12) ** 2 + (w - 14) ** 2 < 49).astype(np.uint8)
    upright = stand_upright(InputVolume(name="x", array=ball * 100, affine=affine), 0.8)
    assert upright.resampled
    assert np.allclose(np.linalg.norm(upright.affine[:3, :3], axis=0), [2.0, 0.8, 0.8])
    # the ball has the same volume and centre on both grids, and its mask finds the way back
    found = upright.array[0] > 50
    assert found.sum() * 2.0 * 0.8**2 == pytest.approx(ball.sum() * 8.0, rel=0.05)
    centre = upright.affine @ [*np.argwhere(found).mean(axis=0), 1]
    assert np.allclose(centre, affine @ [10, 12, 14, 1], atol=0.3)
    back = upright.back(found.astype(np.uint8))
    assert back.shape == ball.shape
    assert 2 * (back & ball).sum() / (back.sum() + ball.sum()) > 0.93


def test_nifti_round_trip_and_what_is_refused(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    write_nifti(tmp_path / "a.nii.gz", array, UPRIGHT)
    volume = read_nifti(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.array, array)
    assert np.allclose(volume.affine, UPRIGHT)
    (tmp_path / "bad.nii.gz").write_bytes(b"\x1f\x8b nonsense")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4), np.float32), np.eye(4)), tmp_path / "flat.nii")
    nibabel.save(nibabel.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii")
    for name, said in (
        ("none.nii", "no file"),
        ("bad.nii.gz", "cannot be read"),
        ("flat.nii", "2 dim"),
        ("nan.nii", "not num"),
    ):
        with pytest.raises(BaselineError, match=said):
            read_nifti(tmp_path / name)


def test_lits_layout(tmp_path: Path) -> None:
    label = np.zeros((4, 8, 8), np.uint8)
    label[1:3, 2:6, 2:6], label[2, 3, 3] = 1, 2
    affine = UPRIGHT @ np.diag([-1.0, 1, 1, 1])  # head to feet, as some of them are
    for number in (3, 12):
        write_nifti(tmp_path / f"volume-{number}.nii", (label * 50).astype(np.int16), affine)
        write_nifti(tmp_path / "segs" / f"segmentation-{number}.nii.gz", label, affine)
    assert list(find_lits(tmp_path)) == [3, 12]
    stored = load_lits(tmp_path, tmp_path / "store")
    assert [case.patient_id for case in stored] == ["LiTS_003", "LiTS_012"]
    assert np.array_equal(stored[0].label, label[::-1])
    assert np.array_equal(stored[0].image[0], label[::-1] * 50)
    assert stored[0].affine[2][0] > 0
    write_nifti(tmp_path / "volume-4.nii", label.astype(np.int16), affine)
    with pytest.raises(BaselineError, match="no segmentation for volume 4"):
        find_lits(tmp_path)
    write_nifti(tmp_path / "segmentation-4.nii", label[:2], affine)
    with pytest.raises(BaselineError, match="another grid"):
        load_lits(tmp_path, tmp_path / "store")
    with pytest.raises(BaselineError, match="no liver data"):
        find_lits(tmp_path / "nowhere")


@pytest.mark.parametrize("odd", [0.4, 1.6, 3.0, -1.0, 257.0])
def test_lits_masks_hold_only_0_1_and_2(tmp_path: Path, odd: float) -> None:
    """Nothing is rounded, wrapped or dropped: one voxel of another value refuses the mask."""
    label = np.zeros((4, 8, 8), np.float32)
    label[1:3, 2:6, 2:6], label[2, 3, 3] = 1, 2
    write_nifti(tmp_path / "volume-3.nii", (label * 50).astype(np.int16), UPRIGHT)
    write_nifti(tmp_path / "segmentation-3.nii", label, UPRIGHT)
    (stored,) = load_lits(tmp_path, tmp_path / "whole")
    assert np.array_equal(stored.label, label)  # 0, 1 and 2 as floats are fine
    label[0, 0, 0] = odd
    write_nifti(tmp_path / "segmentation-3.nii", label, UPRIGHT)
    with pytest.raises(BaselineError, match=r"segmentation-3\.nii holds .*LiTS has 0, 1 and 2"):
        load_lits(tmp_path, tmp_path / "odd")


def test_lits_volumes_on_oblique_grids(tmp_path: Path) -> None:
    """Tilted volumes are resampled, image and label alike; nothing of the tumour goes astray."""
    angle = np.deg2rad(15)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 1.0, 2.0])[:, [2, 1, 0]]
    d, h, w = np.mgrid[:14, :40, :44]
    distance = np.sqrt((2.0 * (d - 7)) ** 2 + (h - 20) ** 2 + (w - 22) ** 2)
    label = np.where(distance < 5, 2, np.where(distance < 11, 1, 0)).astype(np.uint8)
    write_nifti(tmp_path / "volume-0.nii.gz", np.choose(label, [-100, 110, 60]).astype(np.int16), affine)
    write_nifti(tmp_path / "segmentation-0.nii.gz", label, affine)
    (stored,) = load_lits(tmp_path, tmp_path / "store")
    found = np.asarray(stored.label)
    voxel = float(np.prod(stored.spacing))
    for value in (1, 2):
        assert (found == value).sum() * voxel == pytest.approx((label == value).sum() * 2.0, rel=0.05)
    assert np.median(np.asarray(stored.image[0])[found == 2]) == pytest.approx(60, abs=3)
    assert np.median(np.asarray(stored.image[0])[found == 1]) == pytest.approx(110, abs=3)


def test_colours_are_no_ct(tmp_path: Path) -> None:
    colours = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(BaselineError, match="not HU"):
        read_nifti(tmp_path / "rgb.nii")
