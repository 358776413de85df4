"""CT series to float32 HU volume against peers on the same files, in one process: equality first, then time.

    python benchmarks/ct_read.py [--repeats 9] [--root FOLDER] [--json FILE]

Reads the annotated volume of a `full` phantom patient, warm. Peers that are not installed are left out, by
name.
"""

from __future__ import annotations

import argparse
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import full_patient, report, time_in_turn

from hcc_tace_data import open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.dicom.ct import read_ct

Reader = Callable[[list[str]], np.ndarray]


def by_simpleitk(paths: list[str]) -> np.ndarray:
    """SimpleITK's series reader, told the files in order: it need not look where they lie."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(paths)
    reader.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(reader.Execute())


def by_simpleitk_folder(folder: str) -> np.ndarray:
    """SimpleITK, finding the files of the series and their order, as its examples do."""
    import SimpleITK as sitk

    return by_simpleitk(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder))


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


def by_dicomsdl_plain(paths: list[str]) -> np.ndarray:
    """dicomsdl as its own rescale does it."""
    import dicomsdl

    slices = [dicomsdl.open(path) for path in paths]
    slices.sort(key=lambda ds: ds.ImagePositionPatient[2])
    return np.stack([ds.pixelData() for ds in slices])


def by_monai(folder: str) -> np.ndarray:
    """MONAI's reader on the folder of the series."""
    from monai.data import ITKReader

    reader = ITKReader()
    array, _ = reader.get_data(reader.read(folder))
    return np.ascontiguousarray(array.transpose(2, 1, 0).astype(np.float32))


def by_us(paths: list[str]) -> np.ndarray:
    """This package."""
    return read_ct(paths, dtype="float32").array


US = "hcc-tace-data"
READERS: dict[str, Reader] = {
    US: by_us,
    "dicomsdl, rescaled by hand": by_dicomsdl,
    "dicomsdl": by_dicomsdl_plain,
    "SimpleITK, order told": by_simpleitk,
    "pydicom": by_pydicom,
    "highdicom": by_highdicom,
}


def compare(paths: list[str]) -> list[str]:
    """Return the readers that are here; end the run if one of them reads other values."""
    ours, here = by_us(paths), []
    for name, reader in READERS.items():
        try:
            volume = reader(paths)
        except ImportError as error:
            print(f"  {name} is not installed: {error}")
            continue
        # some run the slices the other way along the normal
        if not (np.array_equal(volume, ours) or np.array_equal(volume[::-1], ours)):
            raise SystemExit(f"{name} reads other values")
        here.append(name)
    return here


def peak_memory(paths: list[str]) -> float:
    """Return the most memory that reading takes, over the size of its result."""
    tracemalloc.start()
    size = by_us(paths).nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / size


def main() -> None:
    """Compare, then time, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--patient", default="HCC_008")
    parser.add_argument("--root", type=Path, help="keep the phantom here, or take the one that is here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with full_patient(options.root, options.patient) as root, tempfile.TemporaryDirectory() as links:
        study = open_collection(root)[options.patient].baseline
        paths = [str(path) for path in find_annotated(study).paths]
        # a reader that takes folders gets one with this volume alone, as a series may hold several
        for number, path in enumerate(paths):
            (Path(links) / f"{number:04}.dcm").symlink_to(Path(path).resolve())
        READERS["SimpleITK"] = lambda _: by_simpleitk_folder(links)
        READERS["MONAI (ITK)"] = lambda _: by_monai(links)
        again = np.zeros_like(by_us(paths))
        READERS["hcc-tace-data, into out="] = lambda _: read_ct(paths, dtype="float32", out=again).array
        here = compare(paths)
        times = time_in_turn({name: lambda n=name: READERS[n](paths) for name in here}, options.repeats)
        memory = round(peak_memory(paths), 3)
    report(f"{len(paths)} slices to float32, equal in all", times, US, options.json, peak_memory_over_result=memory)


if __name__ == "__main__":
    main()
