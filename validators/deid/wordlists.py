"""The word lists of the free-text scan: technical and English words, given names, surnames.

`scripts/make_deid_words.py` makes them; it names their sources.
"""

from __future__ import annotations

import gzip
import unicodedata
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Word", "fold", "word"]


class Word(NamedTuple):
    """What a word is known as."""

    technical: bool
    english: bool
    given: bool
    surname: bool
    rare: bool  # a surname of few; many an abbreviation is one too

    @property
    def name(self) -> bool:
        """A given name or a surname."""
        return self.given or self.surname or self.rare


def fold(text: str) -> str:
    """Return `text` in lower case, without accents.

    Examples
    --------
    >>> fold("Müller")
    'muller'
    """
    if text.isascii():
        return text.lower()
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).casefold()


@cache
def _list(name: str) -> dict[str, str]:
    raw = files("hcc_tace_data").joinpath("data", name).read_bytes()
    lines = gzip.decompress(raw).decode("ascii").split("\n")
    return dict(line.split(" ") for line in lines)


@cache
def _terms() -> frozenset[str]:
    """Return words that the lists lack."""
    text = files("hcc_tace_data").joinpath("data", "deid_terms.txt").read_text(encoding="ascii")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


@lru_cache(maxsize=1 << 16)
def word(text: str) -> Word:
    """Look a word up, in any case.

    Examples
    --------
    >>> word("LIVER").technical, word("Homer").given, word("with").english
    (True, True, True)
    """
    folded = fold(text)
    kind = _list("deid_words.txt.gz").get(folded, "")
    name = _list("deid_names.txt.gz").get(folded, "")
    return Word(kind == "t" or folded in _terms(), kind == "e" or kind == "t", "g" in name, "s" in name, "r" in name)
