"""What others published about the collection: the phase of every series and the voxels of every mask.

Both tables are made by ``scripts/make_published.py``. Lines that start with ``#`` name their sources.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

from hcc_tace_data.errors import CatalogError

__all__ = ["PublishedMask", "PublishedPhases", "published_masks", "published_phases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPhases:
    """The phases of one CT series in Supplementary Table 1 of the data descriptor (10.1038/s41597-023-01928-3).

    Attributes
    ----------
    series_uid, patient_id : str
    study_date : str
        YYYY-MM-DD, as in the DICOM files; the workbook has two wrong dates.
    phases : tuple of str
        One for each volume, in order of acquisition.
    images : int
        Number of images as published; two series have more today.
    matched : {"uid", "exact", "tolerance"}
        How the row of the workbook was matched to the series: by its UID; by patient, date, description and number of
        images; or with one of the last three different.
    differs : {"", "date", "description", "images"}
        What differs.
    as_published : str
        The date or description that the workbook gives instead; empty otherwise.
    """

    series_uid: str
    patient_id: str
    study_date: str
    phases: tuple[str, ...]
    images: int
    matched: Literal["uid", "exact", "tolerance"]
    differs: Literal["", "date", "description", "images"] = ""
    as_published: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMask:
    """Voxel counts of one patient's segmentation, as other groups counted them in the original files.

    Attributes
    ----------
    patient_id : str
    slices : int
        Slices of the CT that the first source read with the mask. A stacked CT may be counted whole.
    liver_voxels, tumour_voxels : int
        Voxels of the segments Liver and Mass.
    liver_sources, tumour_sources : int
        How many independent sources give exactly this count: 1 or 2.
    liver_other, tumour_other : int or None
        The second source's count where it differs. In stacked series the first source resampled the mask onto all
        slices, so the second is closer to the mask as stored.
    """

    patient_id: str
    slices: int
    liver_voxels: int
    tumour_voxels: int
    liver_sources: int
    tumour_sources: int
    liver_other: int | None = None
    tumour_other: int | None = None


@cache
def published_phases() -> Mapping[str, PublishedPhases]:
    """Return the published phases of every CT series, by SeriesInstanceUID.

    Examples
    --------
    >>> sum(len(series.phases) for series in published_phases().values())
    621
    """
    table = {
        row["series_uid"]: PublishedPhases(
            series_uid=row["series_uid"],
            patient_id=row["patient_id"],
            study_date=row["study_date"],
            phases=tuple(row["phases"].split("+")),
            images=int(row["images"]),
            matched=row["matched"],  # type: ignore[arg-type]  # checked by the tests of the shipped table
            differs=row["differs"],  # type: ignore[arg-type]
            as_published=row["as_published"],
        )
        for row in _rows("published_phases.csv")
    }
    return MappingProxyType(table)


@cache
def published_masks() -> Mapping[str, PublishedMask]:
    """Return the published voxel counts, by PatientID; HCC_089 has none.

    Examples
    --------
    >>> published_masks()["HCC_002"].tumour_voxels
    324430
    """
    counts = ("slices", "liver_voxels", "tumour_voxels", "liver_sources", "tumour_sources")
    table = {
        row["patient_id"]: PublishedMask(
            patient_id=row["patient_id"],
            **{name: int(row[name]) for name in counts},
            liver_other=int(row["liver_other"]) if row["liver_other"] else None,
            tumour_other=int(row["tumour_other"]) if row["tumour_other"] else None,
        )
        for row in _rows("published_masks.csv")
    }
    return MappingProxyType(table)


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (files("hcc_tace_data") / "data" / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for number, row in enumerate(csv.DictReader(lines), start=1):
        if None in row or None in row.values():
            raise CatalogError(f"{name}, row {number}: wrong number of fields; reinstall hcc-tace-data.")
        yield row
