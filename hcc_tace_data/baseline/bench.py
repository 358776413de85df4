"""How fast training is, and what holds it up: the step alone, the supply alone, and both together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.cost import estimate_cost, make_step
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.supply import StageBatches
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["GPU_PEAKS", "bench"]

#: Dense peak of some GPUs in TFLOP/s by precision, from NVIDIA's data sheets (fp32: TF32 tensor cores).
GPU_PEAKS = {
    "V100": {"no": 15.7, "fp16": 125.0},
    "T4": {"no": 8.1, "fp16": 65.0},
    "A100": {"no": 156.0, "fp16": 312.0, "bf16": 312.0},
    "H100": {"no": 495.0, "fp16": 989.0, "bf16": 989.0},
}


def bench(
    config: TrainConfig,
    cases: Sequence[StoredCase],
    *,
    stage: Stage = "liver",
    steps: int = 10,
    rounds: int = 3,
    threads: int = 2,
) -> dict[str, Any]:
    """Measure a training on stored cases.

    The three tasks run in turn, `rounds` times, each in the same order over the same batches; the medians count. The
    step alone runs on batches that were gathered before.

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
        Images per second of ``step``, ``supply`` and ``both``; ``ratio``, time of both over that of the step alone;
        ``gflop_per_step``, ``gflops``; ``share_of_peak`` on a GPU whose peak is known, else None.
    """
    usable = [case for case in cases if case.liver is not None]
    step = make_step(config, stage, usable[0].shape[0])
    side = max(usable[0].shape[2:])
    ready = list(_take(config, stage, usable, 0, steps))
    images = sum(len(batch["image"]) for batch in ready)
    for batch in ready[:2]:  # first steps choose algorithms and allocate
        step(batch)
    times: dict[str, list[float]] = {"step": [], "supply": [], "both": []}
    for _ in range(rounds):
        start = time.perf_counter()
        for batch in ready:
            step(batch)
        times["step"].append(time.perf_counter() - start)
        start = time.perf_counter()
        for _batch in _take(config, stage, usable, threads, steps):
            pass
        times["supply"].append(time.perf_counter() - start)
        start = time.perf_counter()
        for batch in _take(config, stage, usable, threads, steps):
            step(batch)
        times["both"].append(time.perf_counter() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    cost = estimate_cost(config, usable[0].shape[0], side)
    flops = cost.flops * (images / config.batch_size) / seconds["step"]
    device = str(step.engine.device)
    name = torch.cuda.get_device_name() if step.engine.device.type == "cuda" else None
    return {
        "device": name or device,
        "threads": torch.get_num_threads(),
        "stage": stage,
        "batch_size": config.batch_size,
        "image": list(usable[0].shape[2:]),
        "parameters": cost.parameters,
        "images_per_second": {key: round(images / value, 2) for key, value in seconds.items()},
        "ratio": round(seconds["both"] / seconds["step"], 3),
        "rounds": {key: [round(value, 4) for value in values] for key, values in times.items()},
        "gflop_per_step": round(cost.flops / 1e9, 2),
        "gflops": round(flops / 1e9, 2),
        "share_of_peak": _share(name, config.precision, flops),
    }


def _take(
    config: TrainConfig, stage: Stage, cases: Sequence[StoredCase], threads: int, count: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the first `count` batches of a training, beginning anew with each epoch that ends."""
    device = torch.device("cuda") if torch.cuda.is_available() else None
    batches = StageBatches(config, stage, cases, threads=threads, pin_memory=torch.cuda.is_available(), device=device)
    done = 0
    while True:
        for batch in batches.epoch():
            yield batch
            done += 1
            if done == count:
                return


def _share(name: str | None, precision: str, flops: float) -> float | None:
    peaks = next((peaks for gpu, peaks in GPU_PEAKS.items() if name is not None and gpu in name), None)
    peak = peaks.get(precision) if peaks else None
    return round(flops / (peak * 1e12), 4) if peak else None
