"""The phase vocabulary: keys, names and colours of the contrast phases, from ``catalog.yaml``.

It is that of the shipped catalogue: the rules that recognise phases are written for these.
"""

from __future__ import annotations

from hcc_tace_data.facts.catalog import Phase, PhaseColours, load_catalog

__all__ = ["DYNAMIC", "KNOWN", "PHASES", "PHASE_RECORDS", "PUBLISHED_VOLUMES", "ROUTINE", "UNKNOWN"]

#: The phase of a volume that nothing identifies; no collection lists it.
UNKNOWN = "unknown"

#: Phase -> its names and colours, in order of acquisition; `unknown` comes last.
PHASE_RECORDS: dict[str, Phase] = {
    **{phase.key: phase for phase in load_catalog().phases},
    UNKNOWN: Phase(
        key=UNKNOWN, name="Unknown", short="?", heading="?", routine=False, delay_s=None,
        colours=PhaseColours(chart="#999999", light="#C9C4B6", dark="#545C64"),
    ),
}  # fmt: skip

#: Contrast phases, in order of acquisition; `unknown` where nothing tells.
PHASES = tuple(PHASE_RECORDS)

#: The phases that evidence can speak for, in order.
KNOWN = PHASES[:-1]

#: Phases after one injection, in order.
DYNAMIC = tuple(phase for phase in KNOWN if phase != "pre_contrast")

#: Phases that the protocol acquires at every visit.
ROUTINE = tuple(phase for phase in KNOWN if PHASE_RECORDS[phase].routine)

#: Phase -> its volumes in the data descriptor (Moawad et al. 2023); 0 where it does not count them.
PUBLISHED_VOLUMES = {phase: load_catalog().counts.paper.phases.get(phase, 0) for phase in KNOWN}
