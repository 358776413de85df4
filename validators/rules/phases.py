"""HT6: contrast phases: do the sources agree, is each there once, and was the SEG drawn on the expected one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.phases import phase_table
from hcc_tace_data.validators.facts.tables import series_table
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import KNOWN_PLACE, Draft, Partly, Rule, Skip

__all__ = ["RULES"]

_SOURCES = {"phase_table": "series table", "phase_headers": "headers", "phase_pixels": "pixels"}
_EXPECTED = ("pre_contrast", "arterial", "portal_venous")

Found = Iterator[Draft | Partly]


def _place(row: Any) -> Place:
    return Place(**{name: str(getattr(row, name)) for name in ("patient_id", "study_uid", "series_uid")})


def _disagree(context: Context) -> Found:
    table = context.fact(phase_table)
    columns = [name for name in _SOURCES if name in table]
    if len(columns) < 2:
        raise Skip("the phase table does not say what each source alone tells")
    silent = [_SOURCES[name] for name in columns if (table[name] == "unknown").all()]
    if silent:
        depth = "; pixels are asked at --depth pixels" if "pixels" in silent and context.depth != "pixels" else ""
        yield Partly(f"{', '.join(silent)} told no phase{depth}")
    row: Any
    for row in table.itertuples(index=False):
        told = {name: getattr(row, name) for name in columns if getattr(row, name) not in ("unknown", "", None)}
        if len(set(told.values())) > 1:
            said = ", ".join(f"{_SOURCES[name]}: {phase}" for name, phase in told.items())
            yield Draft(
                message=f"Volume {row.volume}, series {row.series_number}: sources disagree on the phase ({said}); "
                f"together they say {row.phase} with {row.confidence:.2f}.",
                hint="Look at aorta and portal vein in the volume before you use it as a channel.",
                at=_place(row),
                evidence={**told, "volume": int(row.volume), "phase": row.phase},
            )


def _complete(context: Context) -> Found:
    table = context.fact(phase_table)
    if not len(table):
        raise Skip("no CT here")
    gone = _studies_with_missing_series(context)
    visits: dict[Any, list[Any]] = {one: sorted(set(days)) for one, days in table.groupby("patient_id")["study_date"]}
    for (patient, day), rows in table.groupby(["patient_id", "study_date"], sort=True):
        if gone & set(rows["study_uid"]):
            yield Partly(f"visit {visits[patient].index(day) + 1} of {patient} lacks a series (HT104)")
            continue
        counts = rows["phase"].value_counts()
        missing = [phase for phase in _EXPECTED if not counts.get(phase)]
        doubled = [str(phase) for phase, count in counts.items() if count > 1 and phase != "unknown"]
        unknown = int(counts.get("unknown", 0))
        told = [f"no {', '.join(missing)}"] if missing else []
        told += [f"{', '.join(doubled)} more than once"] if doubled else []
        told += [f"{unknown} volumes of unknown phase"] if unknown else []
        if told:
            yield Draft(
                message=f"Visit {visits[patient].index(day) + 1} has {'; '.join(told)}.",
                hint="Ask for phases that every visit has, or leave the visit out (missing='skip').",
                at=Place(patient_id=str(patient), study_uid=str(rows["study_uid"].iloc[0])),
                evidence={
                    "missing": missing,
                    "doubled": doubled,
                    "unknown": unknown,
                    "visit": visits[patient].index(day) + 1,
                    KNOWN_PLACE: f"{day} {', '.join(missing)}" if not (doubled or unknown) else "",
                },
            )


def _studies_with_missing_series(context: Context) -> set[str]:
    table = context.fact(series_table)
    if table is None:
        return set()
    return set(table.loc[~table["series_uid"].isin(set(context.instances["series_uid"])), "study_uid"])


def _annotated(context: Context) -> Found:
    row: Any
    for row in context.fact(phase_table).itertuples(index=False):
        if row.annotated is True and row.phase not in ("portal_venous", "unknown"):
            yield Draft(
                message=f"The masks were drawn on the {row.phase.replace('_', ' ')} phase, not the porto-venous.",
                hint="Use the image it was drawn on, or register the other phase to it.",
                at=_place(row),
                evidence={"phase": row.phase, "confidence": float(row.confidence)},
            )


def _stacked(context: Context) -> Found:
    table = context.fact(phase_table)
    counts = table.groupby("series_uid", sort=False)["volume"].transform("size")
    row: Any
    for row in table[(counts > 1) & (table["volume"] == 0)].itertuples(index=False):
        volumes = table[table["series_uid"] == row.series_uid]
        names = ", ".join(volumes["phase"].str.replace("_", " "))
        yield Draft(
            message=f"Series {row.series_number} stacks {len(volumes)} contrast phases: {names}.",
            hint="Read it as phase volumes (Collection.phase_volumes); sorted by position its phases mix.",
            at=_place(row),
            evidence={
                "volumes": len(volumes),
                "series_number": int(row.series_number or 0),
                KNOWN_PLACE: f"{row.study_date} {int(row.series_number or 0)}",
            },
        )


_PAPER = "10.1038/s41597-023-01928-3"
RULES: tuple[Rule, ...] = (
    Rule(
        code="HT601", name="phase-sources-agree", severity="warning", scope="series", depth="headers",
        summary="Series table, headers and pixels say the same of the phase of each volume.",
        why="The phase is written nowhere: it is concluded, and a contradiction means that one source misleads.",
        fix="Look at the enhancement of aorta and portal vein.", source=_PAPER, check=_disagree,
    ),
    Rule(
        code="HT602", name="phases-complete", severity="info", scope="study", depth="headers",
        summary="Each visit has a pre-contrast, an arterial and a porto-venous volume, each once.",
        why="A sample of several phases cannot be made of a visit that lacks one.",
        fix="Leave the visit out, or ask for fewer phases.", source=_PAPER, check=_complete,
    ),
    Rule(
        code="HT603", name="seg-on-portal-venous", severity="warning", scope="study", depth="headers",
        summary="The segmentation was drawn on the porto-venous phase.",
        why="Vessels and tumour look different in another phase; a model of one phase is confused by masks of another.",
        fix="Use the image it was drawn on.", source=_PAPER, check=_annotated,
    ),
    Rule(
        code="HT604", name="one-phase-a-series", severity="warning", scope="series", depth="headers",
        summary="A series holds one contrast phase.",
        why="48 series of the collection stack several (an export error): their slices sorted by position alternate "
            "between phases.",
        fix="Read phase volumes, never whole series.", source=_PAPER, check=_stacked,
    ),
)  # fmt: skip
