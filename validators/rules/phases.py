"""HT6: contrast phases.

Do the sources agree with each other and with the published table, is each phase there once, and was the SEG drawn on
the expected one?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hcc_tace_data.phases.label import PUBLISHED_FILE, published_for, refuted
from hcc_tace_data.phases.names import PHASES, ROUTINE
from hcc_tace_data.phases.table import named_phase
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.phases import phase_table
from hcc_tace_data.validators.facts.tables import series_table
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import KNOWN_PLACE, Draft, Partly, Rule, Skip

if TYPE_CHECKING:
    from hcc_tace_data.facts.published import PublishedPhases

__all__ = ["RULES"]

_SOURCES = {"phase_table": "series table", "phase_headers": "headers", "phase_pixels": "pixels"}
_NAMES = {**_SOURCES, "phase_published": "published table", "description": "description"}

Found = Iterator[Draft | Partly]


def _place(row: Any) -> Place:
    return Place(**{name: str(getattr(row, name)) for name in ("patient_id", "study_uid", "series_uid")})


def _disagree(context: Context) -> Found:
    table = context.fact(phase_table)
    columns = [name for name in _SOURCES if name in table]
    if len(columns) < 2:
        raise Skip("the phase table does not say what each source gives alone")
    silent = [_SOURCES[name] for name in columns if (table[name] == "unknown").all()]
    if silent:
        depth = " (pixels are read at --depth pixels)" if "pixels" in silent and context.depth != "pixels" else ""
        yield Partly(f"no phase from {', '.join(silent)}{depth}")
    beyond_doubt = set(refuted(table).index)  # HT606 reports those
    row: Any
    for row in table.itertuples():
        told = {} if row.Index in beyond_doubt else _told(row, columns)
        if len(set(told.values())) > 1:
            said = ", ".join(f"{_NAMES[name]}: {phase}" for name, phase in told.items())
            yield Draft(
                message=f"Volume {row.volume}, series {row.series_number}: sources disagree on the phase ({said}); "
                f"it is labelled {row.phase} ({row.source}, {row.confidence:.2f}).",
                hint="Look at aorta and portal vein in the volume before you use it as a channel.",
                at=_place(row),
                evidence={**told, "volume": int(row.volume), "phase": row.phase},
            )


def _told(row: Any, columns: list[str]) -> dict[str, str]:
    """Return what each source says of a volume.

    The published table was made by readers, so that what the general rules guess from numbers and names adds nothing
    where it speaks.
    """
    told = {name: getattr(row, name) for name in columns if getattr(row, name) in PHASES}
    if row.source == "published":
        told.pop("phase_table", None)
        told["phase_published"] = row.phase_published
    elif named_phase(str(row.description)) is not None:
        told["description"] = str(named_phase(str(row.description)))
    return {name: phase for name, phase in told.items() if phase != "unknown"}


def _split_as_published(context: Context) -> Found:
    published = _published_here(context)
    for uid, rows in context.fact(phase_table).groupby("series_uid", sort=False):
        one = published.get(str(uid))
        if one is None or len(rows) == len(one.phases):
            continue
        row: Any = next(rows.itertuples(index=False))
        yield Draft(
            message=f"Series {row.series_number} is split into {len(rows)} volumes; {', '.join(one.phases)} is "
            "published.",
            hint="Its volumes are labelled by the general rules. Compare the slices of each with the published phases.",
            at=_place(row),
            evidence={
                "volumes": len(rows),
                "published": list(one.phases),
                KNOWN_PLACE: f"{row.study_date} {int(row.series_number or 0)}",
            },
        )


def _published_refuted(context: Context) -> Found:
    _published_here(context)
    row: Any
    for row in refuted(context.fact(phase_table)).itertuples(index=False):
        yield Draft(
            message=f"Volume {row.volume}, series {row.series_number}: published as {row.phase_published}, but by its "
            f"pixels {row.phase_pixels}.",
            hint="The published label is kept. Look at aorta and portal vein; published=False ignores the table.",
            at=_place(row),
            evidence={"volume": int(row.volume), "published": row.phase_published, "pixels": row.phase_pixels},
        )


def _published_here(context: Context) -> Mapping[str, PublishedPhases]:
    published = published_for(context.root)
    if not context.fact(phase_table)["series_uid"].isin(published).any():
        raise Skip(f"no series here is in the published table (a folder may bring its own {PUBLISHED_FILE})")
    return published


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
        missing = [phase for phase in ROUTINE if not counts.get(phase)]
        doubled = [str(phase) for phase, count in counts.items() if count > 1 and phase != "unknown"]
        twice = [f"{phase} twice" for phase in doubled if counts[phase] == 2]
        unknown = int(counts.get("unknown", 0))
        told = [f"no {', '.join(missing)}"] if missing else []
        told += [f"{', '.join(doubled)} more than once"] if doubled else []
        told += [f"{unknown} volume{'s' * (unknown > 1)} of unknown phase"] if unknown else []
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
                    KNOWN_PLACE: f"{day} {', '.join([*missing, *twice])}" if not unknown else "",
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
        summary="Description, headers, pixels and the published table agree on the phase of each volume.",
        why="The files do not state the phase: it is published or inferred, and a contradiction means that one source "
            "misleads.",
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
    Rule(
        code="HT605", name="split-as-published", severity="warning", scope="series", depth="headers",
        summary="A series is split into as many volumes as the published table says.",
        why="Published phases cannot be assigned to volumes that are more or fewer; the general rules label them then.",
        fix="Look at the slices of each volume; a phase may have been acquired in two parts, or slices may be missing.",
        source=_PAPER, check=_split_as_published,
    ),
    Rule(
        code="HT606", name="pixels-refute-published", severity="warning", scope="series", depth="pixels",
        summary="Pixels do not contradict a published phase beyond doubt.",
        why="A slip in the published table, or volumes of a stacked series in another order, would put a phase into "
            "the wrong channel.",
        fix="Look at the enhancement of aorta and portal vein; label_phases(published=False) ignores the table.",
        source=_PAPER, check=_published_refuted,
    ),
)  # fmt: skip
