"""The few header values that a rule of de-identification may speak of: judged once, kept, and judged again alone.

Nearly all values of a collection are innocent: whichever file holds them, no rule says anything about them. These need
not be read again. What the rest gives away depends on the files that hold it, and is looked at in every run.

A word that an identifying element tells may not occur anywhere else. Where there is such a word, all values are judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcc_tace_data.validators.deid.facts import DeidFacts, Value
from hcc_tace_data.validators.deid.judge import may_break
from hcc_tace_data.validators.facts.header_scan import HeaderScan, Seen, header_scan, sifted_headers

if TYPE_CHECKING:
    from hcc_tace_data.dicom.header_values import Key
    from hcc_tace_data.validators.context import Context

__all__ = ["deid_facts", "suspects"]

_ANYWHERE = Seen(0)


class _Strictest(DeidFacts):
    """Judges a value as if the file that holds it said nothing that excuses it.

    Each of these answers lets more values pass where it is another one.
    """

    def mark(self, row: int, path: str) -> str | None:
        """Return None: no archive, no other collection, no derived object."""
        return None

    def tells(self, text: str) -> bool:
        """Return False: where identifiers are found, all values are judged."""
        return False


def suspects(context: Context) -> HeaderScan:
    """Return the header values that may break a rule; problems and marks of all files."""
    strictest = _Strictest(context.catalog, HeaderScan())

    def suspect(key: Key) -> bool:
        path, vr, raw = key
        return bool(raw.strip(b" \0")) and may_break(strictest, Value(path, vr, raw, _ANYWHERE))

    return sifted_headers(context, suspect)


def deid_facts(context: Context) -> DeidFacts:
    """Return the header values that may break a rule, with what decides how the rules judge them."""
    facts = DeidFacts(context.catalog, context.fact(suspects))
    return DeidFacts(context.catalog, context.fact(header_scan)) if facts.told else facts
