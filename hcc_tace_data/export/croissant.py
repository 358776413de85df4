"""Croissant metadata (JSON-LD of MLCommons, version 1.0) of the collection: its series, its split, what to cite."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import UsageError
from hcc_tace_data.export.companions import write_companions
from hcc_tace_data.export.format import ExportSummary, Format
from hcc_tace_data.export.output_folder import claim_folder
from hcc_tace_data.facts.catalog import Catalog, load_catalog
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.system.files import atomic_write_bytes, write_json
from hcc_tace_data.system.words import count
from hcc_tace_data.version import __version__

if TYPE_CHECKING:
    import pandas as pd
from hcc_tace_data.system.text import csv_rows

__all__ = ["FORMAT", "export_croissant"]

_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip

_COLUMNS = {
    "patient_id": ("sc:Text", "PatientID"),
    "study_uid": ("sc:Text", "StudyInstanceUID"),
    "study_date": ("sc:Date", "StudyDate, as the archive shifted it"),
    "series_uid": ("sc:Text", "SeriesInstanceUID"),
    "modality": ("sc:Text", "CT or SEG"),
    "series_number": ("sc:Integer", "SeriesNumber"),
    "series_description": ("sc:Text", "SeriesDescription"),
    "instances": ("sc:Integer", "Number of DICOM files"),
    "bytes": ("sc:Integer", "Sum of their sizes"),
    "url": ("sc:URL", "Folder of the files in the object store of Imaging Data Commons"),
}
_SPLIT = {
    "patient_id": ("sc:Text", "PatientID"),
    "split": ("sc:Text", "train or test"),
    "fold": ("sc:Text", "The fold, 0 to 4, in which the patient is validated; empty for the test set"),
}


def export_croissant(
    table: pd.DataFrame, out: str | os.PathLike[str], *, catalog: Catalog | None = None
) -> ExportSummary[Path]:
    """Write ``croissant.json`` and the two tables it describes, ``series.csv`` and ``splits.csv``.

    Parameters
    ----------
    table : pandas.DataFrame
        A series table; see :func:`hcc_tace_data.facts.series_table.load_series_table`.
    out : path-like
        Folder to write into: empty, or of an earlier run.
    catalog : Catalog, optional
        The facts of the collection; default: those of HCC-TACE-Seg.

    Returns
    -------
    ExportSummary
        A sequence of the files.

    Raises
    ------
    UsageError
        The table is empty, or the folder holds something else.
    OutputError
        The folder cannot be written, or another process exports into it.
    """
    if not len(table):
        raise UsageError("the series table is empty; there is nothing to describe.")
    folder, facts = Path(out), load_catalog() if catalog is None else catalog
    identity = facts.identity
    rows = [
        {**{str(k): v for k, v in row.items()}, "url": f"s3://{row['bucket']}/{row['prefix']}/"}
        for row in table.to_dict("records")
    ]
    present = set(table["patient_id"])
    split = [
        {"patient_id": name, "split": "test" if fold is None else "train", "fold": "" if fold is None else fold}
        for name, fold in sorted(split_table().items())
        if name in present
    ]
    files = {"series.csv": _csv(_COLUMNS, rows), "splits.csv": _csv(_SPLIT, split)}
    data_citation = next(citation for citation in facts.citations if citation.key == "data")
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": identity.name,
        "alternateName": identity.title,
        "description": (
            f"{identity.title}. CT of {count(len(present), 'patient')} with hepatocellular carcinoma before and after "
            "transarterial chemoembolisation, with DICOM segmentations of liver, tumour, portal vein and aorta. This "
            "file describes the series and the fixed split; the DICOM files are in Imaging Data Commons and the "
            "Cancer Imaging Archive."
        ),
        "url": f"https://doi.org/{identity.doi}",
        "sameAs": f"https://doi.org/{identity.doi}",
        "license": identity.licence_url,
        "citeAs": f"{data_citation.text} https://doi.org/{data_citation.doi}",
        "creator": {"@type": "sc:Organization", "name": identity.institution},
        "publisher": {"@type": "sc:Organization", "name": "The Cancer Imaging Archive"},
        "datePublished": f"{data_citation.year}-01-01",
        "version": __version__,
        "keywords": ["medical imaging", "computed tomography", "liver", "hepatocellular carcinoma", "segmentation"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "contentSize": f"{len(data)} B",
                "encodingFormat": "text/csv",
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in files.items()
        ],
        "recordSet": [
            _record_set("series", "series.csv", "One DICOM series.", _COLUMNS, "series_uid"),
            _record_set("splits", "splits.csv", "Which part of the split a patient is in.", _SPLIT, "patient_id"),
        ],
    }
    parameters = {"format": "croissant"}
    with claim_folder(folder, parameters):
        for name, data in files.items():
            atomic_write_bytes(folder / name, data)
        write_json(folder / "croissant.json", document)
        companions = write_companions(folder, parameters, {}, catalog=facts)
    paths = (folder / "croissant.json", *(folder / name for name in files), *companions)
    return ExportSummary(format="croissant", out=folder, parts=paths, files=paths)


def _csv(columns: dict[str, tuple[str, str]], rows: list[dict[str, Any]]) -> bytes:
    plain = ({k: None if v is None or v != v else v for k, v in _plain(row).items()} for row in rows)
    return csv_rows(list(columns), plain).encode("utf-8")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if type(v).__name__ == "NAType" else v for k, v in row.items()}


def _record_set(name: str, file: str, what: str, columns: dict[str, tuple[str, str]], key: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": what,
        "key": {"@id": f"{name}/{key}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": meaning,
                "dataType": kind,
                "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
            }
            for column, (kind, meaning) in columns.items()
        ],
    }


FORMAT = Format(
    name="croissant",
    summary="metadata in JSON-LD; needs no DICOM files",
    written="`croissant.json`: series table and split described in JSON-LD; needs no DICOM files",
    read_with='`mlcroissant.Dataset(jsonld="out/croissant.json")`',
    needs="table",
    options=frozenset(),
    write=export_croissant,
)
