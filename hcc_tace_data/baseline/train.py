"""Training of one stage of the cascade from stored cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.run_files import Curves
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.baseline.step import deterministic
from hcc_tace_data.baseline.trainer import Trainer
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["TrainResult", "train_stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a training reached.

    Attributes
    ----------
    folder : pathlib.Path
        Holds ``best.safetensors``, ``last.safetensors``, ``README.md`` (model card), ``state.pt``, ``log.csv``
        (by epoch), ``steps.csv`` (loss of each step), ``run.json`` and, with tensorboardX, ``events``.
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


def train_stage(
    config: TrainConfig,
    stage: Stage,
    train: Sequence[StoredCase],
    validation: Sequence[StoredCase],
    folder: Path,
    options: TrainOptions | None = None,
    *,
    livers: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    about: Mapping[str, str] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
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
    options : TrainOptions, optional
        Resuming, threads, determinism and so on.
    livers : mapping of str to ndarray of bool (D, H, W), optional
        Folder name of a training case -> predicted liver, for ``tumour_liver: predicted``.
    about : mapping of str to str, optional
        Written into the record: ``store_digest`` and ``data`` (the name of the data set), what was trained on.
    progress : callable, optional
        Called after each step with the steps done, all steps, and the loss.

    Raises
    ------
    BaselineError
        No training cases, patients in both parts, a loss that is not a number, or a run that cannot be resumed.
    """
    shared = {case.patient_id for case in train} & {case.patient_id for case in validation}
    if shared:
        raise BaselineError(f"patients in training and validation: {', '.join(sorted(shared))}. Scores would be void.")
    usable = [case for case in train if case.liver is not None]
    if not usable:
        raise BaselineError(f"no training case of the {stage} stage shows a label; check the split and the store.")
    if stage == "tumour" and config.tumour_liver == "predicted" and livers is None:
        raise BaselineError("tumour_liver is 'predicted': predict the liver of the training cases first.")
    usable.sort(key=lambda case: case.folder.name)  # the order decides the batches: it must not depend on the caller
    options = options or TrainOptions()
    with deterministic(options.deterministic):
        run = Trainer(config, stage, usable, validation, folder, options, livers=livers)
        run.about |= {**(about or {}), "deterministic": options.deterministic}
        if options.resume:
            run.load()
        run.curves = Curves(folder / "events" if options.events and run.main else None)
        try:
            run.go(progress)
        finally:
            run.curves.close()
    return TrainResult(
        folder=folder,
        epochs=len(run.history),
        steps=run.steps,
        best_dice=run.best,
        losses=tuple(row["loss"] for row in run.history),
    )
