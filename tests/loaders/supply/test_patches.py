"""Patches hold the voxels of their place and the planned share of foreground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.errors import UsageError
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.batches import PatchBatchIterator
from hcc_tace_data.loaders.supply.boxes import cut
from hcc_tace_data.loaders.supply.patches import patch_corner
from hcc_tace_data.loaders.units import Patches

SMALL = st.tuples(*[st.integers(1, 9)] * 3)


@given(shape=SMALL, size=SMALL, corner=st.tuples(*[st.integers(-4, 8)] * 3))
@settings(deadline=None, max_examples=150)
def test_each_voxel_comes_from_its_place(
    shape: tuple[int, int, int], size: tuple[int, int, int], corner: tuple[int, int, int]
) -> None:
    array = np.arange(1, 1 + int(np.prod(shape))).reshape(shape)
    patch = cut(array, corner, size, outside=-5)
    assert patch.shape == size
    for index in np.ndindex(*size):
        place = tuple(np.add(index, corner))
        inside = all(0 <= p < n for p, n in zip(place, shape, strict=True))
        assert patch[index] == (array[place] if inside else -5)


@given(foreground=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_planned_share_touches_the_tumour(stored: list[StoredCase], foreground: float, seed: int) -> None:
    plan = Patches(size=(2, 4, 4), per_volume=4, foreground=foreground, seed=seed)
    case = stored[3]
    hits = 0
    for sample in range(4):
        corner = patch_corner(case, plan, sample=sample, epoch=0)
        assert all(0 <= start <= n - size for start, n, size in zip(corner, case.shape[1:], plan.size, strict=True))
        hits += bool((cut(np.asarray(case.label), corner, plan.size, outside=0) == 2).any())
    assert hits >= 4 * foreground


def test_same_seed_same_patch_other_epoch_another(stored: list[StoredCase]) -> None:
    plan = Patches(size=(2, 3, 3), foreground=0.0)
    corners = [[patch_corner(stored[4], plan, sample=s, epoch=e) for s in range(20)] for e in (0, 0, 1)]
    assert corners[0] == corners[1]
    assert corners[0] != corners[2]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_epoch_of_many_batches(stored: list[StoredCase], threads: int) -> None:
    plan = Patches(size=(2, 3, 4), per_volume=90, seed=5)
    iterator = PatchBatchIterator(stored[:3], plan, batch_size=2, shuffle=False, threads=threads)
    for epoch in range(2):
        sample = 0
        for batch in iterator:
            for image, label, corner in zip(batch["image"], batch["label"], batch["corner"], strict=True):
                case = stored[sample // 90]
                where = patch_corner(case, plan, sample=sample, epoch=epoch)
                assert tuple(corner.tolist()) == where
                np.testing.assert_array_equal(image, cut(case.image, where, plan.size, outside=-1024))
                np.testing.assert_array_equal(label, cut(case.label, where, plan.size, outside=0))
                sample += 1
        assert sample == 3 * 90


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="patch size"):
        Patches(size=(0, 1, 1))
    with pytest.raises(UsageError, match="foreground"):
        Patches(foreground=1.5)
