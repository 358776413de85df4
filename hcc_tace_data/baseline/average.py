"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]

_COUNT = "_updates"


class WeightAverage:
    """The average, normalisation statistics included.

    Parameters
    ----------
    model : nn.Module
        Where the average begins.
    decay : float
        Share of the average that stays in an update, once there were many; fewer updates forget faster.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights."""
        count = int(self.values.get(_COUNT, torch.tensor(0)))
        decay = min(self.decay, (1 + count) / (10 + count))
        self.values[_COUNT] = torch.tensor(count + 1)
        for name, value in model.state_dict().items():
            kept = self.values[name]
            if value.dtype.is_floating_point:
                kept.lerp_(value.detach().to(kept.device), 1 - decay)
            else:
                kept.copy_(value)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the averaged weights under the model's names."""
        return {name: self.values[name] for name in model.state_dict()}

    def load(self, values: dict[str, Tensor]) -> None:
        """Continue from the `values` of another average."""
        for name, value in values.items():
            kept = self.values.get(name)
            self.values[name] = value.to(kept.device) if kept is not None else value
