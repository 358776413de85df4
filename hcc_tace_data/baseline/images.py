"""Volumes to predict on: a patient's CT, a folder of DICOM, a NIfTI file; any grid in, the same grid out.

The networks see axial slices, feet to head, rows to the back, columns to the left, with pixels of about the size that
they were trained on. A volume on another grid is turned (axes swapped or flipped, which loses nothing) or, when it is
oblique or its pixels are of another size, resampled; the label map goes back the same way. A 3D network also minds how
far apart slices are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import BaselineError, UsageError
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.nifti import check_nifti_claims, patient_affine

if TYPE_CHECKING:
    from hcc_tace_data.dicom.ct import CTVolume

__all__ = ["InputVolume", "Upright", "read_dicom", "read_nifti", "read_phases", "stand_upright"]

logger = logging.getLogger(__name__)

_FLIP_XY = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS <-> LPS
#: Pixels that differ from those of the training by less than this factor are left as they are.
PIXEL_FACTOR = 1.5
#: Cosine of the angle up to which an axis counts as one of the body's.
_ALONG = 0.999


@dataclass(frozen=True, slots=True, kw_only=True)
class InputVolume:
    """A volume as it came.

    Attributes
    ----------
    name : str
        For messages and file names.
    array : ndarray, shape (D, H, W) or (C, D, H, W)
        HU.
    affine : ndarray of float64, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    sources : tuple of pathlib.Path
        Its DICOM files; empty for NIfTI.
    """

    name: str
    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    sources: tuple[Path, ...] = ()

    @property
    def channels(self) -> npt.NDArray[Any]:
        """The array as (C, D, H, W)."""
        return self.array if self.array.ndim == 4 else self.array[None]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along (D, H, W)."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return d, h, w


@dataclass(frozen=True, slots=True, kw_only=True)
class Upright:
    """A volume as the networks see it, and the way back.

    Attributes
    ----------
    array : ndarray, shape (C, D, H, W)
    affine : ndarray of float64, shape (4, 4)
    resampled : bool
        Whether values were interpolated.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    resampled: bool
    _source: InputVolume = field(repr=False)
    _axes: tuple[int, ...] = ()
    _flips: tuple[int, ...] = ()

    def back(self, label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a label map (D, H, W) on the grid of the volume as it came."""
        if self.resampled:
            shape = self._source.channels.shape[1:]
            return _resample(label, self.affine, shape, self._source.affine, nearest=True, outside=0).astype(np.uint8)
        return np.ascontiguousarray(_turn_back(label, self._axes, self._flips))

    def forth(self, label: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring a label map or mask on the volume's own grid to this one."""
        if self.resampled:
            moved = _resample(label, self._source.affine, self.array.shape[1:], self.affine, nearest=True, outside=0)
            return moved.astype(label.dtype)
        return np.ascontiguousarray(_turn(label, self._axes, self._flips))


def read_nifti(path: str | os.PathLike[str], *, shape: tuple[int, ...] | None = None) -> InputVolume:
    """Read a NIfTI volume, turned so that slices come first: (D, H, W) or, of four dimensions, (C, D, H, W).

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``.
    shape : tuple of int, optional
        The (D, H, W) that the volume must have; another is refused before any voxel is read.

    Raises
    ------
    BaselineError
        No such file, not NIfTI, not three or four dimensions, too large, or without a place in the patient.
    """
    import nibabel  # noqa: PLC0415 - slow to import

    place = Path(path)
    name = place.name.removesuffix(".gz").removesuffix(".nii")
    try:
        image: Any = nibabel.load(place)
        check_nifti_claims(place, image, BaselineError)
        if shape is not None and tuple(image.shape) != tuple(reversed(shape)):
            raise BaselineError(
                f"{place} has the shape {tuple(reversed(image.shape))}, not {tuple(shape)}: another grid; resample it "
                "to the nearest neighbour first."
            )
        values = np.asanyarray(image.dataobj)
    except BaselineError:
        raise
    except FileNotFoundError:
        raise BaselineError(f"no file at {place}.") from None
    except Exception as error:  # nibabel raises ImageFileError, OSError, EOFError, zlib.error ... for a broken file
        raise BaselineError(f"{place} cannot be read as NIfTI ({type(error).__name__}: {error}).") from error
    if values.ndim not in (3, 4):
        raise BaselineError(f"{place} has {count(values.ndim, 'dimension')}; a volume has three, one with phases four.")
    if values.dtype.kind not in "iuf":
        raise BaselineError(f"{place} holds {values.dtype}, which are not HU; a CT has one number per voxel.")
    order = (2, 1, 0) if values.ndim == 3 else (3, 2, 1, 0)
    affine = _FLIP_XY @ patient_affine(place, image, BaselineError)[:, [2, 1, 0, 3]]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise BaselineError(f"{place}: its affine maps voxels to no place: {affine.tolist()}.")
    if not np.isfinite(values).all():
        raise BaselineError(f"{place} holds values that are not numbers.")
    return InputVolume(name=name, array=values.transpose(order), affine=affine)


def read_dicom(source: str | os.PathLike[str] | Sequence[Path], name: str | None = None) -> InputVolume:
    """Read the one CT volume of a folder of DICOM files, or of a list of them.

    Raises
    ------
    GeometryError
        The files do not make a volume.
    """
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    if isinstance(source, (str, os.PathLike)):
        return _of_folder(read_ct(source, on_gap="fill"), Path(source), name)
    files = tuple(source)
    return _input_of(read_ct(list(files), on_gap="fill"), name or "volume", files)


def _of_folder(volume: CTVolume, folder: Path, name: str | None = None) -> InputVolume:
    files = tuple(sorted(path for path in folder.rglob("*") if path.is_file() and _is_dicom(path)))
    return _input_of(volume, name or folder.resolve().name, files)


def _input_of(volume: CTVolume, name: str, files: tuple[Path, ...]) -> InputVolume:
    affine = np.asarray(volume.affine, dtype=np.float64)
    return InputVolume(name=name, array=np.asarray(volume.array), affine=affine, sources=files)


def read_phases(source: Path, others: Mapping[str, Path], phases: Sequence[str]) -> InputVolume:
    """Read one CT volume and further phases of the same study, registered and resampled onto it.

    Found as in training, but judged by the whole body, for no liver is known.

    Parameters
    ----------
    source : pathlib.Path
        Folder of the DICOM files of the volume whose grid the result has: of the phase that `others` does not name.
    others : mapping of str to pathlib.Path
        Phase -> folder of the DICOM files of its volume.
    phases : sequence of str
        What the channels are to be, in order.

    Returns
    -------
    InputVolume
        (C, D, H, W).

    Raises
    ------
    UsageError
        `others` does not name all phases but one, or a phase that is not asked for.
    BaselineError
        Another study, or a phase that cannot be registered.
    GeometryError
        Files that do not make a volume.
    """
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.volumes.registration import register, resample  # noqa: PLC0415 - its libraries are slow to import

    own = [phase for phase in phases if phase not in others]
    if len(own) != 1 or len(others) != len(phases) - 1:
        raise UsageError(
            f"the networks see {', '.join(phases)}; give folders of all of them but one, which is {source}, and of no "
            f"others (given: {', '.join(others) or 'none'})."
        )
    fixed = read_ct(source, on_gap="fill")
    volume = _of_folder(fixed, source)
    channels: list[npt.NDArray[Any]] = []
    for phase in phases:
        if phase in own:
            channels.append(volume.array)
            continue
        folder = others[phase]
        if _study_of(folder) != _study_of(source):
            raise BaselineError(f"{folder} is of another patient or study than {source}; phases belong to one study.")
        moving = read_ct(folder, on_gap="fill", on_tilt="resample")
        found = register(fixed, moving)
        if not found.plausible:
            raise BaselineError(f"{folder} cannot be registered onto {source}: {found.reason}.")
        if found.doubts:
            logger.warning("%s, registered onto %s, is doubtful: %s", folder, source, "; ".join(found.doubts))
        channels.append(resample(moving, like=fixed, registration=found)[0])
    return replace(volume, array=np.stack(channels))


def _study_of(folder: Path) -> tuple[str, str]:
    """Return PatientID and StudyInstanceUID of the first DICOM file of a folder."""
    from hcc_tace_data.dicom.headers import HeaderReader  # noqa: PLC0415 - its libraries are slow to import

    if not folder.is_dir():
        raise BaselineError(f"{folder} is not a folder of DICOM files.")
    first = next((path for path in sorted(folder.rglob("*")) if path.is_file() and _is_dicom(path)), None)
    if first is None:
        raise BaselineError(f"{folder} holds no DICOM file.")
    row = HeaderReader().read(str(first))
    return row["patient_id"], row["study_uid"]


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def stand_upright(volume: InputVolume, pixel_mm: float | None = None, slice_mm: float | None = None) -> Upright:
    """Turn or resample a volume to what the networks were trained on.

    Parameters
    ----------
    volume : InputVolume
    pixel_mm : float, optional
        Pixel size of the training. Pixels of about that size are left as they are.
    slice_mm : float, optional
        Distance of the slices of the training, of a 3D network; alike. Default the volume's own.
    """
    axes, flips, straight = _orientation(volume.affine)
    steps = [volume.spacing[axis] for axis in axes]
    wanted = (slice_mm, pixel_mm, pixel_mm)
    fits = [
        size is None or 1 / PIXEL_FACTOR <= step / size <= PIXEL_FACTOR
        for step, size in zip(steps, wanted, strict=True)
    ]
    if straight and all(fits):
        array = np.stack([_turn(channel, axes, flips) for channel in volume.channels])
        affine = _turned_affine(volume.affine, volume.channels.shape[1:], axes, flips)
        return Upright(array=array, affine=affine, resampled=False, _source=volume, _axes=axes, _flips=flips)
    # what fits stays as it is, unless every axis must be interpolated anyway
    kept = [size is None or (straight and fit) for size, fit in zip(wanted, fits, strict=True)]
    spacing = np.array([step if keep else size for step, size, keep in zip(steps, wanted, kept, strict=True)])
    shape, affine = _bounding_grid(volume, spacing)
    outside = float(min(-1024.0, volume.channels.min()))
    array = np.stack(
        [_resample(c, volume.affine, shape, affine, nearest=False, outside=outside) for c in volume.channels]
    )
    return Upright(array=array, affine=affine, resampled=True, _source=volume)


def _orientation(affine: npt.NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Return which axis lies along z, y and x, which of them run backwards, and whether they lie exactly."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    best: tuple[float, tuple[int, ...]] = (-1.0, (0, 1, 2))
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        # body axes z, y, x in the rows 2, 1, 0 of an LPS affine
        total = sum(abs(directions[row, axis]) for row, axis in zip((2, 1, 0), order, strict=True))
        best = max(best, (float(total), order))
    axes = best[1]
    cosines = [directions[row, axis] for row, axis in zip((2, 1, 0), axes, strict=True)]
    flips = tuple(place for place, cosine in enumerate(cosines) if cosine < 0)
    return axes, flips, all(abs(cosine) >= _ALONG for cosine in cosines)


def _turn(array: npt.NDArray[Any], axes: tuple[int, ...], flips: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.flip(array.transpose(axes), flips) if flips else array.transpose(axes)


def _turn_back(array: npt.NDArray[Any], axes: tuple[int, ...], flips: tuple[int, ...]) -> npt.NDArray[Any]:
    return (np.flip(array, flips) if flips else array).transpose(np.argsort(axes))


def _turned_affine(
    affine: npt.NDArray[np.float64], shape: tuple[int, ...], axes: tuple[int, ...], flips: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    result = affine[:, [*axes, 3]].copy()
    for place in flips:
        result[:3, 3] += result[:3, place] * (shape[axes[place]] - 1)
        result[:3, place] *= -1
    return result


def _bounding_grid(
    volume: InputVolume, spacing: npt.NDArray[np.float64]
) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """Return shape and affine of the upright grid that holds all voxel centres."""
    last = np.array(volume.channels.shape[1:]) - 1
    corners = np.array([[d, h, w, 1] for d in (0, last[0]) for h in (0, last[1]) for w in (0, last[2])], dtype=float)
    places = (corners @ volume.affine.T)[:, :3]
    low, high = places.min(axis=0), places.max(axis=0)
    d, h, w = (np.floor((high - low)[::-1] / spacing + 1e-6).astype(int) + 1).tolist()
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = spacing
    affine[:3, 3], affine[3, 3] = low, 1
    return (d, h, w), affine


def _resample(
    array: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    target: npt.NDArray[np.float64],
    *,
    nearest: bool,
    outside: float,
) -> npt.NDArray[Any]:
    """Bring an array (D, H, W) onto another grid."""
    from scipy.ndimage import affine_transform  # noqa: PLC0415 - slow to import

    way = np.linalg.inv(affine) @ target
    result: npt.NDArray[Any] = affine_transform(
        array if nearest else np.asarray(array, dtype=np.float32),
        way[:3, :3],
        offset=way[:3, 3],
        output_shape=shape,
        order=0 if nearest else 1,
        mode="constant" if nearest else "nearest",
        cval=outside,
    )
    if not nearest:
        # values beyond the volume are not image: blank what lies more than half a voxel outside
        inside = affine_transform(
            np.ones(array.shape, dtype=np.uint8), way[:3, :3], offset=way[:3, 3], output_shape=shape, order=0, cval=0
        )
        result[inside == 0] = outside
    return result
