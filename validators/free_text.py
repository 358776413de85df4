"""Find what may identify a person in free text."""

from __future__ import annotations

import re

__all__ = ["suspicions"]

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("e-mail", re.compile(r"[\w.+-]+@[\w-]+\.[\w.]{2,}")),
    ("URL", re.compile(r"\b(?:https?|ftp)://(?!github\.com/|dicom\.|www\.)\S+|\bwww\.\S+\.\S+", re.I)),
    ("IP address", re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])")),
    ("phone number", re.compile(r"(?<!\d)(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)")),
    ("social security number", re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")),
    ("date", re.compile(r"(?<!\d)(?:\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)?\d{2}|(?:19|20)\d{2}[/-]\d{1,2}[/-]\d{1,2})(?!\d)"
                        r"|\b\d{1,2} ?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*,? ?\d{4}\b", re.I)),
    ("record number", re.compile(r"\b(?:MRN|ACC(?:ESSION)?|RECORD|PATIENT ?ID|CASE|CHART)\b[ #:.no]*[A-Z]{0,3}\d{4,}",
                                 re.I)),
    ("person name", re.compile(r"\b(?:(?:DR|MRS|PROF)\b[.:]?|(?:MR|MS|PT|PATIENT|NAME|PHYSICIAN|TECH)[.:]) *"
                               r"(?-i:[A-Z])[A-Za-z'-]{2,}", re.I)),
    ("person name", re.compile(r"\b[A-Za-z'-]{2,}\^[A-Za-z'-]{2,}(?!\w)")),
    ("address", re.compile(r"\b\d{1,5} +(?:[A-Z][a-z'A-Z]+ +){1,3}(?:st|street|ave|avenue|rd|road|blvd|lane|ln|drive|dr"
                           r"|terrace|way)\b", re.I)),
)  # fmt: skip


def suspicions(text: str) -> list[str]:
    """Return the kinds of identifier that `text` may hold, in a fixed order.

    Examples
    --------
    >>> suspicions("call Dr. Hibbert at 555-123-4567")
    ['phone number', 'person name']
    >>> suspicions("LIVER 3 PHASE (C/A/P)"), suspicions("P/P C/A/P,LIVER PROTO.")
    ([], [])
    """
    return list(dict.fromkeys(kind for kind, pattern in _PATTERNS if pattern.search(text)))
