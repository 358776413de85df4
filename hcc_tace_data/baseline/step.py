"""One step of a training: network input from a batch, loss, gradient, new weights."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.losses import segmentation_loss
from hcc_tace_data.baseline.networks import Network
from hcc_tace_data.baseline.processes import on_cpu, world_size
from hcc_tace_data.baseline.stages import Stage, StageBatch, crop_batch, grow, liver_windows, prepare_batch, whole_liver
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.supply.augment import Augment
from hcc_tace_data.loaders.supply.augment_volumes import AugmentVolumes
from hcc_tace_data.system.words import count, verb

#: Room around a liver that augmentation turns and widens, as a part of its size.
_ROOM = 0.12
#: Of SGD, and the power with which its rate falls, as nnU-Net has them.
_MOMENTUM, _POWER = 0.99, 0.9

__all__ = ["TrainingStep", "build_optimizer", "deterministic", "learning_rate", "precision_of"]


def build_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration."""
    settings = config.optimizer
    if settings.name == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, momentum=_MOMENTUM, nesterov=True
        )
    kinds = {"adadelta": torch.optim.Adadelta, "adamw": torch.optim.AdamW}
    optimizer: torch.optim.Optimizer = kinds[settings.name](
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    return optimizer


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Return the learning rate at a step, counted from 0, of `total`."""
    warmup = min(config.schedule.warmup_steps, total // 4)
    if step < warmup:
        return config.optimizer.lr * (step + 1) / warmup
    if config.schedule.name == "constant":
        return config.optimizer.lr
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    if config.schedule.name == "polynomial":
        return config.optimizer.lr * float((1 - done) ** _POWER)
    return config.optimizer.lr * 0.5 * (1 + math.cos(math.pi * done))


def precision_of(config: TrainConfig) -> Literal["no", "bf16", "fp16"]:
    """Return the precision of a training here: "auto" is bf16 on a GPU that has it, else full precision."""
    if config.precision != "auto":
        return config.precision
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


class TrainingStep:
    """Call it with a batch; it changes the network and returns the loss.

    Parameters
    ----------
    config : TrainConfig
        Loss, window, augmentation, clipping, compilation.
    stage : {"liver", "tumour", "joint"}
        Which network.
    model : UNet2d or ResidualUNet3d
        Moved to the accelerator's device.
    optimizer : torch.optim.Optimizer
        Of the model.
    engine : accelerate.Accelerator
        From :meth:`accelerator`.
    """

    def __init__(
        self, config: TrainConfig, stage: Stage, model: Network, optimizer: torch.optim.Optimizer, engine: Any
    ) -> None:
        self.config, self.stage, self.engine, self.optimizer = config, stage, engine, optimizer
        self.inner = model
        self.multiple = model.step
        self.generator = torch.Generator().manual_seed(config.seed + 1 + engine.process_index)
        self.volumes = config.input.patches is not None
        self.layout = torch.channels_last_3d if self.volumes else torch.channels_last
        if config.channels_last:
            model.to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stubs lack it
        network, self._prepared = engine.prepare(model, optimizer)
        self.network: nn.Module = network
        if config.compile:
            self.network.compile(backend=config.compile)  # in place: names of weights stay

    @staticmethod
    def accelerator(config: TrainConfig) -> Any:
        """Return the accelerator of a configuration: device, processes and precision.

        Raises
        ------
        BaselineError
            fp16 without a GPU.
        """
        from accelerate import Accelerator  # noqa: PLC0415 - slow to import
        from accelerate.state import AcceleratorState  # noqa: PLC0415 - slow to import
        from accelerate.utils import DistributedDataParallelKwargs  # noqa: PLC0415 - slow to import

        if config.precision == "fp16" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            raise BaselineError("precision fp16 needs a GPU; on a CPU use precision=bf16 or precision=no.")
        # one network of one size: no unused parameters, gradients in place
        options = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
        # what an earlier training of this process set must not decide this one's precision
        AcceleratorState._reset_state()
        engine = Accelerator(mixed_precision=precision_of(config), cpu=on_cpu(), kwargs_handlers=[options])
        if engine.num_processes != world_size():
            raise BaselineError(
                f"{count(world_size(), 'process')} {verb(world_size(), 'was')} started but "
                f"{engine.num_processes} joined; they would train "
                "apart and write over each other. Start them with torchrun."
            )
        return engine

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return network input and target of a batch, augmented, on the device."""
        device = self.engine.device
        image = batch["image"].to(device, non_blocking=True)
        label = batch["label"].to(device, non_blocking=True)
        liver = batch["liver"].to(device, non_blocking=True) if "liver" in batch else None
        if self.stage == "tumour" and liver is None:
            liver = whole_liver(label)
        if "target" in batch:  # the control: the liver is the slice's own, the target another's
            label = batch["target"].to(device, non_blocking=True)
        if self.config.augment and liver is not None:
            liver = grow(liver, self._liver_error(liver.shape[-1]))
        settings = self.config.input.of_stage(self.stage)
        if settings.crop and liver is not None:  # all that follows costs by the pixel
            windows = liver_windows(liver, settings.shrink, room=_ROOM if self.config.augment else 0)
            image, label, liver = (
                torch.stack([values[n][..., rows, columns] for n, (rows, columns) in enumerate(windows)])
                for values in (image, label, liver)
            )
        ready = prepare_batch(self.stage, image, label, settings, liver=liver)
        if self.config.augment and self.volumes:
            spacing = batch["spacing"].to(device, non_blocking=True)
            mirror = settings.patches is not None and settings.patches.mirror
            augment = AugmentVolumes(mirror=mirror, intensity=self.config.augment is True)
            ready = _augment_volumes(ready, spacing, augment, self.generator)
        elif self.config.augment:
            ready = _augment(ready, self.generator)
        image, target = crop_batch(ready, settings, self.multiple)
        if self.config.channels_last:
            image = image.contiguous(memory_format=self.layout)
        return image, target

    def _liver_error(self, side: int) -> int:
        """Draw by how many pixels the liver of a batch is too wide, or, below 0, too narrow.

        Tried on a liver drawn by hand alone, the network would take the fat around a predicted one for tumour.
        """
        most = max(1, round(side / 256))
        return int(torch.randint(-most, 2 * most + 1, (1,), generator=self.generator))

    def __call__(self, batch: Mapping[str, Tensor]) -> float:
        """Do one step on a batch as it was gathered and return the loss, the same in every process."""
        return self.learn(*self.inputs(batch))

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Say in one sentence what torch.compile needs many for, most often that there is no C++ compiler."""
        try:
            yield
        except Exception as error:
            if self.config.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise BaselineError(
                    f"torch.compile with backend '{self.config.compile}' failed: {said} 'compile=null' trains without."
                ) from error
            raise

    def learn(self, image: Tensor, target: Tensor) -> float:
        """Do one step on what :meth:`inputs` gave."""
        self._prepared.zero_grad()
        with self.engine.autocast(), self._compiling():
            output = self.network(image)
        loss = segmentation_loss(output, target, self.config.loss)
        self.engine.backward(loss)
        if self.config.clip is not None:
            self.engine.clip_grad_norm_(self.inner.parameters(), self.config.clip)
        self._prepared.step()
        found = loss.detach()
        return float(self.engine.reduce(found, "mean") if self.engine.num_processes > 1 else found)


def _augment(batch: StageBatch, generator: torch.Generator) -> StageBatch:
    """Augment a batch; the liver's mask moves along."""
    if batch.inside is None:
        image, target = Augment()(batch.image, batch.target, generator)
        return StageBatch(image, target, None)
    mask = batch.inside[:, None].to(torch.uint8)
    image, target, moved = Augment().with_mask(batch.image, batch.target, mask, generator)
    return StageBatch(image, target, moved[:, 0].bool())


def _augment_volumes(
    batch: StageBatch, spacing: Tensor, augment: AugmentVolumes, generator: torch.Generator
) -> StageBatch:
    """Augment a batch of patches; the liver's mask moves along."""
    if batch.inside is None:
        image, target = augment(batch.image, batch.target, spacing, generator)
        return StageBatch(image, target, None)
    return StageBatch(*augment.with_mask(batch.image, batch.target, batch.inside, spacing, generator))


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Ask PyTorch for deterministic algorithms while in the block, and restore what was set before."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            del os.environ["CUBLAS_WORKSPACE_CONFIG"]
