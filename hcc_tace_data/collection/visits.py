"""The time between a patient's visits."""

from __future__ import annotations

from datetime import date

__all__ = ["days_between"]


def days_between(first: str, second: str) -> int | None:
    """Return the days from one DICOM date to another; None where one is missing or not a date.

    Examples
    --------
    >>> days_between("20050131", "20050301")
    29
    """
    try:
        return (_day(second) - _day(first)).days
    except ValueError:
        return None


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
