"""Prediction: one stage on a volume, and the cascade of both."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.baseline.checkpoint import load_weights
from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.stages import Stage, scale_image, whole_liver
from hcc_tace_data.baseline.unet import UNet2d
from hcc_tace_data.errors import BaselineError

__all__ = ["Cascade", "largest_component", "load_model", "predict_stage"]


def load_model(path: str | os.PathLike[str], stage: Stage) -> tuple[UNet2d, TrainConfig]:
    """Read a checkpoint of a stage and return the network, in evaluation mode, and its configuration.

    Raises
    ------
    BaselineError
        No checkpoint there, one of the other stage, or weights that do not fit its configuration.
    """
    weights, about = load_weights(path)
    if about.get("stage") != stage:
        raise BaselineError(
            f"{path} is a checkpoint of the {about.get('stage')} stage; the {stage} stage needs its own."
        )
    config = TrainConfig.model_validate(about["config"])
    model = UNet2d(
        in_channels=int(about["channels"]), classes=2, widths=config.model.widths, dropout=config.model.dropout
    )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BaselineError(f"{path}: the weights do not fit preset '{config.name}': {error}") from error
    return model.eval(), config


def predict_stage(
    model: UNet2d,
    stage: Stage,
    image: Tensor,
    *,
    window: tuple[float, float] | None,
    label: Tensor | None = None,
    liver: Tensor | None = None,
    flips: bool = False,
    batch_size: int = 8,
) -> Tensor:
    """Return the mask (bool) that a stage's network finds, slice by slice.

    Parameters
    ----------
    model : UNet2d
        In evaluation mode.
    stage : {"liver", "tumour"}
        Which network it is.
    image : Tensor, shape (C, D, H, W)
        HU. Sides need not be multiples of the network's step: slices are padded and cut back.
    window : tuple of float, optional
        As in training.
    label, liver : Tensor, shape (D, H, W), optional
        The tumour stage looks inside `liver`, or inside the whole liver of the standard `label` map.
    flips : bool
        Average with the prediction of the slice mirrored left to right.
    batch_size : int
        Slices at once.

    Returns
    -------
    Tensor of bool, shape (D, H, W)
    """
    inside = None
    if stage == "tumour":
        if liver is None and label is None:
            raise BaselineError("the tumour stage needs the liver, or a label map that has it.")
        inside = liver.bool() if liver is not None else whole_liver(label)  # type: ignore[arg-type]  # checked above
    device = next(model.parameters()).device
    step = 2 ** (len(model.widths) - 1)
    height, width = image.shape[-2:]
    pad = (0, -width % step, 0, -height % step)
    parts = []
    with torch.inference_mode():
        for start in range(0, image.shape[1], batch_size):
            rows = slice(start, start + batch_size)
            batch = scale_image(image[:, rows].movedim(1, 0).to(device), window)
            if inside is not None:
                batch = torch.where(inside[rows, None].to(device), batch, torch.zeros_like(batch))
            batch = torch.nn.functional.pad(batch, pad, mode="replicate") if any(pad) else batch
            probability = model(batch).softmax(dim=1)[:, 1]
            if flips:
                probability = (probability + model(batch.flip(-1)).softmax(dim=1)[:, 1].flip(-1)) / 2
            parts.append((probability[:, :height, :width] > 0.5).cpu())
    found = torch.cat(parts)
    return found & inside if inside is not None else found


def largest_component(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest connected part (26 neighbours) of a mask; an empty mask stays empty."""
    from scipy.ndimage import label

    parts, count = label(mask, np.ones((3,) * mask.ndim, dtype=int))
    if count <= 1:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    result: npt.NDArray[np.bool_] = parts == int(sizes.argmax())
    return result


@dataclass(frozen=True, slots=True)
class Cascade:
    """Both networks: the liver, its largest component, then the tumour inside.

    Attributes
    ----------
    liver, tumour : UNet2d
        The networks of the two stages.
    liver_config, tumour_config : TrainConfig
        Their configurations.
    """

    liver: UNet2d
    tumour: UNet2d
    liver_config: TrainConfig
    tumour_config: TrainConfig

    @classmethod
    def load(cls, liver: str | os.PathLike[str], tumour: str | os.PathLike[str]) -> Cascade:
        """Read the checkpoints of both stages; they must be of one preset."""
        first, first_config = load_model(liver, "liver")
        second, second_config = load_model(tumour, "tumour")
        if first_config.name != second_config.name:
            raise BaselineError(
                f"{liver} is of preset '{first_config.name}', {tumour} of '{second_config.name}'; "
                "use one preset for both."
            )
        return cls(first, second, first_config, second_config)

    def predict(self, image: Tensor, *, true_liver: Tensor | None = None, flips: bool = False) -> npt.NDArray[np.uint8]:
        """Return the label map uint8 (D, H, W) of `image` (C, D, H, W) in HU: 1 liver, 2 tumour.

        With `true_liver` (bool, (D, H, W)) the tumour is sought in it instead of in the predicted liver.

        Raises
        ------
        BaselineError
            No liver found.
        """
        found = predict_stage(self.liver, "liver", image, window=self.liver_config.input.window, flips=flips)
        liver = largest_component(found.numpy())
        if not liver.any():
            raise BaselineError("no liver found: is this a CT of the abdomen in HU, feet to head?")
        inside = torch.from_numpy(liver) if true_liver is None else true_liver.bool()
        tumour = predict_stage(
            self.tumour, "tumour", image, window=self.tumour_config.input.window, liver=inside, flips=flips
        )
        result = inside.numpy().astype(np.uint8)
        result[tumour.numpy()] = 2
        return result
