"""What the 2D and the 3D network share: a head for the finest level, and heads for coarser ones while they train."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hcc_tace_data.errors import UsageError

__all__ = ["DeeplySupervised"]


class DeeplySupervised(nn.Module):
    """A decoder whose levels can each have a head.

    In training mode it returns a list of logits, finest first; in evaluation mode the finest alone.
    """

    head: nn.Module
    coarse_heads: nn.ModuleList

    @staticmethod
    def check_channels(in_channels: int, classes: int) -> None:
        """Refuse a network without input, or with nothing to tell apart."""
        if in_channels < 1 or classes < 2:
            raise UsageError(f"in_channels is {in_channels} and classes {classes}; use at least 1 and 2.")

    def add_heads(
        self, kind: type[nn.Conv2d] | type[nn.Conv3d], widths: Sequence[int], classes: int, *, coarse: bool
    ) -> None:
        """Make the head of the finest of `widths` and, if `coarse`, one for each level between it and the coarsest."""
        self.head = kind(widths[0], classes, kernel_size=1)
        levels = widths[-2:0:-1] if coarse else ()
        self.coarse_heads = nn.ModuleList(kind(width, classes, kernel_size=1) for width in levels)

    def logits(self, features: Tensor, coarse: list[Tensor]) -> Tensor | list[Tensor]:
        """Return the logits of the finest `features`; while training, with those of coarser levels (coarsest first)."""
        finest: Tensor = self.head(features)
        return [finest, *reversed(coarse)] if self.training and len(self.coarse_heads) else finest
