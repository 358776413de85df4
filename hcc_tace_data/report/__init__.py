"""Pictures and pages that people look at."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hcc_tace_data.report.build import ReportSummary as ReportSummary
    from hcc_tace_data.report.build import write_report as write_report
    from hcc_tace_data.report.page import findings_page as findings_page

_PUBLIC = {
    "ReportSummary": "hcc_tace_data.report.build",
    "findings_page": "hcc_tace_data.report.page",
    "write_report": "hcc_tace_data.report.build",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hcc_tace_data.report' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
