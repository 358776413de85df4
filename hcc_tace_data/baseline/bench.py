"""How fast training is, and what holds it up: the step alone, the supply alone, and both together."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.cost import estimate_cost
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.step import precision_of
from hcc_tace_data.baseline.supply import StageBatches
from hcc_tace_data.baseline.trainer import Trainer
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["GPU_PEAKS", "bench", "gpu_peak"]

#: Words of a GPU's name -> its dense peak in TFLOP/s by precision, from NVIDIA's data sheets (fp32: TF32 tensor cores
#: from A100 on). The first row whose words are all in the name counts.
GPU_PEAKS: dict[tuple[str, ...], dict[str, float]] = {
    ("V100", "PCIE"): {"no": 14.0, "fp16": 112.0},
    ("V100",): {"no": 15.7, "fp16": 125.0},
    ("T4",): {"no": 8.1, "fp16": 65.0},
    ("A100",): {"no": 156.0, "fp16": 312.0, "bf16": 312.0},
    ("H100", "PCIE"): {"no": 378.0, "fp16": 756.0, "bf16": 756.0},
    ("H100", "NVL"): {"no": 418.0, "fp16": 835.0, "bf16": 835.0},
    ("H100",): {"no": 495.0, "fp16": 989.0, "bf16": 989.0},
    ("H200", "NVL"): {"no": 418.0, "fp16": 835.0, "bf16": 835.0},
    ("H200",): {"no": 495.0, "fp16": 989.0, "bf16": 989.0},
}


def bench(
    config: TrainConfig,
    cases: Sequence[StoredCase],
    *,
    stage: Stage = "liver",
    steps: int = 10,
    rounds: int = 5,
    threads: int = 2,
) -> dict[str, Any]:
    """Measure a training on stored cases.

    The step alone is forward, loss, backward and optimiser on network inputs that are ready on the device. The supply
    is gathering from the store. Both together is the loop of a training (:meth:`Trainer.epoch`): gather, copy, scale,
    shrink, augment, record the patients, step, average the weights. The three run in turn over the same batches,
    forwards in one round and backwards in the next, so that a machine that gets slower favours none; medians over
    rounds count, and of the ratio the median of each round's own.

    Parameters
    ----------
    config : TrainConfig
        What is trained.
    cases : sequence of StoredCase
        On what.
    stage : {"liver", "tumour"}
        Which network.
    steps, rounds : int
        Steps of each task in a round.
    threads : int
        Threads that gather batches.

    Returns
    -------
    dict
        Images per second of ``step``, ``supply`` and ``both``; ``ratio``, time of both over that of the step alone,
        and ``ratios`` of the rounds; ``cpu_ratio``, the same of the processor's time of all threads, which other
        programs hardly distort and to which gathering beside the step counts in full; ``gflop_per_step``, ``gflops``;
        ``share_of_peak`` on a GPU whose peak is known, else None.

    Raises
    ------
    BaselineError
        No case shows a liver.
    """
    usable = [case for case in cases if case.liver is not None]
    if not usable:
        raise BaselineError("no case shows a liver; there is nothing to train on.")
    # the trainer that trains, in a folder that it does not write to before an epoch is finished
    trainer = Trainer(config, stage, usable, (), Path(), TrainOptions(threads=threads))
    step, batches = trainer.step, trainer.batches
    side = max(usable[0].shape[2:])
    gpu = step.engine.device.type == "cuda"
    step.network.train()
    gathered = list(_take(batches, steps))
    images = sum(len(batch["image"]) for batch in gathered)
    ready = [step.inputs(batch) for batch in gathered]

    def alone() -> None:
        for image, target in ready:
            step.learn(image, target)

    def supply() -> None:
        for _batch in _take(batches, steps):
            pass

    def both() -> None:
        trainer.steps = batches.epochs = 0
        while trainer.steps < steps:
            for _loss in trainer.epoch():
                if trainer.steps == steps:
                    break

    tasks: dict[str, Callable[[], None]] = {"step": alone, "supply": supply, "both": both}
    step(gathered[0])  # the first steps choose algorithms and allocate
    step(gathered[-1])
    times: dict[str, list[float]] = {name: [] for name in tasks}
    busy: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name in list(tasks)[:: 1 if number % 2 == 0 else -1]:
            start, worked = time.perf_counter(), time.process_time()
            tasks[name]()
            times[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - worked)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    ratios = [b / a for a, b in zip(times["step"], times["both"], strict=True)]
    patches = config.input.patches
    cost = estimate_cost(config, usable[0].shape[0], side)
    flops = cost.flops * (images / config.batch_size) / seconds["step"]
    device = torch.cuda.get_device_name() if gpu else None
    return {
        "device": device or str(step.engine.device),
        "threads": torch.get_num_threads(),
        "stage": stage,
        "batch_size": config.batch_size,
        "image": list(patches.size if patches is not None else usable[0].shape[2:]),
        "parameters": cost.parameters,
        "images_per_second": {key: round(images / value, 2) for key, value in seconds.items()},
        "ratio": round(statistics.median(ratios), 3),
        "cpu_ratio": round(
            statistics.median(b / max(a, 1e-9) for a, b in zip(busy["step"], busy["both"], strict=True)), 3
        ),
        "ratios": [round(value, 3) for value in ratios],
        "rounds": {key: [round(value, 4) for value in values] for key, values in times.items()},
        "gflop_per_step": round(cost.flops / 1e9, 2),
        "gflops": round(flops / 1e9, 2),
        "share_of_peak": _share(device, precision_of(config), flops),
    }


def _take(batches: StageBatches, count: int) -> Iterator[dict[str, Tensor]]:
    """Yield the first `count` batches of a training, going on with the next epoch where one ends."""
    batches.epochs = 0
    done = 0
    while True:
        for batch in batches.epoch():
            yield batch
            done += 1
            if done == count:
                return


def gpu_peak(name: str, precision: str) -> float | None:
    """Return the dense peak of a GPU in TFLOP/s, or None where it is not known.

    Examples
    --------
    >>> gpu_peak("NVIDIA H200", "bf16"), gpu_peak("Tesla T4", "fp16"), gpu_peak("NVIDIA T400 4GB", "fp16")
    (989.0, 65.0, None)
    """
    words = set(re.split(r"[^A-Z0-9]+", name.upper()))
    peaks = next((peaks for gpu, peaks in GPU_PEAKS.items() if words.issuperset(gpu)), {})
    return peaks.get(precision)


def _share(name: str | None, precision: str, flops: float) -> float | None:
    peak = None if name is None else gpu_peak(name, precision)
    return round(flops / (peak * 1e12), 4) if peak else None
