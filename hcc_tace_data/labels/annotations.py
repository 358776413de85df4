"""Annotations as a set: what exists for a study, on which CT it lies, and how it comes onto one grid.

There are the collection's own SEG (the STAPLE fusion of three readers, Moawad et al. 2023), what BAMF added in Imaging
Data Commons (10.5281/zenodo.8345959), and readers of a user's own in ``ROOT/annotations/<reader>/<patient>.nii.gz`` (or
``.seg.nrrd``, ``.nrrd``, ``.nii``, ``.dcm``; named by the PatientID for the baseline study, by the StudyInstanceUID
for any).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.collection.model import Series
from hcc_tace_data.collection.regions import regions_of
from hcc_tace_data.dicom.geometry import base_step, check_shear, make_affine, slice_axes
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import FrameOfReferenceError, HccTaceError, RegistrationError, SegmentationError, UsageError
from hcc_tace_data.labels.files import LABEL_SUFFIXES, LabelFile, read_label_file, read_label_grid
from hcc_tace_data.labels.staple import fuse_masks
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.words import count, verb
from hcc_tace_data.volumes.grids import align, move_mask, through
from hcc_tace_data.volumes.registration import register

if TYPE_CHECKING:
    import highdicom
    import pandas as pd

    from hcc_tace_data.collection.model import Series, Study
    from hcc_tace_data.facts.catalog import Catalog

__all__ = [
    "LOST_FILE",
    "Annotation",
    "Masks",
    "choose_annotations",
    "find_annotations",
    "place_file",
    "read_annotations",
]

logger = logging.getLogger(__name__)

#: Code of the known issue that a CT file is missing on whose slice the annotations of a patient are drawn.
LOST_FILE = "HT401"
#: Folder in the collection's root for readers of a user's own.
FOLDER = "annotations"
# A file fits a CT volume that it covers to this share.
_COVERS = 0.8
# Slices with voxels set may lie off the CT up to this share: of HCC_001 one CT file is missing, which the SEG has.
_LOST = 0.1

# Columns of the index that say where slices lie.
_PLACED = [
    *(f"orientation_{i}" for i in range(6)), *(f"position_{axis}" for axis in "xyz"),
    "spacing_row", "spacing_column", "rows", "columns",
]  # fmt: skip

Affine = npt.NDArray[np.float64]
# series, number of the volume in it, files, affine, shape
_VolumeGrid = tuple[str, int, tuple[Path, ...], Affine, tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One annotation of a study.

    Attributes
    ----------
    patient_id, study_uid : str
    reader : str
        "collection", "bamf", or the name of the reader's folder.
    kind : {"fusion", "model", "corrected", "reader"}
        Three readers fused; a model's output; that, corrected by a radiologist; one person's.
    path : pathlib.Path
    readers : int
        How many people or models stand behind it.
    series_uid : str
        The CT series it lies on; empty where that cannot be determined.
    volume : int
        Number of the phase volume inside that series.
    paths : tuple of pathlib.Path
        Files of that CT volume, along +normal.
    reason : str
        What that was concluded from, or why it cannot be determined.
    catalog : Catalog
        The facts of the collection it belongs to.
    """

    patient_id: str
    study_uid: str
    reader: str
    kind: Literal["fusion", "model", "corrected", "reader"]
    path: Path
    readers: int
    series_uid: str
    volume: int
    paths: tuple[Path, ...]
    reason: str
    catalog: Catalog = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Annotations on one grid.

    Attributes
    ----------
    masks : dict of str to ndarray, shape (D, H, W)
        Segment key -> non-zero inside.
    readers : int
        How many people or models stand behind them.
    sources : tuple of str
        Names of the annotations that went in.
    """

    masks: dict[str, npt.NDArray[Any]]
    readers: int
    sources: tuple[str, ...]


def find_annotations(study: Study) -> tuple[Annotation, ...]:
    """List the annotations of a study: the collection's, BAMF's, then a user's readers by name.

    Only headers are read. A file that cannot be read is listed, with the reason and without a CT.
    """
    found = [
        _of_seg(study, "collection" if series.origin == "collection" else "bamf", series)
        for series in study.series
        if series.modality == "SEG"
    ]
    found.sort(key=lambda one: (one.reader != "collection", one.kind != "corrected"))
    first = next((one.paths for one in found if one.reader == "collection" and one.paths), ())
    files = _reader_files(study)
    volumes = _volumes(study) if any(path.suffix != ".dcm" for path in files) else []
    return (*found, *(_of_reader(study, path, first, volumes) for path in files))


def place_file(study: Study, path: Path, *, reader: str = "") -> Annotation:
    """Find the CT volume of a study on which a label file lies; only headers are read.

    Parameters
    ----------
    study : Study
    path : pathlib.Path
        NIfTI, NRRD or DICOM-SEG, in any folder.
    reader : str
        Whose labels they are; default: the name of the folder.

    Returns
    -------
    Annotation
        Without a CT, and with the reason, if the file cannot be read or placed.
    """
    own = [one for one in study.fact(find_annotations) if one.reader == "collection"]
    first = next((one.paths for one in own if one.paths), ())
    volumes = _volumes(study) if path.suffix != ".dcm" else []
    return replace(_of_reader(study, path, first, volumes), reader=reader or path.parent.name)


def _of_seg(study: Study, reader: str, series: Series, path: Path | None = None) -> Annotation:
    kinds: dict[str, Literal["fusion", "model", "corrected", "reader"]] = {"collection": "fusion", "bamf": "model"}
    kind = kinds.get(reader, "reader")
    if kind == "model" and "corrected" in series.description:
        kind = "corrected"
    uid, number = "", 0
    paths: tuple[Path, ...] = ()
    try:
        drawn = study.fact(find_annotated) if series is study.segmentation else find_annotated(study, series)
        reason = drawn.reason
        if drawn.volume is not None:
            uid, number, paths = drawn.volume.series_uid, drawn.volume.volume, drawn.paths
    except Exception as error:  # whatever one file holds, the others are listed
        reason = reason_of(error)
    return Annotation(
        patient_id=study.patient_id, study_uid=study.study_uid, reader=reader, kind=kind,
        path=path or series.paths[0], readers=3 if reader == "collection" else 1,
        series_uid=uid, volume=number, paths=paths, reason=reason, catalog=study.catalog,
    )  # fmt: skip


def _reader_files(study: Study) -> list[Path]:
    """Return the files of a user's readers for this study, by reader."""
    folder = study.root / FOLDER
    if not folder.is_dir():
        return []
    # an identifier that is a path would name a file outside the reader's folder: such files are named as we write names
    names = [safe_name(name) for name in (study.study_uid, *([study.patient_id] if study.is_baseline else []))]
    files = []
    for reader in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        if reader.name in {"collection", "bamf", "staple"}:
            logger.warning("%s: a reader cannot be called %r; rename the folder", reader, reader.name)
            continue
        candidates = [reader / f"{name}{suffix}" for name in names for suffix in LABEL_SUFFIXES]
        here = [path for path in candidates if path.is_file()]
        if len(here) > 1:
            logger.warning("%s: %s is taken, %s are not", reader, here[0].name, [path.name for path in here[1:]])
        files += here[:1]
    return files


def _of_reader(study: Study, path: Path, first: tuple[Path, ...], volumes: Sequence[_VolumeGrid]) -> Annotation:
    import pandas as pd

    reader = path.parent.name
    if path.suffix == ".dcm":
        rows = pd.DataFrame({"path": [path.resolve().as_posix()], "series_description": [""]})
        return _of_seg(study, reader, Series(study.root, rows, catalog=study.catalog), path)
    uid, number = "", 0
    paths: tuple[Path, ...] = ()
    try:
        affine, shape = read_label_grid(path)
        fitting = [volume for volume in volumes if _fits(affine, shape, *volume[3:])]
        # several phases may share one grid: the collection's annotated one is then meant, else the first
        fitting.sort(key=lambda volume: not _same(volume[2], first))
        reason = f"{reader}'s grid is that of no CT volume of the study"
        if fitting:
            uid, number, paths = fitting[0][:3]
            several = len({volume[:2] for volume in fitting}) - 1
            others = f" and {count(several, 'other')}" if several else ""
            reason = f"the grid is that of the CT volume{others}"
    except Exception as error:
        reason = reason_of(error)
    return Annotation(
        patient_id=study.patient_id, study_uid=study.study_uid, reader=reader, kind="reader", path=path, readers=1,
        series_uid=uid, volume=number, paths=paths, reason=reason, catalog=study.catalog,
    )  # fmt: skip


def _volumes(study: Study) -> list[_VolumeGrid]:
    """Return each CT volume of a study, and each region where it has several, from the index alone."""
    volumes = []
    for series in study.series:
        if series.modality != "CT":
            continue
        for number, part in _parts(series):
            rows = [{str(name): value for name, value in row.items()} for row in part[_PLACED].to_dict("records")]
            try:
                along, down, normal, position = slice_axes(rows)
                check_shear(position, normal)
            except HccTaceError:
                continue
            places = position @ normal
            order = np.argsort(places, kind="stable")
            places = places[order]
            step = base_step(places) if len(places) > 1 else 1.0
            spacing = (step, float(rows[0]["spacing_row"]), float(rows[0]["spacing_column"]))
            if min(spacing) <= 0:
                continue
            depth = int(np.floor((places[-1] - places[0]) / step + 0.02)) + 1
            affine = make_affine(position[order[0]], (normal, down, along), spacing)
            shape = (depth, int(rows[0]["rows"]), int(rows[0]["columns"]))
            paths = tuple(series.root / path for path in part["path"])
            volumes.append((series.series_uid, number, paths, affine, shape))
    return volumes


def _parts(series: Series) -> list[tuple[int, pd.DataFrame]]:
    """Return number and rows of each volume, and after it of each of its regions where it has several."""
    found = []
    for number, whole in enumerate(series.volumes):
        regions = regions_of(whole)
        found += [(number, part) for part in ([whole, *regions] if len(regions) > 1 else [whole])]
    return found


def _fits(affine: Affine, shape: tuple[int, int, int], onto: Affine, target: tuple[int, int, int]) -> bool:
    how = align(affine, shape, onto, target)
    return how is not None and how.overlap() >= _COVERS


def choose_annotations(
    available: Sequence[Annotation], wanted: str | Sequence[str]
) -> tuple[tuple[Annotation, ...], tuple[Path, ...], str]:
    """Choose annotations of a study, and the CT volume to bring them to.

    Parameters
    ----------
    available : sequence of Annotation
        From :func:`find_annotations`.
    wanted : str or sequence of str
        "collection"; "bamf" (the corrected one if there is one, on the collection's CT if there is one); a reader's
        name; several of these, to be fused by STAPLE; or "staple", all readers that lie on one CT (the collection's, if
        that is known) but the collection's SEG: that is a fusion itself, and joins only where fewer than two others are
        there. A reader whose file cannot be read or placed is left out of "staple" with a warning.

    Returns
    -------
    chosen : tuple of Annotation
        Empty if one of those wanted does not exist.
    paths : tuple of pathlib.Path
        Files of the CT volume.
    reason : str
        Why nothing was chosen.

    Raises
    ------
    UsageError
        An annotation named twice: it would be fused with itself.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names or len(set(names)) != len(names) or (len(names) > 1 and "staple" in names):
        raise UsageError(f"annotations is {wanted!r}; name each annotation once ('staple' stands for all of them).")
    own = next((one for one in available if one.reader == "collection" and one.paths), None)
    placed = [one for one in available if one.paths]
    if names == ["staple"]:
        anchor = own or next(iter(placed), None)
        if anchor is None:
            return (), (), "no annotation that lies on a CT: " + _reasons(available)
        for one in available:
            if not one.paths:
                logger.warning("%s of %s is not fused: %s", one.path, one.patient_id, one.reason)
        here = _one_of_each([one for one in placed if _same(one.paths, anchor.paths)], anchor.paths)
        others = [one for one in here if one.reader != "collection"]
        return tuple(others if len(others) > 1 else here), anchor.paths, ""
    chosen: list[Annotation] = []
    for name in names:
        mine = [one for one in available if one.reader == name]
        if not mine:
            there = sorted({one.reader for one in available})
            return (), (), f"no annotation by {name!r}; there are {', '.join(there) or 'none'}"
        usable = [one for one in mine if one.paths]
        if not usable:
            return (), (), f"cannot tell which CT was annotated by {name!r}: {_reasons(mine)}"
        chosen += _one_of_each(usable, own.paths if own is not None else usable[0].paths)
    return tuple(chosen), chosen[0].paths, ""


def _one_of_each(annotations: Sequence[Annotation], paths: tuple[Path, ...]) -> list[Annotation]:
    """Return one annotation a reader: of several, one on the given CT, corrected before uncorrected."""
    best: dict[str, Annotation] = {}
    for one in sorted(annotations, key=lambda one: (not _same(one.paths, paths), one.kind == "model")):
        best.setdefault(one.reader, one)
    return [best[name] for name in dict.fromkeys(one.reader for one in annotations)]


def _same(one: Sequence[Path], other: Sequence[Path]) -> bool:
    return set(one) == set(other)


def _reasons(annotations: Sequence[Annotation]) -> str:
    return "; ".join(f"{one.reader}: {one.reason}" for one in annotations) or "it is missing"


def read_annotations(
    annotations: Sequence[Annotation], like: highdicom.Volume, paths: Sequence[Path], *, engine: str = "auto"
) -> Masks:
    """Read annotations onto one CT volume; fuse them by STAPLE if there are several.

    Parameters
    ----------
    annotations : sequence of Annotation
    like : highdicom.Volume
        The CT volume, as :func:`~hcc_tace_data.dicom.ct.read_ct` gives it.
    paths : sequence of path-like
        Its files: an annotation of the same files lies on it. One of other files is brought over by registering their
        CT onto this one; never by index.
    engine : str
        Of the registration.

    Raises
    ------
    SegmentationError
        An annotation lies off the CT, or has no segment that ``catalog.yaml`` knows.
    RegistrationError
        An annotation lies on another CT that cannot be registered.
    """
    if not annotations:
        raise UsageError("no annotations to read.")
    read = [_read_one(one, like, tuple(Path(path) for path in paths), engine) for one in annotations]
    sources = tuple(one.reader for one in annotations)
    readers = sum(one.readers for one in annotations)
    if len(read) == 1:
        return Masks(masks=read[0], readers=readers, sources=sources)

    numbers = annotations[0].catalog.vocabulary.numbers
    fused = fuse_masks([{numbers[key]: mask for key, mask in one.items()} for one in read], dtype="float32")
    keys = {number: key for key, number in numbers.items()}
    masks = {keys[number]: fused.label_map == number for number in fused.probability}
    return Masks(masks=masks, readers=readers, sources=sources)


def _read_one(
    annotation: Annotation, like: highdicom.Volume, paths: tuple[Path, ...], engine: str
) -> dict[str, npt.NDArray[Any]]:
    """Return segment key -> mask of one annotation on the grid of `like`."""
    same = _same(annotation.paths, paths)
    is_seg = annotation.path.suffix == ".dcm" or annotation.kind != "reader"
    if is_seg and same:
        return _seg_on_its_ct(annotation, like)
    file = read_label_file(annotation.path, catalog=annotation.catalog)
    onto, shape = np.asarray(like.affine, np.float64), _shape(like)
    how = align(file.affine, file.shape, onto, shape)
    # a NIfTI or NRRD file knows no series: if its grid is this CT's, it lies on this CT
    if how is not None and not is_seg and how.overlap() >= _COVERS:
        moved = {key: move_mask(mask, how) for key, mask in file.by_key.items()}
        _check_lost(annotation, max((lost for _, lost in moved.values()), default=0), len(like.array))
        return _known(annotation, {key: mask for key, (mask, _) in moved.items()})
    if not annotation.paths or same:
        raise SegmentationError(
            f"{annotation.path} of {annotation.patient_id} does not lie on the grid of its CT: {annotation.reason}."
        )
    return _known(annotation, _brought_over(annotation, file, like, engine))


def _seg_on_its_ct(annotation: Annotation, like: highdicom.Volume) -> dict[str, npt.NDArray[Any]]:
    found = read_seg(annotation.path, like=like, on_off_grid="drop")
    _check_lost(annotation, len(found.lost), len(like.array))
    masks: dict[str, npt.NDArray[Any]] = {}
    for segment, mask in zip(found.segments, found.array, strict=True):
        key = annotation.catalog.vocabulary.key_of(segment.label, segment.type[0], number=segment.number)
        if key is None:
            logger.warning("%s: segment %r is not in the vocabulary; left out", annotation.patient_id, segment.label)
            continue
        inside = mask >= 0.5 if found.fractional else mask
        masks[key] = inside if key not in masks else np.maximum(masks[key], inside)
    return masks if annotation.reader == "collection" else _known(annotation, masks)


def _brought_over(
    annotation: Annotation, file: LabelFile, like: highdicom.Volume, engine: str
) -> dict[str, npt.NDArray[Any]]:
    """Return masks that were drawn on another CT of the study, through the registration of that CT onto this one."""
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    where = f"{annotation.path} of {annotation.patient_id} was drawn on series {annotation.series_uid}"
    moving = read_ct(list(annotation.paths), on_gap="fill")
    own, other = moving.frame_of_reference_uid, like.frame_of_reference_uid
    if own and other and str(own) != str(other):
        raise FrameOfReferenceError(f"{where}, in another frame of reference than this CT.")
    found = register(like, moving, engine=engine)
    if not found.plausible:
        raise RegistrationError(f"{where}, and its registration onto this CT is implausible: {found.reason}.")
    matrix, shape = np.asarray(found.matrix, np.float64), _shape(like)
    onto = np.asarray(like.affine, np.float64)
    return {key: through(mask, file.affine, onto, shape, matrix) for key, mask in file.by_key.items()}


def _shape(like: highdicom.Volume) -> tuple[int, int, int]:
    depth, height, width = like.spatial_shape
    return int(depth), int(height), int(width)


def _check_lost(annotation: Annotation, lost: int, depth: int) -> None:
    if lost > _LOST * max(1, depth):
        raise SegmentationError(
            f"{annotation.path} of {annotation.patient_id}: {count(lost, 'frame')} {verb(lost, 'lies')} off the CT "
            f"of series {annotation.series_uid}; 'hcc-tace validate' says more."
        )
    if lost and not annotation.catalog.has_known_issue(LOST_FILE, annotation.patient_id):
        logger.warning("%s: %s off the CT left out", annotation.path, count(lost, "frame"))


def _known(annotation: Annotation, masks: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    if not masks:
        raise SegmentationError(f"{annotation.path} has no segment that catalog.yaml knows (liver, Mass ...).")
    return masks
