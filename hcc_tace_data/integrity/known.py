"""What the integrity check sees and the catalogue knows: reported, and no fault of the copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hcc_tace_data.dicom.seg_file import open_seg
from hcc_tace_data.errors import HccTaceError

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.model import Collection
    from hcc_tace_data.integrity.ledger import Entry

__all__ = ["Known", "known_issues", "nbia_sizes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A known issue that was found in the files."""

    patient_id: str
    series_uid: str
    message: str
    files: int


def known_issues(collection: Collection, files: pd.DataFrame) -> Iterator[Known]:
    """Look in the files for the issues of the catalogue that concern counts: each is looked for, never assumed.

    Parameters
    ----------
    collection : Collection
        The folder.
    files : pandas.DataFrame
        Its instances that are looked at.
    """
    patients = set(files["patient_id"])
    for issue in collection.catalog.known_issues:
        if issue.patient_id not in patients:
            continue
        rows = files[files["patient_id"] == issue.patient_id]
        if issue.code == "HT102":
            days = rows.groupby("study_date")["study_uid"].nunique()
            if (days > 1).any():
                yield Known(patient_id=issue.patient_id, series_uid="", message=issue.reason, files=0)
        elif issue.code == "HT401":
            yield from _missing_references(collection, rows, issue.patient_id, issue.reason)


def _missing_references(collection: Collection, rows: pd.DataFrame, patient: str, reason: str) -> Iterator[Known]:
    here = set(rows["sop_uid"])
    for path, uid in rows.loc[rows["modality"] == "SEG", ["path", "series_uid"]].itertuples(index=False, name=None):
        try:
            opened = open_seg(collection.root / path, pixels=False, cited=True)
        except (HccTaceError, OSError):  # reading segmentations is the curation rules' part
            continue
        absent = ({*opened.frames.cited, *opened.referenced} - {""}) - here
        if absent:
            yield Known(patient_id=patient, series_uid=str(uid), message=reason, files=len(absent))


def nbia_sizes(entries: Mapping[str, Entry]) -> dict[str, int]:
    """Return the bytes on record of each series that came from NBIA, whose files may differ from IDC's."""
    sizes: dict[str, int] = {}
    for entry in entries.values():
        if entry.source == "nbia":
            sizes[entry.series_uid] = sizes.get(entry.series_uid, 0) + entry.size
    return sizes
