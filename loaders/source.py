"""Where samples come from: a stored case, memory-mapped, or the DICOM files themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.geometry import (
    check_shear,
    even_step,
    make_affine,
    pixel_spacing,
    place_bound,
    size_groups,
    slice_axes,
)
from hcc_tace_data.dicom.headers import HeaderReader
from hcc_tace_data.dicom.pixels import read_slices
from hcc_tace_data.errors import DicomReadError, GeometryError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.sample import read_case, read_labels
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, Box, Cropped, bounds, cut
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.identity import identity_of

if TYPE_CHECKING:
    from hcc_tace_data.dicom.ct import CTVolume

__all__ = ["DicomSource", "Region", "Source", "StoredSource"]

#: Label maps that are kept, each cut to what is drawn: at most so many bytes a data set.
LABEL_BYTES = 128_000_000

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Region:
    """The arrays of a case, or of a slice or box of it.

    Attributes
    ----------
    image : ndarray of int16, shape (C, ...)
        HU.
    label : ndarray of uint8, shape (...)
        Class numbers.
    valid : ndarray of uint8, shape (C, ...), or None
        0 where a channel holds no data; None where all voxels do.
    """

    image: npt.NDArray[np.int16]
    label: npt.NDArray[np.uint8]
    valid: npt.NDArray[np.uint8] | None


class Source(Protocol):
    """What a data set needs of a case."""

    case: Case

    @property
    def shape(self) -> Shape:
        """(C, D, H, W)."""

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), index (d, h, w) -> LPS mm."""

    @property
    def liver(self) -> Box:
        """Bounds of the liver."""

    @property
    def tumour(self) -> Box:
        """Bounds of the tumour."""

    @property
    def stored(self) -> StoredCase | None:
        """The stored case, where it is one."""

    def volume(self) -> Region:
        """All of it."""

    def plane(self, d: int) -> Region:
        """Slice `d`."""

    def box(self, corner: Sequence[int], size: Sequence[int]) -> Region:
        """A box that begins at `corner`; outside the volume it is :data:`OUTSIDE_HU`, background and not valid."""


class StoredSource:
    """A case in a store. Its arrays are mapped on first use, and again in each process."""

    def __init__(self, case: Case, stored: StoredCase) -> None:
        self.case, self.stored = case, stored

    def __getstate__(self) -> dict[str, Any]:
        return {"case": self.case, "stored": self.stored}

    @property
    def shape(self) -> Shape:
        """(C, D, H, W)."""
        return self.stored.shape

    @cached_property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), index (d, h, w) -> LPS mm."""
        return np.array(self.stored.affine, dtype=np.float64)

    @property
    def liver(self) -> Box:
        """Bounds of the liver."""
        return self.stored.liver

    @property
    def tumour(self) -> Box:
        """Bounds of the tumour."""
        return self.stored.tumour

    @cached_property
    def _whole(self) -> Region:
        valid = self.stored.valid
        # as plain arrays: every slice of a memmap would build a memmap object
        return Region(
            np.asarray(self.stored.image), np.asarray(self.stored.label), None if valid is None else np.asarray(valid)
        )

    def volume(self) -> Region:
        """All of it."""
        return self._whole

    def plane(self, d: int) -> Region:
        """Slice `d`."""
        whole = self._whole
        return Region(whole.image[:, d], whole.label[d], None if whole.valid is None else whole.valid[:, d])

    def box(self, corner: Sequence[int], size: Sequence[int]) -> Region:
        """A box."""
        return _box(self._whole, corner, size)


class DicomSource:
    """A case as its DICOM files: slices are read by the offset of their pixels, volumes through the CT reader.

    Parameters
    ----------
    case : Case
        Whose only channel is the annotated CT.
    classes : mapping of int to tuple of str
        Label set.
    labels : LabelCache
        Shared by the sources of a data set.
    """

    stored = None

    def __init__(self, case: Case, classes: Mapping[int, tuple[str, ...]], labels: LabelCache) -> None:
        self.case, self.classes, self.labels = case, classes, labels

    def __getstate__(self) -> dict[str, Any]:
        # headers are read again in a worker process, in milliseconds
        kept = {"case": self.case, "classes": self.classes, "labels": self.labels}
        return kept | {name: self.__dict__[name] for name in ("bounds",) if name in self.__dict__}

    @cached_property
    def _rows(self) -> tuple[list[dict[str, Any]] | None, CTVolume]:
        """Headers in order along the normal (None where slices must be interpolated), and the grid without pixels."""
        from hcc_tace_data.dicom.ct import CTVolume, read_ct  # noqa: PLC0415 - its libraries are slow to import

        reader = HeaderReader()
        rows = []
        for path in self.case.paths:
            identity = identity_of(path.stat())
            rows.append({**reader.read(str(path)), "identity": identity})
        try:
            across, down, normal, position = slice_axes(rows)
            order = np.argsort(position @ normal, kind="stable")
            rows, position = [rows[i] for i in order], position[order]
            check_shear(position, normal, 2 * place_bound(rows))
            step = even_step(position @ normal)
        except GeometryError:
            step = None
        whole = all(row["modality"] == "CT" and row["samples_per_pixel"] == 1 for row in rows)
        if step is None or size_groups(rows).any() or not whole:
            return None, read_ct(list(self.case.paths), on_gap="fill")
        affine = make_affine(position[0], (normal, down, across), (step, *pixel_spacing(rows)))
        shape = (len(rows), int(rows[0]["rows"]), int(rows[0]["columns"]))
        empty = np.broadcast_to(np.zeros(1, dtype=np.int16), shape)
        grid = CTVolume(empty, affine, "PATIENT", frame_of_reference_uid=rows[0]["frame_of_reference_uid"] or None)
        grid.positions = tuple(float(p) for p in position @ normal)
        return rows, grid

    @property
    def shape(self) -> Shape:
        """(C, D, H, W)."""
        d, h, w = self._rows[1].array.shape
        return len(self.case.channels), int(d), int(h), int(w)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4), index (d, h, w) -> LPS mm."""
        return np.asarray(self._rows[1].affine, dtype=np.float64)

    @cached_property
    def bounds(self) -> tuple[Box, Box]:
        """Bounds of liver and tumour."""
        label, liver, tumour = read_labels(self.case, self.classes, self._rows[1])
        self.labels.put(self.case, label)
        return liver, tumour

    @property
    def liver(self) -> Box:
        """Bounds of the liver."""
        return self.bounds[0]

    @property
    def tumour(self) -> Box:
        """Bounds of the tumour."""
        return self.bounds[1]

    def _repeated(self, image: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        return np.broadcast_to(image, (len(self.case.channels), *image.shape))

    def volume(self) -> Region:
        """All of it."""
        arrays: CaseArrays = read_case(self.case, self.classes)
        self.__dict__["bounds"] = arrays.liver, arrays.tumour
        return Region(self._repeated(arrays.image), arrays.label, None)

    def plane(self, d: int) -> Region:
        """Slice `d`, from its one file."""
        rows, grid = self._rows
        if rows is None:
            image = grid.array[d]
        else:
            image = np.empty(grid.array.shape[1:], dtype=np.int16)
            _read_unchanged([rows[d]], image[None])
        return Region(self._repeated(image), self._labels().plane(d), None)

    def _labels(self) -> Cropped:
        kept = self.labels.get(self.case)
        return (
            kept
            if kept is not None
            else self.labels.put(self.case, read_labels(self.case, self.classes, self._rows[1])[0])
        )

    def box(self, corner: Sequence[int], size: Sequence[int]) -> Region:
        """A box: the slices it spans are read, and cut."""
        rows, grid = self._rows
        depth = grid.array.shape[0]
        first, last = max(0, corner[0]), min(depth, corner[0] + size[0])
        if rows is None:
            slab = grid.array[first:last]
        else:
            slab = np.empty((last - first, *grid.array.shape[1:]), dtype=np.int16)
            _read_unchanged(rows[first:last], slab)
        labels = self._labels()
        label = np.stack([labels.plane(d) for d in range(first, last)])
        return _box(Region(self._repeated(slab), label, None), (corner[0] - first, *corner[1:]), size)


def _read_unchanged(rows: list[dict[str, Any]], out: npt.NDArray[np.int16]) -> None:
    """Read slices by the offsets of their headers, which hold only as long as the files are those that were opened.

    Raises
    ------
    DicomReadError
        A file was changed, replaced or removed since.
    """
    try:
        read_slices(rows, out)
        changed = [row["path"] for row in rows if identity_of(Path(row["path"]).stat()) != row["identity"]]
    except OSError as error:
        raise DicomReadError(f"{reason_of(error)}. Load the data set again.") from error
    if changed:
        raise DicomReadError(f"{changed[0]} was changed since the data set was opened. Load the data set again.")


def _box(whole: Region, corner: Sequence[int], size: Sequence[int]) -> Region:
    inside = all(
        start >= 0 and start + n <= full for start, n, full in zip(corner, size, whole.label.shape, strict=True)
    )
    if inside:
        where = tuple(slice(start, start + n) for start, n in zip(corner, size, strict=True))
        valid = None if whole.valid is None else whole.valid[(slice(None), *where)]
        return Region(whole.image[(slice(None), *where)], whole.label[where], valid)
    valid = np.broadcast_to(np.ones(1, np.uint8), whole.image.shape) if whole.valid is None else whole.valid
    return Region(
        cut(whole.image, corner, size, outside=OUTSIDE_HU),  # type: ignore[arg-type]  # it keeps the type
        cut(whole.label, corner, size, outside=0),  # type: ignore[arg-type]
        cut(valid, corner, size, outside=0),  # type: ignore[arg-type]
    )


class LabelCache:
    """The label maps read last, up to a number of bytes."""

    def __init__(self, limit: int = LABEL_BYTES) -> None:
        self.limit = limit
        self._kept: OrderedDict[str, Cropped] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "_kept": OrderedDict()}

    def get(self, case: Case) -> Cropped | None:
        """Return the labels of `case`, if they are kept."""
        found = self._kept.get(case.patient_id)
        if found is not None:
            self._kept.move_to_end(case.patient_id)
        return found

    def put(self, case: Case, label: npt.NDArray[np.uint8]) -> Cropped:
        """Keep `label`, and forget the oldest ones beyond the limit."""
        kept = Cropped.of(label, bounds(label)).copy()
        self._kept[case.patient_id] = kept
        total = sum(item.array.nbytes for item in self._kept.values())
        while total > self.limit and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            total -= oldest.array.nbytes
        return kept
