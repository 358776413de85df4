"""Training of one stage of the cascade from stored cases.

One process or several (``torchrun``), CPU or GPU, by `accelerate`. The state is saved after each epoch; a resumed
training reaches the weights that an uninterrupted one reaches, bit for bit on a CPU.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hcc_tace_data import __version__
from hcc_tace_data.baseline.augment import Augment
from hcc_tace_data.baseline.checkpoint import load_state, save_state, save_weights
from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.losses import soft_dice_loss
from hcc_tace_data.baseline.predict import predict_stage
from hcc_tace_data.baseline.scores import dice
from hcc_tace_data.baseline.stages import Stage, prepare_batch, whole_liver
from hcc_tace_data.baseline.unet import UNet2d
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.files import atomic_write_text
from hcc_tace_data.loaders.batches import BatchIterator
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["TrainResult", "build_model", "train_stage"]

logger = logging.getLogger(__name__)

_STATE, _LAST, _BEST, _LOG, _RECORD = "state.pt", "last.safetensors", "best.safetensors", "log.csv", "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training reached.

    Attributes
    ----------
    folder : pathlib.Path
        Holds ``best.safetensors``, ``last.safetensors``, ``state.pt``, ``log.csv`` and ``run.json``.
    epochs, steps : int
        How far it went.
    best_dice : float
        Mean Dice by patient of the best epoch on the validation patients (on the training patients if none).
    losses : tuple of float
        Mean loss of each epoch.
    """

    folder: Path
    epochs: int
    steps: int
    best_dice: float
    losses: tuple[float, ...]


def build_model(config: TrainConfig, channels: int) -> UNet2d:
    """Return the untrained network of a configuration (two classes: background and the stage's own)."""
    return UNet2d(in_channels=channels, classes=2, widths=config.model.widths, dropout=config.model.dropout)


def train_stage(
    config: TrainConfig,
    stage: Stage,
    train: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    folder: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
    threads: int = 2,
    deadline: float | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> TrainResult:
    """Train one stage.

    Parameters
    ----------
    config : TrainConfig
        How.
    stage : {"liver", "tumour"}
        Which network.
    train, validation : sequence of StoredCase
        Patients to learn from, and to choose the best epoch and stop by. They must not share a patient.
    folder : pathlib.Path
        Folder of the run.
    resume : bool
        Continue the run in `folder`; its configuration, stage and patients must be the same.
    stop_after : int, optional
        Stop after this many epochs of the run, as if interrupted.
    threads : int
        Threads that gather batches.
    deadline : float, optional
        Value of ``time.monotonic()`` after which no further epoch begins, and the running one is broken off.
    progress : callable, optional
        Called after each step with the steps done and the loss.

    Raises
    ------
    BaselineError
        No training cases, patients in both parts, a loss that is not a number, or a run that cannot be resumed.
    """
    from accelerate import Accelerator

    shared = {case.patient_id for case in train} & {case.patient_id for case in validation}
    if shared:
        raise BaselineError(f"patients in training and validation: {', '.join(sorted(shared))}. Scores would be void.")
    usable = [case for case in train if case.liver is not None]
    if not usable:
        raise BaselineError(f"no training case of the {stage} stage shows a label; check the split and the store.")
    identity = _identity(config, stage, usable, validation)
    accelerator = Accelerator(mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    iterator = BatchIterator(
        usable,
        [case.liver[0] for case in usable if case.liver is not None],
        batch_size=config.batch_size,
        seed=config.seed,
        threads=threads,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    channels = usable[0].shape[0]
    model = build_model(config, channels)
    optimizer = _optimizer(config, model)
    total = config.max_steps or config.epochs * max(1, len(iterator))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(config, step, total))
    generator = torch.Generator().manual_seed(config.seed + 1 + accelerator.process_index)
    average = _Average(model, config.ema) if config.ema else None
    history: list[dict[str, float]] = []
    if resume:
        state = load_state(folder / _STATE)
        if state["identity"] != identity:
            raise BaselineError(
                f"the run in {folder} had another configuration, stage or patients; start a new folder."
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        iterator.load_state_dict(state["iterator"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["rng"])
        history = list(state["history"])
        if average:
            average.values = state["average"]
    network, optimizer = accelerator.prepare(model, optimizer)
    steps = int(history[-1]["steps"]) if history else 0
    best = max((row["dice"] for row in history), default=-1.0)
    seen: set[str] = set()
    limit = config.epochs if stop_after is None else min(config.epochs, stop_after)
    while len(history) < limit and steps < total and not _stale(history, config.patience):
        if deadline is not None and history and time.monotonic() > deadline:
            break
        start, losses = time.monotonic(), []
        network.train()
        for batch in iterator:
            seen.update(usable[number].patient_id for number in torch.unique(batch["case"]).tolist())
            loss = _step(config, stage, network, optimizer, accelerator, batch, generator)
            if not math.isfinite(loss):
                raise BaselineError(
                    f"the loss became {loss} at step {steps + 1} of the {stage} stage; the state before this epoch is "
                    f"in {folder}. Lower optimizer.lr, or check the images for values that are not numbers."
                )
            scheduler.step()
            if average:
                average.update(accelerator.unwrap_model(network))
            losses.append(loss)
            steps += 1
            if progress is not None:
                progress(steps, loss)
            if steps >= total or (deadline is not None and time.monotonic() > deadline):
                break
        inner = accelerator.unwrap_model(network)
        weights = average.state(inner) if average else inner.state_dict()
        score = _validate(config, stage, weights, channels, validation or usable)
        history.append(
            {
                "epoch": len(history) + 1,
                "steps": steps,
                "loss": float(np.mean(losses)),
                "dice": score,
                "lr": float(optimizer.param_groups[0]["lr"]),
                "seconds": time.monotonic() - start,
            }
        )
        logger.info("%s epoch %d: loss %.4f, Dice %.4f", stage, len(history), history[-1]["loss"], score)
        if accelerator.is_main_process:
            about = _about(config, stage, channels, identity, history)
            save_weights(folder / _LAST, weights, about)
            if score > best:
                save_weights(folder / _BEST, weights, about)
            _write_log(folder / _LOG, history)
            record = {**about, "train_patients": sorted(seen), "validation_patients": identity["validation"]}
            atomic_write_text(folder / _RECORD, json.dumps(record, indent=1))
            save_state(
                folder / _STATE,
                {
                    "identity": identity,
                    "model": inner.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "iterator": iterator.state_dict(),
                    "generator": generator.get_state(),
                    "rng": torch.get_rng_state(),
                    "history": history,
                    "average": average.values if average else None,
                },
            )
        best = max(best, score)
        accelerator.wait_for_everyone()
    return TrainResult(
        folder=folder, epochs=len(history), steps=steps, best_dice=best, losses=tuple(row["loss"] for row in history)
    )


def _step(
    config: TrainConfig,
    stage: Stage,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    accelerator: Any,
    batch: dict[str, Tensor],
    generator: torch.Generator,
) -> float:
    device = accelerator.device
    image, label = batch["image"].to(device, non_blocking=True), batch["label"].to(device, non_blocking=True)
    image, target = prepare_batch(stage, image, label, window=config.input.window)
    if config.augment:
        image, target = Augment()(image, target, generator)
    optimizer.zero_grad()
    with accelerator.autocast():
        logits = network(image)
    loss = config.loss.dice * soft_dice_loss(logits, target, squared=config.loss.squared)
    if config.loss.cross_entropy:
        loss = loss + config.loss.cross_entropy * nn.functional.cross_entropy(logits.float(), target)
    accelerator.backward(loss)
    optimizer.step()
    return float(loss.detach())


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    kinds = {"adadelta": torch.optim.Adadelta, "adamw": torch.optim.AdamW}
    settings = config.optimizer
    optimizer: torch.optim.Optimizer = kinds[settings.name](
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    return optimizer


def _rate(config: TrainConfig, step: int, total: int) -> float:
    """Share of the learning rate at a step."""
    warmup = min(config.schedule.warmup_steps, total // 4)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule.name == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


def _stale(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better score than those before."""
    scores = [row["dice"] for row in history]
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


class _Average:
    """Exponential moving average of the weights, normalisation statistics included."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights, faster at the start."""
        count = int(self.values.get("_updates", torch.tensor(0)))
        decay = min(self.decay, (1 + count) / (10 + count))
        self.values["_updates"] = torch.tensor(count + 1)
        for name, value in model.state_dict().items():
            kept = self.values[name]
            if value.dtype.is_floating_point:
                kept.lerp_(value.detach().to(kept.device), 1 - decay)
            else:
                kept.copy_(value)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """The averaged weights under the model's names."""
        return {name: self.values[name] for name in model.state_dict()}


def _validate(
    config: TrainConfig, stage: Stage, weights: dict[str, Tensor], channels: int, cases: Sequence[StoredCase]
) -> float:
    model = build_model(config, channels)
    model.load_state_dict(weights)
    model.eval()
    scores = []
    for case in cases:
        label = torch.from_numpy(np.array(case.label))
        image = torch.from_numpy(np.array(case.image))
        predicted = predict_stage(model, stage, image, window=config.input.window, label=label)
        truth = whole_liver(label) if stage == "liver" else label == 2
        scores.append(dice(predicted.numpy(), truth.numpy()))
    return float(np.mean(scores)) if scores else 0.0


def _identity(
    config: TrainConfig, stage: Stage, train: Sequence[StoredCase], validation: Sequence[StoredCase]
) -> dict[str, Any]:
    """What must be the same for a run to be resumed."""
    return {
        "config": config.model_dump(mode="json"),
        "stage": stage,
        "train": sorted(case.folder.name for case in train),
        "validation": sorted(case.patient_id for case in validation),
    }


def _about(
    config: TrainConfig, stage: Stage, channels: int, identity: dict[str, Any], history: list[dict[str, float]]
) -> dict[str, Any]:
    return {
        "format": 1,
        "package": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "stage": stage,
        "channels": channels,
        "config": identity["config"],
        "epoch": len(history),
        "dice": history[-1]["dice"],
        "train_cases": len(identity["train"]),
        "preset": config.name,
    }


def _write_log(path: Path, history: list[dict[str, float]]) -> None:
    from hcc_tace_data.files import atomic_path

    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
