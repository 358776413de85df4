"""One array as a NIfTI file, in its place in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.system.files import atomic_path

__all__ = ["write_nifti"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
