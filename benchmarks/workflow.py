"""A user's day over whole patients: each step in a process of its own, first and second time, and by hand.

    python benchmarks/workflow.py [--root FOLDER] [--steps 'NAME; NAME'] [--json FILE]

Runs on two patients of full size (a `full` phantom, made once below --root). Before its first run of a step the
package has kept nothing, and the files are dropped from the page cache where the system lets a program do so; the
second run follows at once. Seconds are those of the step: the libraries are imported before. `by hand` is what a user
would write with pydicom, SimpleITK, highdicom and MONAI for the same result. The last columns multiply seconds by the
files of the collection over the files here; steps whose time does not depend on the number of files say so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from common import full_patients

PATIENTS = ("HCC_002", "HCC_005")
#: Files of the collection's CT and SEG series.
ALL_FILES = 51_968
PATCH = (32, 96, 96)


def _open(root: Path) -> Any:
    from hcc_tace_data import open_collection

    return open_collection(root)


def index(root: Path, out: Path) -> None:
    """Headers of all files."""
    _open(root)


def index_by_hand(root: Path, out: Path) -> None:
    """The same values by pydicom."""
    import pandas as pd
    import pydicom

    rows = []
    for path in sorted(root.rglob("*.dcm")):
        data = pydicom.dcmread(path, stop_before_pixels=True)
        names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SeriesDescription",
                 "Modality", "StudyDate", "AcquisitionTime", "InstanceNumber", "ImagePositionPatient",
                 "PixelSpacing")  # fmt: skip
        rows.append([str(path), *(str(data.get(name, "")) for name in names)])
    pd.DataFrame(rows)


def verify(root: Path, out: Path) -> None:
    """Counts and sizes against the series table."""
    from hcc_tace_data.integrity.verify import verify as check

    check(_open(root))


def verify_deep(root: Path, out: Path) -> None:
    """And the digest of every file."""
    from hcc_tace_data.integrity.verify import verify as check

    assert check(_open(root), deep=True).digests


def phases_headers(root: Path, out: Path) -> None:
    """Contrast phase of every volume, from table and headers."""
    from hcc_tace_data import label_phases

    label_phases(_open(root), depth="headers")


def phases_pixels(root: Path, out: Path) -> None:
    """And from enhancement."""
    from hcc_tace_data import label_phases

    label_phases(_open(root))


def phases_by_hand(root: Path, out: Path) -> None:
    """Series sorted by time, with pydicom: no phase is named by that."""
    import pydicom

    times: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.dcm")):
        data = pydicom.dcmread(path, stop_before_pixels=True)
        times.setdefault(str(data.SeriesInstanceUID), []).append(str(data.get("AcquisitionTime", "")))
    sorted(times, key=lambda uid: min(times[uid]))


def validate_headers(root: Path, out: Path) -> None:
    """All rules that need no pixels."""
    from hcc_tace_data.validators import validate

    validate(root, workers=1)


def validate_pixels(root: Path, out: Path) -> None:
    """All rules."""
    from hcc_tace_data.validators import validate

    validate(root, workers=1, depth="pixels")


def measure(root: Path, out: Path) -> None:
    """Size, shape and HU of every lesion."""
    from hcc_tace_data.measure import measure_lesions

    measure_lesions(_open(root))


def _prepare(root: Path, out: Path, phases: str) -> None:
    from hcc_tace_data.loaders.cases import find_cases
    from hcc_tace_data.loaders.load import make_parameters, store_folder
    from hcc_tace_data.loaders.prepare import prepare_cases
    from hcc_tace_data.loaders.store import Store

    collection, parameters = _open(root), make_parameters(phases=phases)
    cases, _ = find_cases(collection, list(collection), phases=parameters.phases, keep_incomplete=True)
    stored, failed = prepare_cases(Store(store_folder(root), parameters), cases)
    assert not failed, failed
    found = sum(len(one.registrations) for one in stored if one is not None)
    print(json.dumps({"registrations": found}))


def prepare_native(root: Path, out: Path) -> None:
    """The training store of the annotated CT."""
    _prepare(root, out, "annotated")


def prepare_all(root: Path, out: Path) -> None:
    """Of three phases, registered."""
    _prepare(root, out, "all")


def first_sample(root: Path, out: Path) -> None:
    """`load_hcc_tace` to the first sample; everything was prepared before."""
    from hcc_tace_data import load_hcc_tace

    load_hcc_tace(root, phases="all", missing="nan")[0]


def epoch_slices(root: Path, out: Path) -> None:
    """Every slice of the liver once, in batches of 8."""
    from hcc_tace_data import load_hcc_tace

    for _ in load_hcc_tace(root, phases="annotated", unit="slice").batches(8, shuffle=True):
        pass


def epoch_patches(root: Path, out: Path) -> None:
    """32 patches a patient, in batches of 2."""
    from hcc_tace_data import load_hcc_tace
    from hcc_tace_data.loaders import Patches

    for _ in load_hcc_tace(root, phases="annotated", unit=Patches(PATCH, per_volume=32)).batches(2, shuffle=True):
        pass


def epoch_by_hand(root: Path, out: Path) -> None:
    """As many patches by MONAI from the NIfTI files of an export, kept in memory after the first read."""
    import monai
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandSpatialCropSamplesd
    from torch.utils.data import DataLoader

    folder = out / "export_nnunet"
    images = sorted(folder.rglob("imagesTr/*.nii.gz")) + sorted(folder.rglob("imagesTs/*.nii.gz"))
    labels = sorted(folder.rglob("labelsTr/*.nii.gz")) + sorted(folder.rglob("labelsTs/*.nii.gz"))
    keys = ["image", "label"]
    chain = Compose([
        LoadImaged(keys), EnsureChannelFirstd(keys),
        RandSpatialCropSamplesd(keys, PATCH[::-1], num_samples=32, random_size=False),
    ])  # fmt: skip
    data = monai.data.CacheDataset([{"image": a, "label": b} for a, b in zip(images, labels, strict=True)], chain,
                                   progress=False)  # fmt: skip
    for _ in DataLoader(data, batch_size=1, collate_fn=monai.data.list_data_collate):
        pass


def export_nnunet(root: Path, out: Path) -> None:
    """CT and labels for nnU-Net."""
    from hcc_tace_data.export.run import export_cases

    export_cases(_open(root), out / "export_nnunet", "nnunet", workers=1)


def export_nifti(root: Path, out: Path) -> None:
    """CT and labels as NIfTI with descriptions."""
    from hcc_tace_data.export.nifti import export_nifti as write

    write(_open(root), out / "export_nifti", workers=1)


def export_by_hand(root: Path, out: Path) -> None:
    """The same two pairs of files: it is known which CT was annotated; SimpleITK reads it, highdicom the SEG."""
    import highdicom
    import pydicom
    import SimpleITK as sitk

    folder = out / "by_hand"
    folder.mkdir(exist_ok=True)
    for patient, (scans, seg) in json.loads((out / "annotated.json").read_text()).items():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(scans)
        image = reader.Execute()
        sitk.WriteImage(image, str(folder / f"{patient}_0000.nii.gz"), True)
        opened = highdicom.seg.segread(seg)
        sources = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in scans]
        masks = opened.get_pixels_by_source_instance(
            sources, ignore_spatial_locations=True, assert_missing_frames_are_empty=True, skip_overlap_checks=True
        )
        label = np.zeros(masks.shape[:3], np.uint8)
        for number in range(masks.shape[-1]):
            label[masks[..., number] > 0] = number + 1
        mapped = sitk.GetImageFromArray(label)
        mapped.CopyInformation(image)
        sitk.WriteImage(mapped, str(folder / f"{patient}.nii.gz"), True)


def report(root: Path, out: Path) -> None:
    """One page of the whole collection."""
    from hcc_tace_data.report import write_report

    write_report(root, out / "report.html", workers=1)


def first_picture(root: Path, out: Path) -> None:
    """What `view` reads before the first picture."""
    from hcc_tace_data.report.volumes import PatientVolumes

    volumes = PatientVolumes(_open(root), PATIENTS[0])
    volumes.ct(next(number for number, one in enumerate(volumes.volumes) if one.annotated))
    volumes.labels()


#: Step -> what it does, what a user would do by hand, and whether its time grows with the number of files.
STEPS: dict[str, tuple[Callable[[Path, Path], None], Callable[[Path, Path], None] | None, bool]] = {
    "index": (index, index_by_hand, True),
    "verify": (verify, None, True),
    "verify --deep": (verify_deep, None, True),
    "phases, headers": (phases_headers, phases_by_hand, True),
    "phases, pixels": (phases_pixels, None, True),
    "validate, headers": (validate_headers, None, True),
    "validate, pixels": (validate_pixels, None, True),
    "measure": (measure, None, True),
    "prepare, native": (prepare_native, None, True),
    "prepare, all phases": (prepare_all, None, True),
    "first sample": (first_sample, None, True),
    "export nnunet": (export_nnunet, export_by_hand, True),
    "export nifti": (export_nifti, None, True),
    "epoch of slices": (epoch_slices, None, True),
    "epoch of patches": (epoch_patches, epoch_by_hand, True),
    "report": (report, None, True),
    "view, first picture": (first_picture, None, False),
}


def _steps(text: str) -> dict[str, tuple[Any, Any, bool]]:
    """Return the steps of some names, separated by semicolons: names hold commas."""
    names = [name.strip() for name in text.split(";")]
    if unknown := [name for name in names if name not in STEPS]:
        raise argparse.ArgumentTypeError(f"no step is called {unknown[0]!r}; use one of: {'; '.join(STEPS)}")
    return {name: STEPS[name] for name in names}


def _bytes(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _child(step: str, how: str, root: Path, out: Path) -> None:
    """Run one step and print what it took."""
    import logging

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import highdicom  # noqa: F401
    import pandera.pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import scipy.ndimage
    import SimpleITK  # noqa: F401
    import torch  # noqa: F401

    import hcc_tace_data.loaders.prepare
    import hcc_tace_data.validators.engine  # noqa: F401

    del scipy
    if how == "hand":
        import monai  # noqa: F401
    task = STEPS[step][how == "hand"]
    assert task is not None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = _bytes(root / ".hcc-tace", out)
    start, cpu = time.perf_counter(), time.process_time()
    task(root, out)
    found = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "imported_mb": before / 1024,
        "written_mb": (_bytes(root / ".hcc-tace", out) - held) / 1e6,
    }
    print(json.dumps(found))


def _run(step: str, how: str, root: Path, out: Path) -> dict[str, Any]:
    words = [sys.executable, __file__, "--root", str(root), "--child", f"{step}|{how}|{out}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step} ({how}) failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        with suppress(ValueError):
            found |= json.loads(line)
    return found


def _forget(root: Path) -> None:
    """Drop what the package keeps, but not stores and digests, and the files from the page cache."""
    own = root / ".hcc-tace"
    for pattern in ("index.parquet", "derived.sqlite*"):
        for path in own.glob(pattern):
            path.unlink()
    if not hasattr(os, "posix_fadvise"):
        return
    for path in root.rglob("*.dcm"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _tell_annotated(root: Path, out: Path) -> int:
    """Write which CT each SEG was drawn on, for those who work by hand; record digests; return the number of files."""
    from hcc_tace_data import open_collection
    from hcc_tace_data.integrity.verify import adopt

    collection = open_collection(root, cache=False)
    known = {}
    for name, patient in collection.items():
        study = patient.baseline
        assert study is not None
        assert study.segmentation is not None
        known[name] = [[str(path) for path in study.annotated.paths], str(study.segmentation.paths[0])]
    (out / "annotated.json").write_text(json.dumps(known))
    adopt(collection)
    return len(collection.instances)


def _line(step: str, cold: dict[str, Any], warm: dict[str, Any], hand: dict[str, Any] | None, factor: float) -> str:
    by_hand = f"{hand['seconds']:8.2f}" if hand else " " * 8
    return (
        f"  {step:<20} {cold['seconds']:8.2f} {cold['cpu']:8.2f} {warm['seconds']:8.2f} {warm['cpu']:8.2f} "
        f"{max(cold['memory_mb'], warm['memory_mb']):7.0f} {cold['written_mb']:8.1f} {by_hand} "
        f"{factor * cold['seconds']:9.0f} {factor * warm['seconds']:8.1f}"
    )


def main() -> None:
    """Run all steps and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path)
    parser.add_argument(
        "--steps", type=_steps, default=STEPS, help=f"names, separated by semicolons; default all: {'; '.join(STEPS)}"
    )
    parser.add_argument("--no-hand", action="store_true", help="leave out what is done by hand")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, how, out = options.child.split("|")
        _child(step, how, options.root, Path(out))
        return
    with full_patients(options.root, PATIENTS) as root:
        out = root / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(root / ".hcc-tace", ignore_errors=True)
        out.mkdir()
        (out / ".hcc-tace-output").touch()  # no part of the collection
        files = _tell_annotated(root, out)
        factor = ALL_FILES / files
        print(f"{len(PATIENTS)} patients, {files} files, {_bytes(*(root / one for one in PATIENTS)) / 1e6:.0f} MB; "
              f"the collection has {factor:.1f} times as many files")  # fmt: skip
        print(f"  {'':<20} {'first':>8} {'cpu':>8} {'second':>8} {'cpu':>8} {'MB':>7} {'written':>8} {'by hand':>8} "
              f"{'105 first':>9} {'second':>8}")  # fmt: skip
        table = {}
        for step, (_, by_hand, grows) in options.steps.items():
            _forget(root)
            cold, warm = _run(step, "ours", root, out), _run(step, "ours", root, out)
            hand = _run(step, "hand", root, out) if by_hand is not None and not options.no_hand else None
            print(_line(step, cold, warm, hand, factor if grows else 1.0), flush=True)
            table[step] = {"first": cold, "second": warm, "by_hand": hand, "grows": grows}
    if options.json:
        options.json.write_text(json.dumps({"files": files, "factor": factor, "steps": table}, indent=2))


if __name__ == "__main__":
    main()
