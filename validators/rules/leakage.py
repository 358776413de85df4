"""HT8: can anything of the test set reach training? By split table, by identifiers, by pixels."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts.pixel_digest import UNREADABLE, pixel_digests
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft, Partly, Rule, Skip

__all__ = ["RULES"]

_MAX_BYTES = 8 * 2**20

Found = Iterator[Draft | Partly]
Row = tuple[str, str, str]


def _split_rows(context: Context) -> list[Row]:
    """Return (patient, split, fold) of the folder's own ``splits.csv``, else of the shipped table."""
    own = context.root / "splits.csv"
    if own.is_file():
        return _read(own)

    text = (files("hcc_tace_data") / "data" / "splits.csv").read_text(encoding="utf-8")
    return _rows(text)


def _read(path: Path) -> list[Row]:
    if path.stat().st_size > _MAX_BYTES:
        raise Skip("splits.csv is too large for a split table")
    try:
        return _rows(path.read_text(encoding="utf-8"))
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise Skip("splits.csv is not a table with the columns patient_id, split, fold") from error


def _rows(text: str) -> list[Row]:
    return [
        (row["patient_id"], row["split"], row.get("fold") or "") for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip


def _one_part(context: Context) -> Found:
    parts: dict[str, list[Row]] = {}
    for row in _split_rows(context):
        parts.setdefault(row[0], []).append(row)
    for patient, rows in sorted(parts.items()):
        if len(rows) > 1:
            names = sorted({f"{split} {fold}".strip() for _, split, fold in rows})
            yield Draft(
                message=f"{patient} stands in the split table {len(rows)} times: in {', '.join(names)}.",
                hint="Give each patient one part; train again whatever was trained with this table.",
                at=Place(patient_id=patient),
                evidence={"parts": names},
            )


def _all_split(context: Context) -> Found:
    listed = {patient for patient, *_ in _split_rows(context)}
    for patient in sorted(set(context.instances["patient_id"]) - listed):
        yield Draft(
            message=f"{patient or 'A patient without PatientID'} is in no part of the split.",
            hint="Add the patient to the table by hand, or leave it out; never recompute the split.",
            at=Place(patient_id=str(patient)),
        )


def _same_pixels(context: Context) -> Found:
    """One finding per pair of patients."""
    table = context.instances
    yield from _others(context)
    owners: dict[str, dict[str, int]] = {}
    for row, (patient, digest) in enumerate(zip(table["patient_id"], context.fact(pixel_digests), strict=True)):
        if digest not in ("", UNREADABLE):
            owners.setdefault(digest, {}).setdefault(str(patient), row)
    if unread := context.fact(pixel_digests).count(UNREADABLE):
        yield Partly(f"the pixels of {count(unread, 'file')} cannot be decoded")
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for own in owners.values():
        names = sorted(own)
        for place, one in enumerate(names):
            for other in names[place + 1 :]:
                pairs.setdefault((one, other), []).append((own[one], own[other]))
    parts = {patient: f"{split} {fold}".strip() for patient, split, fold in _split_rows(context)}
    for (one, other), rows in sorted(pairs.items()):
        across = parts.get(one) != parts.get(other)
        yield Draft(
            message=f"{count(len(rows), 'image')} of {one} and {other} {verb(len(rows), 'holds')} the same pixels"
            + (f", in different parts of the split ({parts.get(one)}, {parts.get(other)})." if across else "."),
            hint="One person under two IDs, or a file under the wrong one: keep both in one part, or leave one out.",
            at=context.place(rows[0][1]),
            evidence={
                "patients": [one, other],
                "images": len(rows),
                "first": context.place(rows[0][0]).path,
                "across_splits": across,
            },
        )


def _others(context: Context) -> Iterator[Partly]:
    if context.patients is not None:
        yield Partly("only the chosen patients are compared with each other")


def _shared_frame(context: Context) -> Found:
    table = context.instances
    yield from _others(context)
    known = table[table["frame_of_reference_uid"] != ""]
    for uid, rows in known.groupby("frame_of_reference_uid", sort=True):
        patients = sorted(set(rows["patient_id"]))
        studies = set(rows["study_uid"])
        if len(patients) > 1 and len(studies) > 1:  # one study of two patients is HT205
            yield Draft(
                message=f"{len(patients)} patients share the frame of reference {uid}.",
                hint="They may be one person under two IDs: keep them in one part of the split.",
                at=Place(patient_id=patients[1]),
                evidence={"patients": patients},
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="HT801", name="one-part-a-patient", severity="error", scope="patient", depth="index",
        summary="No patient is in two parts of the split (the folder's splits.csv, else the shipped table).",
        why="A model that saw a test patient is better on paper than it is.",
        fix="Give each patient one part.", source="split table of this package", check=_one_part,
    ),
    Rule(
        code="HT802", name="pixels-of-one-patient", severity="error", scope="patient", depth="pixels",
        summary="No two patients hold the same pixels.",
        why="One person under two IDs leaks from training into the test, whatever the split table says.",
        fix="Keep both in one part, or leave one out.",
        source="TCIA curation (duplicate pixel hashes)", check=_same_pixels,
    ),
    Rule(
        code="HT803", name="frames-of-one-patient", severity="warning", scope="patient", depth="index",
        summary="No two patients share a frame of reference.",
        why="A scanner makes a new one for every patient position: shared ones hint at one person under two IDs.",
        fix="Keep both in one part of the split.", source="DICOM PS3.3, C.7.4.1", check=_shared_frame,
    ),
    Rule(
        code="HT804", name="patients-split", severity="warning", scope="patient", depth="index",
        summary="Every patient here is in some part of the split.",
        why="A patient in no part is silently left out of training and test.",
        fix="Add the patient to the table by hand.", source="split table of this package", check=_all_split,
    ),
)  # fmt: skip
