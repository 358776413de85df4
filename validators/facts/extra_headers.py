"""Header values beyond the instance table, read once for all rules that compare them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.dicom.by_pydicom import read_by_pydicom
from hcc_tace_data.dicom.elements import CutShort, NeedMore, UnusualFile, walk
from hcc_tace_data.validators.context import Context, chunks_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "extra_headers", "read_extra"]

#: Column -> tag. Patient, study, series and equipment attributes that DICOM gives one value per entity, and those that
#: say how the scanner was set.
COLUMNS: dict[str, int] = {
    # patient
    "patient_name": 0x00100010,
    "issuer_of_patient_id": 0x00100021,
    "patient_birth_date": 0x00100030,
    "patient_birth_time": 0x00100032,
    "patient_sex": 0x00100040,
    "other_patient_ids": 0x00101000,
    "other_patient_names": 0x00101001,
    "ethnic_group": 0x00102160,
    "patient_comments": 0x00104000,
    "patient_age": 0x00101010,
    # study
    "accession_number": 0x00080050,
    "study_id": 0x00200010,
    "referring_physician": 0x00080090,
    "physicians_of_record": 0x00081048,
    "reading_physicians": 0x00081060,
    "admitting_diagnoses": 0x00081080,
    # series
    "laterality": 0x00200060,
    "performing_physician": 0x00081050,
    "protocol_name": 0x00181030,
    "operators": 0x00081070,
    "body_part": 0x00180015,
    "patient_position": 0x00185100,
    "smallest_pixel_in_series": 0x00280108,
    "largest_pixel_in_series": 0x00280109,
    "procedure_step_id": 0x00400253,
    "procedure_step_date": 0x00400244,
    "procedure_step_time": 0x00400245,
    "procedure_step_description": 0x00400254,
    "procedure_step_comments": 0x00400280,
    # how the scanner was set
    "tube_current": 0x00181151,
    "pitch": 0x00189311,
    "revolution_time": 0x00189305,
    "reconstruction_diameter": 0x00181100,
}
_BY_TAG = {tag: name for name, tag in COLUMNS.items()}
_BINARY = {"pitch": "<d", "revolution_time": "<d", "smallest_pixel_in_series": "<H", "largest_pixel_in_series": "<H"}
_KIND = Kind("extra headers", ("validators",), private=True)
_FIRST = 8192
_CHUNK = 500


def extra_headers(context: Context) -> pd.DataFrame:
    """Return further header values as text, one row per file as in the instance table; missing where unreadable."""
    import pandas as pd

    paths = context.instances["path"].tolist()
    parts = [paths[first:last] for first, last in chunks_of(paths, _CHUNK)]
    found = context.kept_map(
        _KIND,
        read_extra,
        [(str(context.root), part) for part in parts],
        parts,
        encode=lambda rows: None if None in rows else rows,
        decode=_rows,
    )
    blank = (None,) * (len(COLUMNS) + 1)
    rows = [row or blank for part in found for row in part]
    return pd.DataFrame(rows, columns=[*COLUMNS, "meta_sop_uid"], index=context.instances.index, dtype=object)


def _rows(value: Any) -> list[tuple[str, ...] | None]:
    """Return rows that were kept.

    Raises
    ------
    ValueError
        They have other columns.
    """
    if any(len(row) != len(COLUMNS) + 1 for row in value):
        raise ValueError("other columns")
    return [tuple(row) for row in value]


def read_extra(job: tuple[str, list[str]]) -> list[tuple[str, ...] | None]:
    """Read :data:`COLUMNS` and the file meta's SOP Instance UID of many files.

    Parameters
    ----------
    job : (str, list of str)
        Root and paths below it.

    Returns
    -------
    list of tuple of str, or None
        One a file, in order; an absent value is ``""``; None for a file that cannot be read.
    """
    root, paths = job
    return [_one(f"{root}/{path}") for path in paths]


def _one(path: str) -> tuple[str, ...] | None:
    try:
        with open(path, "rb", buffering=0) as stream:
            data = stream.read(_FIRST)
            size = stream.seek(0, 2)
            while True:
                try:
                    _, values, *_ = walk(data, size, _BY_TAG)
                    break
                except NeedMore as more:
                    stream.seek(len(data))
                    rest = stream.read(max(int(more.args[0]), 4 * len(data)) - len(data))
                    if not rest:
                        return None
                    data += rest
        found = {_BY_TAG[tag]: _text(_BY_TAG[tag], raw) for tag, (_, raw) in values.items()}
        return (*(found.get(name, "") for name in COLUMNS), _meta_uid(data))
    except (UnusualFile, UnicodeDecodeError):
        return _by_pydicom(path)
    except (CutShort, OSError):
        return None


def _text(name: str, raw: bytes) -> str:
    if name in _BINARY:
        if len(raw) != struct.calcsize(_BINARY[name]):
            raise UnusualFile("not one number")
        return f"{struct.unpack(_BINARY[name], raw)[0]:g}"
    return raw.decode("latin-1").strip(" \0")


def _meta_uid(data: bytes) -> str:
    """Return MediaStorageSOPInstanceUID (0002,0003)."""
    at = data.find(b"\x02\x00\x03\x00UI", 132, 1024)
    if at < 0:
        return ""
    length = int.from_bytes(data[at + 6 : at + 8], "little")
    return data[at + 8 : at + 8 + length].rstrip(b"\0 ").decode("ascii", "replace")


def _by_pydicom(path: str) -> tuple[str, ...] | None:
    try:
        data = read_by_pydicom(path, tags=list(_BY_TAG))
        texts = [_shown(data[tag].value) if tag in data else "" for tag in COLUMNS.values()]
        meta: Any = data.file_meta.get("MediaStorageSOPInstanceUID", "")
    except Exception:  # a file that pydicom cannot read either is reported by the rule on readable files
        return None
    return (*texts, str(meta))


def _shown(value: Any) -> str:
    import pydicom

    if value is None:
        return ""
    many = isinstance(value, pydicom.multival.MultiValue)
    return "\\".join(map(str, value)) if many else str(value)
