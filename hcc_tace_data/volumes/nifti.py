"""Arrays as NIfTI, placed in the patient: the one place that writes the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.system.files import atomic_path

__all__ = ["nifti_bytes", "nifti_image", "write_nifti"]

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
