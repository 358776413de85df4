"""Augmentation moves image and label together, the same on every run of a seed."""

from __future__ import annotations

import pytest
import torch

from hcc_tace_data.loaders.supply.augment import Augment


def _pair(height: int = 40, width: int = 56) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.zeros(3, height, width, dtype=torch.uint8)
    label[:, 12:26, 20:38] = 1
    return label[:, None].float(), label


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_label_follows_the_image(flip: float) -> None:
    image, label = _pair()
    geometric = Augment(flip=flip, contrast=0, brightness=0, noise=0)
    moved, moved_label = geometric(image, label, torch.Generator().manual_seed(3))
    inside = (moved[:, 0] > 0.5).to(torch.uint8)
    assert (inside != moved_label).float().mean() < 0.01
    assert not torch.equal(moved_label, label)
    # a rotation and a change of size of at most 12 % keep the area within 30 %
    assert 0.7 < moved_label.sum() / label.sum() < 1.35


def test_shape_of_things_is_kept_on_oblong_images() -> None:
    image = torch.zeros(1, 1, 40, 80)
    image[..., 10:30, 30:50] = 1  # a square
    turned, _ = Augment(rotate=45, scale=0, shift=0, contrast=0, brightness=0, noise=0)(
        image, image[:, 0].to(torch.uint8), torch.Generator().manual_seed(1)
    )
    assert turned.sum().item() == pytest.approx(400, rel=0.03)


def test_seeded() -> None:
    image, label = _pair()
    runs = [Augment()(image, label, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[2][0])


def test_nothing_asked_for_nothing_done() -> None:
    image, label = _pair()
    still = Augment(flip=0, rotate=0, scale=0, shift=0, contrast=0, brightness=0, noise=0)
    same, same_label = still(image, label, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, image)
    assert torch.equal(same_label, label)
