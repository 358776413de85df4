"""What one sample of a data set is, where it is less than a volume: a slice or a patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args

from hcc_tace_data.errors import UsageError

__all__ = ["Patches", "SliceRange", "Slices", "whole_numbers"]

SliceRange = Literal["liver", "tumour", "all"]


def whole_numbers(name: str, value: Any, axes: str) -> tuple[int, ...]:
    """Return one whole number of at least 1 for each of `axes`; a single number counts for all of them.

    Raises
    ------
    UsageError
        Anything else.

    Examples
    --------
    >>> whole_numbers("size", 96, "DHW")
    (96, 96, 96)
    """
    values: Any = [value] * len(axes) if isinstance(value, Integral) else value
    if (
        isinstance(values, str | bytes)
        or not hasattr(values, "__len__")
        or not hasattr(values, "__getitem__")
        or len(values) != len(axes)
        or not all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in values)
    ):
        raise UsageError(
            f"{name} is {value!r}; give a whole number of at least 1, or one for each of ({', '.join(axes)})."
        )
    return tuple(int(n) for n in values)


@dataclass(frozen=True, slots=True, init=False)
class Slices:
    """Axial slices, as ``unit`` of :func:`hcc_tace_data.load_hcc_tace`.

    Attributes
    ----------
    range : {"liver", "tumour", "all"}
        Serve the slices that show the liver (tumours included), those that show the tumour, or all.
    size : (int, int) or None
        Rows and columns to crop or pad (-1024 HU, background) every slice to, about its middle; a single number for
        both. Batches need it where slices differ in size. None leaves slices as they are.

    Examples
    --------
    >>> Slices(size=256)
    Slices(range='liver', size=(256, 256))
    """

    range: SliceRange
    size: tuple[int, int] | None

    def __init__(self, range: SliceRange = "liver", size: int | Sequence[int] | None = None) -> None:
        if range not in get_args(SliceRange):
            raise UsageError(f"range is {range!r}; use {', '.join(map(repr, get_args(SliceRange)))}.")
        object.__setattr__(self, "range", range)
        object.__setattr__(self, "size", None if size is None else whole_numbers("slice size", size, "HW"))


@dataclass(frozen=True, slots=True, init=False)
class Patches:
    """Random 3D patches, as ``unit`` of :func:`hcc_tace_data.load_hcc_tace`.

    Attributes
    ----------
    size : (int, int, int)
        Voxels along (D, H, W); a single number for all three.
    per_volume : int
        Patches of each volume in an epoch.
    foreground : float
        Share of patches centred in the bounding box of the tumour (of the liver, if the case has no tumour); the others
        are drawn anywhere in the volume.
    seed : int
        The same seed, epoch and sample give the same patch in every process.

    Examples
    --------
    >>> Patches(size=64, per_volume=2)
    Patches(size=(64, 64, 64), per_volume=2, foreground=0.5, seed=0)
    """

    size: tuple[int, int, int]
    per_volume: int
    foreground: float
    seed: int

    def __init__(
        self, size: int | Sequence[int] = (96, 96, 96), per_volume: int = 4, foreground: float = 0.5, seed: int = 0
    ) -> None:
        if not isinstance(foreground, Real) or not math.isfinite(foreground) or not 0 <= foreground <= 1:
            raise UsageError(f"foreground is {foreground!r}; give a share from 0 to 1.")
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            raise UsageError(f"seed is {seed!r}; give a whole number.")
        object.__setattr__(self, "size", whole_numbers("patch size", size, "DHW"))
        object.__setattr__(self, "per_volume", whole_numbers("per_volume", per_volume, "N")[0])
        object.__setattr__(self, "foreground", float(foreground))
        object.__setattr__(self, "seed", int(seed))
