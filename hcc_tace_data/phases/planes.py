"""A few axial slices of a volume, read by their stored pixel offsets and shrunken, for looking at enhancement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.pixels import read_slices
from hcc_tace_data.errors import NotAVolumeError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Planes", "heights", "read_planes"]

# Pixels are averaged in blocks to about this size: vessels keep several pixels, noise goes down. Larger ones stay.
_PIXEL_MM = 2.0
# direction cosines that still count as axial
_AXIAL = 0.97
_IMAGE = ("rows", "columns", "bits_allocated", "bits_stored", "pixel_representation")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planes:
    """Axial slices, columns to the patient's left and rows to the back.

    Attributes
    ----------
    hu : ndarray of float32, shape (N, H, W)
    z : ndarray of float64, shape (N,)
        Height of each slice, LPS mm.
    x, y : ndarray of float64, shape (W,) and (H,)
        Ascending centres of columns and rows, LPS mm.
    """

    hu: npt.NDArray[np.float32]
    z: Floats
    x: Floats
    y: Floats

    @property
    def pixel(self) -> float:
        """Size of a pixel, mm."""
        return float(self.x[1] - self.x[0])


def heights(rows: pd.DataFrame) -> Floats:
    """Return the height of each slice of a volume, LPS mm."""
    return rows["position_z"].to_numpy(float)


def read_planes(rows: pd.DataFrame, root: Path, places: Sequence[int]) -> Planes:
    """Read some slices of a volume.

    Parameters
    ----------
    rows : pandas.DataFrame
        The volume's rows of the instance table.
    root : pathlib.Path
        Folder their paths are relative to.
    places : sequence of int
        Which of the rows.

    Raises
    ------
    NotAVolumeError
        The slices are not axial, or differ in size.
    DicomReadError
        Pixels that cannot be read.
    OSError
        A file that cannot be opened.
    """
    chosen = rows.iloc[list(places)]
    if chosen[list(_IMAGE)].isna().any(axis=None):
        raise NotAVolumeError("some of its files have no image")
    # column by column: rows of a mixed table are slow to take
    columns = {str(name): chosen[name].tolist() for name in chosen.columns}
    columns["path"] = [str(root / path) for path in columns["path"]]
    headers: list[dict[str, Any]] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    first = headers[0]
    layout = ("rows", "columns", "spacing_row", "spacing_column", *(f"orientation_{i}" for i in range(6)))
    axes = np.array([first[f"orientation_{i}"] for i in range(6)], dtype=float)
    across, down = axes[0], axes[4]
    if not (abs(across) > _AXIAL and abs(down) > _AXIAL):
        raise NotAVolumeError("its slices are not axial")
    if any(abs(float(one[key]) - float(first[key])) > 1e-3 for one in headers for key in layout):
        raise NotAVolumeError("its slices differ in size or direction")
    if not (first["spacing_row"] > 0 and first["spacing_column"] > 0):
        raise NotAVolumeError("its slices have no pixel spacing")
    hu = np.empty((len(headers), int(first["rows"]), int(first["columns"])), np.float32)
    read_slices(headers, hu)
    x = float(first["position_x"]) + across * float(first["spacing_column"]) * np.arange(hu.shape[2])
    y = float(first["position_y"]) + down * float(first["spacing_row"]) * np.arange(hu.shape[1])
    if across < 0:
        hu, x = hu[:, :, ::-1], x[::-1]
    if down < 0:
        hu, y = hu[:, ::-1], y[::-1]
    step = max(1, round(_PIXEL_MM / float(first["spacing_column"])))
    return Planes(hu=_shrunken(hu, step), z=heights(chosen), x=_centres(x, step), y=_centres(y, step))


def _shrunken(hu: npt.NDArray[np.float32], step: int) -> npt.NDArray[np.float32]:
    """Average blocks of step x step pixels; padding below air counts as air."""
    count, height, width = hu.shape
    hu = np.maximum(hu[:, : height // step * step, : width // step * step], np.float32(-1024))
    blocks = hu.reshape(count, height // step, step, width // step, step)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _centres(axis: Floats, step: int) -> Floats:
    whole = len(axis) // step * step
    return np.asarray(axis[:whole].reshape(-1, step).mean(axis=1))
