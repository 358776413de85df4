"""Measurements of livers and lesions: sizes, shapes, distances and HU, by lesion, patient and pair of visits."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcc_tace_data.measure.tables import measure_lesions as measure_lesions

_PUBLIC = {"measure_lesions": "hcc_tace_data.measure.tables"}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
