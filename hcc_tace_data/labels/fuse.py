"""The paper's chain for your own cohort: CT phases registered, readers' files fused, labels written.

Moawad et al. 2023 drew on registered phases and fused three readers by STAPLE (Convert3D), each label on its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.index import read_index
from hcc_tace_data.collection.regions import regions_of
from hcc_tace_data.collection.split import split_series
from hcc_tace_data.errors import CollectionNotFoundError, FusionError, RegistrationError, UsageError
from hcc_tace_data.facts.catalog import Catalog, load_catalog
from hcc_tace_data.labels.files import LabelFile, read_label_file
from hcc_tace_data.labels.fuse_report import (
    OURS,
    begin,
    file_names,
    make_report,
    probability_names,
    reader_names,
    write_seg,
)
from hcc_tace_data.labels.staple import Fusion, fuse_arrays, fuse_masks
from hcc_tace_data.labels.votes import vote
from hcc_tace_data.system.files import mark_output, write_json, writing_to
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.grids import align, move_mask, through
from hcc_tace_data.volumes.nifti import write_nifti
from hcc_tace_data.volumes.registration import register, resample

if TYPE_CHECKING:
    from hcc_tace_data.volumes.registration import Registration

__all__ = ["FusedFiles", "fuse_files", "fuse_staple", "read_masks"]

Method = Literal["staple", "majority", "union", "intersection"]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedFiles:
    """What was written.

    Attributes
    ----------
    files : tuple of pathlib.Path
    report : dict
        What ``fusion.json`` holds.
    """

    files: tuple[Path, ...]
    report: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Brought:
    resampled: npt.NDArray[np.int16]
    registration: Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    affine: npt.NDArray[np.float64]
    shape: tuple[int, int, int]
    volume: Any = None
    paths: tuple[Path, ...] = ()


def fuse_files(
    readers: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    ct: str | os.PathLike[str] | None = None,
    phases: Sequence[str | os.PathLike[str]] = (),
    method: Method = "staple",
    region: Literal["image", "union"] = "image",
    weight: float = 1.0,
    threshold: float = 0.5,
    catalog: Catalog | None = None,
) -> FusedFiles:
    """Fuse readers' label files of one patient, and write label map, probabilities and DICOM-SEG.

    Parameters
    ----------
    readers : sequence of path-like
        One file per reader: NIfTI, NRRD or DICOM-SEG; see :func:`hcc_tace_data.labels.files.read_label_file`.
        Labels are matched by name (or the SNOMED CT code of a SEG) where files name them, else by number: 1 to 5 are
        then the catalogue's segments, other numbers stand for themselves. A file that names its labels has no vote
        on others; a bare label map votes against labels that it lacks.
    out : path-like
        Folder to write into: ``labels.nii.gz`` with ``labels.json``, ``probability_<label>.nii.gz`` (STAPLE),
        ``fusion.json``, and with `ct` ``labels_seg.dcm``.
    ct : path-like, optional
        Folder of the CT the labels are for. Without it the first reader's grid is used. Where a folder holds several
        volumes, as stacked phases in one series do, ``FOLDER:N`` takes number N, counted from 0 in the order of
        ``hcc-tace phases FOLDER``.
    phases : sequence of path-like
        Folders (or ``FOLDER:N``) of other CT phases of the patient. They are registered and resampled onto `ct`
        (``phase_<n>.nii.gz``, its transform ``phase_<n>.tfm``), and masks drawn on one of them are brought over
        through its registration.
    method : {"staple", "majority", "union", "intersection"}
    region, weight, threshold
        See :func:`hcc_tace_data.fuse_staple`.
    catalog : Catalog, optional
        Where names and numbers of labels come from; default: the catalogue of HCC-TACE-Seg.

    Raises
    ------
    SegmentationError, UsageError
        A file that cannot be read, or that would be overwritten by the result; a folder of several CT volumes.
    CollectionNotFoundError
        A file or folder that is not there.
    FusionError
        A reader whose grid is neither that of the CT nor of a phase, or who drew no label at all.
    RegistrationError
        Phases were given and cannot be registered.
    OutputError
        The folder cannot be written.
    """
    paths = [Path(reader) for reader in readers]
    if not paths:
        raise UsageError("no readers' files; give at least one.")
    if len({path.resolve() for path in paths}) != len(paths):
        raise UsageError("a reader's file is given twice; it would be fused with itself.")
    if phases and ct is None:
        raise UsageError("phases are registered onto the CT that the labels are for; name it (--ct).")
    known = load_catalog() if catalog is None else catalog
    files = _read(paths, known)
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder to write into.")
    _check_options(method, region, weight, threshold)
    grid = _ct_grid(ct, files) if ct is not None else _Grid(affine=files[0].affine, shape=files[0].shape)
    moving = [_ct_grid(phase) for phase in phases]
    numbers = _numbers([key for file in files for key in file.by_label], known)
    if ct is not None:
        _check_coded(numbers, known)
    _check_kept(paths, folder)
    brought = [_bring_phase(grid, phase, volume) for phase, volume in zip(phases, moving, strict=True)]
    others = [(volume, phase.registration.matrix) for volume, phase in zip(moving, brought, strict=True)]
    drawn = [{key: _onto(mask, file, grid, others) for key, mask in file.by_label.items()} for file in files]
    masks = _say_no(drawn, files, numbers)
    names = reader_names(paths)
    fused = fuse_masks(masks, weight=weight, threshold=threshold, region=region, dtype="float32")
    label_map = fused.label_map if method == "staple" else _voted(masks, numbers, method)
    report = make_report(fused, masks, numbers, names, grid.affine, method, threshold, weight)
    report["readers"] = {name: str(path) for name, path in zip(names, paths, strict=True)}
    report["voxels"] = {key: int(np.count_nonzero(label_map == number)) for key, number in numbers.items()}
    report["written"] = file_names(numbers, method, len(phases), seg=ct is not None)
    with writing_to(folder):
        mark_output(folder)
        earlier = begin(folder, report["written"])
        for number, phase in enumerate(brought, start=1):
            write_nifti(folder / f"phase_{number}.nii.gz", phase.resampled, grid.affine)
            phase.registration.save(folder / f"phase_{number}.tfm")
        write_nifti(folder / "labels.nii.gz", label_map, grid.affine)
        write_json(folder / "labels.json", {"labels": {str(number): key for key, number in numbers.items()}})
        for number, name in probability_names(numbers).items() if method == "staple" else ():
            write_nifti(folder / name, fused.probability[number], grid.affine)
        if ct is not None:
            write_seg(folder / "labels_seg.dcm", label_map, numbers, grid.paths, method, names, known)
        for name in earlier - set(report["written"]):
            (folder / name).unlink(missing_ok=True)
        write_json(folder / "fusion.json", report)
    return FusedFiles(files=tuple(folder / name for name in report["written"]), report=report)


def fuse_staple(
    readers: Sequence[npt.ArrayLike | os.PathLike[str]],
    *,
    labels: Sequence[int] | None = None,
    weight: float = 1.0,
    dtype: Literal["float64", "float32"] = "float64",
    threshold: float = 0.5,
    region: Literal["image", "union"] = "image",
) -> Fusion:
    """Fuse readers' masks by STAPLE, each label on its own.

    Parameters
    ----------
    readers : sequence of array-like of integer or bool, or of path-like
        One array a reader, all of one shape and grid; 0 is background. Or one file per reader: NIfTI, NRRD or DICOM-SEG
        on the grid of the first, however their axes run; labels are then matched and numbered as by
        :func:`hcc_tace_data.labels.fuse.fuse_files`.
    labels : sequence of int, optional
        Which labels; default all that any reader used, ascending.
    weight : float
        ITK's confidence weight: factor of the prior.
    dtype : {"float64", "float32"}
        Of the probabilities. Expectation and maximisation always run in float64.
    threshold : float
        Probability from which a voxel gets the label.
    region : {"image", "union"}
        Take prior and specificity over the whole image, as ITK and the paper do, or over the box that holds all
        readers' masks of the label. The first makes nearly every voxel a true negative, so specificities are near 1.

    Returns
    -------
    Fusion

    Raises
    ------
    FusionError
        No readers, or arrays of different shapes or of numbers that are not labels, or files of different grids.
    SegmentationError, CollectionNotFoundError
        A file that cannot be read, or is not there.

    Notes
    -----
    One reader is returned as is. A reader who left a label out counts as having said no. If nobody used a label its
    probability is 0 everywhere; if everybody gave it to every voxel it is 1; sensitivity or specificity, of which then
    nothing is known, is NaN.

    Examples
    --------
    >>> fused = fuse_staple([[0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 0]])
    >>> fused.label_map.tolist()
    [0, 1, 1, 0]
    """
    files = [os.fspath(reader) for reader in readers if isinstance(reader, (str, os.PathLike))]
    if not files:
        arrays = cast("Sequence[npt.ArrayLike]", readers)
        return fuse_arrays(arrays, labels=labels, weight=weight, dtype=dtype, threshold=threshold, region=region)
    if len(files) < len(readers):
        raise FusionError("some readers are files and some arrays; pass all as files, or all as arrays.")
    masks = read_masks(files)
    return fuse_masks(masks, labels=labels, weight=weight, dtype=dtype, threshold=threshold, region=region)


def read_masks(
    paths: Sequence[str | os.PathLike[str]], *, catalog: Catalog | None = None
) -> list[dict[int, npt.ArrayLike]]:
    """Read readers' label files onto the grid of the first: label number -> mask of each reader.

    Raises
    ------
    SegmentationError, CollectionNotFoundError
        A file that cannot be read, or is not there.
    FusionError
        A reader on another grid, or no reader who drew a label.
    """
    known = load_catalog() if catalog is None else catalog
    files = _read([Path(path) for path in paths], known)
    grid = _Grid(affine=files[0].affine, shape=files[0].shape)
    drawn = [{key: _onto(mask, file, grid, []) for key, mask in file.by_label.items()} for file in files]
    return _say_no(drawn, files, _numbers([key for reader in drawn for key in reader], known))


def _read(paths: Sequence[Path], catalog: Catalog) -> list[LabelFile]:
    for path in paths:
        if not path.is_file():
            raise CollectionNotFoundError(f"no file {path}.")
    return [read_label_file(path, catalog=catalog) for path in paths]


def _check_options(method: str, region: str, weight: float, threshold: float) -> None:
    """Refuse options before anything is written."""
    if method not in get_args(Method):
        raise UsageError(f"method is {method!r}; use {', '.join(get_args(Method))}.")
    fuse_masks([{1: np.zeros(1, bool)}], weight=weight, threshold=threshold, region=region)  # type: ignore[arg-type]


def _check_coded(numbers: dict[str, int], catalog: Catalog) -> None:
    known = set(catalog.vocabulary.keys)
    foreign = sorted(set(numbers) - known)
    if foreign:
        raise FusionError(
            f"labels {', '.join(foreign)} have no code in the catalogue, which a DICOM-SEG needs; leave --ct out, or "
            f"name labels {', '.join(sorted(known))}."
        )


def _check_kept(paths: Sequence[Path], folder: Path) -> None:
    """Refuse to write over a reader's file, or over the names of its labels."""
    here = folder.resolve()
    for path in paths:
        if path.resolve().parent == here and OURS.fullmatch(path.name):
            raise UsageError(f"{path} would be overwritten by the result; name another folder than {folder}.")


def _ct_grid(ct: str | os.PathLike[str], files: Sequence[LabelFile] = ()) -> _Grid:
    """Return the grid of a CT; of its regions where it has several, the one on whose grid alone a reader drew."""
    whole, *regions = _ct_files(ct)
    first = _grid_of(whole)
    for grid in (first, *map(_grid_of, regions)):
        if any(align(file.affine, file.shape, grid.affine, grid.shape) is not None for file in files):
            return grid
    return first


def _grid_of(paths: list[Path]) -> _Grid:
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    volume = read_ct(paths, on_gap="fill")
    depth, height, width = (int(n) for n in volume.spatial_shape)
    affine = np.asarray(volume.affine, np.float64)
    return _Grid(affine=affine, shape=(depth, height, width), volume=volume, paths=tuple(paths))


def _ct_files(ct: str | os.PathLike[str]) -> list[list[Path]]:
    """Return the files of the one CT volume in a folder, or of that which ``FOLDER:N`` names, then of its regions."""
    folder, chosen = Path(ct), None
    match = re.fullmatch(r"(.+):(\d+)", os.fspath(ct))
    if match is not None and not folder.exists():
        folder, chosen = Path(match.group(1)), int(match.group(2))
    if not folder.is_dir():
        raise CollectionNotFoundError(f"no folder {folder}.")
    rows = read_index(folder.resolve(), cache=False).instances
    rows = rows[rows["modality"] == "CT"]
    volumes = [part for _, series in rows.groupby("series_uid") for part in split_series(series)]
    if not volumes:
        raise CollectionNotFoundError(f"no CT in {folder}.")
    if chosen is None and len(volumes) > 1:
        raise UsageError(
            f"{folder} holds {len(volumes)} CT volumes; name one: {folder}:0 to {folder}:{len(volumes) - 1} "
            "('hcc-tace phases' shows which is which)."
        )
    if chosen is not None and chosen >= len(volumes):
        raise UsageError(f"{folder} holds {count(len(volumes), 'CT volume')}, counted from 0; there is no {chosen}.")
    regions = regions_of(volumes[chosen or 0])
    parts = [volumes[chosen or 0], *(regions if len(regions) > 1 else ())]
    return [[folder / name for name in part["path"]] for part in parts]


def _bring_phase(grid: _Grid, phase: str | os.PathLike[str], moving: _Grid) -> _Brought:
    """Register a phase onto the CT, and resample it."""
    found = register(grid.volume, moving.volume)
    if not found.plausible:
        raise RegistrationError(f"{phase}: its registration onto the CT is implausible: {found.reason}.")
    resampled, _ = resample(moving.volume, like=grid.volume, registration=found)
    return _Brought(resampled=resampled, registration=found)


def _onto(mask: _Mask, file: LabelFile, grid: _Grid, others: list[tuple[_Grid, npt.NDArray[np.float64]]]) -> _Mask:
    """Return a reader's mask on the grid: voxel by voxel where it was drawn on it, else through a registration."""
    how = align(file.affine, file.shape, grid.affine, grid.shape)
    if how is not None and how.overlap() > 0:
        moved, lost = move_mask(mask, how)
        if lost:
            raise FusionError(
                f"{file.path}: {lost} of its slices with labels lie outside the grid; which CT was it on?"
            )
        return moved
    for other, matrix in others:
        if align(file.affine, file.shape, other.affine, other.shape) is not None:
            return through(mask, file.affine, grid.affine, grid.shape, matrix)
    raise FusionError(
        f"{file.path} lies on another grid than the CT or the first reader. Give the CT phase it was drawn on "
        "(--phase)."
    )


def _numbers(keys: Sequence[str], catalog: Catalog) -> dict[str, int]:
    """Return label -> its number in the result: the catalogue's, the number itself, or the next one free."""
    known = catalog.vocabulary.numbers
    if not keys:
        raise FusionError("no reader drew any label; there is nothing to fuse.")
    numbers = {key: known.get(key, int(key) if key.isascii() and key.isdigit() else 0) for key in dict.fromkeys(keys)}
    free = max([*numbers.values(), *known.values()]) + 1
    for key in sorted(key for key, number in numbers.items() if not number):
        numbers[key], free = free, free + 1
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _say_no(
    drawn: list[dict[str, _Mask]], files: list[LabelFile], numbers: dict[str, int]
) -> list[dict[int, npt.ArrayLike]]:
    """Return number -> mask of each reader; bare label maps say no to labels that only others show."""
    shape = next(mask.shape for reader in drawn for mask in reader.values())
    result: list[dict[int, npt.ArrayLike]] = []
    for reader, file in zip(drawn, files, strict=True):
        masks: dict[int, npt.ArrayLike] = {numbers[key]: mask for key, mask in reader.items()}
        if not file.says_all:
            for number in numbers.values():
                masks.setdefault(number, np.zeros(shape, bool))
        result.append(masks)
    return result


def _voted(masks: list[dict[int, npt.ArrayLike]], numbers: dict[str, int], method: str) -> npt.NDArray[Any]:
    """Return the label map of a vote; where labels overlap, as :func:`vote` says, by the number of votes."""
    if any(set(reader) != set(numbers.values()) for reader in masks):
        raise FusionError(f"{method} counts votes, but some readers did not look for every label; use staple.")
    maps = []
    for reader in masks:
        label_map = np.zeros(np.shape(next(iter(reader.values()))), np.int32)
        for number in sorted(reader, reverse=True):  # of overlapping labels of one reader the first one counts
            label_map[np.asarray(reader[number], bool)] = number
        maps.append(label_map)
    voted: npt.NDArray[Any] = vote(maps, method=method, labels=list(numbers.values()))  # type: ignore[arg-type]
    return voted
