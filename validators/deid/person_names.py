"""Find person names in short technical texts, by word lists and by how words stand beside each other.

A protocol's name is made of technical words, numbers and abbreviations. A person's name stands out as other words: a
given name beside a surname, two unknown words beside each other, a word after a title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from hcc_tace_data.validators.deid.wordlists import Word, word

__all__ = ["name_like", "person_names"]

_LETTERS = "A-Za-zÀ-ÖØ-öø-ÿĀ-ɏ\u1e00-\u1eff"
_TOKEN = re.compile(rf"[{_LETTERS}]+(?:['’-][{_LETTERS}]{{2,}})*\.?")
#: What may stand between the parts of one name.
_JOINT = re.compile(r"\.?[ \t_]+|\.?, *|\^+|= *|[ _]?-[ _]?|\.")
_TITLE = re.compile(
    rf"(?:(?<![{_LETTERS}])(?:DR|DRA|MRS|PROF|PROFESSOR|DOCTOR|HERR|FRAU|MME|SIG|SR[AT]A?)\b[.:]?"
    rf"|(?<![{_LETTERS}])(?:MR|MS|MISS|PT|PATIENT|PATIENT'?S? NAME|NAME|PHYSICIAN|RADIOLOGIST|TECH|TECHNOLOGIST"
    rf"|OPERATOR|READER|SURGEON|NURSE|REFERRED BY|REF BY|SEEN BY|READ BY|SIGNED BY|SCANNED BY|DONE BY|REQUESTED BY|ATTN"
    rf"|RE|FOR)[.:]"
    rf"|(?<![{_LETTERS}])(?:(?-i:Mr|Ms|Miss)|(?:REFERRED|SEEN|READ|SIGNED|SCANNED|DONE|REQUESTED|REPORTED"
    r"|PERFORMED) BY)"
    rf"(?=[ _]))"
    rf"[ _]*(?:DR[.]? *)?(?:(?:van|von|de|del|della|da|der|den|la|le|al|el|st\.?) +){{0,3}}"
    rf"((?-i:[A-ZÀ-ÖØ-ÞĀ-ɏ\u1e00-\u1eff])[{_LETTERS}'’-]+)",
    re.IGNORECASE,
)  # fmt: skip
_PARTICLES = frozenset(
    [
        "van",
        "von",
        "der",
        "den",
        "de",
        "del",
        "della",
        "di",
        "da",
        "du",
        "la",
        "le",
        "los",
        "las",
        "dos",
        "santos",
        "st",
        "mac",
        "mc",
        "o",
        "al",
        "el",
        "bin",
        "ben",
        "ter",
        "zu",
    ]
)
_DEGREE = re.compile(r"(?:M\.?D|Ph\.?D|R\.?T|R\.?N|D\.?O|FRCR|MBBS|DDS|Jr|Sr|III?)\.?")


class _Token(NamedTuple):
    text: str
    start: int
    end: int
    word: Word

    @property
    def initial(self) -> bool:
        return len(self.text.rstrip(".")) == 1

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()

    @property
    def weight(self) -> int:
        """How much the token alone speaks for a name: 0 not at all, 1 unknown or ambiguous, 2 a listed name."""
        w = self.word
        if w.technical or len(self.text) < 3 or not self.capital:
            return 0
        if w.given or w.surname:
            return 1 if w.english or len(self.text) < 4 else 2
        return 0 if w.english else 1


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        # Letters glued to digits are codes: T2, B30f, 5mm.
        if (start and text[start - 1].isdigit()) or (end < len(text) and text[end].isdigit()):
            continue
        found = match.group()
        bare = found.rstrip(".")
        yield _Token(found if len(bare) == 1 else bare, start, start + len(bare), _look_up(bare))


@lru_cache(maxsize=1 << 16)
def _look_up(text: str) -> Word:
    whole = word(text)
    if any(whole) or not re.search("['’-]", text):
        return whole
    parts = [word(part) for part in re.split("['’-]", text) if len(part) > 1]
    return Word(
        any(p.technical for p in parts), any(p.english for p in parts), any(p.given for p in parts),
        any(p.surname for p in parts), any(p.rare for p in parts),
    )  # fmt: skip


def name_like(text: str) -> bool:
    """Return whether a single word is listed as a name and is neither technical nor English.

    Examples
    --------
    >>> name_like("Krabappel"), name_like("SIMPSON"), name_like("LIVER"), name_like("young")
    (False, True, False, False)
    """
    w = _look_up(text)
    return w.name and not w.technical and not w.english


def person_names(text: str) -> list[str]:
    """Return the parts of `text` that may name a person.

    Examples
    --------
    >>> person_names("CT liver Homer Simpson"), person_names("LIVER 3 PHASE (C/A/P)")
    (['Homer Simpson'], [])
    """
    if text.islower():  # nothing tells a name by its capital: judge as where all are
        text = text.upper()
    found = [match.group(1) for match in _TITLE.finditer(text) if _titled(match)]
    tokens = list(_tokens(text))
    k = 0
    while k < len(tokens):
        if not tokens[k].weight:
            k += 1
            continue
        run, reach, initials = [tokens[k]], k, 0
        while len(run) < 4 and reach + 1 < len(tokens):
            following = tokens[reach + 1]
            if not _JOINT.fullmatch(text, tokens[reach].end, following.start):
                break
            if following.weight:
                run.append(following)
            elif following.initial and following.capital:
                initials += 1
            elif following.text.lower() not in _PARTICLES:
                break
            reach += 1
        joint = text[run[0].start : tokens[reach].end]
        around = text[max(0, run[0].start - 1) : tokens[reach].end + 1]
        if _is_name(run, joint, around, initials):
            found.append(joint)
        k = reach + 1
    return found


def _titled(match: re.Match[str]) -> bool:
    """Return whether the word after a title is one: DR is also digital radiography."""
    w = _look_up(match.group(1))
    return not w.technical or (
        w.name and match.group()[: match.start(1) - match.start()].rstrip(" _").endswith((".", ":"))
    )


def _is_name(run: list[_Token], joint: str, around: str, initials: int) -> bool:
    """Decide on words side by side, none of which is technical or plain English."""
    listed = [token for token in run if token.weight == 2]
    if "^" in joint or "^" in around:
        return bool(listed) or len(run) > 1
    if any(len(token.text) >= 4 for token in listed):
        return True
    if len(run) < 2:
        return False
    if listed or initials or "," in joint or any(token.word.rare and not token.word.english for token in run):
        return True
    given = [token for token in run if token.word.given]
    if given and any(token.word.surname or token.word.rare for token in run if token is not given[0]):
        return True
    # Words that no list knows, or a given name and one: a name if written as one.
    return all(token.text[1:].islower() for token in run)
