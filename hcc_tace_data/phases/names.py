"""The names of the contrast phases, for all that labels or shows them; see :mod:`hcc_tace_data.facts.phases`."""

from __future__ import annotations

from hcc_tace_data.facts.phases import DYNAMIC, KNOWN, PHASES, ROUTINE, UNKNOWN, phase_records, published_volumes

__all__ = ["DYNAMIC", "KNOWN", "PHASES", "ROUTINE", "UNKNOWN", "phase_records", "published_volumes"]
