"""PyTorch data sets over annotated CT: whole volumes, axial slices of the liver, or random patches."""

from __future__ import annotations

import copy
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from hcc_tace_data.clinical.roles import role_of
from hcc_tace_data.errors import PatientNotFoundError, StoreError, UsageError
from hcc_tace_data.loaders.bridges import for_monai, is_monai, to_subjects
from hcc_tace_data.loaders.cases import Case
from hcc_tace_data.loaders.flow import CohortFlow
from hcc_tace_data.loaders.source import Region, Source, StoredSource
from hcc_tace_data.loaders.store import Store, StoredCase
from hcc_tace_data.loaders.summary import class_weights, describe, plot
from hcc_tace_data.loaders.supply.batches import BatchIterator, BatchOptions, PatchBatchIterator, StoredBatches, world
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, middle_corner, place_box
from hcc_tace_data.loaders.supply.device import DeviceSlices
from hcc_tace_data.loaders.supply.patches import patch_corner
from hcc_tace_data.loaders.units import Patches
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd
    import torchio
    from matplotlib.figure import Figure

__all__ = ["CaseDataset", "PairDataset", "PatchDataset", "Serving", "SliceDataset", "VolumeDataset"]

logger = logging.getLogger(__name__)

Sample = dict[str, Any]
Transform = Callable[[Sample], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the cases of a data set are served.

    Attributes
    ----------
    store : Store
        Where cases are, or would be, stored; its parameters say what a sample shows.
    transform : callable or None
        Called with each sample.
    left_out : mapping of str to str
        PatientID -> why the data set does not serve this patient.
    flow : CohortFlow
        How many patients remain after each criterion.
    clinical : {"baseline", "all"}
        Which columns of the clinical table samples show.
    """

    store: Store
    transform: Transform | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    flow: CohortFlow = CohortFlow(())
    clinical: str = "baseline"

    def clinical_of(self, case: Case) -> dict[str, Any]:
        """Return the columns of the patient's clinical row that samples show."""
        if self.clinical == "all":
            return dict(case.clinical)
        return {name: value for name, value in case.clinical.items() if _role(name) in ("id", "baseline")}


@cache
def _role(column: str) -> str:
    """Return the role of a clinical column; one that the package does not know was known later, for all it knows."""
    try:
        return role_of(column)
    except UsageError:
        return "post"


class CaseDataset(ABC, Dataset[Any]):
    """What the data sets have in common; made by :func:`hcc_tace_data.load_hcc_tace`.

    ``ds[i]`` is a dict; the same index gives the same sample. A data set can be pickled and used by the worker
    processes of a ``DataLoader``, forked or spawned: arrays are mapped again there, nothing is copied.
    """

    unit = ""

    def __init__(self, sources: Sequence[Source], serving: Serving) -> None:
        self.sources = tuple(sources)
        self.serving = serving
        #: Whether samples carry `valid`: some voxel of some channel holds no data.
        self.masked = any(source.stored is not None and source.stored.masked for source in self.sources)

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases served, with their files."""
        return tuple(source.case for source in self.sources)

    @property
    def classes(self) -> dict[int, tuple[str, ...]]:
        """Class number -> keys of the segments it shows."""
        return dict(self.serving.store.parameters.classes)

    @property
    def phases(self) -> tuple[str, ...]:
        """Channels of the image, as they were asked for."""
        return self.serving.store.parameters.phases

    @property
    def store_folder(self) -> Path:
        """Folder of the store that its cases are, or would be, in."""
        return self.serving.store.folder

    @property
    def transform(self) -> Transform | None:
        """What is called with each sample."""
        return self.serving.transform

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """PatientIDs, in order, each once."""
        return tuple(dict.fromkeys(case.patient_id for case in self.cases))

    @property
    def left_out(self) -> pd.DataFrame:
        """Patients that the data set was asked for and does not serve: a table with ``patient_id`` and ``reason``."""
        import pandas as pd  # noqa: PLC0415 - slow to import

        rows = sorted(self.serving.left_out.items())
        return pd.DataFrame(rows, columns=["patient_id", "reason"], dtype="string")

    @property
    def flow(self) -> CohortFlow:
        """How many patients of the collection remain after each criterion: a table and a figure."""
        return self.serving.flow

    def __repr__(self) -> str:
        wanted = self.serving.store.parameters
        return (
            f"<{type(self).__name__}: {len(self)} {_plural(self.unit, len(self))} of "
            f"{_plural('patient', len(self.patient_ids), counted=True)}; {', '.join(wanted.phases)}; {self._grid()}; "
            f"labels {self._labels()}"
            + (f"; {len(self.serving.left_out)} left out" if self.serving.left_out else "")
            + ">"
        )

    def _grid(self) -> str:
        spacing = self.serving.store.parameters.spacing
        return "own grid" if spacing is None else " x ".join(f"{step:g}" for step in spacing) + " mm"

    def _labels(self) -> str:
        return ", ".join(f"{number} {'+'.join(keys)}" for number, keys in sorted(self.classes.items()))

    def _repr_html_(self) -> str:
        wanted = self.serving.store.parameters
        rows = {
            _plural(self.unit, 2).capitalize(): str(len(self)),
            "Patients": str(len(self.patient_ids)),
            "Channels": ", ".join(wanted.phases),
            "Grid": self._grid(),
            "Labels": self._labels(),
            "Left out": str(len(self.serving.left_out)),
        }
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table><caption>{type(self).__name__}</caption>{cells}</table>"

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def _sample(self, position: int) -> Sample:
        """Return a sample before any transform."""

    def untransformed(self, index: int) -> Sample:
        """Return a sample before any transform; otherwise like ``ds[index]``."""
        position = int(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"sample {position} of a data set of {len(self)}")
        return self._sample(position % len(self))

    def __getitem__(self, index: int) -> Any:
        sample, transform = self.untransformed(index), self.serving.transform
        if transform is None:
            return sample
        return transform(for_monai(sample) if is_monai(transform) else sample)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def _serve(self, number: int, region: Region, affine: npt.NDArray[np.float64]) -> Sample:
        source = self.sources[number]
        case = source.case
        image = torch.empty(region.image.shape, dtype=torch.float32)
        np.copyto(image.numpy(), region.image)
        sample: Sample = {
            "image": image,
            "label": torch.from_numpy(np.array(region.label, dtype=np.uint8, copy=True, order="C")),
            "spacing": torch.from_numpy(np.linalg.norm(affine[:3, :3], axis=0)),
            "affine": torch.from_numpy(affine.copy()),
            "patient_id": case.patient_id,
            "study_uid": case.study_uid,
            "series_uid": case.series_uid,
            "series_uids": list(case.series_uids or (case.series_uid,) * len(case.phases)),
            "phases": list(case.phases),
            "readers": case.readers,
            "clinical": self.serving.clinical_of(case),
        }
        if self.masked:
            valid = (
                np.ones(region.image.shape, dtype=np.uint8)
                if region.valid is None
                else np.array(region.valid, order="C")
            )
            sample["valid"] = torch.from_numpy(valid)
        for phase in {} if source.stored is None else source.stored.missing:
            image[case.phases.index(phase)] = torch.nan
        return sample

    def subset(self, patients: Iterable[str]) -> Self:
        """Return the same data set over these patients alone, in their present order.

        Raises
        ------
        PatientNotFoundError
            A patient the data set does not hold.
        """
        wanted = {patients} if isinstance(patients, str) else set(patients)
        unknown = sorted(wanted - set(self.patient_ids))
        if unknown:
            raise PatientNotFoundError(
                f"{', '.join(unknown)} not in this data set of {count(len(self.patient_ids), 'patient')}."
            )
        return self._with([source for source in self.sources if source.case.patient_id in wanted])

    def _with(self, sources: Sequence[Source]) -> Self:
        other = copy.copy(self)
        CaseDataset.__init__(other, sources, self.serving)
        other.masked = self.masked  # a subset's samples have the same keys
        return other

    def prepared(self, *, workers: int | None = None) -> Self:
        """Return the same data set over stored cases; those that are not stored yet are written now.

        Parameters
        ----------
        workers : int, optional
            Processes.

        Raises
        ------
        StoreError
            A case cannot be prepared.
        """
        if all(source.stored is not None for source in self.sources):
            return self

        store = self.serving.store
        absent = [source.case for source in self.sources if source.stored is None]
        from hcc_tace_data.loaders.prepare import prepare_cases, writing  # noqa: PLC0415 - its libraries are slow to import

        with writing(store, absent) as done:
            made, failed = prepare_cases(store, absent, workers=workers, done=done)
        if failed:
            reasons = "; ".join(f"{patient}: {reason}" for patient, reason in failed.items())
            raise StoreError(f"{count(len(failed), 'case')} cannot be prepared: {reasons}")
        written = {case.patient_id: item for case, item in zip(absent, made, strict=True) if item is not None}
        return self._with(
            [source if source.stored else StoredSource(source.case, written[source.case.patient_id])
             for source in self.sources]
        )  # fmt: skip

    def _stored(self) -> list[StoredCase]:
        return [source.stored for source in self.sources if source.stored is not None]

    def info(self) -> dict[str, Any]:
        """Say what the data set holds; see :func:`hcc_tace_data.loaders.summary.describe`."""
        return describe(self)

    def class_weights(self) -> torch.Tensor:
        """Return float32 weights (classes,), background first: rare classes weigh more, their mean is 1.

        A class that does not occur weighs 0; see :func:`hcc_tace_data.loaders.summary.class_weights`.
        """
        return class_weights(self)

    def plot(self, index: int = 0, *, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw a sample with its contours; see :func:`hcc_tace_data.loaders.summary.plot`."""
        return plot(self, index, path=path)


class VolumeDataset(CaseDataset):
    """Whole annotated volumes.

    ``ds[i]`` is a dict: ``image`` float32 (C, D, H, W) in HU, ``label`` uint8 (D, H, W), ``spacing`` (3,) in mm along
    (D, H, W), ``affine`` (4, 4) from index (d, h, w) to LPS mm, and the identifiers of the case.
    """

    unit = "volume"

    def __len__(self) -> int:
        return len(self.sources)

    def _sample(self, position: int) -> Sample:
        source = self.sources[position]
        return self._serve(position, source.volume(), source.affine)

    def to_torchio(self, *, workers: int | None = None) -> torchio.SubjectsDataset:
        """Return a torchio ``SubjectsDataset``: one subject per patient, with ``image``, ``label`` and identifiers.

        Arrays are (C, W, H, D) with the affine to RAS mm that torchio expects, and are read when they are used. Cases
        that are not stored yet are stored first, by `workers` processes. A transform is not passed on: torchio's own
        go to its samplers or to ``subjects.set_transform``.

        Raises
        ------
        DependencyError
            torchio is not installed.
        """
        _refuse_transform(self)
        ready = self.prepared(workers=workers)
        return to_subjects(
            ready.sources, classes=self.classes, masked=self.masked, clinical_of=self.serving.clinical_of
        )


class PairDataset(VolumeDataset):
    """Both visits of each patient: every phase asked for at baseline, and after it the same phase at the follow-up.

    ``ds[i]`` is a dict as in :class:`VolumeDataset`, whose channels come in pairs (``phases`` names them), all on the
    grid of the annotated CT, with ``days`` (int) from the date of the annotated study to that of the follow-up (-1
    where a date is missing) and ``follow_up_study_uid``. Labels are those of the baseline. A patient who lacks a phase
    at one of the visits is left out, or has a channel of NaN (``missing="nan"``).
    """

    unit = "pair"

    def _sample(self, position: int) -> Sample:
        sample, case = super()._sample(position), self.sources[position].case
        return {**sample, "days": -1 if case.days is None else case.days, "follow_up_study_uid": case.follow_up_uid}


class BatchedDataset(CaseDataset):
    """Data sets whose samples have one size, so that they make batches."""

    @abstractmethod
    def _batches(self, options: BatchOptions) -> StoredBatches:
        """Return an iterator over batches of stored cases."""

    def batches(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int | None = None,
        threads: int = 2,
        prefetch: int = 4,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> StoredBatches:
        """Return shuffled, prefetched, resumable batches, gathered by threads of this process.

        Much faster than a ``DataLoader``, which needs worker processes. A batch is described at
        :class:`~hcc_tace_data.loaders.supply.batches.BatchIterator`. A transform is not applied: use
        :class:`~hcc_tace_data.loaders.supply.augment.Augment` on the batch. Cases that are not stored yet are stored
        first; ``ds.prepared(workers=2)`` does that in several processes.

        Parameters
        ----------
        batch_size : int
            Samples in a batch; the last one of an epoch may be smaller unless `drop_last`.
        shuffle : bool
            Another order in every epoch.
        seed : int, optional
            The same seed gives the same batches, whatever the number of threads. Default: 0, for patches the seed
            of the :class:`~hcc_tace_data.loaders.units.Patches`.
        threads : int
            How many gather at a time; 0 to gather each batch when it is asked for.
        prefetch : int
            Batches gathered ahead.
        drop_last : bool
            Leave out an incomplete last batch; every rank then has the same number of batches.
        rank, world_size : int, optional
            Default: of the distributed training this process belongs to.
        pin_memory : bool, optional
            Gather into page-locked memory. Default: whether there is a CUDA device.
        dtype : torch.dtype
            Of the image: float32, or int16 to convert on the device.

        Raises
        ------
        UsageError
            An argument out of range, or the data set has a transform.
        StoreError
            A case cannot be stored, or samples differ in size.
        """
        _refuse_transform(self)
        rank, world_size = world(rank, world_size)
        options: BatchOptions = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "threads": threads,
            "prefetch": prefetch,
            "drop_last": drop_last,
            "rank": rank,
            "world_size": world_size,
            "pin_memory": torch.cuda.is_available() if pin_memory is None else pin_memory,
            "dtype": dtype,
        }
        if seed is not None:
            options["seed"] = seed
        return self.prepared()._batches(options)


class SliceDataset(BatchedDataset):
    """Axial slices of the annotated volumes, by default those that show the liver.

    ``ds[i]`` is a dict as in :class:`VolumeDataset` with ``image`` (C, H, W), ``label`` (H, W) and ``slice``, the
    index d of the slice in its volume: pixel (h, w) lies at ``affine @ [d, h, w, 1]``. PyTorch's default collation
    makes batches of them.

    Parameters
    ----------
    sources, serving
        See :class:`CaseDataset`.
    ranges : sequence of (int, int)
        Slices of each case.
    size : (int, int), optional
        Rows and columns to cut or pad (-1024 HU, background) every slice to, about its middle.
    """

    unit = "slice"

    def __init__(
        self,
        sources: Sequence[Source],
        serving: Serving,
        ranges: Sequence[tuple[int, int]],
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(sources, serving)
        if len(ranges) != len(self.sources):
            raise UsageError(
                f"{count(len(ranges), 'slice range')} for {count(len(self.sources), 'case')}; give one for each."
            )
        self.size = size
        self.ranges: tuple[tuple[int, int], ...] = ()
        self._starts = np.zeros(1, dtype=np.int64)
        self._number([(int(first), int(last)) for first, last in ranges])

    def _number(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.ranges = tuple(ranges)
        self._starts = np.concatenate([[0], np.cumsum([last - first for first, last in ranges])]).astype(np.int64)

    def _with(self, sources: Sequence[Source]) -> Self:
        other = super()._with(sources)
        own = {case.patient_id: pair for case, pair in zip(self.cases, self.ranges, strict=True)}
        other._number([own[source.case.patient_id] for source in sources])
        return other

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _sample(self, position: int) -> Sample:
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        d = self.ranges[number][0] + position - int(self._starts[number])
        source = self.sources[number]
        region, affine = source.plane(d), source.affine
        if self.size is not None and region.label.shape != self.size:
            region, affine = _fit(region, affine, self.size)
        sample = self._serve(number, region, affine)
        sample["slice"] = d
        return sample

    def _batches(self, options: BatchOptions) -> BatchIterator:
        return BatchIterator(self._stored(), self.ranges, size=self.size, **options)

    def to_device(self, device: str | torch.device = "cpu") -> DeviceSlices:
        """Put all slices on a device; see :class:`hcc_tace_data.loaders.supply.device.DeviceSlices`."""
        _refuse_transform(self)
        return DeviceSlices.of(self.prepared(), torch.device(device))


class PatchDataset(BatchedDataset):
    """Random patches of the annotated volumes, a share of them on the tumour or the liver.

    ``ds[i]`` is a dict as in :class:`VolumeDataset`, with ``corner`` (3,), the patch's first voxel in its volume, and
    an ``affine`` of the patch itself. Patches are drawn again for every epoch: call :meth:`set_epoch` before each.

    Parameters
    ----------
    sources, serving
        See :class:`CaseDataset`.
    patches : Patches
        Size, number, share of foreground, seed.
    """

    unit = "patch"

    def __init__(self, sources: Sequence[Source], serving: Serving, patches: Patches) -> None:
        super().__init__(sources, serving)
        self.patches, self.epoch = patches, 0
        self.masked = self.masked or any(
            full < part for source in self.sources for full, part in zip(source.shape[1:], patches.size, strict=True)
        )

    def set_epoch(self, epoch: int) -> None:
        """Draw the patches of another epoch."""
        self.epoch = int(epoch)

    def __len__(self) -> int:
        return len(self.sources) * self.patches.per_volume

    def _sample(self, position: int) -> Sample:
        number = position // self.patches.per_volume
        source = self.sources[number]
        corner = patch_corner(source, self.patches, sample=position, epoch=self.epoch)
        affine = source.affine.copy()
        affine[:3, 3] = affine[:3, :3] @ corner + affine[:3, 3]
        sample = self._serve(number, source.box(corner, self.patches.size), affine)
        sample["corner"] = torch.tensor(corner, dtype=torch.int64)
        return sample

    def _batches(self, options: BatchOptions) -> PatchBatchIterator:
        return PatchBatchIterator(self._stored(), self.patches, **options)


def _refuse_transform(dataset: CaseDataset) -> None:
    if dataset.transform is not None:
        raise UsageError(
            "the data set has a transform, which works on single samples. Load it without: batches can be transformed "
            "themselves, and so can torchio's subjects; or use a DataLoader."
        )


def _fit(
    region: Region, affine: npt.NDArray[np.float64], size: tuple[int, int]
) -> tuple[Region, npt.NDArray[np.float64]]:
    """Cut or pad a slice about its middle, and move its affine along."""
    corner = middle_corner(region.label.shape, size)
    image = np.empty((len(region.image), *size), dtype=np.int16)
    label = np.empty(size, dtype=np.uint8)
    valid = np.empty(image.shape, dtype=np.uint8)
    place_box(region.image, corner, image, OUTSIDE_HU)
    place_box(region.label, corner, label, 0)
    place_box(region.valid, corner, valid, 0, extent=region.label.shape)
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ [0, *corner] + affine[:3, 3]
    return Region(image, label, valid), moved


def _plural(word: str, count: int, *, counted: bool = False) -> str:
    many = word if count == 1 else word + "es" if word.endswith("ch") else word + "s"
    return f"{count} {many}" if counted else many
