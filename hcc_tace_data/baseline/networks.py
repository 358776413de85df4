"""The one place where a network is built from a configuration."""

from __future__ import annotations

from hcc_tace_data.baseline.config import Stage, TrainConfig
from hcc_tace_data.baseline.unet import UNet2d
from hcc_tace_data.baseline.unet3d import ResidualUNet3d

__all__ = ["Network", "build_model"]

#: What training and prediction work with: networks that say their `in_channels` and the `step` of their sides.
Network = UNet2d | ResidualUNet3d


def build_model(config: TrainConfig, channels: int, stage: Stage = "liver") -> Network:
    """Return the untrained network of a configuration.

    Parameters
    ----------
    config : TrainConfig
        Kind, width, dropout, heads.
    channels : int
        Channels of the image.
    stage : {"liver", "tumour", "joint"}
        What it looks for.

    Returns
    -------
    UNet2d or ResidualUNet3d
        With two classes, background and the stage's own; for the joint stage three: background, liver and tumour.
    """
    classes = 3 if stage == "joint" else 2
    if config.model.kind == "residual3d":
        return ResidualUNet3d(
            in_channels=channels,
            classes=classes,
            widths=config.model.widths,
            blocks=config.model.blocks or (),
            strides=config.model.strides,
            deep_supervision=config.model.deep_supervision,
        )
    return UNet2d(
        in_channels=channels,
        classes=classes,
        widths=config.model.widths,
        dropout=config.model.dropout,
        deep_supervision=config.model.deep_supervision,
    )
