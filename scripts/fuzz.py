"""Damage files at random and read them: every error must be one of ours, and no array may differ from pydicom's.

Usage: ``python scripts/fuzz.py [--seconds 300] [--seed 0] [FILE ...]``; files default to those of a tiny twin, and to
small inputs from public bug reports where ``$HCC_TACE_TEST_DATA`` has them.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels.decoders.base import get_decoder

from hcc_tace_data import make_phantom
from hcc_tace_data.clinical.sheet import read_sheet
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.headers import read_header
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.labels.files import read_label_file

LONGEST = 10.0
READ = (".dcm", ".xlsx", ".nii.gz", ".nii", ".nrrd")
EVERY = -1
VALUES = (0, 1, 127, 128, 254, 255)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with a few bytes changed, mostly in the header, or cut, doubled or left out."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not out:
            break
        place = rng.randrange(min(len(out), 4000) if rng.random() < 0.8 else len(out))
        what = rng.random()
        if what < 0.7:
            out[place] = rng.choice((*VALUES, rng.randrange(256)))
        elif what < 0.8:
            del out[place : place + rng.randrange(1, 9)]
        elif what < 0.9:
            out[place:place] = out[place : place + rng.randrange(1, 9)]
        elif what < 0.95:
            out[place : place + 4] = rng.randbytes(4)
        else:
            del out[max(place, 1) :]
    return bytes(out)


def check_ct(file: Path) -> str:
    """Compare the one slice of a file with what pydicom makes of it."""
    read_header(str(file))
    ours = read_ct([file], dtype="float32").array[0]
    try:
        theirs = pydicom.dcmread(file, force=True)
        expected = theirs.pixel_array.astype(np.float64) * float(theirs.RescaleSlope) + float(theirs.RescaleIntercept)
    except Exception:  # pydicom does not read it: nothing to compare with
        return ""
    same = ours.shape == expected.shape and np.allclose(ours, expected, rtol=1e-6, atol=1e-2)
    return "" if same else "array differs from pydicom's"


def check_seg(file: Path) -> str:
    """Compare how many voxels of each segment are set with what pydicom decodes."""
    seg = read_seg(file, on_off_grid="raise")
    if seg.fractional:
        return ""
    try:
        most = most_voxels(pydicom.dcmread(file, force=True))
    except Exception:  # pydicom does not read it: nothing to compare with
        return ""
    for segment, mask in zip(seg.segments, seg.array, strict=True):
        if int(np.count_nonzero(mask)) > most.get(segment.number, most[EVERY]):
            return f"more voxels of segment {segment.number} than pydicom decodes"
    return ""


def most_voxels(data: pydicom.Dataset) -> dict[int, int]:
    """Return how many voxels each segment can have, and all together; frames may lie upon one another."""
    pixels = data.pixel_array
    if data.get("SegmentationType") != "LABELMAP":
        return {EVERY: int(np.count_nonzero(pixels))}
    # a label map's values are segment numbers, and 0 may be one of them
    numbers, counts = np.unique(pixels, return_counts=True)
    return {EVERY: 0} | {int(number): int(count) for number, count in zip(numbers, counts, strict=True)}


def check_labels(file: Path) -> str:
    read_label_file(file)
    return ""


def check_sheet(file: Path) -> str:
    read_sheet(file)
    return ""


def target_of(file: Path) -> tuple[str, Callable[[Path], str]]:
    """Return what reads a file: its kind, and the check."""
    if file.suffix == ".xlsx":
        return "sheet", check_sheet
    if file.name.endswith((".nii", ".nii.gz", ".nrrd")):
        return "labels", check_labels
    modality = pydicom.dcmread(file, stop_before_pixels=True, force=True).get("Modality")
    return ("seg", check_seg) if modality == "SEG" else ("ct", check_ct)


def fuzz(files: list[Path], seconds: float, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Damage and read files for some time; return counts, and what went wrong."""
    by_kind: dict[str, list[tuple[Path, Callable[[Path], str]]]] = {}
    for file in files:
        kind, check = target_of(file)
        by_kind.setdefault(kind, []).append((file, check))
    rng, counts, faults = random.Random(seed), Counter[str](), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = rng.choice(sorted(by_kind))
        source, check = rng.choice(by_kind[kind])
        damaged = folder / f"damaged{''.join(source.suffixes[-2:])}"
        damaged.write_bytes(mutated(source.read_bytes(), rng))
        begun = time.monotonic()
        try:
            wrong = check(damaged)
        except HccTaceError:
            counts[f"{kind}: refused"] += 1
            wrong = ""
        except Exception as error:
            wrong = f"untyped {type(error).__name__}: {error}"
        else:
            counts[f"{kind}: read"] += 1
        if time.monotonic() - begun > LONGEST:
            wrong = f"took {time.monotonic() - begun:.0f} s"
        if wrong:
            counts[f"{kind}: WRONG"] += 1
            kept = folder / f"fault_{len(faults):03}{''.join(source.suffixes[-2:])}"
            kept.write_bytes(damaged.read_bytes())
            faults.append(f"{kept} from {source.name}: {wrong}")
    return counts, faults


def forget_gdcm() -> None:
    """Take python-gdcm from pydicom, where it is installed: a damaged stream ends the process in it."""
    for uid in pydicom.uid.AllTransferSyntaxes:
        with contextlib.suppress(NotImplementedError, ValueError):  # no decoder, or none by GDCM
            get_decoder(uid).remove_plugin("gdcm")


def reported() -> list[Path]:
    """Return small inputs from public bug reports, where they are at hand."""
    here = Path(os.environ.get("HCC_TACE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    files = sorted(path for path in (here / "reports").rglob("*") if path.name.endswith(READ))
    # of a series, a few slices stand for all
    alone = [path for path in files if path.parent.name != "ct"]
    return alone + [path for path in files if path.parent.name == "ct"][::4]


def main(arguments: list[str] | None = None) -> int:
    """Run; 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    forget_gdcm()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    files = [file for file in options.files if file.is_file()]
    if not files:
        twin = make_phantom(folder / "twin", patients=["HCC_001"], workers=1)
        files = [*sorted(twin.rglob("CT_*/*.dcm"))[::15], *twin.rglob("SEG_*/*.dcm"), *twin.rglob("*.xlsx")]
        files += [*sorted(twin.rglob("*.nii.gz"))[:3], *reported()]
    counts, faults = fuzz(files, options.seconds, options.seed, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = [f"{name}: {count}" for name, count in sorted(counts.items())]
    sys.stdout.write("\n".join([*lines, f"peak memory: {peak:.2f} GB", *faults]) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
