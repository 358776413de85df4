"""What an element's value may give away: how the rules on single elements (HT3) judge it."""

from __future__ import annotations

import re
import struct
import time

from hcc_tace_data.dicom.header_values import TEXT_VRS, creator_of
from hcc_tace_data.validators.deid.facts import NAME_TAGS, DeidFacts, Value
from hcc_tace_data.validators.deid.free_text import suspicions
from hcc_tace_data.validators.deid.person_names import person_names
from hcc_tace_data.validators.deid.profile import is_private, is_safe_private, safe_uid, split_path
from hcc_tace_data.validators.deid.wordlists import word

__all__ = [
    "ANNOTATIONS", "OVERLAY_BITS", "OVERLAY_POSITION", "codes_for", "identifies", "is_unsafe_uid", "may_break",
    "may_identify", "no_code", "text_kinds",
]  # fmt: skip

#: Where an overlay plane that lies in unused bits of the pixels begins, and how many bits it has.
OVERLAY_POSITION = re.compile(r"60[0-9A-F]{2}0102")
OVERLAY_BITS = re.compile(r"60[0-9A-F]{2}0100")
#: Text and lines of presentation states, at any depth.
ANNOTATIONS = frozenset({"00700006", "00700022"})
#: The archive's own words: how the file was de-identified.
_METHOD_TEXT = frozenset({"00120063", "00080005"})
#: Codes of terminologies: digits that are not a record number.
_CODES = frozenset({"00080100", "00080119", "00080120", "00080102", "0008010D", "0008010F", "00080117", "00080118"})
#: Who wrote the file, and whose codes it uses: software houses, which may be institutions elsewhere.
_SOFTWARE = frozenset({"00020013", "00080102"})
_NUMERIC = frozenset({"DS", "IS"})
_NUMBERS = re.compile(r"[-+0-9.eE\\ ]*")
_CLASS_UIDS = frozenset({"00080016", "00020002", "00020010", "00020012", "00080062", "00081150", "0008001A", "0008001B",
                         "00020100", "00080115", "0008010C", "00080117", "00080118", "00080124",
                         "00283000"})  # fmt: skip
_PRINTABLE = re.compile(rb"[\x20-\x7e\xa0-\xff]{6,}")
_WORD = re.compile(r"[^\W_]+(?:[.'’-][^\W_]+)*")
_UNIX_FROM = 631152000  # 1990-01-01


def identifies(facts: DeidFacts, value: Value) -> bool:
    """Return whether an element that the profile empties or removes holds a value (HT301)."""
    tag = value.tag
    # Group 0012 holds what the archive itself writes: trial, site, method.
    if tag in NAME_TAGS or tag.startswith("0012") or value.vr == "UI" or is_private(value.path):
        return False
    return facts.profile.removed(value.path) and not facts.harmless(value)


def no_code(facts: DeidFacts, value: Value) -> bool:
    """Return whether a value is a PatientName or PatientID that is not a code (HT302)."""
    return value.tag in NAME_TAGS and "[" not in value.path and not facts.is_code(value.text, value.seen.row)


def text_kinds(facts: DeidFacts, value: Value) -> list[str]:
    """Return the kinds of identifier that an element's text may hold, where no other rule judges the element."""
    path, vr, raw, _ = value
    tag = value.tag
    private = not is_safe_private(path)
    if tag in _METHOD_TEXT or vr == "UI" or (not private and tag in NAME_TAGS) or identifies(facts, value):
        return []
    if vr not in TEXT_VRS:
        return _binary_kinds(facts, vr, raw) if private or tag == "PREAMBLE" else []
    text = value.text
    if vr == "UN" and text.startswith("<"):
        return _binary_kinds(facts, vr, raw)
    if facts.harmless(value) or (not private and (vr in _NUMERIC or "[" in path) and _NUMBERS.fullmatch(text)):
        return []
    if vr in ("DA", "DT"):
        return ["date"] if private and creator_of(tag) is not None else []
    if vr in ("TM", "AS"):
        return []
    kinds = suspicions(text)
    if tag in _CODES:
        kinds = [kind for kind in kinds if kind in ("e-mail", "person name", "phone number")]
    if facts.profile.action(tag) == "device" or tag.startswith("0002"):
        kinds = _of_device(kinds, text)
    if vr == "PN" and not kinds:
        kinds = ["person name"]
    if tag not in _SOFTWARE and facts.tells(text):
        kinds = [*kinds, "an identifier found elsewhere"]
    return kinds


def may_break(facts: DeidFacts, value: Value) -> bool:
    """Return whether a value may break any rule of de-identification, of this module or another, at any time.

    `facts` decide what is harmless. That no rule repeats what an identifying element tells is not looked at.
    """
    tag, vr = value.tag, value.vr
    if vr in ("DA", "DT"):  # judged by today's date, too
        return True
    if tag in ANNOTATIONS or OVERLAY_POSITION.fullmatch(tag) or OVERLAY_BITS.fullmatch(tag):
        return True
    if vr in ("UL", "SL") and len(value.raw) == 4 and _unix_time(value.raw) and not is_safe_private(value.path):
        return True
    return facts.names(value) or bool(codes_for(facts, value))


def _of_device(kinds: list[str], text: str) -> list[str]:
    """Leave out what models, serial numbers and versions look like; names are recognised by two words."""
    kept = [
        kind
        for kind in kinds
        if kind not in ("long number", "date", "record number", "address", "IP address", "institution")
    ]
    if "person name" in kept and not any(len(_WORD.findall(name)) > 1 for name in person_names(text)):
        kept.remove("person name")
    return kept


def _binary_kinds(facts: DeidFacts, vr: str, raw: bytes) -> list[str]:
    if vr in ("UL", "SL", "UN") and len(raw) == 4:
        number = _unix_time(raw)
        return ["Unix time"] if number and number <= time.time() and vr != "UN" else []
    kinds: list[str] = []
    for run in _PRINTABLE.findall(raw):
        text = run.decode("latin-1").strip()
        kinds += [kind for kind in suspicions(text) if kind not in ("long number", "institution")]
        if facts.tells(text):
            kinds.append("an identifier found elsewhere")
    return list(dict.fromkeys(kinds))


def _unix_time(raw: bytes) -> int:
    """Return four bytes as seconds since 1970; 0 before 1990."""
    number: int = struct.unpack("<I", raw)[0]
    return number if number >= _UNIX_FROM else 0


def is_unsafe_uid(facts: DeidFacts, value: Value) -> bool:
    """Return whether a value holds a UID of a manufacturer's or hospital's root (HT306)."""
    if value.vr != "UI" or value.tag in _CLASS_UIDS:
        return False
    derived = facts.derived(value.seen.row)
    return not all(safe_uid(uid.strip(), derived=derived) for uid in value.text.split("\\") if uid.strip())


def may_identify(facts: DeidFacts, value: Value) -> bool:
    """Return whether a private element that is not known to be safe may name a person (HT311)."""
    tag, text = value.tag, value.text
    if value.vr in ("TM", "AS") or (value.vr == "UN" and text.startswith("<")) or facts.harmless(value):
        return False
    if creator_of(tag) is not None and len(tag) == 8 and tag[4:6] == "00" and tag[6:] >= "10":
        return False  # a creator: judged as free text
    if len(split_path(value.path)) > 1 and creator_of(tag) is None and facts.profile.action(tag) in ("keep", "device"):
        return False
    # seven digits and more make a telephone or record number, however they are grouped
    if any(sum(c.isdigit() for c in one) >= 7 and "." not in one for one in text.split("\\")):
        return True
    return any(_telling(part) for part in _WORD.findall(text))


def _telling(part: str) -> bool:
    """Return whether a word is neither a short number nor a technical word."""
    try:
        return abs(float(part)) >= 10_000 and "." not in part
    except ValueError:
        pass
    known = word(part)
    return not known.technical and (len(part) > 3 or (len(part) == 3 and not known.english))


def codes_for(facts: DeidFacts, value: Value) -> list[str]:
    """Return the codes of the rules on single elements that one value breaks."""
    codes = []
    if identifies(facts, value):
        codes.append("HT301")
    if no_code(facts, value):
        codes.append("HT302")
    if text_kinds(facts, value):
        codes.append("HT303")
    elif value.vr in TEXT_VRS and not is_safe_private(value.path) and may_identify(facts, value):
        codes.append("HT311")
    if is_unsafe_uid(facts, value):
        codes.append("HT306")
    return codes
