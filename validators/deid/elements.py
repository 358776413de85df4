"""HT3, single elements: identifying ones, codes, free text, UIDs, private elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hcc_tace_data.dicom.header_values import TEXT_VRS
from hcc_tace_data.validators.deid.facts import report
from hcc_tace_data.validators.deid.judge import identifies, is_unsafe_uid, may_identify, no_code, text_kinds
from hcc_tace_data.validators.deid.profile import is_safe_private
from hcc_tace_data.validators.deid.suspects import deid_facts
from hcc_tace_data.validators.rule import Draft

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["free_text", "identifying", "names", "private", "uids"]

_REMOVE = "Empty or remove the element."
_REVIEW = "Review and clean the text."


def identifying(context: Context) -> Iterator[Draft]:
    """HT301: elements that the profile empties or removes hold nothing."""
    facts = context.fact(deid_facts)
    yield from report(
        context,
        (
            (value, "An identifying element holds a value.", _REMOVE)
            for value in facts.values()
            if identifies(facts, value)
        ),
    )


def names(context: Context) -> Iterator[Draft]:
    """HT302: PatientName and PatientID are codes."""
    facts = context.fact(deid_facts)
    found = (
        (
            value,
            "PatientName or PatientID is not of the collection's pattern.",
            "Replace it by the patient's code, HCC_nnn.",
        )
        for value in facts.values()
        if no_code(facts, value)
    )
    yield from report(context, found)


def free_text(context: Context) -> Iterator[Draft]:
    """HT303: texts hold no names, dates, numbers or addresses."""
    facts = context.fact(deid_facts)
    found = (
        (value, f"Text that may hold: {', '.join(kinds)}.", _REVIEW)
        for value in facts.values()
        if (kinds := text_kinds(facts, value))
    )
    yield from report(context, found)


def uids(context: Context) -> Iterator[Draft]:
    """HT306: no UID of a manufacturer's or hospital's root."""
    facts = context.fact(deid_facts)
    found = (
        (
            value,
            "A UID of a manufacturer's or hospital's root.",
            "Replace UIDs by ones under 1.3.6.1.4.1.14519.5.2.1, the same everywhere.",
        )
        for value in facts.values({"UI"})
        if is_unsafe_uid(facts, value)
    )
    yield from report(context, found)


def private(context: Context) -> Iterator[Draft]:
    """HT311: private elements are known to be safe, or hold numbers and technical words only."""
    facts = context.fact(deid_facts)
    found = (
        (
            value,
            "A private element that is not known to be safe holds a text.",
            "Remove it, or add it to the safe list after review.",
        )
        for value in facts.values(TEXT_VRS)
        if not is_safe_private(value.path) and may_identify(facts, value) and not text_kinds(facts, value)
    )
    yield from report(context, found)
