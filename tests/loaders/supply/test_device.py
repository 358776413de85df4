"""Slices on a device: the same voxels, windowed and augmented there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hcc_tace_data import load_hcc_tace
from hcc_tace_data.errors import UsageError
from hcc_tace_data.loaders.supply.augment import Augment
from hcc_tace_data.loaders.supply.device import DeviceSlices, window_hu

STILL = Augment(flip=0, rotate=0, scale=0, shift=0, contrast=0, brightness=0, noise=0)


@pytest.fixture(scope="module")
def slices(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = make_twin(tmp_path_factory.mktemp("device") / "t", patients=["HCC_003", "HCC_017"])
    return load_hcc_tace(root, unit="slice", phases="annotated")


@pytest.fixture(scope="module")
def resident(slices: Any) -> DeviceSlices:
    return slices.to_device("cpu")


def test_it_holds_every_slice(slices: Any, resident: DeviceSlices) -> None:
    assert len(resident) == len(slices)
    assert (resident.image.dtype, resident.label.dtype) == (torch.int16, torch.uint8)
    for i, sample in enumerate(slices):
        assert torch.equal(resident.image[i].float(), sample["image"])
        assert torch.equal(resident.label[i], sample["label"])
        assert resident.slice[i] == sample["slice"]
        assert resident.patient_ids[int(resident.case[i])] == sample["patient_id"]
    assert torch.equal(resident[[3, 0]]["image"], resident.image[[3, 0]])
    assert torch.equal(resident[-1]["label"][0], resident.label[-1])
    assert len(resident[2:5]["image"]) == 3
    with pytest.raises(IndexError):
        _ = resident[len(resident)]


def test_batches_cover_an_epoch_and_continue(resident: DeviceSlices) -> None:
    def make() -> Any:
        return resident.batches(5, window=(-160, 240), augment=Augment(flip=0.5), seed=2)

    whole = list(make())
    pairs = [pair for batch in whole for pair in zip(batch["case"].tolist(), batch["slice"].tolist(), strict=True)]
    assert sorted(pairs) == sorted(zip(resident.case.tolist(), resident.slice.tolist(), strict=True))
    begun = make()
    source = iter(begun)
    for _ in range(2):
        next(source)
    state = begun.state_dict()
    resumed = make()
    resumed.load_state_dict(state)
    for one, two in zip(resumed, whole[2:], strict=True):
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["label"], two["label"])


def test_a_flip_shows_the_mirrored_voxels(resident: DeviceSlices) -> None:
    flip = Augment(flip=1, rotate=0, scale=0, shift=0, contrast=0, brightness=0, noise=0)
    plain = next(iter(resident.batches(4, window=(-160, 240), augment=STILL, shuffle=False)))
    moved = next(iter(resident.batches(4, window=(-160, 240), augment=flip, shuffle=False)))
    want = window_hu(resident.image[:4], (-160, 240))
    torch.testing.assert_close(plain["image"], want, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved["image"], want.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(plain["label"], resident.label[:4])
    assert torch.equal(moved["label"], resident.label[:4].flip(-1))


def test_image_label_and_mask_move_together(resident: DeviceSlices) -> None:
    image = resident.label[:6, None].float() / 4
    mask = (resident.label[:6, None] > 0).to(torch.uint8)
    turn = Augment(flip=0.5, contrast=0, brightness=0, noise=0)
    moved, label, valid = turn.with_mask(image, resident.label[:6], mask, torch.Generator().manual_seed(1))
    assert torch.equal(valid[:, 0] > 0, label > 0)
    # away from outlines, which interpolation blurs, the picture of the labels is the labels
    assert (moved[:, 0] * 4 - label).abs().lt(0.01).float().mean() > 0.85
    assert not torch.equal(label, resident.label[:6])


def test_augmentation_needs_a_window(resident: DeviceSlices) -> None:
    with pytest.raises(UsageError, match="window"):
        resident.batches(2, augment=STILL)
    with pytest.raises(UsageError, match="window"):
        window_hu(torch.zeros(1), (3, 3))


def test_a_transform_is_refused(tmp_path: Path, slices: Any) -> None:
    root = slices.cases[0].segmentation.parents[3]
    with pytest.raises(UsageError, match="transform"):
        load_hcc_tace(root, unit="slice", phases="annotated", transform=dict).to_device("cpu")
