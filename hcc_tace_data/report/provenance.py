"""Where a page comes from: versions, sources, and what was looked at."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hcc_tace_data.version import __version__

__all__ = ["provenance"]

_LIBRARIES = ("pydicom", "highdicom", "numpy", "pandas", "pandera", "lifelines")


def provenance(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and texts for the foot of a page; `facts` stand between the date and the versions."""
    rows = [("Made", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")), ("Made by", f"hcc-tace-data {__version__}")]
    rows += [(name.capitalize(), str(value)) for name, value in facts.items()]
    rows.append(
        ("Versions", ", ".join([f"Python {platform.python_version()}", *filter(None, map(_named, _LIBRARIES))]))
    )
    return rows


def _named(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return ""
