"""Options that are passed through whole: of a training, of a reproduction, of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.facts.splits import FOLDS

__all__ = ["PredictOptions", "ReproduceRequest", "TrainOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a training is run; what is trained is the configuration's business.

    Attributes
    ----------
    resume : bool
        Continue the run in the folder; its configuration, stage, patients and number of processes must be the same. A
        finished run is returned as it is.
    stop_after : int, optional
        Stop after this many epochs of the run, as if interrupted.
    threads : int
        Threads that gather batches.
    shuffled : bool
        Train the control whose labels belong to other slices.
    deterministic : bool
        Ask PyTorch for deterministic algorithms, also on a GPU, where they may be slower.
    events : bool
        Write TensorBoard events.
    """

    resume: bool = False
    stop_after: int | None = None
    threads: int = 2
    shuffled: bool = False
    deterministic: bool = False
    events: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceRequest:
    """What a reproduction is asked for. A folder is continued only by the request that began it.

    Attributes
    ----------
    config : TrainConfig
        The preset.
    folds : tuple of int
        Folds of the fixed split.
    budget : float, optional
        Minutes; the networks and their steps are scaled to fit. None trains the preset in full.
    steps : int, optional
        Steps of each training.
    control : bool
        Also train on shuffled labels, once.
    """

    config: TrainConfig
    folds: tuple[int, ...] = tuple(range(FOLDS))
    budget: float | None = None
    steps: int | None = None
    control: bool = True

    def plain(self) -> dict[str, Any]:
        """The request as JSON-ready values."""
        return {
            "config": self.config.model_dump(mode="json"),
            "folds": list(self.folds),
            "budget": self.budget,
            "steps": self.steps,
            "control": self.control,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How volumes are predicted.

    Attributes
    ----------
    true_liver : bool
        Look for the tumour in the annotated liver instead of the predicted one.
    flips : bool
        Average with the mirrored prediction.
    batch_size : int
        Slices at once.
    """

    true_liver: bool = False
    flips: bool = False
    batch_size: int = 8
