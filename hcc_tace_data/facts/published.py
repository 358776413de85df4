"""What others published about the collection: phases of every series, voxels of every mask, anatomy and sweeps.

The tables are made by ``scripts/make_published.py`` and ``scripts/make_published_anatomy.py``; the sweeps were copied
from the publication. Lines that start with ``#`` name the sources.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from hcc_tace_data.errors import CatalogError
from hcc_tace_data.facts.catalog import load_catalog

__all__ = [
    "MASKS_FILE", "PublishedMask", "PublishedPhases", "PublishedSweep", "published_anatomy", "published_masks",
    "published_phases", "published_sweeps",
]  # fmt: skip

#: A published table of voxel counts that a folder brings along, in place of the shipped one.
MASKS_FILE = "published_masks.csv"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSweep:
    """One acquisition within a series that holds several.

    Attributes
    ----------
    patient_id : str
    series_number : int
        SeriesNumber in the baseline study.
    phase : str
    slices : int
    z : float or None
        Position of the lowest slice, mm; None where it is not known.
    """

    patient_id: str
    series_number: int
    phase: str
    slices: int
    z: float | None


def published_phases(path: str | os.PathLike[str] | None = None) -> Mapping[str, PublishedPhases]:
    """Return the published phases of every CT series, by SeriesInstanceUID.

    Parameters
    ----------
    path : path-like, optional
        A table like the shipped one (`series_uid`, `phases` joined by ``+``, and, if known, the other columns); default
        the shipped one.

    Raises
    ------
    CatalogError
        No such file, a column is missing, or a row has no phase that the package knows.

    Examples
    --------
    >>> sum(len(series.phases) for series in published_phases().values())
    621
    """
    return _shipped_phases() if path is None else _phases_of(Path(path))


@cache
def _shipped_phases() -> Mapping[str, PublishedPhases]:
    with as_file(files("hcc_tace_data") / "data" / "published_phases.csv") as shipped:
        return _phases_of(shipped)


def _phases_of(path: Path) -> Mapping[str, PublishedPhases]:
    known = {phase.key for phase in load_catalog().phases}
    table: dict[str, PublishedPhases] = {}
    for number, row in enumerate(_rows(path, ("series_uid", "phases")), start=1):
        phases = tuple(row["phases"].split("+"))
        if not set(phases) <= known:
            raise CatalogError(f"{path.name}, row {number}: {row['phases'][:60]!r} are not phases.")
        table[row["series_uid"]] = PublishedPhases(
            series_uid=row["series_uid"],
            patient_id=row.get("patient_id", ""),
            study_date=row.get("study_date", ""),
            phases=phases,
            images=_whole(path, number, row.get("images") or "0"),
            matched=row.get("matched", "uid"),  # type: ignore[arg-type]  # the tests check the shipped table
            differs=row.get("differs", ""),  # type: ignore[arg-type]
            as_published=row.get("as_published", ""),
        )
    return MappingProxyType(table)


def published_masks(path: str | os.PathLike[str] | None = None) -> Mapping[str, PublishedMask]:
    """Return the published voxel counts, by PatientID; HCC_089 has none.

    Parameters
    ----------
    path : path-like, optional
        A table with the columns of the shipped one; default the shipped one.

    Raises
    ------
    CatalogError
        No such file, a column is missing, or a count is not a whole number.

    Examples
    --------
    >>> published_masks()["HCC_002"].tumour_voxels
    324430
    """
    return _shipped_masks() if path is None else _masks_of(Path(path))


@cache
def _shipped_masks() -> Mapping[str, PublishedMask]:
    with as_file(files("hcc_tace_data") / "data" / "published_masks.csv") as shipped:
        return _masks_of(shipped)


def _masks_of(path: Path) -> Mapping[str, PublishedMask]:
    counts = ("slices", "liver_voxels", "tumour_voxels", "liver_sources", "tumour_sources")
    table = {
        row["patient_id"]: PublishedMask(
            patient_id=row["patient_id"],
            **{name: _whole(path, number, row[name]) for name in counts},
            liver_other=_whole(path, number, row["liver_other"]) if row.get("liver_other") else None,
            tumour_other=_whole(path, number, row["tumour_other"]) if row.get("tumour_other") else None,
        )
        for number, row in enumerate(_rows(path, ("patient_id", *counts)), start=1)
    }
    return MappingProxyType(table)


@cache
def published_anatomy() -> Mapping[str, Mapping[str, float]]:
    """Return measured figures of the annotated CT by PatientID: grid, liver and tumour.

    Names are those of the columns of ``published_anatomy.csv``: lengths in mm, volumes in ml, LPS coordinates. A figure
    that was not published is absent; all are absent for four patients. `phase` is not among them: figures of
    brightness are given only where they were measured on the annotated volume.

    Examples
    --------
    >>> published_anatomy()["HCC_048"]["pixel_mm"]
    0.703125
    """
    with as_file(files("hcc_tace_data") / "data" / "published_anatomy.csv") as shipped:
        rows = list(_rows(shipped, ("patient_id", "annotated", "phase")))
    table = {}
    for row in rows:
        brightness = () if row["annotated"] == "1" else ("liver_hu", "liver_sd", "tumour_hu", "tumour_sd")
        table[row["patient_id"]] = MappingProxyType(
            {
                name: float(text)
                for name, text in row.items()
                if text and name not in ("patient_id", "phase", "annotated", *brightness)
            }
        )
    return MappingProxyType(table)


@cache
def published_sweeps() -> Sequence[PublishedSweep]:
    """Return the sweeps of the baseline series that hold more than one, in order of patient and acquisition."""
    with as_file(files("hcc_tace_data") / "data" / "published_sweeps.csv") as shipped:
        return tuple(
            PublishedSweep(
                patient_id=row["patient_id"], series_number=int(row["series_number"]), phase=row["phase"],
                slices=int(row["slices"]), z=float(row["z"]) if row["z"] else None,
            )
            for row in _rows(shipped, ("patient_id", "series_number", "phase", "slices", "z"))
        )  # fmt: skip


def _whole(path: Path, number: int, text: str) -> int:
    if not text.isdecimal() or len(text) > 15:
        raise CatalogError(f"{path.name}, row {number}: {text[:40]!r} is not a count.")
    return int(text)


def _rows(path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not a published table: {error}.") from error
    reader = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise CatalogError(f"{path.name} lacks the columns {', '.join(missing)}.")
    for number, row in enumerate(reader, start=1):
        if None in row or None in row.values():
            raise CatalogError(f"{path.name}, row {number}: wrong number of fields.")
        yield row
