"""Prediction: one stage on a volume, and the cascade of both, with one network per stage or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.baseline.checkpoint import load_weights
from hcc_tace_data.baseline.config import InputConfig, TrainConfig
from hcc_tace_data.baseline.losses import widen
from hcc_tace_data.baseline.networks import Network, build_model
from hcc_tace_data.baseline.processes import default_device
from hcc_tace_data.baseline.sliding import slide
from hcc_tace_data.baseline.stages import (
    ALL_STAGES,
    Stage,
    liver_windows,
    pad_inside,
    scale_image,
    see_liver,
    shrink_image,
    whole_liver,
)
from hcc_tace_data.errors import BaselineError, NoLiverError
from hcc_tace_data.system.words import count

__all__ = [
    "Cascade",
    "CascadeResult",
    "largest_component",
    "load_model",
    "predict_joint",
    "predict_probability",
    "predict_stage",
]

BEST = "best.safetensors"


def load_model(path: str | os.PathLike[str], stage: Stage) -> tuple[Network, TrainConfig]:
    """Read a checkpoint of a stage and return the network, in evaluation mode, and its configuration.

    Raises
    ------
    BaselineError
        No checkpoint there, one of the other stage, or weights that do not fit its configuration.
    """
    model, config, _ = _load(path, stage)
    return model, config


def _load(path: str | os.PathLike[str], stage: Stage) -> tuple[Network, TrainConfig, dict[str, Any]]:
    from pydantic import ValidationError  # noqa: PLC0415 - slow to import

    weights, about = load_weights(path)
    if about.get("stage") != stage:
        raise BaselineError(
            f"{path} is a checkpoint of the {about.get('stage')} stage; the {stage} stage needs its own."
        )
    try:
        config = TrainConfig.model_validate(about["config"])
        channels = int(about["channels"])
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{path} has no configuration that this version reads ({error}).") from error
    model = build_model(config, channels, stage)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BaselineError(f"{path}: the weights do not fit preset '{config.name}': {error}") from error
    return model.eval(), config, about


def predict_probability(
    model: Network,
    stage: Stage,
    image: Tensor,
    settings: InputConfig,
    *,
    liver: Tensor | None = None,
    flips: bool = False,
    batch_size: int = 8,
) -> Tensor:
    """Return the probability, float32 (D, H, W), that a voxel is what a stage looks for.

    Of the joint stage it is (2, D, H, W): that it is liver around the tumour, and that it is tumour.

    Parameters
    ----------
    model : UNet2d or ResidualUNet3d
        In evaluation mode.
    stage : {"liver", "tumour", "joint"}
        Which network it is.
    image : Tensor, shape (C, D, H, W)
        HU. Sides need not be multiples of the network's step: slices are padded and cut back. A 3D network slides over
        the volume.
    settings : InputConfig
        As in training.
    liver : Tensor, shape (D, H, W), optional
        Where the tumour stage looks: slices without liver are left out, and outside it the probability is 0.
    flips : bool
        Average with the prediction of the slice mirrored left to right; of a 3D network see
        :func:`hcc_tace_data.baseline.sliding.slide`.
    batch_size : int
        Slices at once; of a 3D network it is one window.
    """
    if stage == "tumour" and liver is None:
        raise BaselineError("the tumour stage needs the liver, or a label map that has it.")
    if image.shape[0] != model.in_channels:
        raise BaselineError(f"the network has {count(model.in_channels, 'channel')}, the image {image.shape[0]}.")
    settings = settings.of_stage(stage)
    if settings.patches is not None:
        inside = liver.bool() if stage == "tumour" and liver is not None else None
        found = slide(model, image, settings, settings.patches, liver=inside, flips=flips)
        return found[1:] if stage == "joint" else found[1]
    device = next(model.parameters()).device
    result = torch.zeros(image.shape[1:], dtype=torch.float32)
    inside = liver.bool() if stage == "tumour" and liver is not None else None
    slices = torch.arange(image.shape[1]) if inside is None else torch.nonzero(inside.any(dim=(1, 2)))[:, 0]
    rows, columns = slice(0, image.shape[2]), slice(0, image.shape[3])
    if inside is not None and settings.crop:
        # one box for all slices: what is found in one must not depend on which others go with it
        ((rows, columns),) = liver_windows(inside.any(dim=0, keepdim=True))
        inside = inside[:, rows, columns]
    with torch.inference_mode():
        for chosen in torch.split(slices, batch_size):
            hu = image[:, chosen, rows, columns].movedim(1, 0).to(device)
            batch = shrink_image(scale_image(hu, settings.window), settings.shrink)
            seen = None
            if inside is not None:
                batch, seen = see_liver(batch, inside[chosen].to(device), settings)
            size = (batch.shape[-2] * settings.shrink, batch.shape[-1] * settings.shrink)
            probability = _foreground(model, batch, seen, size)
            if flips:
                mirrored = _foreground(model, batch.flip(-1), None if seen is None else seen.flip(-1), size)
                probability = (probability + mirrored.flip(-1)) / 2
            result[chosen, rows, columns] = probability[..., : hu.shape[-2], : hu.shape[-1]].cpu()
    if inside is not None:
        result[:, rows, columns] *= inside
    return result


def _foreground(model: Network, image: Tensor, inside: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Return the probability (N, H, W) on slices (N, C, h, w), blanked outside a mask and padded for the network."""
    padded = pad_inside(image, inside, model.step)
    logits: Tensor = model(padded)
    logits = logits.float()[..., : image.shape[-2], : image.shape[-1]]
    return widen(logits, size).softmax(dim=1)[:, 1]


def predict_stage(
    model: Network,
    stage: Stage,
    image: Tensor,
    settings: InputConfig,
    *,
    label: Tensor | None = None,
    liver: Tensor | None = None,
    flips: bool = False,
    batch_size: int = 8,
) -> Tensor:
    """Return the mask (bool, (D, H, W)) that a stage's network finds, slice by slice.

    The tumour stage looks inside `liver`, or inside the whole liver of the standard `label` map; the rest as of
    :func:`predict_probability`.
    """
    if stage == "tumour" and liver is None and label is not None:
        liver = whole_liver(label)
    probability = predict_probability(model, stage, image, settings, liver=liver, flips=flips, batch_size=batch_size)
    return probability > 0.5


def predict_joint(model: Network, image: Tensor, settings: InputConfig, *, flips: bool = False) -> Tensor:
    """Return the label map (uint8, (D, H, W)) of a network of the joint stage: 1 liver, 2 tumour."""
    probability = predict_probability(model, "joint", image, settings, flips=flips)
    label = (probability.sum(dim=0) > 0.5).to(torch.uint8)
    label[_tumour_of(probability) & (label > 0)] = 2
    return label


def _tumour_of(probability: Tensor) -> Tensor:
    """Return where tumour is likelier than liver, given that it is one of them."""
    return probability[1] > probability[0]


def largest_component(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest connected part (26 neighbours) of a mask; an empty mask stays empty."""
    from scipy.ndimage import label  # noqa: PLC0415 - slow to import

    parts, count = label(mask, np.ones((3,) * mask.ndim, dtype=int))
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    result: npt.NDArray[np.bool_] = parts == int(sizes.argmax())
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeResult:
    """What the cascade found.

    Attributes
    ----------
    label : ndarray of uint8, shape (D, H, W)
        1 liver, 2 tumour.
    liver : ndarray of bool, shape (D, H, W)
        The predicted liver, tumour included: its largest component.
    """

    label: npt.NDArray[np.uint8]
    liver: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cascade:
    """The networks of both stages: the liver, its largest component, then the tumour inside.

    Networks of the joint stage find the liver, tumour included, and inside it the tumour: where it is likelier than
    liver. A second network for the tumour, where there is one, looks in that liver instead. Of several networks per
    stage (the folds of a cross-validation) the probabilities are averaged.

    Attributes
    ----------
    liver, tumour : tuple of UNet2d or ResidualUNet3d
        The networks of the two stages; the same where one finds both.
    liver_config, tumour_config : TrainConfig
        Their configurations.
    about : tuple of dict
        What the checkpoints say about themselves, liver networks first.
    stages : (str, str)
        What `liver` and `tumour` were trained for.
    """

    liver: tuple[Network, ...]
    tumour: tuple[Network, ...]
    liver_config: TrainConfig
    tumour_config: TrainConfig
    about: tuple[dict[str, Any], ...] = ()
    stages: tuple[Stage, Stage] = ("liver", "tumour")

    @classmethod
    def load(
        cls,
        liver: str | os.PathLike[str],
        tumour: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
    ) -> Cascade:
        """Read one checkpoint of each stage, of one preset, onto a device; default a GPU if there is one."""
        return cls._join([liver], [tumour], device, ("liver", "tumour"))

    @classmethod
    def load_folds(
        cls,
        folder: str | os.PathLike[str],
        folds: Sequence[int] | None = None,
        *,
        preset: str | None = None,
        device: str | torch.device | None = None,
    ) -> Cascade:
        """Read the networks that ``hcc-tace baseline train`` left in a folder.

        Parameters
        ----------
        folder : path-like
            Holds ``fold0/liver/best.safetensors``, ``fold0/tumour/best.safetensors`` and so on; or ``fold0/joint``,
            and with or without ``fold0/tumour``.
        folds : sequence of int, optional
            Which; default all that are there.
        preset : str, optional
            Refuse networks of another preset.
        device : str or torch.device, optional
            Where the networks go; default a GPU if there is one.

        Raises
        ------
        BaselineError
            A checkpoint is missing, or presets or stages differ.
        """
        place = Path(folder)
        found = [place / f"fold{fold}" for fold in folds] if folds is not None else sorted(place.glob("fold[0-9]*"))
        if not found:
            raise BaselineError(f"no trained networks in {place}; 'hcc-tace baseline train' makes them.")
        kinds = {path: _stages_in(path) for path in found}
        stages = kinds[found[0]]
        for path, other in kinds.items():
            if other != stages:
                raise BaselineError(
                    f"{found[0]} has the stages {' and '.join(dict.fromkeys(stages))}, {path} has "
                    f"{' and '.join(dict.fromkeys(other))}; train what is missing, or name the folds with --fold."
                )
        first, second = ([path / stage / BEST for path in found] for stage in stages)
        joined = cls._join(first, second, device, stages)
        if preset is not None and joined.liver_config.name != preset:
            raise BaselineError(
                f"the networks in {place} are of preset '{joined.liver_config.name}', not '{preset}'; "
                "name their folder or their preset."
            )
        return joined

    @classmethod
    def _join(
        cls,
        liver: Sequence[str | os.PathLike[str]],
        tumour: Sequence[str | os.PathLike[str]],
        device: str | torch.device | None,
        stages: tuple[Stage, Stage],
    ) -> Cascade:
        read = [[_load(path, stages[0]) for path in liver]]
        read.append(read[0] if stages[1] == stages[0] else [_load(path, stages[1]) for path in tumour])
        first = read[0][0][1]
        for paths, loaded in zip((liver, tumour), read, strict=True):
            for path, (_, config, _) in zip(paths, loaded, strict=True):
                if config.name != first.name:
                    raise BaselineError(
                        f"{liver[0]} is of preset '{first.name}', {path} of '{config.name}'; "
                        "use one preset for both stages and all folds."
                    )
                same = ("window", "shrink", "phases", "standardise", "crop", "tumour_shrink", "patches")
                own = loaded[0][1].input
                if any(getattr(config.input, key) != getattr(own, key) for key in same):
                    raise BaselineError(f"{path} was trained on other images than {paths[0]} ({', '.join(same)}).")
        about = tuple(item[2] for loaded in (read if stages[0] != stages[1] else read[:1]) for item in loaded)
        networks = [tuple(item[0] for item in loaded) for loaded in read]
        return cls(networks[0], networks[1], first, read[1][0][1], about, stages).to(device or default_device())

    @property
    def channels(self) -> int:
        """Channels of the image that the networks expect."""
        return self.liver[0].in_channels

    def to(self, device: str | torch.device) -> Cascade:
        """Move the networks to a device and return the cascade."""
        for network in (*self.liver, *self.tumour):
            network.to(device)
        return self

    def find_liver(self, image: Tensor, *, flips: bool = False, batch_size: int = 8) -> npt.NDArray[np.bool_]:
        """Return the largest component of the predicted liver, bool (D, H, W), of `image` (C, D, H, W) in HU.

        Raises
        ------
        NoLiverError
            No liver found.
        """
        found = self._mean(self.stages[0], self.liver, self.liver_config, image, None, flips, batch_size)
        return _liver_of(found)

    def find_tumour(
        self, image: Tensor, liver: npt.NDArray[np.bool_], *, flips: bool = False, batch_size: int = 8
    ) -> npt.NDArray[np.bool_]:
        """Return the predicted tumour, bool (D, H, W), inside a liver."""
        inside = torch.from_numpy(np.ascontiguousarray(liver))
        stage = self.stages[1]
        found = self._mean(stage, self.tumour, self.tumour_config, image, inside, flips, batch_size)
        mask: npt.NDArray[np.bool_] = ((_tumour_of(found) & inside) if stage == "joint" else found > 0.5).numpy()
        return mask

    def run(
        self, image: Tensor, *, true_liver: Tensor | None = None, flips: bool = False, batch_size: int = 8
    ) -> CascadeResult:
        """Run both stages on `image` (C, D, H, W) in HU.

        With `true_liver` (bool, (D, H, W)) the tumour is sought in it instead of in the predicted liver.

        Raises
        ------
        NoLiverError
            No liver found.
        """
        if true_liver is not None:
            liver = true_liver.bool().numpy()
            if not liver.any():
                raise NoLiverError("the liver that was given is empty.")
        elif self.stages[0] == self.stages[1]:  # one pass finds both
            found = self._mean(self.stages[0], self.liver, self.liver_config, image, None, flips, batch_size)
            liver = _liver_of(found)
            both = liver.astype(np.uint8)
            both[_tumour_of(found).numpy() & liver] = 2
            return CascadeResult(label=both, liver=liver)
        else:
            liver = self.find_liver(image, flips=flips, batch_size=batch_size)
        label = liver.astype(np.uint8)
        label[self.find_tumour(image, liver, flips=flips, batch_size=batch_size)] = 2
        return CascadeResult(label=label, liver=liver)

    def predict(self, image: Tensor, *, true_liver: Tensor | None = None, flips: bool = False) -> npt.NDArray[np.uint8]:
        """Return the label map uint8 (D, H, W) of :meth:`run`: 1 liver, 2 tumour."""
        return self.run(image, true_liver=true_liver, flips=flips).label

    @staticmethod
    def _mean(
        stage: Stage,
        networks: Sequence[Network],
        config: TrainConfig,
        image: Tensor,
        liver: Tensor | None,
        flips: bool,
        batch_size: int,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32)
        patches = config.input.patches
        flips = flips or (bool(config.augment) and patches is not None and patches.mirror)
        for network in networks:
            total = total + predict_probability(
                network, stage, image, config.input, liver=liver, flips=flips, batch_size=batch_size
            )
        return total / len(networks)


def _stages_in(fold: Path) -> tuple[Stage, Stage]:
    """Return what finds the liver and what finds the tumour among the networks of a fold."""
    there = {stage for stage in ALL_STAGES if (fold / stage / BEST).is_file()}
    if "joint" not in there:
        return "liver", "tumour"
    return "joint", "tumour" if "tumour" in there else "joint"


def _liver_of(probability: Tensor) -> npt.NDArray[np.bool_]:
    """Return the largest component of what is liver, or liver or tumour, by its probability."""
    whole = probability if probability.ndim == 3 else probability.sum(dim=0)
    liver = largest_component((whole > 0.5).numpy())
    if not liver.any():
        raise NoLiverError("no liver found: is this a CT of the abdomen in HU, feet to head?")
    return liver
