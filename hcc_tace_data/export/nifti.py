"""CT volumes and their segmentations as NIfTI, with BIDS-like names."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import PatientNotFoundError
from hcc_tace_data.export.records import write_companions
from hcc_tace_data.files import atomic_path, atomic_write_text
from hcc_tace_data.parallel import in_parallel, workers_for

if TYPE_CHECKING:
    from hcc_tace_data.collection import Collection, Series, Study
    from hcc_tace_data.loaders.seg import SegmentationOnGrid

__all__ = ["ExportedStudy", "export_nifti", "write_nifti"]

logger = logging.getLogger(__name__)

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedStudy:
    """What became of one study.

    Attributes
    ----------
    patient_id, study_uid : str
    files : tuple of pathlib.Path
        NIfTI files written, or found whole from an earlier run.
    skipped : tuple of str
        What was left out, and why.
    known : tuple of str
        The same, where ``catalog.yaml`` lists it as an issue of the collection.
    """

    patient_id: str
    study_uid: str
    files: tuple[Path, ...]
    skipped: tuple[str, ...]
    known: tuple[str, ...] = ()


def write_nifti(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """Write one array as NIfTI.

    Parameters
    ----------
    path : pathlib.Path
        ``.nii`` or ``.nii.gz``; under its name only when it is whole.
    array : ndarray, shape (D, H, W)
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm. NIfTI gets index (w, h, d) -> RAS mm, as sform and qform.
    """
    import nibabel

    reordered = affine[:, [2, 1, 0, 3]]
    image: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]  # nibabel has no types for it
        array.transpose(2, 1, 0), _LPS_TO_RAS @ reordered
    )
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def export_nifti(
    collection: Collection,
    out: str | os.PathLike[str],
    *,
    patients: Iterable[str] | None = None,
    all_volumes: bool = False,
    workers: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Iterator[ExportedStudy]:
    """Write every segmentation and the CT volume it was drawn on, study by study on all cores.

    A study becomes ``sub-<patient>/ses-<date>/``: ``..._ct.nii.gz`` int16 HU; for each SEG ``..._dseg.nii.gz``, the
    segment numbers as the SEG has them (where segments overlap the highest wins), and, if any overlap, one
    ``..._mask.nii.gz`` a segment besides; JSON sidecars name source UIDs and segments. Files that are there are kept.

    Parameters
    ----------
    collection : Collection
    out : path-like
        Folder to write into.
    patients : iterable of str, optional
        PatientIDs; default all.
    all_volumes : bool
        Also the CT volumes on which nothing was drawn.
    workers : int, optional
        Processes; default one a core.
    progress : callable, optional
        Called after each study.

    Yields
    ------
    ExportedStudy

    Raises
    ------
    PatientNotFoundError
        A patient the collection does not hold.
    """
    wanted = list(collection if patients is None else patients)
    unknown = sorted(set(wanted) - set(collection))
    if unknown:
        raise PatientNotFoundError(f"{', '.join(unknown)} not in {collection.root}, which holds {len(collection)}.")
    folder = Path(out)
    _write_description(folder)
    studies = [study for patient in wanted for study in collection[patient].studies]
    size = sum(int(study.instances["size"].sum()) for study in studies)
    calls = [(study, folder, all_volumes) for study in studies]
    for done in in_parallel(_export_study, calls, workers_for(size, workers)):
        yield done
        if progress is not None:
            progress()
    write_companions(folder, {"format": "nifti", "all_volumes": all_volumes}, {})


def _write_description(folder: Path) -> None:
    """Put licence, citation and origin beside the data."""
    from hcc_tace_data import __version__
    from hcc_tace_data.catalog import load_catalog

    catalog = load_catalog()
    description = {
        "Name": catalog.identity.name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": f"{catalog.identity.licence} ({catalog.identity.licence_url}) for files of the collection",
        "ReferencesAndLinks": [f"{citation.text} https://doi.org/{citation.doi}" for citation in catalog.citations],
        "GeneratedBy": [{"Name": "hcc-tace-data", "Version": __version__}],
    }
    atomic_write_text(folder / "dataset_description.json", json.dumps(description, indent=2) + "\n")


def _export_study(study: Study, folder: Path, all_volumes: bool) -> ExportedStudy:
    from hcc_tace_data.phase_split import split_series

    subject, session = _plain(study.patient_id), _plain(study.date) or "unknown"
    stem = folder / f"sub-{subject}" / f"ses-{session}" / f"sub-{subject}_ses-{session}"
    files: list[Path] = []
    skipped: list[str] = []
    known: list[str] = []
    written: set[tuple[str, int]] = set()
    for series in study.series:
        if series.modality == "SEG":
            for number in range(len(series.instances)):
                _export_seg(study, series, number, stem, files, skipped, known, written)
    for series in study.series if all_volumes else ():
        if series.modality != "CT":
            continue
        for volume, rows in enumerate(split_series(series.instances)):
            if (series.series_uid, volume) not in written:
                paths = [series.root / path for path in rows["path"]]
                _export_ct(stem, series, volume, paths, files, skipped)
    return ExportedStudy(
        patient_id=study.patient_id, study_uid=study.study_uid, files=tuple(files), skipped=tuple(skipped),
        known=tuple(known),
    )  # fmt: skip


def _export_seg(
    study: Study,
    series: Series,
    number: int,
    stem: Path,
    files: list[Path],
    skipped: list[str],
    known: list[str],
    written: set[tuple[str, int]],
) -> None:
    """Write one SEG file and, once, the CT it was drawn on."""
    from hcc_tace_data.annotated import find_annotated
    from hcc_tace_data.annotations import is_known_loss
    from hcc_tace_data.collection import Series
    from hcc_tace_data.errors import HccTaceError
    from hcc_tace_data.loaders.seg import read_seg

    one = Series(series.root, series.instances.iloc[number : number + 1])
    named = f"SEG {one.instances['sop_uid'].iloc[0]}"
    found = find_annotated(study, one)
    if found.volume is None:
        skipped.append(f"{named}: cannot tell which CT was annotated: {found.reason}")
        return
    ct = next(item for item in study.series if item.series_uid == found.volume.series_uid)
    volume = _export_ct(stem, ct, found.volume.volume, list(found.paths), files, skipped)
    if volume is None:
        skipped.append(f"{named}: its CT cannot be written")
        return
    written.add((ct.series_uid, found.volume.volume))
    base = _name(stem, ct, found.volume.volume) + f"_desc-{_seg_name(study, series, number)}"
    try:
        seg = read_seg(one.paths[0], like=volume, on_off_grid="drop")
    except HccTaceError as error:
        skipped.append(f"{named}: {error}")
        return
    if seg.lost:
        # of a missing CT file every segment has a frame, no more
        expected = is_known_loss(study.patient_id) and len(seg.lost) <= len(seg.segments)
        (known if expected else skipped).append(f"{named}: {len(seg.lost)} frames with voxels set lie off the CT")
    _write_segments(Path(f"{base}_dseg.nii.gz"), base, seg, one, files)


def _write_segments(path: Path, base: str, seg: SegmentationOnGrid, series: Series, files: list[Path]) -> None:
    """Write label map, masks where segments overlap or are fractional, and what the numbers mean."""
    overlapping = len(seg.segments) > 1 and bool((np.count_nonzero(seg.array, axis=0) > 1).any())
    sidecar = {
        "SOPInstanceUID": str(series.instances["sop_uid"].iloc[0]),
        "SeriesInstanceUID": series.series_uid,
        "Overlapping": overlapping,
        "LostFrames": len(seg.lost),
        "Segments": [
            {
                "Number": item.number,
                "Label": item.label,
                "Category": dict(zip(("Value", "Scheme", "Meaning"), item.category, strict=True)),
                "Type": dict(zip(("Value", "Scheme", "Meaning"), item.type, strict=True)),
                "Algorithm": item.algorithm,
            }
            for item in seg.segments
        ],
    }
    if not path.is_file():
        write_nifti(path, seg.label_map(), seg.affine)
    files.append(path)
    for item, mask in zip(seg.segments, seg.array, strict=True) if overlapping or seg.fractional else ():
        one = Path(f"{base}_label-{item.number}_{'probseg' if seg.fractional else 'mask'}.nii.gz")
        if not one.is_file():
            write_nifti(one, mask, seg.affine)
        files.append(one)
    atomic_write_text(Path(f"{base}_dseg.json"), json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n")


def _export_ct(
    stem: Path, series: Series, number: int, paths: list[Path], files: list[Path], skipped: list[str]
) -> Any:
    """Write one CT volume unless it is there; return it, or None with the reason in `skipped`."""
    from hcc_tace_data.errors import HccTaceError
    from hcc_tace_data.loaders.ct import read_ct

    base = _name(stem, series, number)
    try:
        volume = read_ct(paths, on_gap="fill")
    except HccTaceError as error:
        skipped.append(f"CT series {series.number}: {error}")
        return None
    path = Path(f"{base}_ct.nii.gz")
    if path in files:
        return volume
    if not path.is_file():
        write_nifti(path, volume.array, np.asarray(volume.affine))
    files.append(path)
    sidecar = {
        "SeriesInstanceUID": series.series_uid,
        "SeriesDescription": series.description,
        "Volume": number,
        "SlicesRead": len(volume.positions),
        "SlicesFilled": len(volume.array) - len(volume.positions),
        "Units": "HU",
    }
    atomic_write_text(Path(f"{base}_ct.json"), json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n")
    return volume


def _name(stem: Path, series: Series, volume: int) -> str:
    """Return the path of a volume's files without their suffix; the series' UID tells series of one number apart."""
    number = "x" if series.number is None else str(series.number)
    return f"{stem}_acq-{number}{series.series_uid[-4:].replace('.', '')}_run-{volume + 1}"


def _seg_name(study: Study, series: Series, number: int) -> str:
    segs = [item.series_uid for item in study.series if item.modality == "SEG"]
    return f"seg{segs.index(series.series_uid) + 1}" + (f"file{number + 1}" if len(series.instances) > 1 else "")


def _plain(text: str) -> str:
    """Return what BIDS allows in a name: letters and digits."""
    return re.sub(r"[^0-9A-Za-z]", "", text)
