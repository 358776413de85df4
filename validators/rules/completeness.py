"""HT1: is everything here that should be?

A gap is reported once, at the highest level it concerns: a patient, a study, a series, a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.tables import full_table, series_table
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft, Rule, Skip

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RULES"]

_NO_TABLE = "the files belong to no series table: no series.csv beside them, and no series of the collection among them"


def _table(context: Context) -> pd.DataFrame:
    table = context.fact(series_table)
    if table is None:
        raise Skip(_NO_TABLE)
    return table


def _unreadable_by_series(context: Context) -> Counter[str]:
    """Count unreadable files in folders that hold one series: HT201 tells of them, they are not missing."""
    owners: dict[str, set[str]] = {}
    if context.collection.problems.empty:
        return Counter()
    for path, uid in zip(context.instances["path"], context.instances["series_uid"], strict=True):
        owners.setdefault(str(PurePosixPath(path).parent), set()).add(uid)
    found: Counter[str] = Counter()
    for path in context.collection.problems["path"]:
        owner = owners.get(str(PurePosixPath(path).parent), set())
        if len(owner) == 1:
            found[next(iter(owner))] += 1
    return found


def _unreadable_whole(context: Context) -> set[str]:
    """Return series of the table whose folder, named after them, holds nothing but unreadable files (HT201)."""
    parts = {part for path in context.collection.problems["path"] for part in PurePosixPath(path).parts[:-1]}
    table = context.fact(series_table)
    if table is None or not parts:
        return set()
    return {uid for uid in map(str, table["series_uid"]) if any(part.endswith(uid) for part in parts)}


def _series_counts(context: Context) -> Iterator[Draft]:
    table = _table(context)
    held: dict[Any, int] = context.instances.groupby("series_uid")["sop_uid"].nunique().to_dict()
    unreadable = _unreadable_by_series(context)
    row: Any
    for row in table.itertuples(index=False):
        have = held.get(row.series_uid, 0)
        missing = int(row.instances) - have
        if (
            missing > 0
        ):  # an unreadable file may be one of them; in a whole series it is one too many, which HT201 tells
            missing -= min(missing, unreadable[str(row.series_uid)])
        if not have or not missing:
            continue
        yield Draft(
            message=f"{have} of {count(row.instances, 'file')} of the series {verb(have, 'is')} here: "
            + (f"{missing} missing." if missing > 0 else f"{-missing} too many."),
            hint="Download the series again." if missing > 0 else "Find out where the extra files come from.",
            at=Place(patient_id=str(row.patient_id), study_uid=str(row.study_uid), series_uid=str(row.series_uid)),
            evidence={"expected": int(row.instances), "found": have, "unreadable": unreadable[str(row.series_uid)]},
        )


def _two_studies(context: Context) -> Iterator[Draft]:
    for patient, rows in context.instances.groupby("patient_id"):
        studies = int(rows["study_uid"].nunique())
        if studies != 2:
            days = sorted(set(rows["study_date"]))
            yield Draft(
                message=f"{count(studies, 'study')} on {count(len(days), 'day')}; a patient has a baseline and a "
                "follow-up.",
                hint="Download the missing study, or treat studies of one day as one visit.",
                at=Place(patient_id=str(patient)),
                evidence={"studies": studies, "days": len(days)},
            )


def _one_seg(context: Context) -> Iterator[Draft]:
    table = context.instances
    held = table[table["modality"] == "SEG"].groupby("patient_id")["sop_uid"].nunique()
    unreadable = _unreadable_whole(context)
    listed = context.fact(series_table)
    if listed is not None and unreadable:
        damaged = listed[(listed["modality"] == "SEG") & listed["series_uid"].isin(unreadable)]
        held = held.add(damaged.groupby("patient_id").size(), fill_value=0)
    for patient in sorted(set(table["patient_id"])):
        if held.get(patient, 0) < 1:
            yield Draft(
                message="No segmentation.",
                hint="Download the SEG series of the baseline study.",
                at=Place(patient_id=str(patient)),
            )


def _ct_series(context: Context) -> Iterator[Draft]:
    table = _table(context)
    here, studies = set(context.instances["series_uid"]), set(context.instances["study_uid"])
    here |= _unreadable_whole(context)
    row: Any
    for row in table[table["modality"] != "SEG"].itertuples(index=False):
        if row.series_uid not in here and row.study_uid in studies:
            yield Draft(
                message=f"{row.modality} series {row.series_number} ({count(row.instances, 'file')}) is missing.",
                hint="Download the series.",
                at=Place(patient_id=str(row.patient_id), study_uid=str(row.study_uid), series_uid=str(row.series_uid)),
                evidence={"expected": int(row.instances)},
            )


def _patients(context: Context) -> Iterator[Draft]:
    expected = sorted(set(_table(context)["patient_id"]))
    here = set(context.instances["patient_id"])
    missing = [patient for patient in expected if patient not in here]
    if missing:
        shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        yield Draft(
            message=f"{len(missing)} of {count(len(expected), 'patient')} of the series table "
            f"{verb(len(missing), 'is')} not here: {shown}",
            hint="Download them, or work on the part that is here and say so.",
            evidence={"missing": missing},
        )


def _foreign(context: Context) -> Iterator[Draft]:
    table = context.fact(full_table)
    if table is None:
        raise Skip(_NO_TABLE)
    listed = set(table["series_uid"])
    for uid, rows in context.instances.groupby("series_uid", sort=True):
        if uid not in listed:
            first = rows.iloc[0]
            yield Draft(
                message=f"{first['modality']} series of {count(len(rows), 'file')} that the series table does not "
                "list.",
                hint="Move it out of the folder, or name the table it belongs to.",
                at=Place(patient_id=str(first["patient_id"]), study_uid=str(first["study_uid"]), series_uid=str(uid)),
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="HT101", name="series-complete", severity="error", scope="series", depth="index",
        summary="Each series holds as many files as the series table says.",
        why="A missing slice shifts or shortens every volume made from the series.",
        fix="Run 'hcc-tace verify', then 'hcc-tace download', which fetches what is missing.",
        source="Series table (IDC index)", check=_series_counts,
    ),
    Rule(
        code="HT102", name="two-studies", severity="warning", scope="patient", depth="index",
        summary="Each patient has two studies.",
        why="Response to TACE is read from the pair of a baseline and a follow-up.",
        fix="Download the missing study.",
        source="10.1038/s41597-023-01928-3", check=_two_studies,
    ),
    Rule(
        code="HT103", name="segmentation-present", severity="error", scope="patient", depth="index",
        summary="Each patient has a segmentation.",
        why="Without it the patient gives no labels.",
        fix="Download the SEG series of the patient.",
        source="10.1038/s41597-023-01928-3", check=_one_seg,
    ),
    Rule(
        code="HT104", name="ct-series-present", severity="error", scope="series", depth="index",
        summary="Every CT series of each downloaded study is present.",
        why="Without it a contrast phase is missing, and the phases of the visit are labelled wrongly.",
        fix="Run 'hcc-tace download', which fetches what is missing.",
        source="Series table (IDC index)", check=_ct_series,
    ),
    Rule(
        code="HT105", name="patients-present", severity="warning", scope="collection", depth="index",
        summary="Every patient of the series table is present.",
        why="Figures of a part are not figures of the collection: 105 patients, and a split made for all of them.",
        fix="Run 'hcc-tace download', or say in what you publish which patients you used.",
        source="Series table (IDC index)", check=_patients,
    ),
    Rule(
        code="HT106", name="no-foreign-series", severity="warning", scope="series", depth="index",
        summary="Each series is one of the series table (of the collection, or of what was added to it later).",
        why="A series of another origin is neither curated nor covered by the collection's licence and figures.",
        fix="Move it out of the folder.",
        source="Series table (IDC index)", check=_foreign,
    ),
)  # fmt: skip
