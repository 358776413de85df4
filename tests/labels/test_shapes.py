"""The same votes give the same answer, whatever shape they come in."""

from __future__ import annotations

import numpy as np
import pytest

from hcc_tace_data import fuse_staple


@pytest.mark.parametrize("shape", [(240,), (12, 20), (4, 6, 10), (2, 3, 4, 10)])
@pytest.mark.parametrize("readers", [2, 3, 5, 9, 17])
@pytest.mark.parametrize("region", ["image", "union"])
def test_shapes(shape: tuple[int, ...], readers: int, region: str) -> None:
    rng = np.random.default_rng(readers)
    truth = np.zeros(240, bool)
    truth[30:100] = True
    votes = [(truth ^ (rng.random(240) < 0.1)).astype(np.uint8) for _ in range(readers)]
    if region == "union":  # its box depends on the shape: make it the whole
        votes[0][[0, -1]] = 1
    flat = fuse_staple(votes, region=region)
    shaped = fuse_staple([vote.reshape(shape) for vote in votes], region=region)
    np.testing.assert_allclose(shaped.probability[1].ravel(), flat.probability[1], atol=1e-12)
    np.testing.assert_array_equal(shaped.label_map.ravel(), flat.label_map)
    np.testing.assert_allclose(shaped.sensitivity[1], flat.sensitivity[1])
    assert shaped.iterations == flat.iterations
    assert flat.label_map[30:100].mean() > 0.8
