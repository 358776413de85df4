"""How much of the reference training fits into a budget of time: settled before it begins, and written down.

A plan fixes numbers of steps, never times: who follows the same plan gets the same networks, however fast the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.cost import Cost, estimate_cost, step_flops
from hcc_tace_data.baseline.data import Part
from hcc_tace_data.baseline.options import ReproduceRequest
from hcc_tace_data.baseline.pace import Pace, best_threads, measure, seconds_besides, torch_threads
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.supply import sample_count
from hcc_tace_data.baseline.variants import Variant, variants
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["Plan", "make_plan"]

#: A tumour network that gets fewer steps than this is made smaller first; of patches, which show less than slices do.
_ENOUGH, _ENOUGH_3D = 600, 2500
#: The liver is learnt sooner, but what it gets wrong the tumour network takes for tumour: steps of one for the other's.
_SHARES: dict[Stage, float] = {"liver": 2, "tumour": 3, "joint": 3}
#: How often a training that was cut short looks at its validation patients, at the most.
_VALIDATIONS = 3
#: Never fewer, even if that takes longer than the budget: networks would find nothing.
_FEWEST: dict[Stage, int] = {"liver": 40, "tumour": 160, "joint": 160}
#: Wide layers use a processor better than narrow ones, but hardly so many times better.
_BETTER = 3.0


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
        ``minutes`` in all, and ``minutes_of`` which ``training``, ``control``, ``validation``, ``prediction`` and
        ``scores``; ``over_budget``, whether even the least takes longer than it may; ``seconds_per_step`` measured for
        each stage, ``memory_bytes``, ``disk_bytes``, ``flops``, ``parameters``.
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


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done with the networks of a plan."""

    parts: Sequence[Part]
    test: Sequence[StoredCase]
    control: bool

    @property
    def trainings(self) -> int:
        return len(self.parts) + (1 if self.control else 0)

    def besides(self, config: TrainConfig, pace: Pace, validations: Mapping[Stage, int]) -> dict[str, float]:
        """Return the seconds of all that is not training."""
        return seconds_besides(config, self.parts, self.test, pace, self.control, validations)

    def validations(self, config: TrainConfig, most: int) -> dict[Stage, int]:
        """Return how often each stage is validated at the most, where that with the longest epochs is so often."""
        batches = {stage: _batches(config, stage, self.parts[0]) for stage in config.stages}
        longest = max(batches.values())
        return {stage: -(-most * longest // own) + (own < longest) for stage, own in batches.items()}

    def steps_in(self, seconds: float, config: TrainConfig, pace: Pace, validations: int) -> dict[Stage, int]:
        """Return how many steps of each stage fit, and at least the fewest."""
        besides = self.besides(config, pace, self.validations(config, validations))
        left = (seconds - sum(besides.values())) / self.trainings
        found: dict[Stage, int] = {}
        # first where the fewest are most of a share: what they take beyond it is missing elsewhere
        open_ = sorted(config.stages, key=lambda stage: _SHARES[stage] / _FEWEST[stage])
        while open_:
            unit = max(0.0, left) / sum(_SHARES[stage] * pace.step[stage] for stage in open_)
            stage = open_.pop(0)
            wanted = _SHARES[stage] * unit
            found[stage] = max(_FEWEST[stage], int(wanted) // 10 * 10)
            left -= max(_FEWEST[stage], wanted) * pace.step[stage]
        return {stage: found[stage] for stage in config.stages}


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
        For everything from now on; None trains the preset in full. The plan takes longer where even the smallest
        network with the fewest steps does, and then says so.
    """
    began = time.monotonic()
    work = _Work(parts, test, request.control)
    config, steps = request.config, request.steps
    full = max(_full_steps(config, part) for part in parts)
    threads = torch.get_num_threads()
    smaller = variants(config, [case for part in parts for case in part.train])
    if seconds is not None and steps is None:
        threads = best_threads(smaller[-1][0] if smaller else config, parts[0])

    def left() -> float:
        return (seconds or 0.0) - (time.monotonic() - began)

    with torch_threads(threads):
        if seconds is None:
            scaled, changes, pace = config, list[str](), measure(config, parts[0])
        else:
            (scaled, changes), pace = _fitting(config, smaller, work, left)
    each = dict.fromkeys(config.stages, min(full, steps or full))
    looks, remaining = _VALIDATIONS, left()
    if seconds is not None and steps is None:
        fitting = work.steps_in(remaining, scaled, pace, looks)
        each = {stage: min(full, fitting[stage]) for stage in config.stages}
        training = work.trainings * sum(each[stage] * pace.step[stage] for stage in config.stages)
        # only the fewest steps of the smallest networks take longer
        while (
            looks > 1
            and training + sum(work.besides(scaled, pace, work.validations(scaled, looks)).values()) > remaining
        ):
            looks -= 1
    first = parts[0].train[0]
    cost = estimate_cost(scaled, first.shape[0], max(first.shape[2:]))
    most = None if seconds is None else remaining
    estimate = _estimate(scaled, each, work, pace, cost, most)
    if min(each.values()) < full or (steps is None and estimate["over_budget"]):
        longest = max(_batches(scaled, stage, parts[0]) for stage in config.stages)
        often = max(1, -(-max(each.values()) // (looks * longest)))
        scaled = scaled.model_copy(update={"validate_every": often, "epochs": max(1, *each.values())})
        estimate = _estimate(scaled, each, work, pace, cost, most)
        if min(each.values()) < full:
            counts = " and ".join(map(str, each.values()))
            changes = [*changes, f"{counts} steps ({', '.join(each)}) instead of up to {full}"]
        else:
            changes = [*changes, "validated less often"]
    return Plan(
        config=scaled,
        changes=tuple(changes),
        folds=tuple(part.fold for part in parts),
        control=work.control,
        trainings=len(config.stages) * work.trainings,
        steps=each,
        threads=threads,
        estimate=estimate,
    )


def _estimate(
    config: TrainConfig, steps: Mapping[Stage, int], work: _Work, pace: Pace, cost: Cost, seconds: float | None
) -> dict[str, Any]:
    """Return what a plan costs, and whether that is more than `seconds`."""
    looks: dict[Stage, int] = {}
    for stage, number in steps.items():
        epochs = -(-number // _batches(config, stage, work.parts[0]))
        looks[stage] = -(-epochs // config.validate_every)
    training = sum(number * pace.step[stage] for stage, number in steps.items())
    taken = {
        "training": len(work.parts) * training,
        "control": training if work.control else 0.0,
        **work.besides(config, pace, looks),
    }
    return {
        "minutes": round(sum(taken.values()) / 60, 1),
        "minutes_of": {name: round(value / 60, 1) for name, value in taken.items()},
        "over_budget": seconds is not None and sum(taken.values()) > seconds,
        "seconds_per_step": {stage: round(value, 4) for stage, value in pace.step.items()},
        "memory_bytes": cost.memory_bytes,
        # last and best weights, and the state with model, two moments and the average
        "disk_bytes": len(steps) * work.trainings * 4 * cost.parameters * (6 if config.ema else 5),
        "flops": cost.flops,
        "parameters": cost.parameters,
    }


def _batches(config: TrainConfig, stage: Stage, part: Part) -> int:
    return max(1, -(-sample_count(config, stage, part.train) // config.batch_size))


def _full_steps(config: TrainConfig, part: Part) -> int:
    return config.max_steps or config.epochs * max(_batches(config, stage, part) for stage in config.stages)


def _fitting(
    config: TrainConfig, smaller: Sequence[Variant], work: _Work, left: Callable[[], float]
) -> tuple[Variant, Pace]:
    """Return the largest network of which enough steps fit into the seconds that are left, and its pace."""
    first = work.parts[0].train[0]
    channels, side = first.shape[0], max(first.shape[2:])
    volumes = config.input.patches is not None
    last = config.stages[-1]

    def enough(variant: TrainConfig, pace: Pace) -> bool:
        wanted = min(_ENOUGH_3D if volumes else _ENOUGH, max(_full_steps(variant, part) for part in work.parts))
        return work.steps_in(left(), variant, pace, _VALIDATIONS)[last] >= wanted

    candidates: list[Variant] = [*reversed(smaller), (config, [])]
    chosen = candidates[0]
    pace = measured = measure(chosen[0], work.parts[0])
    base = flops = step_flops(chosen[0], channels, side)
    for candidate in candidates[1:]:
        other = step_flops(candidate[0], channels, side)
        if not volumes:
            # larger networks are faster than this says
            if enough(candidate[0], measured.times(other / base)):
                chosen = candidate
            continue
        # each is measured, but for those of which not even a few steps can be afforded
        if not enough(candidate[0], pace.times(other / flops / _BETTER)):
            break
        found = measure(candidate[0], work.parts[0])
        if not enough(candidate[0], found):
            break
        chosen, pace, flops = candidate, found, other
    if not volumes and chosen is not candidates[0]:
        pace = measure(chosen[0], work.parts[0])
    return chosen, pace
