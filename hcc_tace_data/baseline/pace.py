"""How fast this machine trains now: seconds of a step, of all that is not a step, and the best number of threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.cost import estimate_cost, time_stage
from hcc_tace_data.baseline.data import Part
from hcc_tace_data.baseline.sliding import window_count
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.supply import StageBatches
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["Pace", "best_threads", "measure", "seconds_besides", "torch_threads"]

#: Steps that need more memory than this, bytes, are measured with a single slice.
_LARGE = 1_000_000_000
#: Pictures and pages, and scores of a voxel (distances), of a scored patient.
_FIXED_SECONDS, _SECONDS_PER_VOXEL = 8.0, 1e-6


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that the networks of a configuration take here, by stage.

    Attributes
    ----------
    step : mapping of str to float
        Of a training step.
    image : mapping of str to float
        Of predicting one slice, or one window of a volume, once.
    """

    step: Mapping[Stage, float]
    image: Mapping[Stage, float]

    def times(self, factor: float) -> Pace:
        """The pace of networks that take `factor` times as long."""
        return Pace(*({stage: factor * value for stage, value in each.items()} for each in (self.step, self.image)))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads while in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(config: TrainConfig, part: Part, repeats: int = 3) -> Pace:
    """Measure each stage of a configuration on a batch of the fold."""
    channels, side = part.train[0].shape[0], max(part.train[0].shape[2:])
    usable = [case for case in part.train if case.liver is not None]
    probe = config
    if estimate_cost(config, channels, side).memory_bytes > _LARGE:
        probe, repeats = config.model_copy(update={"batch_size": 1}), 1
    steps: dict[Stage, float] = {}
    images: dict[Stage, float] = {}
    for stage in config.stages:
        batch = next(StageBatches(probe, stage, usable, threads=0).epoch()) if usable else None
        seconds, images[stage] = time_stage(probe, stage, channels, side, repeats=repeats, batch=batch)
        steps[stage] = seconds * config.batch_size / probe.batch_size
    return Pace(steps, images)


def best_threads(probe: TrainConfig, part: Part) -> int:
    """Return the number of threads with which a step of `probe` is fastest now: all of PyTorch's, half, or one.

    Threads wait for each other in every layer: where other programs hold the processors, fewer are faster.
    """
    most = torch.get_num_threads()
    if most == 1:
        return 1
    times = {}
    for count in sorted({most, max(1, most // 2), 1}):
        with torch_threads(count):
            times[count] = measure(probe, part, repeats=5).step[probe.stages[0]]
    return min(times, key=lambda count: times[count])


def seconds_besides(
    config: TrainConfig,
    parts: Sequence[Part],
    test: Sequence[StoredCase],
    pace: Pace,
    control: bool,
    validations: Mapping[Stage, int],
) -> dict[str, float]:
    """Return what is needed besides the training: seconds of ``validation``, ``prediction`` and ``scores``.

    Parameters
    ----------
    config : TrainConfig
        What is trained.
    parts : sequence of Part
        The folds.
    test : sequence of StoredCase
        Who is predicted at the end.
    pace : Pace
        Of `config`.
    control : bool
        Whether there is a control besides the folds; it is validated and predicted as they are.
    validations : mapping of str to int
        Stage -> how often each training looks at its validation patients.
    """
    patches = config.input.patches
    # validation predicts a volume once; the rest, where training mirrors patches, mirrored in eight ways
    ways = 8 if patches is not None and patches.mirror and config.augment else 1

    def passes(case: StoredCase, stage: Stage) -> int:
        if patches is None:
            first, last = case.liver[0] if case.liver is not None else (0, 0)
            return case.shape[1] if stage == "liver" else last - first
        if stage != "tumour":
            return window_count(case.shape[1:], patches)
        return 0 if case.liver is None else window_count(tuple(b - a for a, b in case.liver), patches)

    def once(cases: Sequence[StoredCase]) -> dict[Stage, float]:
        return {stage: sum(passes(case, stage) for case in cases) * pace.image[stage] for stage in config.stages}

    validated = 0.0
    for part in [*parts, *(parts[:1] if control else ())]:
        validated += sum(validations[stage] * seconds for stage, seconds in once(part.validation).items())
    tested = once(test)
    networks = len(parts) + (1 if control else 0)
    # what finds the tumour runs in the predicted and in the true liver
    predicted = networks * (sum(tested.values()) + tested[config.stages[-1]])
    predicted += sum(sum(once(part.validation).values()) for part in parts)  # out of fold
    scored = [*test, *(case for part in parts for case in part.validation)]
    voxels = sum(case.shape[1] * case.shape[2] * case.shape[3] for case in scored)
    return {
        "validation": validated,
        "prediction": ways * predicted,
        "scores": _FIXED_SECONDS + _SECONDS_PER_VOXEL * voxels,
    }
