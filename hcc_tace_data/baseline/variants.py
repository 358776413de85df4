"""Smaller networks to fall back to, where the time does not suffice for those of a preset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["Variant", "variants"]

#: A configuration, and in words what is different in it.
Variant = tuple[TrainConfig, list[str]]

#: What narrow 2D networks are trained with.
_NARROW_RATE, _NARROW_BATCH = 0.01, 8
#: 2D networks: widths, and the side of the images that they see at most.
_SMALLER: tuple[tuple[tuple[int, ...], int], ...] = (
    ((64, 128, 256, 512, 1024), 256),
    ((32, 64, 128, 256), 256),
    ((16, 32, 64, 128), 256),
    ((16, 32, 64), 128),
    ((8, 16, 32), 128),
    ((8, 16, 32), 64),
)
#: 3D networks: widths, residual blocks of a level at most, and patches; these are larger where livers are.
_SMALLER_3D: tuple[tuple[tuple[int, ...], int, tuple[int, int, int]], ...] = (
    ((32, 64, 128, 256), 2, (48, 128, 128)),
    ((24, 48, 96, 192), 1, (32, 96, 96)),
    ((16, 32, 64, 128), 1, (24, 96, 96)),
    ((12, 24, 48, 96), 1, (16, 96, 96)),
    ((8, 16, 32, 64), 1, (16, 96, 96)),
)
#: Few steps must each see a tumour, or they learn only that most voxels show none.
_FOREGROUND_3D, _PER_VOLUME_3D = 0.5, 4
#: Of AdamW, in place of SGD, whose momentum of 0.99 needs thousands of steps; and of the averaged weights.
_NARROW_RATE_3D, _NARROW_AVERAGE_3D = 0.004, 0.995


def variants(config: TrainConfig, cases: Sequence[StoredCase]) -> list[Variant]:
    """Return smaller configurations, the smallest last.

    Parameters
    ----------
    config : TrainConfig
        The preset. What is smaller in it already stays.
    cases : sequence of StoredCase
        Whom it is trained on. Patches hold the rows and columns of their livers, unless those of the preset do not.

    Returns
    -------
    list of (TrainConfig, list of str)
        Each with what is different in it. None equals `config`.
    """
    if config.input.patches is not None:
        found = [_variant_3d(config, cases, *smaller) for smaller in _SMALLER_3D]
    else:
        side = max(cases[0].shape[2:])
        found = [_variant(config, widths, most, side) for widths, most in _SMALLER]
    smaller: list[Variant] = []
    for variant, changes in found:
        if changes and not (smaller and variant == smaller[-1][0]):
            smaller.append((variant, changes))
    return smaller


def _variant_3d(
    config: TrainConfig, cases: Sequence[StoredCase], widths: tuple[int, ...], most: int, size: tuple[int, int, int]
) -> Variant:
    """Return a configuration with a smaller 3D network and smaller patches, where its own are larger."""
    patches, model = config.input.patches, config.model
    if patches is None:
        return config, []
    changes = []
    if sum(widths) < sum(model.widths):
        blocks = (model.blocks or ())[: len(widths)]
        blocks += (1,) * (len(widths) - len(blocks))
        blocks = tuple(min(most, count) for count in blocks)
        model = model.model_copy(update={"widths": widths, "blocks": blocks})
        changes += [
            f"widths {'-'.join(map(str, widths))} instead of {'-'.join(map(str, config.model.widths))}",
            f"{'-'.join(map(str, blocks))} residual blocks a level",
        ]
    steps = [2 ** sum(stride[axis] == 2 for stride in model.strides) for axis in range(3)]
    sides = []
    for axis, (own, least, step) in enumerate(zip(patches.size, size, steps, strict=True)):
        livers = [case.liver[axis][1] - case.liver[axis][0] for case in cases if case.liver is not None]
        wanted = max(least, *livers) if axis and livers else least
        # nothing lies beyond the largest volume
        wanted = min(wanted, max(case.shape[1 + axis] for case in cases))
        sides.append(min(own, max(2, -(-wanted // step)) * step))
    smaller = (sides[0], sides[1], sides[2])
    if smaller != patches.size:
        changes.append(f"patches of {_by(smaller)} voxels instead of {_by(patches.size)}")
    if not changes:
        return config, []
    update: dict[str, Any] = {"size": smaller}
    if patches.per_volume > _PER_VOLUME_3D or patches.foreground < _FOREGROUND_3D:
        update |= {"per_volume": _PER_VOLUME_3D, "foreground": _FOREGROUND_3D}
        changes.append(
            f"{_PER_VOLUME_3D} patches of a volume and epoch instead of {patches.per_volume}, "
            f"{_FOREGROUND_3D:.0%} of them on the tumour instead of {patches.foreground:.0%}"
        )
    if patches.mirror:
        update["mirror"] = False  # eight predictions of each window, and mirrored bodies to learn
        changes.append("nothing mirrored, neither in training nor in prediction")
    shrunk: dict[str, Any] = {
        "model": model,
        "input": config.input.model_copy(update={"patches": patches.model_copy(update=update)}),
    }
    if config.augment is True:
        shrunk["augment"] = "spatial"  # what few steps can learn: values that are changed only make it harder
        changes.append("augmentation that leaves values as they are")
    if config.optimizer.name == "sgd":
        shrunk["optimizer"] = config.optimizer.model_copy(update={"name": "adamw", "lr": _NARROW_RATE_3D})
        changes.append(f"AdamW at {_NARROW_RATE_3D} instead of SGD at {config.optimizer.lr}")
        if config.ema is None:
            shrunk["ema"] = _NARROW_AVERAGE_3D
            changes.append("averaged weights")
    return config.model_copy(update=shrunk), changes


def _by(size: tuple[int, int, int]) -> str:
    return " x ".join(map(str, size))


def _variant(config: TrainConfig, widths: tuple[int, ...], most: int, side: int) -> Variant:
    """Return a smaller configuration and what is different in it."""
    shrink = max(config.input.shrink, -(-side // most))
    changes = []
    update: dict[str, Any] = {}
    if sum(widths) < sum(config.model.widths):
        update["model"] = config.model.model_copy(update={"widths": widths})
        changes.append(f"widths {'-'.join(map(str, widths))} instead of {'-'.join(map(str, config.model.widths))}")
    if shrink != config.input.shrink:
        own = max(1, shrink // 2) if config.input.crop else shrink  # a liver takes half of a side
        update["input"] = config.input.model_copy(update={"shrink": shrink, "tumour_shrink": own})
        changes.append(f"images {_sampled(shrink)}, liver crops {_sampled(own)}")
    if config.optimizer.name == "adamw" and widths[0] <= 16 and config.optimizer.lr < _NARROW_RATE:
        # narrow networks and few steps bear, and need, larger ones
        update["optimizer"] = config.optimizer.model_copy(update={"lr": _NARROW_RATE})
        changes.append(f"learning rate {_NARROW_RATE} instead of {config.optimizer.lr}")
    if widths[0] <= 16 and config.batch_size > _NARROW_BATCH:
        update["batch_size"] = _NARROW_BATCH
        changes.append(f"batches of {_NARROW_BATCH} instead of {config.batch_size}")
    return config.model_copy(update=update), changes


def _sampled(factor: int) -> str:
    """Return how an image is averaged before the network, in words."""
    return "at full resolution" if factor == 1 else f"downsampled {factor}x"
