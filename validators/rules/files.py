"""HT2: are the files sound DICOM, each once, and what they claim to be?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hcc_tace_data.dicom.rescale import JUDGED, hu_doubt, hu_problem
from hcc_tace_data.system.words import count
from hcc_tace_data.validators.context import Context, series_place
from hcc_tace_data.validators.facts.extra_headers import extra_headers
from hcc_tace_data.validators.facts.pixel_digest import UNREADABLE, pixel_digests
from hcc_tace_data.validators.facts.slices import ct_slices
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.rule import Draft, Partly, Rule
from hcc_tace_data.validators.rules.conformance import conformance_findings
from hcc_tace_data.validators.rules.consistency import PER_PATIENT, PER_SERIES, PER_STUDY, one_value

__all__ = ["RULES"]

_EXPLICIT = "1.2.840.10008.1.2.1"
_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
}


def _unreadable(context: Context) -> Iterator[Draft]:
    for row in context.collection.problems.itertuples(index=False):
        path, reason = str(row.path), str(row.reason)
        # reasons name the file, which the finding does already
        told = reason.removeprefix(f"{path} ") if reason.startswith(f"{path} ") else f"cannot be read: {reason}"
        told = told.removesuffix(".").removesuffix("; fetch it again")
        yield Draft(
            message=f"The file {told}.",
            hint="Fetch it again, or take it out of the folder.",
            at=Place(path=path),
        )


def _syntax(context: Context) -> Iterator[Draft]:
    syntax = context.instances["transfer_syntax_uid"]
    for row in (syntax != _EXPLICIT).to_numpy().nonzero()[0]:
        yield Draft(
            message=f"Transfer syntax {syntax.iloc[row]}; the collection is Explicit VR Little Endian.",
            hint="Fetch the file again from the collection.",
            at=context.place(int(row)),
        )


def _duplicates(context: Context) -> Iterator[Draft]:
    uids = context.instances["sop_uid"]
    first: dict[str, int] = {}
    for row, uid in enumerate(uids):
        if uid in first:
            yield Draft(
                message=f"SOPInstanceUID is that of {context.place(first[uid]).path}.",
                hint="Keep one of the two files.",
                at=context.place(row),
            )
        else:
            first[uid] = row


def _pixel_duplicates(context: Context) -> Iterator[Draft | Partly]:
    """Tell of copies within a patient; HT802 tells of those between patients."""
    table = context.instances
    if unread := context.fact(pixel_digests).count(UNREADABLE):
        yield Partly(f"the pixels of {count(unread, 'file')} cannot be decoded")
    first: dict[tuple[str, str], int] = {}
    for row, (patient, uid, digest) in enumerate(
        zip(table["patient_id"], table["sop_uid"], context.fact(pixel_digests), strict=True)
    ):
        if digest in ("", UNREADABLE):
            continue
        other = first.setdefault((patient, digest), row)
        if other != row and table["sop_uid"].iloc[other] != uid:  # the same instance twice is HT203
            yield Draft(
                message=f"Its pixels are those of {context.place(other).path}, bit by bit.",
                hint="One of the two slices was exported in place of another: fetch both again.",
                at=context.place(row),
            )


def _pixel_format(context: Context) -> Iterator[Draft]:
    row: Any
    for row in context.fact(ct_slices).itertuples():
        wrong = []
        if row.bits_allocated != 16 or row.samples_per_pixel != 1:
            wrong.append(f"{row.samples_per_pixel} x {count(row.bits_allocated, 'bit')} per pixel instead of 16")
        if row.photometric_interpretation != "MONOCHROME2":
            wrong.append(f"photometric interpretation {row.photometric_interpretation or 'absent'}")
        try:
            expected = int(row.rows) * int(row.columns) * int(row.bits_allocated) // 8
        except TypeError:  # absent: missing values have no int
            wrong.append("no Rows, Columns or BitsAllocated")
            expected = row.pixel_length
        if row.pixel_offset >= 0 and not expected <= row.pixel_length <= expected + 1:
            wrong.append(f"{count(row.pixel_length, 'byte')} of pixels where {expected:,} belong")
        if wrong:
            yield Draft(
                message=f"No CT slice of the collection: {', '.join(wrong)}.",
                hint="Fetch the file again.",
                at=context.place(int(row.Index)),
            )


def _hu_known(context: Context) -> Iterator[Draft]:
    """Judge every slice, not one per series: a single one without its slope differs from its neighbours unseen."""
    rows = context.fact(ct_slices)
    names = [name for name in JUDGED if name in rows]
    judged: dict[tuple[Any, ...], tuple[str, str]] = {}  # headers of a series differ in other values
    for place, values in zip(rows.index, zip(*(rows[name].tolist() for name in names), strict=True), strict=True):
        if values not in judged:
            header = dict(zip(names, values, strict=True))
            judged[values] = hu_problem(header), hu_doubt(header)
        problem, doubt = judged[values]
        if problem or doubt:
            yield Draft(
                message=f"The HU of the slice are unknown: {problem}."
                if problem
                else f"The values of the slice may not be HU: {doubt}.",
                hint="Fetch the file again, or leave the slice out: readers refuse it."
                if problem
                else "Compare air and water in the image with -1000 and 0 HU.",
                at=context.place(int(place)),
                tag="00281053",
                severity="error" if problem else "warning",
            )


def _unread(context: Context) -> Iterator[Draft]:
    for row in (context.instances["unread_values"] != "").to_numpy().nonzero()[0]:
        tags = str(context.instances["unread_values"].iloc[row]).split()
        yield Draft(
            message=f"The values of {', '.join(tags)} are not what their type demands and were not read.",
            hint="Fetch the file again, or correct the element in a copy.",
            at=context.place(int(row)),
            tag=tags[0].strip("()").replace(",", ""),
            evidence={"tags": tags},
        )


def _classes(context: Context) -> Iterator[Draft]:
    table = context.instances
    for uid, rows in table.groupby("series_uid", sort=True):
        pairs = sorted(set(zip(rows["sop_class_uid"], rows["modality"], strict=True)))
        wrong = [f"{modality or 'no modality'} as {kind or 'no class'}" for kind, modality in pairs
                 if _CLASSES.get(kind) != modality]  # fmt: skip
        if wrong:
            yield Draft(
                message=f"Series {uid} holds {'; '.join(wrong)}; the collection is CT images and segmentations.",
                hint="Move the series out, or correct Modality.",
                at=series_place(rows),
            )


def _meta(context: Context) -> Iterator[Draft]:
    told = context.fact(extra_headers)["meta_sop_uid"]
    for row, (uid, meta) in enumerate(zip(context.instances["sop_uid"], told, strict=True)):
        if meta is not None and meta != uid:
            yield Draft(
                message="MediaStorageSOPInstanceUID of the file meta information is not the SOPInstanceUID.",
                hint="The file was changed after it was written: fetch it again.",
                tag="00020003",
                at=context.place(row),
            )


def _instance_numbers(context: Context) -> Iterator[Draft]:
    rows = context.fact(ct_slices)[context.fact(ct_slices)["instance_number"].notna()].drop_duplicates("sop_uid")
    for _, series in rows.groupby("series_uid", sort=True):
        twice = series["instance_number"].duplicated()
        if twice.any():
            number = int(series.loc[twice, "instance_number"].iloc[0])
            yield Draft(
                message=f"{int(twice.sum())} InstanceNumbers occur more than once, first {number}.",
                hint="Sort the slices by position, never by number; stacked phases cannot be distinguished by number.",
                at=series_place(series),
                evidence={"doubled": int(twice.sum())},
            )


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
        why="Two values mean that two series were mixed. Times of day, which differ where phases were stacked, "
            "are reported as a warning. Attributes outside the index are compared at --depth headers.",
        fix="Fetch the series again.",
        source="DICOM PS3.3, A.1.2; Posda SeriesConsistency", check=lambda context: one_value(context, PER_SERIES),
        local=True,
    ),
    Rule(
        code="HT205", name="study-consistent", severity="error", scope="study", depth="index",
        summary="Attributes of the study have one value in all its files.",
        why="Two values mean that two studies or patients were mixed. Values that some files leave empty are not "
            "compared; attributes outside the index are compared at --depth headers.",
        fix="Fetch the study again.",
        source="DICOM PS3.3, A.1.2; Posda StudyConsistency", check=lambda context: one_value(context, PER_STUDY),
        local=True,
    ),
    Rule(
        code="HT206", name="patient-consistent", severity="error", scope="patient", depth="headers",
        summary="Attributes of the patient have one value in all files of the patient.",
        why="Two sexes or birth dates under one PatientID mean that two people were mixed.",
        fix="Find out which files are another patient's, and fetch both patients again.",
        source="DICOM PS3.3, C.7.1.1; Posda PatientConsistency", check=lambda context: one_value(context, PER_PATIENT),
        local=True,
    ),
    Rule(
        code="HT207", name="distinct-pixels", severity="warning", scope="instance", depth="pixels",
        summary="No two slices of a patient hold the same pixels.",
        why="Noise makes every slice unique: a copy under another UID is an export error, and counts double.",
        fix="Compare the two with the neighbours, and fetch both again.",
        source="TCIA curation (duplicate pixel hashes)", check=_pixel_duplicates,
    ),
    Rule(
        code="HT208", name="pixel-format", severity="error", scope="instance", depth="index",
        summary="CT slices are MONOCHROME2 of 16 bits, and hold as many bytes as rows and columns ask for.",
        why="Anything else is a foreign or damaged image.", fix="Fetch the file again.",
        source="Series table (IDC index); DICOM PS3.3, C.8.2.1", check=_pixel_format, local=True,
    ),
    Rule(
        code="HT209", name="object-kind", severity="error", scope="series", depth="index",
        summary="Objects are CT images and segmentations, and Modality says so.",
        why="Screen captures, dose reports and reformats are not part of the collection, and often name the patient.",
        fix="Move the series out of the folder.",
        source="10.1038/s41597-023-01928-3", check=_classes, local=True,
    ),
    Rule(
        code="HT210", name="file-meta", severity="error", scope="instance", depth="headers",
        summary="File meta information names the instance that the data set is.",
        why="Archives index by either: where they differ an object is found twice or not at all.",
        fix="Fetch the file again, or rewrite it with a DICOM library.",
        source="DICOM PS3.10, 7.1", check=_meta, local=True,
    ),
    Rule(
        code="HT211", name="instance-numbers", severity="warning", scope="series", depth="index",
        summary="InstanceNumber is unique in a CT series.",
        why="Viewers sort by it, and phases that were stacked under one time are separated by it.",
        fix="Sort by position; tell phases apart by AcquisitionNumber or time.",
        source="DICOM PS3.3, C.7.6.1", check=_instance_numbers, local=True,
    ),
    Rule(
        code="HT212", name="iod-conformance", severity="warning", scope="series", depth="pixels",
        summary="dciodvfy finds no errors beyond those that the archive's processing leaves (one file per series).",
        why="A violation of the standard makes other software refuse or misread the file.",
        fix="See which attribute it is; report it to the archive, or rewrite the file.",
        source="dicom3tools dciodvfy; DICOM PS3.3", check=conformance_findings,
    ),
    Rule(
        code="HT213", name="hu-known", severity="error", scope="instance", depth="index",
        summary="Every CT slice says how its pixels become HU: slope, intercept, RescaleType, bits; no lookup table.",
        why="Software that assumes a slope of 1 and an intercept of 0 serves other numbers, silently. RescaleType US, "
            "which common libraries write into any CT, is a warning.",
        fix="Fetch the file again.",
        source="DICOM PS3.3, C.8.2.1 and C.11.1", check=_hu_known, local=True,
    ),
    Rule(
        code="HT214", name="values-readable", severity="warning", scope="instance", depth="index",
        summary="The values of the index are what their types demand: numbers are numbers.",
        why="A value that cannot be read is left empty, and rules that compare it cannot judge the file by it.",
        fix="Fetch the file again.",
        source="DICOM PS3.5, 6.2", check=_unread,
    ),
)  # fmt: skip
