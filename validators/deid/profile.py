"""What DICOM PS3.15, Table E.1-1 asks of each element under the options that TCIA applies.

The Basic Profile with the options Clean Pixel Data, Clean Descriptors, Retain Longitudinal Temporal Information with
Modified Dates, Retain Patient Characteristics, Retain Device Identity and Retain Safe Private. The table holds 621
rows as published in early 2025; the copy it was made from does not state its edition.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal

from hcc_tace_data.dicom.header_values import creator_of, tag_of

__all__ = [
    "Profile",
    "Row",
    "element_name",
    "is_dummy",
    "is_private",
    "is_safe_private",
    "load_profile",
    "safe_uid",
    "table_rows",
]

Action = Literal["remove", "uid", "clean", "device", "keep", ""]

#: Roots of UIDs that de-identification or research software made, not a scanner or an archive: TCIA; OFFIS' dcmtk
#: (derived objects); UUIDs; pydicom; highdicom; dcmqi. All of DICOM's own are registered, not personal.
_ANY_ROOTS = ("1.3.6.1.4.1.14519.5.2.1.", "2.25.", "1.2.840.10008.")
_TOOL_ROOTS = ("1.2.276.0.7230010.", "1.2.826.0.1.3680043.8.498.", "1.2.826.0.1.3680043.10.511.", "1.3.6.1.4.1.43046.")

#: What de-identification tools write in place of a value.
_DUMMY = re.compile(
    r"|anon\w*|(?:removed|modified)(?: by \w+)?|none|null|unknown|na|n/a|0+|x+|(?:user|reader) ?\d+|default"
    r"|de-?identified|redacted",
    re.IGNORECASE,
)
#: CTP replaces these by a hash of so many digits.
_HASHED = {"00080050": re.compile(r"\d{16}"), "00401001": re.compile(r"\d{8}"), "00200010": re.compile(r"\d{16}")}
_DATE_FIRST = re.compile(r"(?:19[89]|20[0-3])\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")

#: PS3.15, Table E.3.10-1 as far as CT, MR and PET go, and the block of the archive's own tool. Group, creator,
#: elements.
_SAFE_PRIVATE: tuple[tuple[str, str, str], ...] = (
    ("0013", "CTP", "10 11 12 13"),
    ("0019", "GEMS_ACQU_01", "23 24 27 9E"),
    ("0025", "GEMS_SERS_01", "07"),
    ("0043", "GEMS_PARM_01", "27 39 6F"),
    ("0045", "GEMS_HELIOS_01", "01 02"),
    ("0903", "GEIIS PACS", "10 11 12"),
    ("00E1", "ELSCINT1", "21 50"),
    ("01E1", "ELSCINT1", "26"),
    ("01F1", "ELSCINT1", "01 07 26 27"),
    ("0019", "SIEMENS MR HEADER", "0C 0D 0E 27"),
    ("2001", "Philips Imaging DD 001", "03 04"),
    ("2005", "Philips MR Imaging DD 001", "0D 0E"),
    ("7053", "Philips PET Private Group", "00 09"),
)
#: Answers about paths that are remembered: a collection has some hundreds, a damaged one any number.
_PATHS = 8192
_SAFE = frozenset(
    f"{group}[{creator}]{element}" for group, creator, elements in _SAFE_PRIVATE for element in elements.split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table: the Basic Profile's action, and the options' (empty where an option says nothing)."""

    tag: str
    name: str
    basic: str
    descriptors: str
    modified_dates: str
    characteristics: str
    device: str
    private: str

    @property
    def action(self) -> Action:
        """What remains to be done once the options are applied."""
        if self.basic in ("U", "X/Z/U*"):
            return "uid"
        if self.device:
            return "device"
        if self.modified_dates or self.characteristics:
            return "keep"
        if self.descriptors or self.private:
            return "clean"
        return "remove"


class Profile:
    """The table, asked by tag path."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows
        self._exact = {row.tag: row.action for row in rows if "X" not in row.tag}
        self._groups = tuple(
            (re.compile(row.tag.replace("X", "[0-9A-F]")), row.action)
            for row in rows
            if "X" in row.tag and len(row.tag) == 8
        )
        # paths are few, and asked for with every value
        self.removed: Callable[[str], bool] = lru_cache(maxsize=_PATHS)(self._removed)

    def action(self, tag: str) -> Action:
        """Return what the profile asks of one public tag; empty for a tag that it does not name."""
        found = self._exact.get(tag)
        if found is not None:
            return found
        for pattern, action in self._groups:
            if pattern.fullmatch(tag):
                return action
        return ""

    def _removed(self, path: str) -> bool:
        """Return whether the element, or a sequence that it lies in, has to be empty or absent."""
        parts = split_path(path)
        if self.action(parts[-1]) == "remove":
            return True
        return any(self.action(part) == "remove" and part not in _LINKS for part in parts[:-1])


#: Sequences that the profile empties but archives keep for what they link: their UIDs are replaced, their codes are
#: no names.
_LINKS = frozenset(
    {"00081110", "00081111", "00081120", "00081140", "00082112", "0040A730", "00400555", "00700001", "00400610"}
)


@lru_cache(maxsize=_PATHS)
def split_path(path: str) -> tuple[str, ...]:
    """Return the tags of a path, from the outermost.

    Examples
    --------
    >>> split_path("00400275/0043[dcm4che/archive]14")
    ('00400275', '0043[dcm4che/archive]14')
    """
    return tuple(re.findall(r"[0-9A-F]{4}\[[^]]*\][0-9A-F]{2}|[0-9A-F]{8}|PREAMBLE", path))


@cache
def table_rows() -> tuple[Row, ...]:
    """Return the 621 rows."""
    text = files("hcc_tace_data").joinpath("data", "ps3_15_e1_1.csv").read_text(encoding="utf-8")
    return tuple(Row(**{**row, "tag": row["tag"].upper()}) for row in csv.DictReader(text.splitlines(keepends=True)))


@cache
def load_profile() -> Profile:
    """Return the table with the options of TCIA applied."""
    return Profile(table_rows())


@lru_cache(maxsize=_PATHS)
def is_private(path: str) -> bool:
    """Return whether an element, or a sequence that it lies in, is private."""
    return any(creator_of(part) is not None for part in split_path(path))


@lru_cache(maxsize=_PATHS)
def is_safe_private(path: str) -> bool:
    """Return whether every private element on a path is known to be safe; a public path is.

    Examples
    --------
    >>> is_safe_private("0013[CTP]10"), is_safe_private("0029[SIEMENS CSA HEADER]10"), is_safe_private("00080060")
    (True, False, True)
    """
    return all(part in _SAFE for part in split_path(path) if creator_of(part) is not None)


def safe_uid(uid: str, *, derived: bool) -> bool:
    """Return whether a UID leads back to no scanner and no hospital.

    Parameters
    ----------
    uid : str
    derived : bool
        Whether a derived object holds it: these may carry the roots of research software.

    Examples
    --------
    >>> safe_uid("1.3.6.1.4.1.14519.5.2.1.7.8", derived=False), safe_uid("1.2.840.113619.2.1", derived=True)
    (True, False)
    """
    inside = f"{uid}."  # a root alone is safe too
    return inside.startswith(_ANY_ROOTS) or (derived and inside.startswith(_TOOL_ROOTS))


def is_dummy(path: str, text: str, *, archived: bool) -> bool:
    """Return whether a value is what a de-identification tool writes in place of an identifier.

    Parameters
    ----------
    path : str
        Tag path.
    text : str
    archived : bool
        Whether the file went through CTP. Only then are digits of the right number a hash: elsewhere they are a number
        of the hospital's.
    """
    if _DUMMY.fullmatch(text):
        return True
    hashed = _HASHED.get(tag_of(path))
    return archived and hashed is not None and bool(hashed.fullmatch(text)) and not _DATE_FIRST.match(text)


@lru_cache(maxsize=4096)
def element_name(path: str) -> str:
    """Return the keyword of the last tag of a path, or what pydicom's private dictionary calls it, else nothing.

    Examples
    --------
    >>> element_name("00400275/00080050"), element_name("0009[NOBODY]01")
    ('AccessionNumber', '')
    """
    from pydicom.datadict import keyword_for_tag, private_dictionary_description

    parts = split_path(path)
    tag = parts[-1] if parts else path
    creator = creator_of(tag)
    if tag == "PREAMBLE":
        return "Preamble"
    if creator:
        try:
            return private_dictionary_description(int(tag[:4], 16) << 16 | 0x1000 | int(tag[-2:], 16), creator)
        except KeyError:
            return ""
    if creator is None:
        return keyword_for_tag(int(tag, 16))
    return "PrivateCreator" if len(tag) == 8 and tag[4:6] == "00" and tag[6:] >= "10" else ""
