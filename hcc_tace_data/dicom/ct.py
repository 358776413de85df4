"""Reading a CT series, or one phase of it, as a volume in HU."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Protocol, overload, runtime_checkable

import highdicom
import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.folder import scan_files
from hcc_tace_data.dicom.geometry import (
    base_step,
    check_shear,
    drift,
    even_step,
    filled_places,
    make_affine,
    pixel_spacing,
    place_bound,
    size_groups,
    slice_axes,
)
from hcc_tace_data.dicom.headers import HeaderReader
from hcc_tace_data.dicom.pixels import read_slices
from hcc_tace_data.dicom.rescale import hu_doubt
from hcc_tace_data.dicom.tolerance import SHARE
from hcc_tace_data.errors import (
    DicomReadError,
    DuplicatePositionError,
    GapError,
    NotAVolumeError,
    NotDicomError,
    TiltError,
    UsageError,
)
from hcc_tace_data.system.claims import refuse_claim
from hcc_tace_data.system.words import count

__all__ = ["CTVolume", "read_ct"]

logger = logging.getLogger(__name__)

_AIR = -1024
_NO_DICOM = "not a DICOM file"
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
Rows = list[dict[str, Any]]


@runtime_checkable
class HasPaths(Protocol):
    """Something that lists its files, such as a series."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Absolute paths of the files."""


class CTVolume(highdicom.Volume):
    """A volume of HU with a note of how it was made; what highdicom derives from it does not keep the note.

    Attributes
    ----------
    positions : tuple of float
        Where the slices read lie along the normal, mm (before any filling).
    left_out : dict of str to str
        Files that are not part of the volume -> why.
    sop_uids : tuple of str
        The slices read, along +normal.
    """

    positions: tuple[float, ...] = ()
    left_out: dict[str, str] = {}  # noqa: RUF012  (replaced, never changed)
    sop_uids: tuple[str, ...] = ()

    def __repr__(self) -> str:
        depth, height, width = self.spatial_shape
        spacing = " x ".join(f"{step:.4g}" for step in self.spacing)
        values = f"{self.array.min():g} to {self.array.max():g} HU" if self.array.size else "empty"
        more = f"; {len(self.left_out)} left out" if self.left_out else ""
        return f"<CTVolume: {depth} x {height} x {width} {self.array.dtype}, {spacing} mm, {values}{more}>"

    def _repr_html_(self) -> str:
        """Return a table of shape, voxels, values and files left out, for notebooks."""
        depth, height, width = self.spatial_shape
        rows = {
            "Slices, rows, columns": f"{depth} x {height} x {width}",
            "Voxel, mm": " x ".join(f"{step:.4g}" for step in self.spacing),
            "Values": f"{self.array.min():g} to {self.array.max():g} HU" if self.array.size else "none",
            "Type": str(self.array.dtype),
            "Left out": count(len(self.left_out), "file"),
        }
        body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
        return f"<table><caption>CTVolume</caption>{body}</table>"


#: A folder, files, or something that lists its files.
Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | HasPaths


@overload
def read_ct(
    source: Source,
    *,
    dtype: Literal["int16", "float32"] = "int16",
    on_gap: Literal["raise", "fill", "keep"] = "raise",
    on_tilt: Literal["raise", "resample", "keep"] = "raise",
    on_duplicate: Literal["raise"] = "raise",
    out: npt.NDArray[Any] | None = None,
) -> CTVolume: ...
@overload
def read_ct(
    source: Source,
    *,
    dtype: Literal["int16", "float32"] = "int16",
    on_gap: Literal["raise", "fill", "keep"] = "raise",
    on_tilt: Literal["raise", "resample", "keep"] = "raise",
    on_duplicate: Literal["split"],
    out: None = None,
) -> list[CTVolume]: ...
def read_ct(
    source: Source,
    *,
    dtype: Literal["int16", "float32"] = "int16",
    on_gap: Literal["raise", "fill", "keep"] = "raise",
    on_tilt: Literal["raise", "resample", "keep"] = "raise",
    on_duplicate: Literal["raise", "split"] = "raise",
    out: npt.NDArray[Any] | None = None,
) -> CTVolume | list[CTVolume]:
    """Read one CT volume.

    Parameters
    ----------
    source : path-like, iterable of path-like, or an object with `paths`, such as a Series
        A folder (looked through with its sub-folders), files, or a series of a collection.
    dtype : {"int16", "float32"}
        HU that int16 cannot hold exactly raise :class:`DicomReadError`; they are never wrapped or rounded.
    on_gap : {"raise", "fill", "keep"}
        Missing slices or uneven spacing: refuse; interpolate linearly onto the base spacing; or keep the slices as
        they are, with their true places in ``positions``. The base spacing, which the affine then has, is that of
        :func:`~hcc_tace_data.dicom.tolerance.base_step`.
    on_tilt : {"raise", "resample", "keep"}
        Sheared slices: refuse; shift each in its plane onto the first slice's grid (linear, -1024 HU outside); or
        keep them, with an affine that is right for the first slice only.
    on_duplicate : {"raise", "split"}
        Several slices at one position: refuse; or return a list of volumes, split by AcquisitionNumber if that
        separates them, else by order of InstanceNumber at each position.
    out : ndarray, optional
        C-contiguous array of the result's shape and type to read into; only where nothing is filled.

    Returns
    -------
    CTVolume or list of CTVolume
        Array (D, H, W) ordered along +normal; affine index (d, h, w) -> LPS mm. With ``on_duplicate="split"``
        always a list. Padding keeps its stored value, rescaled like any other pixel.

    Raises
    ------
    NotAVolumeError
        No CT slices, several series, several orientations.
    GapError, TiltError, DuplicatePositionError
        See above; ``positions`` are those in question.
    DicomReadError
        A file is damaged.
    """
    for name, value, allowed in (
        ("dtype", str(np.dtype(dtype)), ("int16", "float32")),
        ("on_gap", on_gap, ("raise", "fill", "keep")),
        ("on_tilt", on_tilt, ("raise", "resample", "keep")),
        ("on_duplicate", on_duplicate, ("raise", "split")),
    ):
        if value not in allowed:
            raise UsageError(f"{name}={value!r}: choose one of {', '.join(allowed)}.")
    headers, foreign = _headers(source)
    rows, left_out = _select(headers)
    left_out = foreign | left_out
    for path, reason in left_out.items():
        # a slice may be missing for it
        lost = reason.endswith("foreign size") or reason == _NO_DICOM
        logger.log(logging.WARNING if lost else logging.INFO, "%s left out: %s", path, reason)
    for row in rows:
        if row["unread_values"]:
            logger.warning(
                "%s: values that cannot be understood count as absent: %s", row["path"], row["unread_values"]
            )
    doubts = {hu_doubt(row): row["path"] for row in reversed(rows)}
    for doubt, path in doubts.items():
        if doubt:
            logger.warning("%s: %s; its values are taken for HU", path, doubt)
    groups = _groups(rows, split=on_duplicate == "split")
    if on_duplicate == "split":
        if out is not None:
            raise UsageError("out= takes one volume; it does not go with on_duplicate='split'.")
        return [_assemble(group, left_out, dtype, on_gap, on_tilt, None) for group in groups]
    return _assemble(groups[0], left_out, dtype, on_gap, on_tilt, out)


def _headers(source: Any) -> tuple[Rows, dict[str, str]]:
    """Read the headers; in a folder, files of another kind are left out, as nobody named them."""
    reader = HeaderReader()
    if isinstance(source, HasPaths):
        return [reader.read(str(path)) for path in source.paths], {}
    if not (isinstance(source, (str, os.PathLike)) and Path(source).is_dir()):
        paths: Iterable[Any] = [source] if isinstance(source, (str, os.PathLike)) else source
        return [reader.read(os.fspath(path)) for path in paths], {}
    files, failures = scan_files(Path(source))
    if failures:
        raise DicomReadError(f"{source}: {failures[0][0]}: {failures[0][1]}. Read a list of files instead.")
    rows: Rows = []
    left_out: dict[str, str] = {}
    for name in sorted(files):
        path = str(Path(source) / name)
        try:
            rows.append(reader.read(path))
        except NotDicomError:
            left_out[path] = _NO_DICOM
    return rows, left_out


def _select(rows: Rows) -> tuple[Rows, dict[str, str]]:
    """Keep the slices of the one CT series; say why others are left out."""
    left_out: dict[str, str] = {}
    kept: Rows = []
    for row in rows:
        kinds = row["image_type"].upper().split("\\")
        if row["modality"] != "CT":
            reason = f"modality {row['modality'] or 'unknown'}"
        elif "LOCALIZER" in kinds or "SCOUT" in kinds:
            reason = "localizer"
        elif row["sop_class_uid"].startswith("1.2.840.10008.5.1.4.1.1.7"):
            reason = "secondary capture"
        elif (row["number_of_frames"] or 1) > 1 or (row["samples_per_pixel"] or 1) != 1:
            reason = "several frames or colours"
        elif None in (
            row["rows"],
            row["columns"],
            row["bits_allocated"],
            row["bits_stored"],
            row["pixel_representation"],
        ):
            if row["sop_class_uid"] == _CT_IMAGE:
                raise DicomReadError(
                    f"{row['path']} is a CT image without size or pixel format: it was cut short. Fetch it again."
                )
            reason = "no image"
        else:
            kept.append(row)
            continue
        left_out[row["path"]] = reason
    series = Counter(row["series_uid"] for row in kept)
    if not series:
        raise NotAVolumeError(
            f"No CT slices among {count(len(rows), 'file')}. Left out: {sorted(set(left_out.values()))}."
        )
    if len(series) > 1:
        names = ", ".join(f"{uid} ({count(held, 'file')})" for uid, held in series.items())
        raise NotAVolumeError(f"These are {len(series)} series, not one: {names}. Read each alone.")
    patients = {(row["patient_id"], row["study_uid"]) for row in kept}
    if len(patients) > 1:
        raise NotAVolumeError(
            f"Series {kept[0]['series_uid']} holds slices of {len(patients)} patients or studies; sort them out first."
        )
    groups = size_groups(kept)
    (common, most), *others = Counter(groups.tolist()).most_common()
    if others and others[0][1] == most:
        sizes = {_size_text(kept[groups.tolist().index(number)]) for number in range(len(others) + 1)}
        raise NotAVolumeError(f"Slices of several sizes in equal number: {sorted(sizes)}; read each size alone.")
    for row, group in zip(kept, groups.tolist(), strict=True):
        if group != common:
            left_out[row["path"]] = f"{_size_text(row)}: foreign size"
    kept = [row for row in kept if row["path"] not in left_out]
    if not (min(pixel_spacing(kept)) > 0 and kept[0]["rows"] > 0 and kept[0]["columns"] > 0):
        raise NotAVolumeError(f"{kept[0]['path']} has no usable PixelSpacing or size; its voxels have no place.")
    if len({row["frame_of_reference_uid"] for row in kept}) > 1:
        raise NotAVolumeError(f"Series {kept[0]['series_uid']} mixes several frames of reference.")
    return kept, left_out


def _size_text(row: dict[str, Any]) -> str:
    return f"{row['rows']} x {row['columns']} pixels of {row['spacing_row']:g} mm"


def _groups(rows: Rows, *, split: bool) -> list[Rows]:
    """Sort along the normal; find or separate slices at one position."""
    _, _, normal, position = slice_axes(rows)
    along = position @ normal
    order = np.argsort(along, kind="stable")
    rows, along = [rows[i] for i in order], along[order]
    apart = np.diff(along) > place_bound(rows)
    same = np.flatnonzero(~apart)
    if not len(same):
        return [rows]
    if not split:
        raise DuplicatePositionError(
            f"{count(len(same), 'slice')} of series {rows[0]['series_uid']} at the place of another, first at "
            f"{along[same[0]]:.2f} mm. on_duplicate='split' gives a list of volumes.",
            positions=along[same],
        )
    place = np.concatenate([[0], np.cumsum(apart)])
    by_number: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        by_number.setdefault(row["acquisition_number"], []).append(i)
    if len(by_number) > 1 and all(len({place[i] for i in group}) == len(group) for group in by_number.values()):
        keys = sorted(by_number, key=lambda key: (key is None, key or 0))
        return [[rows[i] for i in by_number[key]] for key in keys]
    counts = np.bincount(place)
    if counts.min() != counts.max() or any(row["instance_number"] is None for row in rows):
        raise DuplicatePositionError(
            f"Series {rows[0]['series_uid']} has from {counts.min()} to {count(int(counts.max()), 'slice')} at a "
            "position, and neither AcquisitionNumber nor InstanceNumber separates them; pass the files of one volume.",
            positions=along[same],
        )
    volumes: list[Rows] = [[] for _ in range(int(counts[0]))]
    for spot in range(len(counts)):
        here = sorted((rows[i] for i in np.flatnonzero(place == spot)), key=lambda row: row["instance_number"])
        for volume, row in zip(volumes, here, strict=True):
            volume.append(row)
    return volumes


def _assemble(
    rows: Rows, left_out: dict[str, str], dtype: str, on_gap: str, on_tilt: str, out: npt.NDArray[Any] | None
) -> CTVolume:
    """Read sorted slices into a volume."""
    across, down, normal, position = slice_axes(rows)
    along = position @ normal
    sheared = False
    if len(rows) > 1:
        try:
            check_shear(position, normal, 2 * place_bound(rows))
        except TiltError:
            if on_tilt == "raise":
                raise
            sheared = on_tilt == "resample"
    step = even_step(along)
    base = base_step(along) if len(rows) > 1 else _thickness(rows[0])
    if step is None and len(rows) > 1 and on_gap == "raise":
        gaps = np.flatnonzero(np.abs(np.diff(along) - base) > 2 * SHARE * base)
        uneven = ", ".join(
            f"{along[i + 1] - along[i]:.2f} mm from {along[i]:.2f} to {along[i + 1]:.2f}" for i in gaps[:5]
        )
        raise GapError(
            f"Series {rows[0]['series_uid']}: slices {base:.2f} mm apart, but {uneven}. on_gap='fill' "
            "interpolates, 'keep' leaves the slices as they are.",
            positions=[p for i in gaps for p in (along[i], along[i + 1])],
        )
    shape = (len(rows), int(rows[0]["rows"]), int(rows[0]["columns"]))
    fill = step is None and len(rows) > 1 and on_gap == "fill"
    if out is not None and (fill or out.shape != shape or out.dtype != np.dtype(dtype) or not out.flags.c_contiguous):
        raise UsageError(f"out= must be a C-contiguous {dtype} array of shape {shape}, and nothing may need filling.")
    for row in rows:  # sizes may lie: check before any memory is taken
        if row["pixel_offset"] >= 0 and row["pixel_length"] < shape[1] * shape[2] * row["bits_allocated"] // 8:
            raise DicomReadError(f"{row['path']} claims {shape[1:]} pixels but holds {row['pixel_length']} bytes.")
    packed = [row for row in rows if row["pixel_offset"] < 0]
    refuse_claim(
        packed[0]["path"] if packed else "",
        len(packed) * shape[1] * shape[2] * np.dtype(dtype).itemsize,
        sum(int(row["size"]) for row in packed),
        DicomReadError,
    )
    array = np.empty(shape, dtype=dtype) if out is None else out
    read_slices(rows, array)
    spacing = (step or base, *pixel_spacing(rows))
    if sheared:
        _straighten(array, drift(position, normal) @ np.stack([down, across], axis=1), spacing[1:])
    if fill:
        array = _fill(array, along, base)
    affine = make_affine(position[0], (normal, down, across), spacing)
    volume = CTVolume(array, affine, "PATIENT", frame_of_reference_uid=rows[0]["frame_of_reference_uid"] or None)
    volume.positions = tuple(float(p) for p in along)
    volume.left_out = dict(left_out)
    volume.sop_uids = tuple(str(row["sop_uid"]) for row in rows)
    return volume


def _thickness(row: dict[str, Any]) -> float:
    """Return the depth of a lone slice in mm: its thickness, else 1."""
    return float(row["slice_thickness"]) if row["slice_thickness"] > 0 else 1.0


def _straighten(array: npt.NDArray[Any], shift: npt.NDArray[np.float64], spacing: tuple[float, ...]) -> None:
    """Move each slice by its own drift (N, 2: down, across; mm), in place."""
    from scipy import ndimage  # noqa: PLC0415 - slow to import

    for plane, move in zip(array, shift / np.asarray(spacing), strict=True):
        moved = ndimage.shift(plane.astype(np.float32), move, order=1, cval=_AIR)
        plane[...] = np.rint(moved) if plane.dtype.kind == "i" else moved


def _fill(array: npt.NDArray[Any], along: npt.NDArray[np.float64], step: float) -> npt.NDArray[Any]:
    """Interpolate slices linearly onto even positions."""
    places = filled_places(along, step)
    filled = np.empty((len(places), *array.shape[1:]), dtype=array.dtype)
    for i, target in enumerate(places):
        upper = min(max(int(np.searchsorted(along, target)), 1), len(along) - 1)
        part = np.clip((target - along[upper - 1]) / (along[upper] - along[upper - 1]), 0, 1)
        nearest = upper - 1 if part < 0.5 else upper
        if abs(target - along[nearest]) <= SHARE * step:
            filled[i] = array[nearest]
            continue
        mixed = array[upper - 1] * np.float32(1 - part) + array[upper] * np.float32(part)
        filled[i] = np.rint(mixed) if array.dtype.kind == "i" else mixed
    return filled
