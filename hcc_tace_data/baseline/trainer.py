"""The moving parts of one training: batches, network, optimiser, average, and the files of a run.

One process or several (``torchrun``), CPU or GPU, by `accelerate`. The state is saved after each epoch; a resumed
training reaches the weights that an uninterrupted one reaches, bit for bit on a CPU.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.baseline.average import WeightAverage
from hcc_tace_data.baseline.checkpoint import load_state, save_state, save_weights
from hcc_tace_data.baseline.config import TrainConfig, with_defaults
from hcc_tace_data.baseline.networks import Network, build_model
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.predict import predict_joint, predict_stage
from hcc_tace_data.baseline.processes import gather, share_of
from hcc_tace_data.baseline.run_files import Curves, environment, write_card, write_log
from hcc_tace_data.baseline.stages import Stage, whole_liver
from hcc_tace_data.baseline.step import TrainingStep, build_optimizer, learning_rate
from hcc_tace_data.baseline.supply import Placement, StageBatches
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.version import __version__

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)

_STATE, _LAST, _BEST, _RECORD = "state.pt", "last.safetensors", "best.safetensors", "run.json"
_LOG, _STEPS = "log.csv", "steps.csv"


class Trainer:
    """One training of :func:`hcc_tace_data.baseline.train.train_stage`, which has checked what it is given."""

    def __init__(
        self,
        config: TrainConfig,
        stage: Stage,
        train: Sequence[StoredCase],
        validation: Sequence[StoredCase],
        folder: Path,
        options: TrainOptions,
        *,
        livers: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    ) -> None:
        self.config, self.stage, self.folder = config, stage, folder
        self.train, self.validation, self.options = train, validation, options
        self.engine = TrainingStep.accelerator(config)
        self.main: bool = self.engine.is_main_process
        self.about: dict[str, Any] = {"store_digest": "", "data": "HCC-TACE-Seg"}
        self.curves = Curves(None)
        self.environment = environment() if self.main else {}
        torch.manual_seed(config.seed)
        self.batches = StageBatches(
            config,
            stage,
            train,
            livers=livers if stage == "tumour" else None,
            shuffled=options.shuffled,
            threads=options.threads,
            placement=Placement(
                rank=self.engine.process_index, world_size=self.engine.num_processes, device=self.engine.device
            ),
        )
        self.channels = train[0].shape[0]
        self.total = config.max_steps or config.epochs * self.batches.batches
        self.model = build_model(config, self.channels, stage)
        self.optimizer = build_optimizer(config, self.model)
        self.step = TrainingStep(config, stage, self.model, self.optimizer, self.engine)
        # after the network was moved: the average must be where the weights are
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []  # of each step
        self.steps = 0
        self.seen: set[str] = set()
        # dropout differs between processes, as their batches do
        if self.engine.num_processes > 1:
            torch.manual_seed(config.seed + 1000 * (self.engine.process_index + 1))
        self.identity = {
            "config": config.model_dump(mode="json"),
            "stage": stage,
            "train": [case.folder.name for case in train],
            "validation": sorted(case.patient_id for case in validation),
            "processes": self.engine.num_processes,
            "shuffled": options.shuffled,
        }

    @property
    def best(self) -> float:
        """The best score so far."""
        return max((row["dice"] for row in self.history), default=-1.0)

    def load(self) -> None:
        """Continue where the run in the folder was."""
        state = load_state(self.folder / _STATE)
        before = {**state["identity"], "config": with_defaults(state["identity"].get("config"))}
        if before != self.identity:
            changed = [key for key, value in self.identity.items() if before.get(key) != value]
            raise BaselineError(
                f"the run in {self.folder} had another configuration, stage or patients "
                f"({', '.join(changed)}); resume with the same, or start a new folder."
            )
        self.step.inner.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.epochs = int(state["epochs"])
        mine = state["random"][self.engine.process_index]
        self.step.generator.set_state(mine["augment"])
        torch.set_rng_state(mine["torch"])
        if mine["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(mine["cuda"])
        if state["scaler"] is not None and self.engine.scaler is not None:
            self.engine.scaler.load_state_dict(state["scaler"])
        self.history, self.seen = list(state["history"]), set(state["seen"])
        self.losses = list(state.get("losses", []))  # older states have none
        self.steps = int(state["steps"])
        if self.average:
            self.average.load(state["average"])

    def go(self, progress: Callable[[int, int, float], None] | None) -> None:
        """Train until the steps are done, the score is stale, or as many epochs as asked for."""
        while self.steps < self.total and not _stale(self.history, self.config.patience):
            if self.options.stop_after is not None and self.batches.epochs >= self.options.stop_after:
                break
            losses, start = [], time.monotonic()
            for _ in range(self.config.validate_every):
                for loss in self.epoch():
                    losses.append(loss)
                    if progress is not None and self.main:
                        progress(self.steps, self.total, loss)
                    if self.steps >= self.total:
                        break
                if self.steps >= self.total:
                    break
            self._finish_epoch(losses, time.monotonic() - start)

    def epoch(self) -> Iterator[float]:
        """Train on the batches of the next epoch, and yield the loss of each step when the step is done.

        Raises
        ------
        BaselineError
            A loss that is not a number.
        """
        self.step.network.train()
        for batch in self.batches.epoch():
            self.seen |= self.batches.patients(batch)
            self.step.set_rate(learning_rate(self.config, self.steps, self.total))
            loss = self.step(batch)
            if not math.isfinite(loss):
                raise BaselineError(self._broken(f"the loss became {loss} at step {self.steps + 1}"))
            if self.average:
                self.average.update(self.step.inner)
            self.steps += 1
            yield loss

    def _finish_epoch(self, losses: list[float], seconds: float) -> None:
        inner = self.step.inner
        if not all(bool(torch.isfinite(weight).all()) for weight in inner.parameters()):
            raise BaselineError(self._broken(f"weights are NaN or infinite after step {self.steps}"))
        self._average_buffers()
        weights = self.average.state(inner) if self.average else inner.state_dict()
        score = self._validate(weights)
        self.losses += [float(loss) for loss in np.mean(gather(losses), axis=0)]
        self.history.append(
            {
                "epoch": self.batches.epochs,
                "steps": self.steps,
                "loss": float(np.mean(gather(float(np.mean(losses))))),
                "dice": score,
                "lr": float(self.optimizer.param_groups[0]["lr"]),
                "seconds": round(seconds, 3),
            }
        )
        row = self.history[-1]
        logger.info("%s epoch %d: loss %.4f, Dice %.4f", self.stage, row["epoch"], row["loss"], score)
        random = gather(
            {
                "torch": torch.get_rng_state(),
                "augment": self.step.generator.get_state(),
                "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            }
        )
        self.seen = set().union(*gather(sorted(self.seen)))
        if self.main:
            self._save(weights, random)
        self.engine.wait_for_everyone()

    def _broken(self, what: str) -> str:
        kept = (
            f"the state after epoch {self.history[-1]['epoch']} is in {self.folder}" if self.history else "none is kept"
        )
        return f"{what} of the {self.stage} stage; {kept}. Lower optimizer.lr, or set clip."

    def _average_buffers(self) -> None:
        """Give all processes the same normalisation statistics: the mean of theirs.

        Each step begins with those of the first process, to which each adds its own batch. It also normalises with its
        own batch, unlike :class:`torch.nn.SyncBatchNorm`: a batch of slices has pixels enough, and an exchange in each
        layer would cost more than it brings.
        """
        if self.engine.num_processes == 1:
            return
        for name, own in self.step.inner.named_buffers():
            for value in (own, self.average.values[name] if self.average else None):
                if value is not None and value.dtype.is_floating_point:
                    value.copy_(self.engine.reduce(value.clone(), "mean"))

    def _validate(self, weights: dict[str, Tensor]) -> float:
        """Return the mean Dice by patient, each process taking its share; the tumour is sought in the true liver."""
        cases = self.validation or self.train
        model = build_model(self.config, self.channels, self.stage)
        model.load_state_dict(weights)
        model.to(self.engine.device).eval()
        own = {n: _case_dice(model, self.config, self.stage, cases[n]) for n in share_of([c.shape[1] for c in cases])}
        scores: dict[int, float] = {}
        for part in gather(own):
            scores |= part
        return float(np.mean([scores[n] for n in range(len(cases))])) if cases else 0.0

    def _save(self, weights: dict[str, Tensor], random: list[Any]) -> None:
        record = {
            "format": 1,
            "package": __version__,
            "torch": torch.__version__,
            "stage": self.stage,
            "channels": self.channels,
            "preset": self.config.name,
            "config": self.identity["config"],
            "seed": self.config.seed,
            "processes": self.engine.num_processes,
            "device": str(self.engine.device),
            "control": self.options.shuffled,
            "epoch": self.batches.epochs,
            "steps": self.steps,
            "dice": self.history[-1]["dice"],
            "best_dice": self.best,
            "train_cases": len(self.train),
            self.batches.units: self.batches.samples,
            "spacing": np.median([case.spacing for case in self.train], axis=0).tolist(),
            **self.about,
        }
        save_weights(self.folder / _LAST, weights, record)
        if self.history[-1]["dice"] > max((row["dice"] for row in self.history[:-1]), default=-1.0):
            save_weights(self.folder / _BEST, weights, record)
        write_log(self.folder / _LOG, self.history)
        first = self.steps - len(self.losses) + 1
        by_step = [{"step": first + place, "loss": loss} for place, loss in enumerate(self.losses)]
        write_log(self.folder / _STEPS, by_step)
        record |= {
            "train_patients": sorted(self.seen),
            "validation_patients": self.identity["validation"],
            "environment": self.environment,
        }
        atomic_write_text(self.folder / _RECORD, json.dumps(record, indent=1))
        write_card(self.folder / "README.md", record, self.history)
        self.curves.add(
            {name: self.history[-1][name] for name in ("loss", "dice", "lr")}, int(self.history[-1]["steps"])
        )
        scaler = self.engine.scaler
        # last: a state that is there means that all else of its epoch is, too
        save_state(
            self.folder / _STATE,
            {
                "identity": self.identity,
                "model": self.step.inner.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epochs": self.batches.epochs,
                "steps": self.steps,
                "seen": sorted(self.seen),
                "random": random,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "history": self.history,
                "losses": self.losses,
                "average": self.average.values if self.average else None,
            },
        )


def _stale(history: list[dict[str, float]], patience: int) -> bool:
    """Whether the last `patience` scores did not improve on those before."""
    scores = [row["dice"] for row in history]
    return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])


def _case_dice(model: Network, config: TrainConfig, stage: Stage, case: StoredCase) -> float:
    """Return the Dice of a stage's own mask; of the joint stage the mean of those of liver and tumour."""
    label = torch.from_numpy(np.array(case.label))
    image = torch.from_numpy(np.array(case.image))
    if stage == "joint":
        found = predict_joint(model, image, config.input)
        pairs = [(found > 0, whole_liver(label)), (found == 2, label == 2)]
        return float(np.mean([dice(one.numpy(), other.numpy()) for one, other in pairs]))
    predicted = predict_stage(model, stage, image, config.input, label=label)
    truth = whole_liver(label) if stage == "liver" else label == 2
    return dice(predicted.numpy(), truth.numpy())
