"""What a network sees of a slice: scaled, shrunk, blanked outside the liver and cut to it."""

from __future__ import annotations

import pytest
import torch

from hcc_tace_data.baseline.config import InputConfig
from hcc_tace_data.baseline.predict import predict_probability
from hcc_tace_data.baseline.stages import StageBatch, crop_batch, grow, liver_windows, prepare_batch, standardise_inside
from hcc_tace_data.baseline.unet import UNet2d
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.supply.augment import Augment


def _slices() -> tuple[torch.Tensor, torch.Tensor]:
    """Two slices of 64 x 80 pixels: fat around a liver of 100 HU, a tumour of 70 HU in it."""
    label = torch.zeros(2, 64, 80, dtype=torch.uint8)
    label[:, 17:38, 30:51] = 1
    label[1, 20:30, 35:45] = 2
    image = torch.full((2, 1, 64, 80), -100, dtype=torch.int16)
    image[:, 0][label == 1], image[:, 0][label == 2] = 100, 70
    return image, label


def test_how_bright_a_liver_is_does_not_matter() -> None:
    image, inside = torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool)
    inside[0, 2:6, 1:7], inside[1, 4, 4] = True, True
    one, other = (
        standardise_inside(image * gain + shift, inside)[inside[:, None]] for gain, shift in ((1, 0), (3, 70))
    )
    assert torch.allclose(one, other, atol=0.05)


def test_fat_at_the_edge_of_a_liver_does_not_change_its_inside() -> None:
    """A predicted liver that is a pixel too wide must not make the tumour look fainter."""
    image, label = _slices()
    right, wide = label > 0, torch.nn.functional.max_pool2d((label > 0).float(), 3, stride=1, padding=1) > 0
    inner = label[1] == 2
    noisy = image.float() + torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    one, other = (standardise_inside(noisy, mask)[1, 0][inner].mean() for mask in (right, wide))
    assert one < -1
    assert other == pytest.approx(one.item(), rel=0.2)


@pytest.mark.parametrize("shrink", [1, 2])
def test_crop_holds_the_whole_liver_and_little_more(shrink: int) -> None:
    image, label = _slices()
    settings = InputConfig(shrink=shrink, crop=True)
    cut, target = crop_batch(prepare_batch("tumour", image, label, settings), settings, 4)
    assert target.shape[1:] == tuple(side * shrink for side in cut.shape[2:])
    assert cut.shape[2] % 4 == cut.shape[3] % 4 == 0
    assert target.sum() == (label == 2).sum()
    assert cut[0].numel() < image[0].numel() / shrink**2 / 3
    whole = prepare_batch("tumour", image, label, settings)
    assert torch.count_nonzero(cut) == torch.count_nonzero(torch.where(whole.inside[:, None], whole.image, 0))


def test_each_slice_is_cut_where_its_own_liver_lies() -> None:
    inside = torch.zeros(4, 40, 50, dtype=torch.bool)
    inside[0, 3:10, 2:9], inside[1, 30:40, 40:50], inside[2, 20, 25] = True, True, True  # the last has none
    windows = liver_windows(inside, 8)
    for mask, (rows, columns) in zip(inside, windows, strict=True):
        assert (rows.stop - rows.start, columns.stop - columns.start) == (16, 16)
        assert mask[rows, columns].sum() == mask.sum()
    settings = InputConfig(crop=True)
    image, target = torch.rand(4, 1, 40, 50), inside.long()
    cut, cut_target = crop_batch(StageBatch(image, target, inside), settings, 4)
    assert torch.equal(cut[:, 0] != 0, cut_target.bool())
    assert sorted(cut[cut != 0].tolist()) == sorted(image[inside[:, None]].tolist())


def test_a_liver_wider_than_the_image_allows_is_padded() -> None:
    inside = torch.ones(1, 30, 20, dtype=torch.bool)
    cut, target = crop_batch(StageBatch(torch.rand(1, 1, 30, 20), inside.long(), inside), InputConfig(crop=True), 4)
    assert cut.shape == (1, 1, 32, 20)
    assert target.shape == (1, 32, 20)
    assert target.sum() == 600


@pytest.mark.parametrize("stage", ["liver", "tumour"])
def test_target_is_not_shrunk(stage: str) -> None:
    image, label = _slices()
    settings = InputConfig(shrink=4)
    seen, target = crop_batch(prepare_batch(stage, image, label, settings), settings, 4)
    assert seen.shape == (2, 1, 16, 20)
    assert target.shape == (2, 64, 80)
    assert target.sum() == (label == 2).sum() if stage == "tumour" else (label > 0).sum()


def test_a_probability_does_not_depend_on_the_slices_beside_it() -> None:
    torch.manual_seed(0)
    model = UNet2d(in_channels=1, classes=2, widths=(4, 8)).eval()
    volume = torch.randint(-100, 200, (1, 6, 33, 41))
    liver = torch.zeros(6, 33, 41, dtype=torch.bool)
    liver[1:5, 7:25, 9:30], liver[2, 3:30, 5:40] = True, True
    settings = InputConfig(window=(-150, 350), standardise=True, crop=True, shrink=2)
    one, other = (
        predict_probability(model, "tumour", volume, settings, liver=liver, batch_size=size, flips=True)
        for size in (1, 4)
    )
    assert torch.allclose(one, other, atol=1e-5)
    assert one.shape == (6, 33, 41)
    assert not one[~liver].any()
    assert (one[liver] > 0).all()


def test_augmentation_moves_a_label_of_finer_pixels_along() -> None:
    image = torch.zeros(2, 1, 40, 40)
    image[..., 12:24, 8:30] = 1
    fine = torch.nn.functional.interpolate(image, scale_factor=2)[:, 0].long()
    still = Augment(flip=1, rotate=30, contrast=0, brightness=0, noise=0)
    moved, moved_label = still(image, fine, torch.Generator().manual_seed(2))
    wide = torch.nn.functional.interpolate(moved, scale_factor=2, mode="bilinear", align_corners=False)[:, 0] > 0.5
    assert (wide != moved_label.bool()).float().mean() < 0.01
    assert not torch.equal(moved_label, fine)
    mask = image.to(torch.uint8)
    with_mask = still.with_mask(image, fine, mask, torch.Generator().manual_seed(2))
    assert torch.equal(with_mask[1], moved_label)
    assert ((with_mask[2] > 0) != (moved > 0.5)).float().mean() < 0.02


def test_the_tumour_network_may_see_finer_pixels() -> None:
    settings = InputConfig(shrink=4, tumour_shrink=2)
    assert settings.of_stage("liver").shrink == 4
    assert settings.of_stage("tumour").shrink == 2
    assert InputConfig(shrink=4).of_stage("tumour").shrink == 4


@pytest.mark.parametrize("pixels", [-2, -1, 1, 2])
def test_a_mask_grows_as_morphology_has_it(pixels: int) -> None:
    from scipy.ndimage import binary_dilation, binary_erosion

    mask = torch.rand(2, 12, 13, generator=torch.Generator().manual_seed(1)) > (0.5 if pixels < 0 else 0.95)
    cube = torch.ones(1, 2 * abs(pixels) + 1, 2 * abs(pixels) + 1)
    expected = binary_dilation(mask, cube) if pixels > 0 else binary_erosion(mask, cube, border_value=1)
    assert (grow(mask, pixels).numpy() == expected).all()


def test_an_unknown_stage_is_named() -> None:
    image, label = _slices()
    with pytest.raises(BaselineError, match="spleen"):
        prepare_batch("spleen", image, label, InputConfig())  # type: ignore[arg-type]
