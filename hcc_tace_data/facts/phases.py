"""The phase vocabulary: the keys of the contrast phases here, their names and colours in ``catalog.yaml``.

The keys are code, as the rules that recognise phases are written for them; a test holds both in step.
"""

from __future__ import annotations

from functools import cache

from hcc_tace_data.facts.catalog import Phase, PhaseColours, load_catalog

__all__ = ["DYNAMIC", "KNOWN", "PHASES", "ROUTINE", "UNKNOWN", "phase_records", "published_volumes"]

#: The phase of a volume that nothing identifies; no collection lists it.
UNKNOWN = "unknown"

#: The phases that evidence can speak for, in order of acquisition.
KNOWN = ("pre_contrast", "arterial", "portal_venous", "delayed")

#: Contrast phases, in order of acquisition; `unknown` where nothing tells.
PHASES = (*KNOWN, UNKNOWN)

#: Phases after one injection, in order.
DYNAMIC = KNOWN[1:]

#: Phases that the protocol acquires at every visit.
ROUTINE = KNOWN[:3]


@cache
def phase_records() -> dict[str, Phase]:
    """Return phase -> its names and colours, in order of acquisition; `unknown` comes last."""
    unknown = Phase(
        key=UNKNOWN, name="Unknown", short="?", heading="?", routine=False, delay_s=None,
        colours=PhaseColours(light="#C9C4B6", dark="#545C64"),
    )  # fmt: skip
    return {**{phase.key: phase for phase in load_catalog().phases}, UNKNOWN: unknown}


def published_volumes() -> dict[str, int]:
    """Return phase -> its volumes in the data descriptor (Moawad et al. 2023); 0 where it does not count them."""
    return {phase: load_catalog().counts.paper.phases.get(phase, 0) for phase in KNOWN}
