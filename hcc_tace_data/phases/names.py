"""The names of the contrast phases, for all that labels or shows them; see :mod:`hcc_tace_data.facts.phases`."""

from __future__ import annotations

from hcc_tace_data.facts.phases import DYNAMIC, KNOWN, PHASE_RECORDS, PHASES, PUBLISHED_VOLUMES, ROUTINE, UNKNOWN

__all__ = ["DYNAMIC", "KNOWN", "PHASES", "PHASE_RECORDS", "PUBLISHED_VOLUMES", "ROUTINE", "UNKNOWN"]
