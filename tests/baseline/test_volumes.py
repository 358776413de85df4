"""The 3D network: patches in, volumes out, and the same verbs, records and resume as of the 2D ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hcc_tace_data.baseline.checkpoint import load_weights
from hcc_tace_data.baseline.config import TrainConfig, load_config
from hcc_tace_data.baseline.folds import overfit_one_batch
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.train import train_stage
from hcc_tace_data.loaders.store import StoredCase

#: Of a network that trains in seconds, in the words of the command.
TINY_3D = ["model.widths=[8,16]", "model.blocks=[1,1]", "input.patches.size=[4,16,16]", "input.patches.per_volume=2"]
TINY_3D += ["optimizer.name=adamw", "optimizer.lr=0.01", "epochs=3", "validate_every=1"]


def small(*more: str) -> TrainConfig:
    """Return a configuration that trains in seconds."""
    return load_config("3d", [*TINY_3D, *more])


@pytest.mark.parametrize("stage", ["joint", "tumour"])
def test_one_batch_is_overfitted(cases: list[StoredCase], stage: str) -> None:
    learnt = overfit_one_batch(small("batch_size=4"), stage, cases[:2], steps=40)
    assert learnt["dice"] >= 0.9
    assert learnt["last_loss"] < 0.3 * learnt["first_loss"]


@pytest.mark.parametrize("stage", ["joint", "tumour"])
def test_resumed_training_reaches_the_same_weights(cases: list[StoredCase], tmp_path: Path, stage: str) -> None:
    """Augmented, on other patches in each epoch."""
    config = small()
    train_stage(config, stage, cases[:4], cases[4:], tmp_path / "whole")
    train_stage(config, stage, cases[:4], cases[4:], tmp_path / "parts", TrainOptions(stop_after=1))
    weights = [load_weights(tmp_path / name / "last.safetensors")[0] for name in ("whole", "parts")]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    result = train_stage(config, stage, cases[:4], cases[4:], tmp_path / "parts", TrainOptions(resume=True))
    assert (result.epochs, result.steps) == (3, 12)
    weights = [load_weights(tmp_path / name / "last.safetensors")[0] for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    logs = [(tmp_path / name / "steps.csv").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
