"""Label maps as NIfTI."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.system.files import atomic_write_bytes
from hcc_tace_data.volumes.nifti import nifti_bytes

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
    # the index (slice, row, column) and LPS mm, as elsewhere in the package
    placed = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine[:, [2, 1, 0, 3]]
    data = nifti_bytes(np.ascontiguousarray(labels, dtype=np.uint8), placed)
    atomic_write_bytes(path, gzip.compress(data, compresslevel=4, mtime=0))
