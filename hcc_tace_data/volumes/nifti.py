"""Arrays as NIfTI, placed in the patient: the one place that writes the format."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.system.boundary import foreign_errors
from hcc_tace_data.system.claims import refuse_claim
from hcc_tace_data.system.files import atomic_path

__all__ = ["SAVE_IN_PLACE", "check_nifti_claims", "nifti_bytes", "nifti_image", "patient_affine", "write_nifti"]

SAVE_IN_PLACE = "Save it with its place in the scanner's space."
#: sform and qform agree if no voxel moves by more than this part of one: a quaternion has single precision.
_SAME_PLACE = 0.1

#: Bytes that one byte of a gzip stream can stand for, at most.
_MOST_PACKED = 1100

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti_image(array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> Any:
    """Return an array as a ``nibabel.Nifti1Image``.

    Parameters
    ----------
    array : ndarray, shape (D, H, W) or (C, D, H, W)
        Of several channels NIfTI's fourth axis holds the channels.
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm. NIfTI gets index (w, h, d) -> RAS mm, as sform and qform.
    """
    import nibabel

    image: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]  # nibabel has no types for it
        array.transpose(), _LPS_TO_RAS @ affine[:, [2, 1, 0, 3]]
    )
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code=1)
    image.set_qform(image.affine, code=1)
    return image


def nifti_bytes(array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> bytes:
    """Return an array as the bytes of an uncompressed NIfTI file; see :func:`nifti_image`."""
    return bytes(nifti_image(array, affine).to_bytes())


def write_nifti(path: Path, array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """Write one array as NIfTI.

    Parameters
    ----------
    path : pathlib.Path
        ``.nii`` or ``.nii.gz``; it appears under its name only once it is complete.
    array : ndarray, shape (D, H, W)
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm. NIfTI gets index (w, h, d) -> RAS mm, as sform and qform.
    """
    import nibabel

    image = nifti_image(array, affine)
    with atomic_path(path) as temporary:
        nibabel.save(image, temporary)


def check_nifti_claims(path: Path, image: Any, error: type[HccTaceError]) -> int:
    """Return the bytes of memory that the voxels of a NIfTI file take; refuse one that claims what it cannot hold.

    To be called before the voxels are read.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    image : nibabel image
        Opened; its voxels are not read.
    error : type
        What is raised.
    """
    voxels, kind, size = math.prod(image.shape), np.dtype(image.get_data_dtype()), path.stat().st_size
    stored = kind.itemsize * voxels
    if stored > (_MOST_PACKED if path.name.endswith(".gz") else 1) * (size + 4096):
        raise error(f"{path} claims {stored:,} bytes of voxels, more than it can hold; fetch it again.")
    # the header of an opened image says nothing of its scale: the library has moved it to the voxels
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    needed = voxels * max(kind.itemsize, 8 if scaled else 0)  # the library scales to float64
    refuse_claim(path, needed, size, error)
    return int(needed)


def patient_affine(file: Path, image: Any, error: type[HccTaceError]) -> npt.NDArray[np.float64]:
    """Return the affine of a NIfTI file, index (w, h, d) -> the patient's RAS mm.

    Of sform and qform that disagree, the one of the scanner's space (code 1) is the patient's. A space aligned to
    something else (code 2) is taken only where there is no other, as nibabel writes it; that of an atlas (3 and above)
    never is.

    Parameters
    ----------
    file : pathlib.Path
        For messages.
    image : nibabel image
        Opened.
    error : type
        What is raised.
    """
    with foreign_errors(file, error, "has no usable sform or qform", hint=SAVE_IN_PLACE):
        forms = [image.header.get_sform(coded=True), image.header.get_qform(coded=True)]
        scale = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    known = [(int(code), np.asarray(matrix, dtype=np.float64)) for matrix, code in forms if int(code) in (1, 2)]
    if not known:
        raise error(
            f"{file} does not say where it is in the patient (sform and qform are unset or of an atlas). "
            f"{SAVE_IN_PLACE}"
        )
    code, matrix = min(known, key=lambda one: one[0])
    corners = np.array([[w, h, d, 1] for w, h, d in np.ndindex(2, 2, 2)], dtype=np.float64).T
    corners[:3] *= np.array(image.shape[:3], dtype=np.float64)[:, None] - 1
    for other, another in known:
        apart = np.abs((matrix - another) @ corners).max()
        size = np.linalg.norm(matrix[:3, :3], axis=0).min()
        if other == code and not apart <= _SAME_PLACE * size:
            raise error(
                f"{file}: sform and qform, both of code {code}, place voxels {apart:.2f} mm apart. {SAVE_IN_PLACE}"
            )
    return np.asarray(np.diag([scale, scale, scale, 1.0]) @ matrix)
