"""Label maps as NIfTI."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.system.files import atomic_write_bytes

__all__ = ["write_labels"]


def write_labels(path: Path, labels: NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    """Write a label map as gzipped NIfTI, the same bytes every time.

    Parameters
    ----------
    path : Path
        File to write.
    labels : numpy.ndarray
        uint8 (slices, rows, columns).
    affine : numpy.ndarray
        (4, 4), from the index (column, row, slice) to RAS mm, as NIfTI has it.
    """
    import nibabel

    library: Any = nibabel  # untyped
    image = library.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), affine)
    image.set_data_dtype(np.uint8)
    image.header.set_xyzt_units("mm")
    atomic_write_bytes(path, gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))
