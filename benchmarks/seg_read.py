"""SEG to label map on the CT's grid against peers, on the same file in one process: equality first, then time.

    python benchmarks/seg_read.py [--repeats 9] [--root FOLDER] [--json FILE]

Reads the SEG of a `full` phantom patient, warm, and the same SEG rewritten with undefined lengths. Peers that are not
installed are left out, by name.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from common import full_patient, report, time_in_turn

from hcc_tace_data import open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.dicom.ct import CTVolume, read_ct
from hcc_tace_data.dicom.seg import read_seg

Labels = npt.NDArray[np.uint8]
US = "hcc-tace-data"


def by_us(file: Path, volume: CTVolume) -> Labels:
    """This package."""
    return read_seg(file, like=volume).label_map()


def by_pydicom(file: Path, volume: CTVolume) -> Labels:
    """pydicom, frames placed by hand along the CT's normal (axial, not flipped: less than a reader must do)."""
    data = pydicom.dcmread(file)
    frames = data.pixel_array
    labels = np.zeros(volume.array.shape, np.uint8)
    origin, step = volume.affine[2, 3], volume.affine[2, 0]
    for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        plane = labels[round((z - origin) / step)]
        plane[frames[number] != 0] = segment
    return labels


def by_highdicom(file: Path, volume: CTVolume, *, checked: bool = True) -> Labels:
    """highdicom, segments combined on the grid of the CT; it refuses overlaps, for which it has to look."""
    import highdicom as hd

    found = hd.seg.segread(file).get_volume(combine_segments=True, skip_overlap_checks=not checked, dtype=np.uint8)
    return np.asarray(found.match_geometry(volume.get_geometry()).array)


def by_highdicom_unchecked(file: Path, volume: CTVolume) -> Labels:
    """The same, told not to look for overlaps."""
    return by_highdicom(file, volume, checked=False)


def by_simpleitk(file: Path, volume: CTVolume) -> Labels:
    """SimpleITK: the frames alone, as stored; it knows no segments and no places."""
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(file))))


def by_dcmqi(file: Path, volume: CTVolume) -> Labels:
    """dcmqi's segimage2itkimage into NRRD files, and these onto the grid."""
    import SimpleITK as sitk

    tool = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}")
    if tool is None:
        raise ImportError("dcmqi")
    labels = np.zeros(volume.array.shape, np.uint8)
    inverse = np.linalg.inv(volume.affine)
    with tempfile.TemporaryDirectory() as folder:
        command = [tool, "--inputDICOM", str(file), "--outputDirectory", folder, "--outputType", "nrrd"]
        subprocess.run(command, check=True, capture_output=True)
        for made in sorted(Path(folder).glob("*.nrrd"), key=lambda path: int(path.stem.split("-")[-1])):
            image = sitk.ReadImage(str(made))
            mask = sitk.GetArrayViewFromImage(image) != 0
            start = np.rint(inverse @ [*image.GetOrigin(), 1])[:3].astype(int)
            window = tuple(slice(s, s + n) for s, n in zip(start, mask.shape, strict=True))
            labels[window][mask] = int(made.stem.split("-")[-1])
    return labels


PEERS: dict[str, Callable[[Path, CTVolume], Labels]] = {
    US: by_us,
    "pydicom, placed by hand": by_pydicom,
    "highdicom": by_highdicom,
    "highdicom, overlaps unchecked": by_highdicom_unchecked,
    "SimpleITK, frames only": by_simpleitk,
    "dcmqi": by_dcmqi,
}


def with_undefined_lengths(file: Path, target: Path) -> Path:
    """Rewrite a SEG with sequences and items of undefined length."""
    data = pydicom.dcmread(file)

    def loosen(dataset: pydicom.Dataset) -> None:
        for element in dataset:
            if element.VR == "SQ":
                element.is_undefined_length = True
                for item in element.value:
                    item.is_undefined_length_sequence_item = True
                    loosen(item)

    loosen(data)
    data.save_as(target)
    return target


def compare(file: Path, volume: CTVolume) -> list[str]:
    """Return the peers that are here; end the run if one of them reads other labels."""
    ours = by_us(file, volume)
    here = []
    for name, peer in PEERS.items():
        try:
            theirs = peer(file, volume)
        except ImportError:
            print(f"  {name} is not installed")
            continue
        here.append(name)
        if name.startswith("SimpleITK"):  # frames have no place: their set voxels are all there is to compare
            same = np.count_nonzero(theirs) == read_seg(file, like=volume).array.sum()
        else:
            same = np.array_equal(theirs, ours)
        if not same:
            raise SystemExit(f"{name} reads other labels than we do")
    return here


def main() -> None:
    """Compare, then time, then print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--patient", default="HCC_008")
    parser.add_argument("--root", type=Path, help="keep the phantom here, or take the one that is here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with full_patient(options.root, options.patient) as root, tempfile.TemporaryDirectory() as scratch:
        study = open_collection(root)[options.patient].baseline
        volume = read_ct(list(find_annotated(study).paths))
        file = study.segmentation.paths[0]
        for title, path in (
            ("as written", file),
            ("undefined lengths", with_undefined_lengths(file, Path(scratch) / "undefined.dcm")),
        ):
            frames = pydicom.dcmread(path, stop_before_pixels=True).NumberOfFrames
            here = compare(path, volume)
            times = time_in_turn({name: lambda n=name, p=path: PEERS[n](p, volume) for name in here}, options.repeats)
            out = options.json.with_stem(f"{options.json.stem}-{title.replace(' ', '-')}") if options.json else None
            report(f"{frames} frames on {volume.array.shape}, {title}; labels equal in all", times, US, out)


if __name__ == "__main__":
    main()
