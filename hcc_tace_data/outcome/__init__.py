"""Reference models of outcome after TACE: survival, time to progression and response."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcc_tace_data.outcome.crossval import Evaluation as Evaluation
    from hcc_tace_data.outcome.crossval import evaluate as evaluate
    from hcc_tace_data.outcome.fit import FittedModel as FittedModel
    from hcc_tace_data.outcome.fit import fit_outcome as fit_outcome
    from hcc_tace_data.outcome.page import write_outcome_page as write_outcome_page
    from hcc_tace_data.outcome.tasks import Task as Task
    from hcc_tace_data.outcome.tasks import load_task as load_task

_PUBLIC = {
    "Evaluation": "hcc_tace_data.outcome.crossval",
    "FittedModel": "hcc_tace_data.outcome.fit",
    "fit_outcome": "hcc_tace_data.outcome.fit",
    "write_outcome_page": "hcc_tace_data.outcome.page",
    "Task": "hcc_tace_data.outcome.tasks",
    "evaluate": "hcc_tace_data.outcome.crossval",
    "load_task": "hcc_tace_data.outcome.tasks",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
