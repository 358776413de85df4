"""Index of a folder against peers that read the same tags, in one process each: equality first, then time.

    python benchmarks/index_scan.py [--repeats 5] [--root FOLDER] [--json FILE]

Files of a `full` phantom patient, warm. All run on one process here; the index itself uses two for thousands of files.
Peers that are not installed are left out, by name.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pydicom
from common import full_patient, report, time_in_turn

from hcc_tace_data.dicom.folder import scan_files
from hcc_tace_data.dicom.headers import HeaderReader

US = "hcc-tace-data"
# what every reader gives for comparison; ours reads some forty tags, the peers only these
TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "InstanceNumber", "Rows")
_OURS = ("patient_id", "study_uid", "series_uid", "sop_uid", "modality", "instance_number", "rows")
Rows = list[tuple[str, ...]]


def by_us(paths: list[str]) -> Rows:
    """This package: all columns of the instance table."""
    reader = HeaderReader()
    rows = [reader.read(path) for path in paths]
    return [_texts(row[name] for name in _OURS) for row in rows]


def by_pydicom_tags(paths: list[str]) -> Rows:
    """pydicom, told to keep these tags alone."""
    read = [pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS)) for path in paths]
    return [_texts(data.get(tag) for tag in TAGS) for data in read]


def by_pydicom(paths: list[str]) -> Rows:
    """pydicom, the whole header."""
    read = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    return [_texts(data.get(tag) for tag in TAGS) for data in read]


def by_fastdicom(paths: list[str]) -> Rows:
    """fastdicom, these tags looked at."""
    import fastdicom

    read = [fastdicom.dcmread(path, stop_before_pixels=True) for path in paths]
    return [_texts(getattr(data, tag) for tag in TAGS) for data in read]


def by_fastdicom_unread(paths: list[str]) -> None:
    """fastdicom, no value looked at."""
    import fastdicom

    for path in paths:
        fastdicom.dcmread(path, stop_before_pixels=True)


def by_dicomsdl(paths: list[str]) -> Rows:
    """dicomsdl, these tags looked at."""
    import dicomsdl

    read = [dicomsdl.open(path) for path in paths]
    return [_texts(getattr(data, tag) for tag in TAGS) for data in read]


def by_gdcm(paths: list[str]) -> Rows:
    """GDCM's scanner, these tags."""
    import gdcm

    scanner = gdcm.Scanner()
    tags = [gdcm.Tag(pydicom.datadict.tag_for_keyword(tag)) for tag in TAGS]
    for tag in tags:
        scanner.AddTag(tag)
    scanner.Scan(gdcm.FilenamesType(paths))
    return [_texts(scanner.GetValue(path, tag) for tag in tags) for path in paths]


PEERS: dict[str, Callable[[list[str]], Any]] = {
    US: by_us,
    "fastdicom, unread": by_fastdicom_unread,
    "fastdicom": by_fastdicom,
    "dicomsdl": by_dicomsdl,
    "pydicom": by_pydicom,
    "pydicom, these tags": by_pydicom_tags,
    "GDCM scanner": by_gdcm,
}


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(value).strip() for value in values)


def main() -> None:
    """Compare, then time, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patient", default="HCC_008")
    parser.add_argument("--root", type=Path, help="keep the phantom here, or take the one that is here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with full_patient(options.root, options.patient) as root:
        paths = [str(root / name) for name in sorted(scan_files(root)[0])]
        ours = by_us(paths)
        here = []
        for name, peer in PEERS.items():
            try:
                found = peer(paths)
            except ImportError:
                print(f"  {name} is not installed")
                continue
            here.append(name)
            if found is not None and found != ours:
                raise SystemExit(f"{name} reads other values than we do")
        times = time_in_turn({name: lambda n=name: PEERS[n](paths) for name in here}, options.repeats)
        rates = {name: round(len(paths) / statistics.median(values)) for name, values in times.items()}
        report(f"{len(paths)} files, values equal in all", times, US, options.json, files_per_second=rates)


if __name__ == "__main__":
    main()
