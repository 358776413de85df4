"""CT series to float32 HU volume against peers on the same files, in one process: equality first, then time.

    python benchmarks/ct_read.py [--repeats 7] [--json FILE]

Reads the longest single-volume series of a `full` phantom patient, warm. Peers that are not installed are left out, by
name.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hcc_tace_data import make_phantom, open_collection
from hcc_tace_data.loaders.ct import read_ct
from hcc_tace_data.phase_split import split_series

Reader = Callable[[list[str]], np.ndarray]


def by_simpleitk(paths: list[str]) -> np.ndarray:
    """SimpleITK's series reader; `paths` in order."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(paths)
    reader.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(reader.Execute())


def by_pydicom(paths: list[str]) -> np.ndarray:
    """pydicom with the rescale by hand."""
    import pydicom

    slices = [pydicom.dcmread(path) for path in paths]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    return np.stack([ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in slices])


def by_dicomsdl(paths: list[str]) -> np.ndarray:
    """dicomsdl with the rescale by hand."""
    import dicomsdl

    slices = [dicomsdl.open(path) for path in paths]
    slices.sort(key=lambda ds: ds.ImagePositionPatient[2])
    volume = np.empty((len(slices), slices[0].Rows, slices[0].Columns), np.float32)
    for row, ds in zip(volume, slices, strict=True):
        row[...] = ds.pixelData(storedvalue=True)
        row *= ds.RescaleSlope
        row += ds.RescaleIntercept
    return volume


def by_highdicom(paths: list[str]) -> np.ndarray:
    """highdicom's volume from a list of images."""
    import highdicom as hd
    import pydicom

    return hd.get_volume_from_series([pydicom.dcmread(path) for path in paths], dtype=np.float32).array


def by_us(paths: list[str]) -> np.ndarray:
    """This package."""
    return read_ct(paths, dtype="float32").array


READERS: dict[str, Reader] = {
    "hcc-tace-data": by_us,
    "dicomsdl": by_dicomsdl,
    "SimpleITK": by_simpleitk,
    "pydicom": by_pydicom,
    "highdicom": by_highdicom,
}


def main() -> None:
    """Compare, then time, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--patient", default="HCC_009")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = make_phantom(Path(folder) / "full", patients=[options.patient], size="full", workers=1)
        ct = open_collection(root).instances.query("modality == 'CT'")
        parts = [split_series(rows) for _, rows in ct.groupby("series_uid")]
        longest = max((part[0] for part in parts if len(part) == 1), key=len)
        paths = [str(root / path) for path in longest["path"]]
        volumes, times, missing = {}, {}, []
        for name, reader in READERS.items():
            try:
                volumes[name] = reader(paths)
            except ImportError:
                missing.append(name)
        ours = volumes["hcc-tace-data"]
        for name, volume in volumes.items():
            # highdicom runs its slices the other way along the normal
            same = np.array_equal(volume, ours) or np.array_equal(volume[::-1], ours)
            if not same:
                raise SystemExit(f"{name} reads other values")
        for _ in range(options.repeats):  # in turn, so that a drift of the machine hits all alike
            for name in volumes:
                start = time.perf_counter()
                READERS[name](paths)
                times.setdefault(name, []).append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{ours.shape} float32, equal in all readers; not installed: {', '.join(missing) or 'none'}")
    for name, seconds in medians.items():
        print(f"{name:<14} {1000 * seconds:8.1f} ms   {seconds / medians['hcc-tace-data']:5.1f} x ours")
    if options.json:
        options.json.write_text(json.dumps({"shape": ours.shape, "median_s": medians, "equal": True}, indent=2))


if __name__ == "__main__":
    main()
