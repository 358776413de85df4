"""Numbers with their nouns, as messages show them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

__all__ = ["count", "day", "did_you_mean", "no_patient", "size", "verb"]

#: Nouns whose plural does not follow the rules below.
_PLURALS = {"series": "series", "CT": "CT", "axis": "axes", "person": "people"}
_PLURAL_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do"}


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    Parameters
    ----------
    number : int
        From 1,000 on it is written with separators.
    noun : str
        In the singular; of several words, the last one gets the plural.

    Examples
    --------
    >>> count(1, "file"), count(0, "file"), count(2, "study"), count(1200, "CT volume"), count(2, "series")
    ('1 file', '0 files', '2 studies', '1,200 CT volumes', '2 series')
    """
    return f"{number:,} {noun if number == 1 else _plural(noun)}"


def verb(number: int, singular: str) -> str:
    """Return a verb as it goes with a number.

    Parameters
    ----------
    number : int
        Of its subject.
    singular : str
        The verb in the third person: "is", "lies".

    Examples
    --------
    >>> verb(1, "is"), verb(2, "is"), verb(0, "lies")
    ('is', 'are', 'lie')
    """
    return singular if number == 1 else _PLURAL_VERBS.get(singular, singular.removesuffix("s"))


def day(date: str) -> str:
    """Return a DICOM date as messages show it; anything else as it is.

    Examples
    --------
    >>> day("19991130"), day("1999-11-30"), day("")
    ('1999-11-30', '1999-11-30', '')
    """
    text = str(date)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return the hint after an unknown word: the nearest known one, or else where all are listed.

    Examples
    --------
    >>> did_you_mean("501", ["HT401", "HT501"], "'hcc-tace explain' lists all.")
    "Did you mean 'HT501'?"
    >>> did_you_mean("x", ["HT401", "HT501"], "'hcc-tace explain' lists all.")
    "'hcc-tace explain' lists all."
    """
    near = get_close_matches(word, list(known), n=1)
    return f"Did you mean '{near[0]}'?" if near else otherwise


def no_patient(unknown: Iterable[str], known: Collection[str], where: str) -> str:
    """Return the message about patients that are not there.

    Examples
    --------
    >>> no_patient(["HCC_099"], ["HCC_001", "HCC_002"], "/data/hcc")
    'No patient HCC_099 in /data/hcc (2 patients; the first is HCC_001).'
    """
    first = f"; the first is {min(known)}" if known else ""
    return f"No patient {', '.join(unknown)} in {where} ({count(len(known), 'patient')}{first})."


def size(number: float) -> str:
    """Return a number of bytes as messages show it: GB from 0.1 GB on, else MB.

    Examples
    --------
    >>> size(28_567_000_000), size(120_000_000), size(4_140_000), size(0)
    ('28.57 GB', '0.12 GB', '4.1 MB', '0.0 MB')
    """
    return f"{number / 1e9:.2f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def _plural(noun: str) -> str:
    head, space, last = noun.rpartition(" ")
    if last in _PLURALS:
        return head + space + _PLURALS[last]
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return head + space + last[:-1] + "ies"
    return head + space + last + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")
