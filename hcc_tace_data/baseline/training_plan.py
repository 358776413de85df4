"""How much of the reference training fits into a budget of time: settled before it begins, and written down.

A plan fixes numbers of steps, never times: who follows the same plan gets the same networks, however fast the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.cost import estimate_cost, step_flops
from hcc_tace_data.baseline.data import Part
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.baseline.pace import best_threads, measure, seconds_besides, torch_threads
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.supply import sample_count
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["Plan", "make_plan"]

#: A tumour network that gets fewer steps than this is made smaller first.
_ENOUGH = 600
#: The liver is learnt sooner, but what it gets wrong the tumour network takes for tumour: steps of one for the other's.
_SHARES: dict[Stage, float] = {"liver": 2, "tumour": 3, "joint": 3}
#: How often a training that was cut short looks at its validation patients, at the most.
_VALIDATIONS = 3
#: Never fewer, even if that takes longer than the budget: networks would find nothing.
_FEWEST: dict[Stage, int] = {"liver": 40, "tumour": 160, "joint": 160}
#: What narrow networks are trained with.
_NARROW_RATE, _NARROW_BATCH = 0.01, 8
#: Networks to fall back to: widths, and the side of the images that they see at most.
_SMALLER: tuple[tuple[tuple[int, ...], int], ...] = (
    ((64, 128, 256, 512, 1024), 256),
    ((32, 64, 128, 256), 256),
    ((16, 32, 64, 128), 256),
    ((16, 32, 64), 128),
    ((8, 16, 32), 128),
    ((8, 16, 32), 64),
)
#: 3D networks to fall back to: widths and patches; and the rate of AdamW, in place of SGD.
_SMALLER_3D: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...] = (
    ((32, 64, 128, 256), (48, 128, 128)),
    ((16, 32, 64, 128), (32, 96, 96)),
    ((8, 16, 32), (16, 64, 64)),
    ((8, 16, 32), (8, 32, 32)),
)
_NARROW_RATE_3D = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be trained.

    Attributes
    ----------
    config : TrainConfig
        The configuration, scaled to the budget.
    changes : tuple of str
        How it differs from the preset.
    folds : tuple of int
        Which.
    control : bool
        Whether a control with shuffled labels is trained besides.
    trainings : int
        How many networks.
    steps : dict
        Stage -> at most how many steps.
    threads : int
        Of PyTorch. Other numbers give other last bits, so a run that is continued keeps to it.
    estimate : dict
        ``minutes`` in all, ``seconds_per_step`` measured for each stage, ``memory_bytes``, ``disk_bytes``, ``flops``,
        ``parameters``.
    """

    config: TrainConfig
    changes: tuple[str, ...]
    folds: tuple[int, ...]
    control: bool
    trainings: int
    steps: dict[Stage, int]
    threads: int
    estimate: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return {
            **{key: value for key, value in asdict(self).items() if key != "config"},
            "config": self.config.model_dump(mode="json"),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Plan:
        """Read what :meth:`plain` gave."""
        return cls(
            config=TrainConfig.model_validate(plain["config"]),
            changes=tuple(plain["changes"]),
            folds=tuple(plain["folds"]),
            control=bool(plain["control"]),
            trainings=int(plain["trainings"]),
            steps={stage: int(count) for stage, count in plain["steps"].items()},
            threads=int(plain["threads"]),
            estimate=dict(plain["estimate"]),
        )


def make_plan(
    request: ReproduceRequest,
    parts: Sequence[Part],
    test: Sequence[StoredCase],
    *,
    seconds: float | None = None,
) -> Plan:
    """Plan the trainings of a cross-validation.

    Parameters
    ----------
    request : ReproduceRequest
        What is asked for. With `steps` the plan does not depend on the machine, unless `seconds` makes the networks
        smaller.
    parts : sequence of Part
        The folds.
    test : sequence of StoredCase
        Who is predicted at the end.
    seconds : float, optional
        For everything from now on; None trains the preset in full.
    """
    config, steps, control = request.config, request.steps, request.control
    full = max(_full_steps(config, part) for part in parts)
    threads = torch.get_num_threads()
    changes: list[str] = []
    scaled = config
    if seconds is not None and steps is None:
        side = max(parts[0].train[0].shape[2:])
        threads = best_threads(_variants(config, side)[-1][0], parts[0])
    with torch_threads(threads):
        if seconds is not None:
            scaled, changes = _fitting(config, parts, test, seconds, control)
        pace = measure(scaled, parts[0])
    trainings = len(parts) + (1 if control else 0)
    each = dict.fromkeys(config.stages, min(full, steps or full))
    if seconds is not None and steps is None:
        left = seconds - seconds_besides(scaled, parts, test, pace, control, _VALIDATIONS)
        each = {stage: min(full, count) for stage, count in _steps_in(left, trainings, pace).items()}
    looks = max(1, config.epochs // config.validate_every)
    if min(each.values()) < full:
        often = max(1, -(-max(each.values()) // (_VALIDATIONS * _batches(scaled, parts[0]))))
        scaled = scaled.model_copy(update={"validate_every": often, "epochs": max(1, *each.values())})
        looks = _VALIDATIONS
        names = ", ".join(each)
        changes.append(f"{' and '.join(map(str, each.values()))} steps ({names}) instead of up to {full}")
    first = parts[0].train[0]
    cost = estimate_cost(scaled, first.shape[0], max(first.shape[2:]))
    rest = seconds_besides(scaled, parts, test, pace, control, looks)
    training = trainings * sum(each[stage] * pace[stage] for stage in config.stages)
    return Plan(
        config=scaled,
        changes=tuple(changes),
        folds=tuple(part.fold for part in parts),
        control=control,
        trainings=len(config.stages) * trainings,
        steps=each,
        threads=threads,
        estimate={
            "minutes": round((training + rest) / 60, 1),
            "seconds_per_step": {stage: round(value, 4) for stage, value in pace.items()},
            "memory_bytes": cost.memory_bytes,
            # last and best weights, and the state with model, two moments and the average
            "disk_bytes": len(config.stages) * trainings * 4 * cost.parameters * (6 if scaled.ema else 5),
            "flops": cost.flops,
            "parameters": cost.parameters,
        },
    )


def _batches(config: TrainConfig, part: Part) -> int:
    counts = [sample_count(config, stage, part.train) for stage in config.stages]
    return max(1, -(-max(counts) // config.batch_size))


def _full_steps(config: TrainConfig, part: Part) -> int:
    return config.max_steps or config.epochs * _batches(config, part)


def _steps_in(seconds: float, trainings: int, pace: Mapping[Stage, float]) -> dict[Stage, int]:
    """Return how many steps of each stage fit."""
    unit = max(0.0, seconds) / trainings / sum(_SHARES[stage] * pace[stage] for stage in pace)
    return {stage: max(_FEWEST[stage], int(_SHARES[stage] * unit) // 10 * 10) for stage in pace}


def _fitting(
    config: TrainConfig, parts: Sequence[Part], test: Sequence[StoredCase], seconds: float, control: bool
) -> tuple[TrainConfig, list[str]]:
    """Return the largest network of which enough steps fit, judged by operations a second of the smallest."""
    channels, side = parts[0].train[0].shape[0], max(parts[0].train[0].shape[2:])
    smallest = _variants(config, side)[-1][0]
    measured, base = measure(smallest, parts[0]), step_flops(smallest, channels, side)
    trainings = len(parts) + (1 if control else 0)
    # wide layers use a processor better than narrow ones: the larger networks are faster than this says
    variants = [(config, list[str]()), *_variants(config, side)]
    for variant, changes in variants:
        slower = step_flops(variant, channels, side) / base
        pace = {stage: measured[stage] * slower for stage in config.stages}
        left = seconds - seconds_besides(variant, parts, test, pace, control, _VALIDATIONS)
        wanted = min(_ENOUGH, max(_full_steps(variant, part) for part in parts))
        if _steps_in(left, trainings, pace)[config.stages[-1]] >= wanted:
            return variant, changes
    return variants[-1]


def _sampled(factor: int) -> str:
    """Return how an image is averaged before the network, in words."""
    return "at full resolution" if factor == 1 else f"downsampled {factor}x"


def _variants(config: TrainConfig, side: int) -> list[tuple[TrainConfig, list[str]]]:
    """Return smaller configurations, the smallest last, and what is different in each."""
    if config.input.patches is not None:
        return [_variant_3d(config, *smaller) for smaller in _SMALLER_3D]
    return [_variant(config, widths, most, side) for widths, most in _SMALLER]


def _variant_3d(
    config: TrainConfig, widths: tuple[int, ...], size: tuple[int, int, int]
) -> tuple[TrainConfig, list[str]]:
    """Return a configuration with a smaller 3D network and smaller patches, where its own are larger."""
    patches, model = config.input.patches, config.model
    if patches is None or sum(widths) >= sum(model.widths):
        return config, []
    blocks = (model.blocks or ())[: len(widths)]
    blocks += (1,) * (len(widths) - len(blocks))
    update: dict[str, Any] = {
        "model": model.model_copy(update={"widths": widths, "blocks": tuple(min(2, count) for count in blocks)}),
        "input": config.input.model_copy(update={"patches": patches.model_copy(update={"size": size})}),
    }
    changes = [
        f"widths {'-'.join(map(str, widths))} instead of {'-'.join(map(str, model.widths))}, "
        "at most two blocks a level",
        f"patches of {' x '.join(map(str, size))} voxels instead of {' x '.join(map(str, patches.size))}",
    ]
    if config.optimizer.name == "sgd":
        # few steps and narrow networks learn sooner with it
        update["optimizer"] = config.optimizer.model_copy(update={"name": "adamw", "lr": _NARROW_RATE_3D})
        changes.append(f"AdamW at {_NARROW_RATE_3D} instead of SGD at {config.optimizer.lr}")
    return config.model_copy(update=update), changes


def _variant(config: TrainConfig, widths: tuple[int, ...], most: int, side: int) -> tuple[TrainConfig, list[str]]:
    """Return a smaller configuration and what is different in it."""
    shrink = max(config.input.shrink, -(-side // most))
    changes = []
    update: dict[str, Any] = {}
    if sum(widths) < sum(config.model.widths):
        update["model"] = config.model.model_copy(update={"widths": widths})
        changes.append(f"widths {'-'.join(map(str, widths))} instead of {'-'.join(map(str, config.model.widths))}")
    if shrink != config.input.shrink:
        own = max(1, shrink // 2) if config.input.crop else shrink  # a liver takes half of a side
        update["input"] = config.input.model_copy(update={"shrink": shrink, "tumour_shrink": own})
        changes.append(f"images {_sampled(shrink)}, liver crops {_sampled(own)}")
    if config.optimizer.name == "adamw" and widths[0] <= 16 and config.optimizer.lr < _NARROW_RATE:
        # narrow networks and few steps bear, and need, larger ones
        update["optimizer"] = config.optimizer.model_copy(update={"lr": _NARROW_RATE})
        changes.append(f"learning rate {_NARROW_RATE} instead of {config.optimizer.lr}")
    if widths[0] <= 16 and config.batch_size > _NARROW_BATCH:
        update["batch_size"] = _NARROW_BATCH
        changes.append(f"batches of {_NARROW_BATCH} instead of {config.batch_size}")
    return config.model_copy(update=update), changes
