"""The paper's network, layer by layer, and its loss."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hcc_tace_data.baseline.config import LossConfig, load_config
from hcc_tace_data.baseline.losses import segmentation_loss, soft_dice_loss
from hcc_tace_data.baseline.unet import UNet2d, count_parameters, layer_table
from hcc_tace_data.errors import UsageError


def test_parameter_count_of_the_paper() -> None:
    model = UNet2d(in_channels=2, classes=6)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 31.4


def test_normalisation_precedes_every_convolution_and_dropout_only_the_up_limb() -> None:
    model = UNet2d(in_channels=1, classes=2)
    for limb, has_dropout in ((model.down, False), (model.up, True)):
        blocks = [block for pair in limb for block in pair]
        for block in blocks:
            kinds = [type(layer) for layer in block]
            expected = (
                [nn.BatchNorm2d, nn.Dropout2d, nn.Conv2d, nn.ReLU]
                if has_dropout
                else [nn.BatchNorm2d, nn.Conv2d, nn.ReLU]
            )
            assert kinds == expected
    assert [pair[1][1].out_channels for pair in model.down] == [64, 128, 256, 512, 1024]
    assert model.up[0][0][1].p == 0.5


def test_networks_are_built_in_one_place() -> None:
    from hcc_tace_data.baseline import networks

    folder = Path(networks.__file__).parent
    builders = {path.name for path in folder.glob("*.py") if "UNet2d(\n" in path.read_text(encoding="utf-8")}
    assert builders == {"networks.py"}


def test_output_has_the_input_size() -> None:
    model = UNet2d(in_channels=3, classes=5, widths=(4, 8, 16)).eval()
    assert model(torch.zeros(2, 3, 32, 48)).shape == (2, 5, 32, 48)


def test_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UsageError, match="multiples of 4"):
        UNet2d(in_channels=1, classes=2, widths=(4, 8, 16))(torch.zeros(1, 1, 30, 32))


def test_loss_falls_to_zero_for_a_perfect_answer_and_has_a_gradient() -> None:
    label = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    logits = (torch.nn.functional.one_hot(label, 3).movedim(-1, 1) * 60.0).requires_grad_()
    assert soft_dice_loss(logits, label).item() < 1e-4
    wrong = soft_dice_loss(logits.roll(1, dims=1), label)
    assert wrong.item() > 0.9
    flat = torch.zeros(2, 3, 8, 8, requires_grad=True)
    soft_dice_loss(flat, label).backward()
    assert flat.grad is not None
    assert flat.grad.abs().sum() > 0


def test_one_batch_is_learnt() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 16, 16)
    label = (image[:, 0] > 0).long()
    model = UNet2d(in_channels=1, classes=2, widths=(8, 16), dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    first = soft_dice_loss(model(image), label).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = soft_dice_loss(model(image), label)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2 * first


def test_layer_table_of_the_paper() -> None:
    model = UNet2d(in_channels=1, classes=2)
    rows = layer_table(model, 64)
    assert sum(row.parameters for row in rows) == count_parameters(model) == 31_391_428
    convolutions = [row for row in rows if row.kind == "Conv2d"]
    assert [row.output for row in convolutions[:2]] == [(64, 64, 64), (64, 64, 64)]
    down = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert [row.output[0] for row in convolutions] == [*down, *down[-3::-1], 2]
    assert sum(row.kind == "Dropout2d" for row in rows) == 8
    assert next(model.parameters()).device.type == "cpu"


def test_deep_supervision_has_heads_in_training_alone() -> None:
    model = UNet2d(in_channels=1, classes=2, widths=(4, 8, 16), deep_supervision=True)
    outputs = model(torch.zeros(1, 1, 16, 16))
    assert [tuple(item.shape) for item in outputs] == [(1, 2, 16, 16), (1, 2, 8, 8)]
    assert model.eval()(torch.zeros(1, 1, 16, 16)).shape == (1, 2, 16, 16)
    label = torch.randint(0, 2, (1, 16, 16))
    config = LossConfig(dice=1, squared=True, cross_entropy=1)
    both = segmentation_loss(outputs, label, config)
    fine, coarse = (segmentation_loss(o, t, config) for o, t in zip(outputs, (label, label[:, ::2, ::2]), strict=True))
    assert both.item() == pytest.approx((2 * fine.item() + coarse.item()) / 3, rel=1e-5)


def test_words_that_yaml_reads_as_truth_values() -> None:
    assert load_config("modern", ["precision=no", "tumour_liver=true"]).precision == "no"
    assert load_config("paper").input.standardise is False
