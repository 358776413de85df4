"""The plan of a reproduction, at a recorded pace: what fits into a budget, and what does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from hcc_tace_data.baseline import training_plan
from hcc_tace_data.baseline.config import TrainConfig, load_config
from hcc_tace_data.baseline.data import Part
from hcc_tace_data.baseline.networks import build_model
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.baseline.pace import Pace, seconds_besides
from hcc_tace_data.baseline.predict import Cascade
from hcc_tace_data.baseline.training_plan import Plan, make_plan
from hcc_tace_data.baseline.variants import variants
from hcc_tace_data.loaders.store import StoredCase

#: Minutes, in ascending order: from far too few to more than anyone needs.
BUDGETS = (0.2, 4, 8, 15, 30, 60, 100, 500, 2000, 20000, 500000, 50_000_000)


@dataclass
class Shop:
    """Three patients to learn from, one to choose by, two to test on; and a machine whose pace is known."""

    part: Part
    test: list[StoredCase]
    measured: list[tuple[int, ...]]

    def plan(self, config: TrainConfig, minutes: float, *, control: bool = True) -> Plan:
        request = ReproduceRequest(config=config, folds=(0,), control=control)
        return make_plan(request, [self.part], self.test, seconds=60 * minutes)


def _recorded(config: TrainConfig) -> float:
    """Return seconds of an image in training: wide layers cost less than their operations."""
    voxels = math.prod(config.input.patches.size) if config.input.patches else (64 / config.input.shrink) ** 2
    return voxels * config.model.widths[0] ** 1.5 * sum(config.model.blocks or (1,)) / 4e6


@pytest.fixture
def shop(cases: list[StoredCase], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Return the patients, and record the pace."""
    found = Shop(Part(fold=0, train=tuple(cases[:3]), validation=(cases[3],)), cases[4:], [])

    def measure(config: TrainConfig, part: Part) -> Pace:
        found.measured.append(config.model.widths)
        seconds = _recorded(config)
        step = dict.fromkeys(config.stages, config.batch_size * seconds)
        return Pace(step, dict.fromkeys(config.stages, seconds / 4))

    monkeypatch.setattr(training_plan, "measure", measure)
    return found


@pytest.mark.parametrize("keys", [["3d"], ["3d", "stages=[joint, tumour]"], ["modern"]])
def test_more_time_never_gives_less(shop: Shop, keys: list[str]) -> None:
    config = load_config(keys[0], keys[1:])
    plans = [shop.plan(config, minutes) for minutes in BUDGETS]
    for less, more in pairwise(plans):
        assert sum(more.config.model.widths) >= sum(less.config.model.widths)
        if more.config.model == less.config.model:
            assert all(more.steps[stage] >= less.steps[stage] for stage in config.stages)
    assert plans[-1].config == config
    assert not plans[-1].changes
    for minutes, plan in zip(BUDGETS, plans, strict=True):
        assert plan.estimate["minutes"] == pytest.approx(sum(plan.estimate["minutes_of"].values()), abs=0.3)
        if plan.estimate["over_budget"]:
            # no network and no number of steps is smaller
            assert plan.config.model == plans[0].config.model
            assert plan.steps == plans[0].steps
        else:
            assert plan.estimate["minutes"] <= minutes + 0.05
    assert plans[0].estimate["over_budget"]
    assert not plans[-2].estimate["over_budget"]


def test_each_3d_network_is_measured_before_it_is_chosen(shop: Shop) -> None:
    config = load_config("3d")
    plan = shop.plan(config, 60)
    narrow, chosen = shop.measured[0], plan.config.model.widths
    assert sum(narrow) < sum(chosen) < sum(config.model.widths)
    assert chosen in shop.measured
    assert plan.estimate["seconds_per_step"]["joint"] == pytest.approx(2 * _recorded(plan.config), abs=1e-4)
    # the largest, of which a single step takes hours on a processor, is not
    assert config.model.widths not in shop.measured


def test_smaller_patches_hold_the_liver(shop: Shop) -> None:
    config = load_config("3d", ["input.patches.size=[64,320,320]"])
    for box in ((2, 9), (10, 200), (0, 500)):
        livers = [_with_liver(case, box) for case in shop.part.train]
        for variant, changes in variants(config, livers):
            patches = variant.input.patches
            assert patches is not None
            assert TrainConfig.model_validate(variant.model_dump())  # sides are multiples of what the levels halve
            assert patches.size[1] >= min(320, box[1] - box[0])
            assert patches.size[0] >= 16
            assert any("mirrored" in change for change in changes)
            assert not patches.mirror
            assert patches.foreground == 0.5
            assert (variant.augment, variant.ema) == ("spatial", 0.995)


def _with_liver(case: StoredCase, box: tuple[int, int]) -> StoredCase:
    return replace(case, shape=(1, 60, 512, 512), liver=((5, 50), box, (3, 90)))


@pytest.mark.parametrize(
    ("stages", "mirror"), [("[joint]", True), ("[joint, tumour]", False), ("[liver, tumour]", False)]
)
def test_windows_of_a_prediction_are_counted(
    shop: Shop, quick: Callable[..., TrainConfig], mirror: bool, stages: str
) -> None:
    config = quick("3d", input__patches__mirror=mirror, input__patches__size="[4,24,24]", stages=stages)
    passed = 0

    def count(_: object, images: tuple[torch.Tensor], __: object) -> None:
        nonlocal passed
        passed += len(images[0])

    networks = [build_model(config, 1, stage).eval() for stage in config.stages]
    for network in networks:
        network.register_forward_hook(count)
        torch.nn.init.zeros_(network.head.weight)
        with torch.no_grad():  # all is liver, so that the liver found is the true one
            network.head.bias[0] = -99.0
    ends = (config.stages[0], config.stages[-1])
    cascade = Cascade((networks[0],), (networks[-1],), config, config, (), ends)
    case = replace(shop.test[0], liver=tuple((0, side) for side in shop.test[0].shape[1:]))
    for inside in (None, torch.ones(case.shape[1:], dtype=torch.bool)):
        cascade.run(torch.from_numpy(case.image.copy()), true_liver=inside)
    once = Pace(dict.fromkeys(config.stages, 1.0), dict.fromkeys(config.stages, 1.0))
    none = Part(fold=0, train=shop.part.train, validation=())
    counted = seconds_besides(config, [none], [case], once, False, dict.fromkeys(config.stages, 1))
    assert counted["prediction"] == passed
    assert counted["validation"] == 0
