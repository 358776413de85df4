"""Votes and agreement against others' implementations and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medpy.metric.binary import dc, hd95

from hcc_tace_data import fuse_staple
from hcc_tace_data.errors import FusionError, UsageError
from hcc_tace_data.labels.agreement import agreement, fleiss_kappa
from hcc_tace_data.labels.scores import score_masks
from hcc_tace_data.labels.staple import fuse_masks
from hcc_tace_data.labels.votes import vote


def _readers(seed: int, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = np.zeros((6, 16, 18), np.uint8)
    base[1:5, 3:12, 4:15] = 1
    return [np.where(rng.random(base.shape) < 0.08, 1 - base, base).astype(np.uint8) for _ in range(count)]


@given(seed=st.integers(0, 200), count=st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_votes_by_counting(seed: int, count: int) -> None:
    readers = _readers(seed, count)
    said = np.sum(readers, axis=0)
    np.testing.assert_array_equal(vote(readers), said > count / 2)
    np.testing.assert_array_equal(vote(readers, method="union"), said >= 1)
    np.testing.assert_array_equal(vote(readers, method="intersection"), said == count)


def test_votes_of_several_labels() -> None:
    readers = [[1, 1, 2, 0, 1], [1, 2, 2, 0, 2], [2, 2, 1, 2, 0]]
    assert vote(readers).tolist() == [1, 2, 2, 0, 0]
    assert vote(readers, method="union").tolist() == [1, 2, 2, 2, 1]  # a tie goes to the first label
    assert vote(readers, method="union", labels=[2, 1]).tolist() == [1, 2, 2, 2, 2]
    assert vote(readers, method="intersection").tolist() == [0] * 5
    with pytest.raises(UsageError, match="median"):
        vote(readers, method="median")  # type: ignore[arg-type]
    with pytest.raises(FusionError, match="reader 2"):
        vote([[1, 0], [1]])


def test_dice_and_distance_as_medpy_gives_them() -> None:
    readers, spacing = _readers(3, 3), (2.5, 0.7, 0.8)
    found = agreement(readers, spacing)
    for one in range(3):
        for other in range(3):
            assert found.dice[one, other] == pytest.approx(dc(readers[one], readers[other]))
            pooled = 0 if one == other else hd95(readers[one], readers[other], voxelspacing=spacing)
            assert found.hd95_mm[one, other] == score_masks(readers[one], readers[other], spacing).hd95_mm >= pooled
    said = np.sum(readers, axis=0)
    assert found.union_voxels == np.count_nonzero(said)
    assert found.kappa == pytest.approx(fleiss_kappa(said[said > 0], 3))
    with pytest.raises(FusionError, match="agreement needs two or more readers"):
        agreement(readers[:1], spacing)


def test_fleiss_kappa() -> None:
    # by hand: P = (1 + 1 + 1/3 + 1/3) / 4 = 2/3, p = 6/12, chance = 1/2
    assert fleiss_kappa([3, 0, 2, 1], readers=3) == pytest.approx(1 / 3)
    assert fleiss_kappa([4, 0, 4, 0], readers=4) == pytest.approx(1.0)
    assert np.isnan(fleiss_kappa([], readers=3))
    assert np.isnan(fleiss_kappa([3, 3], readers=3))
    rng = np.random.default_rng(0)
    assert abs(fleiss_kappa(rng.binomial(5, 0.4, 20000), readers=5)) < 0.02  # readers who guess


def test_masks_that_readers_did_not_draw_do_not_count() -> None:
    readers = _readers(1, 3)
    maps = [{1: reader, 2: 1 - reader} for reader in readers[:2]] + [{1: readers[2]}]
    fused = fuse_masks(maps)
    alone = fuse_staple(readers, labels=[1])
    np.testing.assert_allclose(fused.probability[1], alone.probability[1])
    pair = fuse_staple([1 - reader for reader in readers[:2]], labels=[1])
    np.testing.assert_allclose(fused.probability[2], pair.probability[1])
    np.testing.assert_allclose(fused.sensitivity[2][:2], pair.sensitivity[1])
    assert np.isnan(fused.sensitivity[2][2])
    with pytest.raises(FusionError, match="label 3"):
        fuse_masks(maps, labels=[3])


def test_more_than_sixteen_readers_and_disjoint_ones() -> None:
    readers = _readers(2, 17)
    many, one_by_one = fuse_staple(readers), vote(readers)
    assert (many.label_map != one_by_one).mean() < 0.01
    assert many.sensitivity[1].shape == (17,)
    left, right = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8), np.uint8)
    left[:, :, :3], right[:, :, 5:] = 1, 1
    apart = fuse_staple([left, right])
    assert np.isfinite(apart.probability[1]).all()
    assert not apart.label_map[:, :, 3:5].any()
