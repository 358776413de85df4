"""Curation rules over a collection and the engine that runs them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "hcc_tace_data.validators":
    raise ImportError("import this package as hcc_tace_data.validators")

if TYPE_CHECKING:
    from hcc_tace_data.validators.engine import Report as Report
    from hcc_tace_data.validators.engine import validate as validate
    from hcc_tace_data.validators.rule import Finding as Finding
    from hcc_tace_data.validators.rule import Rule as Rule

_PUBLIC = {"Finding": "rule", "Report": "engine", "Rule": "rule", "validate": "engine"}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
