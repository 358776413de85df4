"""What a training costs: operations, memory, and time measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.networks import build_model
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.step import TrainingStep, build_optimizer
from hcc_tace_data.baseline.unet import count_parameters, layer_table

__all__ = ["Cost", "dummy_batch", "estimate_cost", "make_step", "step_flops", "time_stage"]

_FLOAT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one training step.

    Attributes
    ----------
    parameters : int
        Trained values of one network.
    flops : int
        Floating-point operations, a multiplication and an addition counted as two; backward counted as twice forward.
    memory_bytes : int
        Weights, gradients, optimiser, average and what backward needs; an estimate, libraries add their own.
    """

    parameters: int
    flops: int
    memory_bytes: int


def _network_sides(side: int, config: TrainConfig, step: int) -> tuple[int, ...]:
    """Return what a network sees of images of `side` x `side` pixels: a slice, or a patch."""
    if config.input.patches is not None:
        return config.input.patches.size
    small = -(-side // config.input.shrink)
    return (-(-small // step) * step,) * 2


@cache
def step_flops(config: TrainConfig, channels: int, side: int) -> int:
    """Return the operations of one training step, counted by PyTorch without running it."""
    from torch.utils.flop_counter import FlopCounterMode  # noqa: PLC0415 - slow to import

    with torch.device("meta"):
        model = build_model(config, channels).eval()
    sides = _network_sides(side, config, model.step)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(config.batch_size, channels, *sides, device="meta"))
    return 3 * int(counter.get_total_flops())


@cache
def estimate_cost(config: TrainConfig, channels: int, side: int) -> Cost:
    """Return what one step of a configuration costs on images of `side` x `side` pixels, or on its patches."""
    with torch.device("meta"):
        model = build_model(config, channels)
    parameters = count_parameters(model)
    copies = 4 + (1 if config.ema else 0)  # weight, gradient, two moments
    sides = _network_sides(side, config, model.step)
    kept = sum(torch.Size(row.output).numel() for row in layer_table(model, sides)) * config.batch_size
    return Cost(
        parameters=parameters,
        flops=step_flops(config, channels, side),
        memory_bytes=_FLOAT * (parameters * copies + kept),
    )


def dummy_batch(config: TrainConfig, channels: int, side: int) -> dict[str, Tensor]:
    """Return a batch of noise with a liver and a tumour in it."""
    generator = torch.Generator().manual_seed(0)
    patches = config.input.patches
    sides = (side, side) if patches is None else patches.size
    image = torch.randint(-200, 300, (config.batch_size, channels, *sides), generator=generator, dtype=torch.int16)
    label = torch.zeros(config.batch_size, *sides, dtype=torch.uint8)
    height, width = sides[-2:]
    label[..., height // 4 : 3 * height // 4, width // 8 : 3 * width // 4] = 1  # about the box of a real one
    label[..., height // 3 : height // 2, width // 3 : width // 2] = 2
    if patches is None:
        return {"image": image, "label": label}
    return {"image": image, "label": label, "spacing": torch.tensor([[2.5, 0.8, 0.8]] * config.batch_size)}


def make_step(config: TrainConfig, stage: Stage, channels: int) -> TrainingStep:
    """Return a training step with a new network."""
    torch.manual_seed(config.seed)
    model = build_model(config, channels, stage)
    step = TrainingStep(config, stage, model, build_optimizer(config, model), TrainingStep.accelerator(config))
    step.network.train()
    return step


def time_stage(
    config: TrainConfig,
    stage: Stage,
    channels: int,
    side: int,
    *,
    repeats: int = 3,
    batch: Mapping[str, Tensor] | None = None,
) -> tuple[float, float]:
    """Return the seconds of a training step, and of a prediction of one of its images, measured here.

    Parameters
    ----------
    config : TrainConfig
        What is trained.
    stage : {"liver", "tumour", "joint"}
        Which network.
    channels, side : int
        Of the dummy batch.
    repeats : int
        Steps of which the median is taken, after one that is not counted.
    batch : mapping, optional
        A real batch instead of the dummy.
    """
    step = make_step(config, stage, channels)
    batch = dummy_batch(config, channels, side) if batch is None else batch
    # both return a number, so they have waited for the device
    training = _median_seconds(lambda: step(batch), repeats)
    image, _ = step.inputs(batch)
    step.network.eval()

    def predict() -> float:
        with torch.inference_mode():
            return float(step.inner(image).float().softmax(dim=1).sum())

    return training, _median_seconds(predict, repeats) / len(image)


def _median_seconds(run: Callable[[], float], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]
