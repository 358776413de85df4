"""Paths in reports: file and folder names may hold what a header must not."""

from __future__ import annotations

import re

from hcc_tace_data.masking import mask
from hcc_tace_data.validators.free_text import suspicions

__all__ = ["safe_path"]

_PLAIN = re.compile(r"(?:HCC_\d{3}|(?:[A-Za-z]{0,6}[_-])?\d[\d.]*\d|[A-Za-z]{0,6}\d{0,8})(?:\.dcm|\.ima)?", re.I)


def safe_path(path: str) -> str:
    """Return `path` with every part masked that may hold a name, a date, or a number of a person.

    Examples
    --------
    >>> safe_path("HCC_001/1.3.6.1.4.1.14519.5.2.1.7/CT_1.2.3/IM0001.dcm")
    'HCC_001/1.3.6.1.4.1.14519.5.2.1.7/CT_1.2.3/IM0001.dcm'
    >>> safe_path("SIMPSON^HOMER/a.dcm")
    'S************/a.dcm'
    """
    return "/".join(_safe(part) for part in path.split("/"))


def _safe(part: str) -> str:
    if _PLAIN.fullmatch(part) or not suspicions(part.replace("_", " ")):
        return part
    return mask(part)
