"""HT2: are the files sound DICOM, each once, and of one mind about their series?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.rule import Rule

__all__ = ["RULES"]

_EXPLICIT = "1.2.840.10008.1.2.1"
#: One value a series (after Posda's SeriesConsistency); acquisition times and numbers may differ, series are stacked.
_PER_SERIES = ("patient_id", "study_uid", "modality", "sop_class_uid", "series_number", "series_date", "series_time",
               "series_description", "frame_of_reference_uid", "manufacturer")  # fmt: skip
_PER_STUDY = ("patient_id", "study_date", "study_time", "study_description")


def _unreadable(context: Context) -> Iterator[dict[str, Any]]:
    for row in context.collection.problems.itertuples(index=False):
        yield {"message": f"The file cannot be read: {row.reason}", "hint": "Fetch it again.", "path": str(row.path)}


def _syntax(context: Context) -> Iterator[dict[str, Any]]:
    syntax = context.instances["transfer_syntax_uid"]
    for row in (syntax != _EXPLICIT).to_numpy().nonzero()[0]:
        yield {
            "message": f"Transfer syntax {syntax.iloc[row]}; the collection is Explicit VR Little Endian.",
            "hint": "Fetch the file again from the collection.",
            **context.place(int(row)),
        }


def _duplicates(context: Context) -> Iterator[dict[str, Any]]:
    uids = context.instances["sop_uid"]
    for row in uids.duplicated().to_numpy().nonzero()[0]:
        first = context.instances["path"][uids == uids.iloc[row]].iloc[0]
        yield {
            "message": f"SOPInstanceUID is that of {first}.",
            "hint": "Keep one of the two files.",
            **context.place(int(row)),
        }


def _one_value(context: Context, key: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    groups = context.instances.groupby(key, sort=True)
    for column in columns:
        counts = groups[column].nunique(dropna=False)
        for uid in counts[counts > 1].index:
            row = int((context.instances[key] == uid).to_numpy().nonzero()[0][0])
            place = context.place(row)
            kept = ("patient_id", "study_uid") if key == "study_uid" else ("patient_id", "study_uid", "series_uid")
            yield {
                "message": f"{counts[uid]} values of {column} under one {key}.",
                "hint": "Files of different origin are mixed: fetch the series again.",
                **{name: place[name] for name in kept},
                "evidence": {"attribute": column, "values": int(counts[uid])},
            }


def _series_consistent(context: Context) -> Iterator[dict[str, Any]]:
    return _one_value(context, "series_uid", _PER_SERIES)


def _study_consistent(context: Context) -> Iterator[dict[str, Any]]:
    return _one_value(context, "study_uid", _PER_STUDY)


RULES: tuple[Rule, ...] = (
    Rule(
        code="HT201", name="readable", severity="error", scope="instance", depth="index",
        summary="Every file is whole, readable DICOM.",
        why="A cut or foreign file is data lost.", fix="Fetch the file again.",
        source="DICOM PS3.10", check=_unreadable,
    ),
    Rule(
        code="HT202", name="transfer-syntax", severity="warning", scope="instance", depth="index",
        summary="Files are Explicit VR Little Endian, as the collection is.",
        why="Another syntax means that the file was re-encoded.", fix="Fetch the file again.",
        source="Series table (IDC index)", check=_syntax,
    ),
    Rule(
        code="HT203", name="unique-instances", severity="error", scope="instance", depth="index",
        summary="No SOPInstanceUID occurs twice.",
        why="A slice that is here twice makes a volume ambiguous.", fix="Keep one of the files.",
        source="DICOM PS3.3, C.12.1", check=_duplicates,
    ),
    Rule(
        code="HT204", name="series-consistent", severity="error", scope="series", depth="index",
        summary="Attributes of the series have one value in all its files.",
        why="Two values mean that two series were mixed.", fix="Fetch the series again.",
        source="DICOM PS3.3, A.1.2; Posda SeriesConsistency", check=_series_consistent,
    ),
    Rule(
        code="HT205", name="study-consistent", severity="error", scope="study", depth="index",
        summary="Attributes of patient and study have one value in all files of the study.",
        why="Two values mean that two studies or patients were mixed.", fix="Fetch the study again.",
        source="DICOM PS3.3, A.1.2; Posda StudyConsistency", check=_study_consistent,
    ),
)  # fmt: skip
