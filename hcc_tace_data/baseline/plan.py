"""How much of the reference training fits into a budget of time: settled before it begins, and written down.

A plan fixes numbers of steps, never times: who follows the same plan gets the same networks, however fast the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.cost import estimate_cost, seconds_per_step, step_flops
from hcc_tace_data.baseline.data import Cohort, Part
from hcc_tace_data.baseline.stages import STAGES, Stage
from hcc_tace_data.baseline.supply import slice_ranges

__all__ = ["Plan", "make_plan"]

#: Share of the budget for training; the rest goes to validation, prediction, scores and pictures.
_TRAINING = 0.55
#: A network that gets fewer steps than this is made smaller first.
_ENOUGH = 300
#: The liver is learnt sooner than the tumour: shares of the steps, which must sum to two.
_SHARES: dict[Stage, float] = {"liver": 0.5, "tumour": 1.5}
#: Never fewer, even if that takes longer than the budget.
_FEWEST = 40
#: What narrow networks are trained with.
_NARROW_RATE, _NARROW_BATCH = 0.01, 8
#: Networks to fall back to: widths, and the side of the images that they see at most.
_SMALLER: tuple[tuple[tuple[int, ...], int], ...] = (
    ((64, 128, 256, 512, 1024), 256),
    ((32, 64, 128, 256), 256),
    ((16, 32, 64, 128), 256),
    ((16, 32, 64), 128),
    ((8, 16, 32), 64),
)


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
    estimate : dict
        ``minutes`` for training alone, ``seconds_per_step`` measured, ``memory_bytes``, ``disk_bytes``, ``flops``,
        ``parameters``.
    """

    config: TrainConfig
    changes: tuple[str, ...]
    folds: tuple[int, ...]
    control: bool
    trainings: int
    steps: dict[Stage, int]
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
            steps={stage: int(plain["steps"][stage]) for stage in STAGES},
            estimate=dict(plain["estimate"]),
        )


def make_plan(
    config: TrainConfig,
    cohort: Cohort,
    parts: Sequence[Part],
    *,
    seconds: float | None = None,
    steps: int | None = None,
    control: bool = True,
) -> Plan:
    """Plan the trainings of a cross-validation.

    Parameters
    ----------
    config : TrainConfig
        The preset.
    cohort : Cohort
        What is trained on.
    parts : sequence of Part
        The folds.
    seconds : float, optional
        For everything from now on; None trains the preset in full.
    steps : int, optional
        Steps of each training, instead of as many as fit. With it the plan does not depend on the machine, unless
        `seconds` makes the networks smaller.
    control : bool
        Also train a control on shuffled labels.
    """
    first = parts[0].train[0]
    channels, side = first.shape[0], max(first.shape[2:])
    trainings = 2 * (len(parts) + (1 if control else 0))
    full = max(_full_steps(config, part) for part in parts)
    changes: list[str] = []
    scaled, each = config, dict.fromkeys(STAGES, min(full, steps or full))
    if seconds is not None:
        allowed = _TRAINING * seconds / trainings
        scaled, changes = _fitting(config, channels, side, allowed)
    cost_of_step = seconds_per_step(scaled, "tumour", channels, side)
    if seconds is not None and steps is None:
        fit = _TRAINING * seconds / trainings / cost_of_step
        for stage, share in _SHARES.items():
            each[stage] = min(full, max(_FEWEST, int(share * fit) // 10 * 10))
    if min(each.values()) < full:
        batches = _batches(scaled, parts[0])
        often = max(1, -(-max(each.values()) // (3 * batches)))
        scaled = scaled.model_copy(update={"validate_every": often, "epochs": max(1, *each.values())})
        changes.append(f"{each['liver']} and {each['tumour']} steps a stage instead of up to {full}")
    cost = estimate_cost(scaled, channels, side)
    weights = 4 * cost.parameters
    return Plan(
        config=scaled,
        changes=tuple(changes),
        folds=tuple(part.fold for part in parts),
        control=control,
        trainings=trainings,
        steps=each,
        estimate={
            "minutes": round(trainings / 2 * sum(each.values()) * cost_of_step / 60 / _TRAINING, 1),
            "seconds_per_step": round(cost_of_step, 4),
            "memory_bytes": cost.memory_bytes,
            # last and best weights, and the state with model, two moments and the average
            "disk_bytes": trainings * weights * (6 if scaled.ema else 5),
            "flops": cost.flops,
            "parameters": cost.parameters,
        },
    )


def _batches(config: TrainConfig, part: Part) -> int:
    counts = [sum(b - a for a, b in slice_ranges(config, stage, part.train)) for stage in STAGES]
    return max(1, -(-max(counts) // config.batch_size))


def _full_steps(config: TrainConfig, part: Part) -> int:
    return config.max_steps or config.epochs * _batches(config, part)


def _fitting(config: TrainConfig, channels: int, side: int, seconds: float) -> tuple[TrainConfig, list[str]]:
    """Return the largest network of which enough steps fit, judged by operations a second of the smallest."""
    smallest = _variant(config, *_SMALLER[-1], side)[0]
    rate = step_flops(smallest, channels, side) / seconds_per_step(smallest, "tumour", channels, side, repeats=2)
    # wide layers use a processor better than narrow ones: the larger networks are faster than this says
    variants: list[tuple[TrainConfig, list[str]]] = [(config, [])]
    variants += [_variant(config, widths, most, side) for widths, most in _SMALLER]
    for variant, changes in variants:
        if step_flops(variant, channels, side) / rate * _ENOUGH <= seconds:
            return variant, changes
    return variants[-1]


def _variant(config: TrainConfig, widths: tuple[int, ...], most: int, side: int) -> tuple[TrainConfig, list[str]]:
    """Return a smaller configuration and what is different in it."""
    shrink = max(config.input.shrink, -(-side // most))
    changes = []
    update: dict[str, Any] = {}
    if sum(widths) < sum(config.model.widths):
        update["model"] = config.model.model_copy(update={"widths": widths})
        changes.append(f"widths {'-'.join(map(str, widths))} instead of {'-'.join(map(str, config.model.widths))}")
    if shrink != config.input.shrink:
        update["input"] = config.input.model_copy(update={"shrink": shrink})
        changes.append(f"images shrunk {shrink} times")
    if config.optimizer.name == "adamw" and widths[0] <= 16 and config.optimizer.lr < _NARROW_RATE:
        # narrow networks and few steps bear, and need, larger ones
        update["optimizer"] = config.optimizer.model_copy(update={"lr": _NARROW_RATE})
        changes.append(f"learning rate {_NARROW_RATE} instead of {config.optimizer.lr}")
    if widths[0] <= 16 and config.batch_size > _NARROW_BATCH:
        update["batch_size"] = _NARROW_BATCH
        changes.append(f"batches of {_NARROW_BATCH} instead of {config.batch_size}")
    return config.model_copy(update=update), changes
