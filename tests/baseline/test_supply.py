"""What a stage trains on: equal shares, the right liver, and a control whose labels belong to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.folds import overfit_one_batch
from hcc_tace_data.baseline.supply import Placement, StageBatches, slice_ranges
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.store import StoredCase

Quick = Callable[..., TrainConfig]


@pytest.mark.parametrize("world", [2, 3])
def test_every_process_gets_as_many_batches(cases: list[StoredCase], quick: Quick, world: int) -> None:
    parts = [
        StageBatches(quick(batch_size=3), "liver", cases[:3], threads=0, placement=Placement(rank=r, world_size=world))
        for r in range(world)
    ]
    epochs = [list(part.epoch()) for part in parts]
    assert len({len(epoch) for epoch in epochs}) == 1
    places = [(c, d) for e in epochs for b in e for c, d in zip(b["case"].tolist(), b["slice"].tolist(), strict=True)]
    assert len(places) == len(set(places))


def test_an_epoch_that_is_broken_off_is_not_continued(cases: list[StoredCase], quick: Quick) -> None:
    one, other = (StageBatches(quick(batch_size=2), "liver", cases[:3], threads=0) for _ in range(2))
    next(one.epoch())
    list(other.epoch())
    for a, b in zip(one.epoch(), other.epoch(), strict=True):
        assert torch.equal(a["image"], b["image"])


def test_liver_network_sees_all_slices_only_where_asked_to(cases: list[StoredCase], quick: Quick) -> None:
    assert slice_ranges(quick("paper"), "liver", cases) == [(1, 5)] * 6
    assert slice_ranges(quick("modern"), "liver", cases) == [(0, 6)] * 6
    assert slice_ranges(quick("modern"), "tumour", cases) == [(1, 5)] * 6


def test_shuffled_labels_belong_to_slices_of_others(cases: list[StoredCase], quick: Quick) -> None:
    batches = StageBatches(quick(), "tumour", cases[:4], threads=0, shuffled=True)
    for batch in batches.epoch():
        assert (batch["case"] != batch["donor"]).all()
        assert not torch.equal(batch["target"], batch["label"])


def test_predicted_liver_comes_with_its_slice(cases: list[StoredCase], quick: Quick) -> None:
    masks = {case.folder.name: np.zeros(case.shape[1:], bool) for case in cases[:2]}
    for mask in masks.values():
        mask[3, 5, 7] = True
    batches = StageBatches(quick(), "tumour", cases[:2], livers=masks, threads=0)
    for batch in batches.epoch():
        assert torch.equal(batch["liver"].any(dim=2).any(dim=1), batch["slice"] == 3)
    with pytest.raises(BaselineError, match="no predicted liver"):
        StageBatches(quick(), "tumour", cases[:3], livers=masks, threads=0)


def test_masks_of_a_shrunk_batch_can_be_compared(cases: list[StoredCase], quick: Quick) -> None:
    learnt = overfit_one_batch(quick(input__shrink=2), "liver", cases[:2], steps=1)
    assert 0 <= learnt["dice"] <= 1


@pytest.mark.parametrize(
    ("preset", "stage"), [("paper", "tumour"), ("modern", "tumour"), ("3d", "joint"), ("3d", "tumour")]
)
def test_one_batch_can_be_overfitted(cases: list[StoredCase], quick: Quick, preset: str, stage: Any) -> None:
    learnt = overfit_one_batch(quick(preset), stage, cases[:2], steps=60)
    assert learnt["dice"] > 0.9
    assert learnt["last_loss"] < 0.5 * learnt["first_loss"]


@pytest.mark.parametrize("preset", ["paper", "modern"])
def test_slices_on_the_device_are_the_same_batches(cases: list[StoredCase], quick: Quick, preset: str) -> None:
    config = quick(preset, batch_size=3)
    from_store, on_device = (
        StageBatches(
            config.model_copy(update={"resident": resident}),
            "liver",
            cases,
            threads=0,
            shuffled=True,
            placement=Placement(rank=1, world_size=2, device=torch.device("cpu")),
        )
        for resident in ("no", "yes")
    )
    assert on_device.resident
    assert not from_store.resident
    for _ in range(2):
        for a, b in zip(from_store.epoch(), on_device.epoch(), strict=True):
            assert {"image", "label", "case", "slice", "target", "donor"} <= a.keys() & b.keys()
            assert all(torch.equal(a[name], b[name].to(a[name].dtype)) for name in b)


def test_a_cpu_keeps_nothing_resident_unless_told(cases: list[StoredCase], quick: Quick) -> None:
    assert not StageBatches(
        quick(), "liver", cases, threads=0, placement=Placement(device=torch.device("cpu"))
    ).resident
