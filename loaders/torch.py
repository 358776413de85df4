"""PyTorch data sets over annotated CT: whole volumes, or axial slices of the liver."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from hcc_tace_data.errors import PatientNotFoundError, UsageError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.sample import read_case

__all__ = ["CaseDataset", "SliceDataset", "VolumeDataset"]

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
Transform = Callable[[Sample], Any]

#: Volumes that a data set keeps in memory, so that neighbouring slices cost one reading.
KEPT_VOLUMES = 2


class CaseDataset(ABC, Dataset[Any]):
    """What the data sets have in common: cases, a label set, a transform.

    Parameters
    ----------
    cases : sequence of Case
        What to serve.
    classes : mapping of int to tuple of str
        Class number -> segment keys, from :func:`hcc_tace_data.loaders.label_sets.resolve_label_set`.
    transform : callable, optional
        Called with each sample (a dict); what it returns is served.
    """

    unit = ""

    def __init__(
        self, cases: Sequence[Case], classes: Mapping[int, tuple[str, ...]], transform: Transform | None = None
    ) -> None:
        self.cases = tuple(cases)
        self.classes = dict(classes)
        self.transform = transform
        self._kept: OrderedDict[int, CaseArrays] = OrderedDict()

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """PatientIDs, in order, each once."""
        return tuple(dict.fromkeys(case.patient_id for case in self.cases))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} {self.unit}s of {len(self.patient_ids)} patients>"

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes read for themselves; sending them volumes would only cost time.
        return {**self.__dict__, "_kept": OrderedDict()}

    def _arrays(self, index: int) -> CaseArrays:
        kept = self._kept.get(index)
        if kept is None:
            kept = read_case(self.cases[index], self.classes)
            self._kept[index] = kept
            while len(self._kept) > KEPT_VOLUMES:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(index)
        return kept

    def _serve(self, case: Case, arrays: CaseArrays, image: npt.NDArray[Any], label: npt.NDArray[Any]) -> Any:
        sample: Sample = {
            "image": torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)),
            "label": torch.from_numpy(np.array(label, dtype=np.uint8, copy=True)),
            "spacing": torch.from_numpy(arrays.spacing.copy()),
            "affine": torch.from_numpy(arrays.affine.copy()),
            "patient_id": case.patient_id,
            "study_uid": case.study_uid,
            "series_uid": case.series_uid,
            "phases": list(case.phases),
            "readers": case.readers,
            "clinical": dict(case.clinical),
        }
        return sample

    def subset(self, patients: Iterable[str]) -> Self:
        """Return the same data set over these patients alone, in their present order.

        Raises
        ------
        PatientNotFoundError
            A patient the data set does not hold.
        """
        wanted = set(patients)
        unknown = sorted(wanted - set(self.patient_ids))
        if unknown:
            raise PatientNotFoundError(
                f"{', '.join(unknown)} not in this data set of {len(self.patient_ids)} patients."
            )
        return self._with([i for i, case in enumerate(self.cases) if case.patient_id in wanted])

    def _with(self, indices: Sequence[int]) -> Self:
        return type(self)([self.cases[i] for i in indices], self.classes, transform=self.transform)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def _index(self, index: int) -> int:
        position = int(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"sample {position} of a data set of {len(self)}")
        return position % len(self)


class VolumeDataset(CaseDataset):
    """Whole annotated volumes.

    ``ds[i]`` is a dict: ``image`` float32 (C, D, H, W) in HU, ``label`` uint8 (D, H, W), ``spacing`` (3,) in mm along
    (D, H, W), ``affine`` (4, 4) from index (d, h, w) to LPS mm, and the identifiers of the case.
    """

    unit = "volume"

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Any:
        position = self._index(index)
        case, arrays = self.cases[position], self._arrays(position)
        sample = self._serve(case, arrays, arrays.image[None], arrays.label)
        return sample if self.transform is None else self.transform(sample)


class SliceDataset(CaseDataset):
    """Axial slices of the annotated volumes, by default those that show the liver.

    ``ds[i]`` is a dict as of :class:`VolumeDataset` with ``image`` (C, H, W), ``label`` (H, W) and ``slice``, the
    index d of the slice in its volume. PyTorch's default collation makes batches of them.
    """

    unit = "slice"

    def __init__(
        self,
        cases: Sequence[Case],
        classes: Mapping[int, tuple[str, ...]],
        ranges: Sequence[tuple[int, int]],
        transform: Transform | None = None,
    ) -> None:
        super().__init__(cases, classes, transform)
        if len(ranges) != len(self.cases):
            raise UsageError(f"{len(ranges)} slice ranges for {len(self.cases)} cases; give one for each.")
        self.ranges = tuple((int(first), int(last)) for first, last in ranges)
        self._starts = np.concatenate([[0], np.cumsum([last - first for first, last in self.ranges])]).astype(np.int64)

    def _with(self, indices: Sequence[int]) -> Self:
        ranges = [self.ranges[i] for i in indices]
        return type(self)([self.cases[i] for i in indices], self.classes, ranges, transform=self.transform)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Any:
        position = self._index(index)
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        d = self.ranges[number][0] + position - int(self._starts[number])
        case, arrays = self.cases[number], self._arrays(number)
        sample = self._serve(case, arrays, arrays.image[None, d], arrays.label[d])
        sample["slice"] = d
        return sample if self.transform is None else self.transform(sample)
