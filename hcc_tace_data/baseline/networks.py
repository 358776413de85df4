"""The one place where a network is built from a configuration."""

from __future__ import annotations

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.unet import UNet2d

__all__ = ["build_model"]


def build_model(config: TrainConfig, channels: int) -> UNet2d:
    """Return the untrained network of a configuration.

    Parameters
    ----------
    config : TrainConfig
        Width, dropout, heads.
    channels : int
        Channels of the image.

    Returns
    -------
    UNet2d
        With two classes: background and the stage's own.
    """
    return UNet2d(
        in_channels=channels,
        classes=2,
        widths=config.model.widths,
        dropout=config.model.dropout,
        deep_supervision=config.model.deep_supervision,
    )
