"""Both stages of a fold, one after the other: what `train` and `reproduce` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.data import Cohort, Part
from hcc_tace_data.baseline.losses import widen
from hcc_tace_data.baseline.networks import build_model
from hcc_tace_data.baseline.options import TrainOptions
from hcc_tace_data.baseline.predict import BEST, largest_component, load_model, predict_joint, predict_stage
from hcc_tace_data.baseline.processes import default_device, gather, share_of
from hcc_tace_data.baseline.stages import ALL_STAGES, STAGES, Stage
from hcc_tace_data.baseline.step import TrainingStep, build_optimizer
from hcc_tace_data.baseline.supply import StageBatches
from hcc_tace_data.baseline.train import TrainResult, train_stage
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.system.documents import read_json_object

__all__ = [
    "first_stage",
    "fold_folder",
    "overfit_one_batch",
    "predicted_livers",
    "seen_in_training",
    "train_fold",
    "trained_on",
]


def fold_folder(out: str | os.PathLike[str], fold: int) -> Path:
    """Return the folder of a fold's networks."""
    return Path(out) / f"fold{fold}"


def train_fold(
    config: TrainConfig,
    cohort: Cohort,
    part: Part,
    out: str | os.PathLike[str],
    options: TrainOptions | None = None,
    *,
    stages: Sequence[Stage] | None = None,
    liver_train: Sequence[StoredCase] | None = None,
    steps: Mapping[Stage, int] | None = None,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> dict[Stage, TrainResult]:
    """Train the stages of a fold.

    Parameters
    ----------
    config : TrainConfig
        How, for both stages.
    cohort : Cohort
        For the record.
    part : Part
        The fold.
    out : path-like
        Folder of the run; networks go to ``fold<k>/<stage>``.
    options : TrainOptions, optional
        How. With `resume` a stage that is in the folder is continued, and one that is not is begun.
    stages : sequence of {"liver", "tumour", "joint"}, optional
        Which; default those of the configuration.
    liver_train : sequence of StoredCase, optional
        Train the liver network on these (LiTS) instead of the fold's training patients; it is still chosen by the
        fold's validation patients.
    steps : mapping of str to int, optional
        Stage -> `max_steps` instead of that of `config`.
    progress : callable, optional
        Called with stage, steps done, all steps and loss.

    Raises
    ------
    BaselineError
        As of `train_stage`; or a folder that holds a run when `resume` is not set.
    """
    options = options or TrainOptions()
    folder = fold_folder(out, part.fold)
    results: dict[Stage, TrainResult] = {}
    for stage in stages or config.stages:
        there = (folder / stage / "state.pt").is_file()
        if there and not options.resume:
            raise BaselineError(f"{folder / stage} holds a run already; use --resume, or another folder.")
        lits = stage == "liver" and liver_train is not None
        train = list(liver_train) if lits and liver_train is not None else list(part.train)
        livers = None
        if stage == "tumour" and config.tumour_liver == "predicted":
            livers = predicted_livers(folder / first_stage(config) / BEST, train, first_stage(config))
        advance = None if progress is None else _named(progress, stage)
        own = config if steps is None else config.model_copy(update={"max_steps": steps[stage]})
        results[stage] = train_stage(
            own,
            stage,
            train,
            part.validation,
            folder / stage,
            replace(options, resume=there),
            livers=livers,
            about={"store_digest": cohort.digest, "data": "LiTS" if lits else "HCC-TACE-Seg"},
            progress=advance,
        )
    return results


def _named(progress: Callable[[str, int, int, float], None], stage: str) -> Callable[[int, int, float], None]:
    return lambda done, total, loss: progress(stage, done, total, loss)


def first_stage(config: TrainConfig) -> Stage:
    """Return the stage that finds the liver."""
    return "joint" if "joint" in config.stages else "liver"


def predicted_livers(
    checkpoint: str | os.PathLike[str], cases: Sequence[StoredCase], stage: Stage = "liver"
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return the liver that a network finds in each case: folder name -> bool (D, H, W), its largest component.

    On the patients that the network was trained on it is better than on others, which no training on it can know.
    Several processes share the cases.
    """
    model, config = load_model(checkpoint, stage)
    model.to(default_device())
    own = {}
    for number in share_of([case.shape[1] for case in cases]):
        image = torch.from_numpy(np.array(cases[number].image))
        found = (
            predict_joint(model, image, config.input) > 0
            if stage == "joint"
            else predict_stage(model, stage, image, config.input)
        )
        mask = largest_component(found.numpy())
        own[cases[number].folder.name] = (np.packbits(mask), mask.shape)
    return {
        name: np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)
        for part in gather(own)
        for name, (bits, shape) in part.items()
    }


def seen_in_training(out: str | os.PathLike[str], folds: Sequence[int] | None = None) -> set[str]:
    """Return the patients that the networks of a run were trained on or chosen by, from their records.

    Raises
    ------
    BaselineError
        A network without a record.
    """
    return _recorded(out, folds, ("train_patients", "validation_patients"))


def trained_on(out: str | os.PathLike[str], fold: int) -> set[str]:
    """Return the patients that the networks of a fold were trained on, from their records.

    Raises
    ------
    BaselineError
        A network without a record.
    """
    return _recorded(out, [fold], ("train_patients",))


def _recorded(out: str | os.PathLike[str], folds: Sequence[int] | None, keys: Sequence[str]) -> set[str]:
    place = Path(out)
    folders = [fold_folder(place, fold) for fold in folds] if folds is not None else sorted(place.glob("fold[0-9]*"))
    seen: set[str] = set()
    for folder in folders:
        for stage in [stage for stage in ALL_STAGES if (folder / stage).is_dir()] or STAGES:
            path = folder / stage / "run.json"
            try:
                record = read_json_object(path)
                seen |= {patient for key in keys for patient in record[key]}
            except (OSError, KeyError, ValueError, TypeError) as error:
                raise BaselineError(
                    f"{path} does not say which patients were trained on ({error}); scores without it prove nothing."
                ) from error
    return seen


def overfit_one_batch(
    config: TrainConfig, stage: Stage, cases: Sequence[StoredCase], *, steps: int = 100
) -> dict[str, float]:
    """Train on one batch again and again: a network and a loss that work fit it perfectly.

    Augmentation, dropout, warm-up and averaging are off. Nothing is written.

    Returns
    -------
    dict
        ``steps``, ``first_loss``, ``last_loss`` and ``dice`` of the batch at the end; of the joint stage the lower of
        liver and tumour.
    """
    plain = config.model_copy(
        update={"augment": False, "ema": None, "model": config.model.model_copy(update={"dropout": 0.0})}
    )
    torch.manual_seed(config.seed)
    # the middle slices of the liver show what is to be learnt
    usable = [case for case in cases if case.liver is not None]
    if not usable:
        raise BaselineError("no case shows a liver; there is nothing to learn.")
    batches = StageBatches(plain, stage, usable, threads=0)
    candidates = [batch for _, batch in zip(range(8), batches.epoch(), strict=False)]
    wanted = (1, 2, 3) if stage == "liver" else (2,)
    shows = [int(torch.isin(batch["label"], torch.tensor(wanted, dtype=torch.uint8)).sum()) for batch in candidates]
    batch = candidates[int(np.argmax(shows))]
    model = build_model(plain, usable[0].shape[0], stage)
    optimizer = build_optimizer(plain, model)
    step = TrainingStep(plain, stage, model, optimizer, TrainingStep.accelerator(plain))
    model.train()
    losses = [step(batch) for _ in range(steps)]
    image, target = step.inputs(batch)
    with torch.inference_mode():
        output = model(image)
    logits = output[0] if isinstance(output, list) else output
    found = widen(logits, target.shape[1:]).argmax(dim=1).cpu().numpy()
    wanted_classes = range(1, logits.shape[1])
    return {
        "steps": float(steps),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "dice": min(dice(found == number, target.cpu().numpy() == number) for number in wanted_classes),
    }
