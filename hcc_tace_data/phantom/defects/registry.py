"""Defects to plant into a finished twin: a registry from a code to a function that spoils the files under a root.

A defect is a function ``(root, rng) -> str``: it changes files below `root` and says what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hcc_tace_data.errors import UsageError
from hcc_tace_data.phantom.seeding import generator
from hcc_tace_data.system.words import did_you_mean

__all__ = ["Defect", "apply_defect", "defect_codes", "register", "unknown_defect"]

Defect = Callable[[Path, np.random.Generator], str]

_REGISTRY: dict[str, Defect] = {}


def register(code: str) -> Callable[[Defect], Defect]:
    """Register a defect under `code`; used as a decorator at the top of a module."""

    def keep(function: Defect) -> Defect:
        if code in _REGISTRY:
            raise UsageError(f"A defect '{code}' is registered already.")
        _REGISTRY[code] = function
        return function

    return keep


def defect_codes() -> tuple[str, ...]:
    """Return the codes of all defects."""
    return tuple(sorted(_REGISTRY))


def unknown_defect(code: str) -> str:
    """Return the message about a defect that cannot be planted."""
    hint = did_you_mean(code, defect_codes(), "'hcc-tace phantom OUT --defect list' shows the codes.")
    return f"There is no defect '{code}'. {hint}"


def apply_defect(root: Path, code: str, *, seed: int = 0) -> str:
    """Plant the defect `code` into the twin at `root` and return what was done.

    Raises
    ------
    UsageError
        No such defect.
    """
    if code not in _REGISTRY:
        raise UsageError(unknown_defect(code))
    return _REGISTRY[code](root, generator("defect", seed, code))
