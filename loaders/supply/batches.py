"""Shuffled batches from stored cases, gathered by threads of this process.

A stored slice is half a megabyte of memory-mapped int16; gathering it is one memory copy that also converts, without
the interpreter's lock. So threads keep up where worker processes lose their time sending arrays to each other.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Required, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.errors import StoreError, UsageError
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, Cropped, box_copies, middle_corner
from hcc_tace_data.loaders.supply.buffers import BufferPool
from hcc_tace_data.loaders.supply.copies import Copy, copy_all, fill
from hcc_tace_data.loaders.supply.gather import Batch, Filling, filled
from hcc_tace_data.loaders.supply.patches import patch_corner
from hcc_tace_data.loaders.units import Patches
from hcc_tace_data.system.words import count

__all__ = ["BatchIterator", "BatchOptions", "Batches", "OrderOptions", "PatchBatchIterator", "StoredBatches",
           "epoch_order", "world"]  # fmt: skip

_UINT8 = np.dtype(np.uint8)
# batches that are planned at once
_AT_ONCE = 64

#: Rows of a batch, or one of them: image, label, valid.
Rows = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]
Planned = tuple[Batch, Sequence[int], Sequence[Any]]
Maps = tuple[npt.NDArray[Any], Cropped, npt.NDArray[Any] | None]


class OrderOptions(TypedDict, total=False):
    """Which samples a batch holds, and in what order they come; see :class:`BatchIterator`."""

    batch_size: Required[int]
    shuffle: bool
    seed: int
    drop_last: bool
    rank: int
    world_size: int


class BatchOptions(OrderOptions, total=False):
    """Also how batches are gathered; see :class:`BatchIterator`."""

    threads: int
    prefetch: int
    pin_memory: bool
    dtype: torch.dtype


def epoch_order(
    count: int, *, seed: int, epoch: int, shuffle: bool, rank: int = 0, world_size: int = 1
) -> npt.NDArray[np.int64]:
    """Return the samples that `rank` sees in an epoch, in order.

    The ranks' shares are disjoint and together cover every sample once: rank r takes places r, r + world_size, ...
    of one common order, so shares differ by one sample at the most.

    Examples
    --------
    >>> parts = [epoch_order(5, seed=1, epoch=0, shuffle=True, rank=r, world_size=2) for r in (0, 1)]
    >>> sorted(int(i) for part in parts for i in part)
    [0, 1, 2, 3, 4]
    """
    if not 0 <= rank < world_size:
        raise UsageError(f"rank is {rank} of a world of {world_size}; use 0 to {world_size - 1}.")
    order = np.random.default_rng([seed, epoch]).permutation(count) if shuffle else np.arange(count)
    return order[rank::world_size].astype(np.int64)


def world(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return rank and size of the distributed training this process belongs to; (0, 1) for none.

    What is not given is asked of ``torch.distributed``, else of the environment as ``torchrun`` sets it.
    """
    if (rank is None) != (world_size is None):
        raise UsageError(f"rank is {rank} and world_size {world_size}; give both or neither.")
    if rank is not None and world_size is not None:
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1


class Batches(ABC):
    """An iterator over the batches of one epoch after the other.

    ``for batch in batches`` runs through one epoch; the next ``for`` runs through the next one, in another order, also
    when the one before was interrupted. Only after :meth:`load_state_dict` does it go on in the middle. One epoch at a
    time: two iterations over the same object at once share one position.

    Subclasses say how many samples there are and make a batch of some of them.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}; use at least 1.")
        epoch_order(0, seed=0, epoch=0, shuffle=False, rank=rank, world_size=world_size)  # refuses a wrong rank
        self.count, self.batch_size = count, batch_size
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.rank, self.world_size = rank, world_size
        self.epoch, self.position = 0, 0
        self._resuming = False

    unit = "sample"

    def __repr__(self) -> str:
        share = "" if self.world_size == 1 else f", rank {self.rank} of {self.world_size}"
        what = f"{count(self.count, 'sample')} ({self.unit}), batches of {self.batch_size}"
        return f"<{type(self).__name__}: {what}, epoch {self.epoch}{share}>"

    def __len__(self) -> int:
        """Batches in an epoch of this rank; with `drop_last` the same for every rank."""
        if self.drop_last:
            return self.count // self.world_size // self.batch_size
        mine = len(range(self.rank, self.count, self.world_size))
        return -(-mine // self.batch_size)

    def _identity(self) -> dict[str, int]:
        return {
            "samples": self.count,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "rank": self.rank,
            "world_size": self.world_size,
        }

    def state_dict(self) -> dict[str, int]:
        """Return where the iterator is: the next batch is `position` of `epoch`."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue exactly where another iterator over the same samples was.

        Raises
        ------
        StoreError
            The state is of another set of samples, or of another seed, batch size or rank.
        """
        for name, own in self._identity().items():
            if state.get(name, own) != own:
                raise StoreError(
                    f"the state has {name} {state[name]}, this iterator {own}; continuing would repeat some "
                    "samples and miss others."
                )
        self.epoch, self.position, self._resuming = int(state["epoch"]), int(state["position"]), True

    def __iter__(self) -> Iterator[Batch]:
        if self.position and not self._resuming:
            self.epoch, self.position = self.epoch + 1, 0
        self._resuming = False
        epoch = self.epoch
        order = epoch_order(
            self.count, seed=self.seed, epoch=epoch, shuffle=self.shuffle, rank=self.rank, world_size=self.world_size
        )
        parts = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        # through map, because a loop variable would hold on to a batch, and its memory not be free for the next
        yield from map(self._counted, self._made(parts[self.position :], epoch))
        self.epoch, self.position = epoch + 1, 0

    def _counted(self, batch: Batch) -> Batch:
        self.position += 1
        return batch

    @abstractmethod
    def _made(self, parts: Sequence[npt.NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        """Yield a batch of each of `parts`, samples of one epoch."""


class StoredBatches(Batches):
    """Batches of equally large slices or patches of stored cases."""

    def __init__(
        self,
        cases: Sequence[StoredCase],
        count: int,
        size: tuple[int, ...],
        *,
        threads: int = 2,
        prefetch: int = 4,
        pin_memory: bool = False,
        dtype: torch.dtype = torch.float32,
        **order: Unpack[OrderOptions],
    ) -> None:
        super().__init__(count, **order)
        if threads < 0 or prefetch < 1:
            raise UsageError(f"threads is {threads} and prefetch {prefetch}; use at least 0, and at least 1.")
        if dtype not in (torch.float32, torch.int16):
            raise UsageError(f"dtype is {dtype}; stored images come as torch.float32 or torch.int16.")
        if dtype == torch.int16 and any(case.missing for case in cases):
            raise UsageError("int16 cannot say that a phase is missing; use float32, or leave those patients out.")
        channels = {case.shape[0] for case in cases}
        if len(channels) > 1:
            raise StoreError(
                f"cases of {' and '.join(map(str, sorted(channels)))} channels do not make batches; prepare them alike."
            )
        self.cases = tuple(cases)
        self.pin_memory, self.dtype, self.threads, self.prefetch = pin_memory, dtype, threads, prefetch
        self._channels, self._size = next(iter(channels), 1), size
        self._array_dtype = np.dtype(np.float32 if dtype == torch.float32 else np.int16)
        self._masked = any(case.masked for case in cases)
        self._absent = [[case.phases.index(phase) for phase in case.missing] for case in cases]
        self._maps: dict[int, Maps] = {}
        self._own_process()

    def _own_process(self) -> None:
        """Make what a fork must not share: a lock that a vanished thread holds would never be free."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pool = BufferPool()

    def __iter__(self) -> Iterator[Batch]:
        if self._process != os.getpid():
            self._own_process()
        return super().__iter__()

    def _made(self, parts: Sequence[npt.NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        # Some batches are planned at once: while threads copy, the interpreter takes several times as long for each
        # step, and they wait for the thread that begins a batch.
        planned: deque[Planned] = deque()
        coming = iter(parts)

        def begin() -> Filling:
            if not planned:
                planned.extend(self._plan(samples, epoch) for samples in islice(coming, _AT_ONCE))
            return self._begin(*planned.popleft())

        return filled([begin] * len(parts), threads=self.threads, ahead=self.prefetch)

    def _plan(self, samples: npt.NDArray[np.int64], epoch: int) -> Planned:
        numbers, places, column = self._where(samples, epoch)
        of = numbers.tolist()
        names = [self.cases[number].patient_id for number in of]
        return {"case": torch.from_numpy(numbers), "patient_id": names, **column}, of, places

    @abstractmethod
    def _where(
        self, samples: npt.NDArray[np.int64], epoch: int
    ) -> tuple[npt.NDArray[np.int64], Sequence[Any], dict[str, Tensor]]:
        """Return the cases of `samples`, their places in them, and the column of a batch that says so."""

    def _begin(self, known: Batch, of: Sequence[int], places: Sequence[Any]) -> Filling:
        shape = (len(of), self._channels, *self._size)
        image, images = self._pool.empty(shape, self._array_dtype, pin_memory=self.pin_memory)
        label, labels = self._pool.empty((len(of), *self._size), _UINT8, pin_memory=self.pin_memory)
        batch: Batch = {"image": image, "label": label}
        valids = None
        if self._masked:
            batch["valid"], valids = self._pool.empty(shape, _UINT8, pin_memory=self.pin_memory)
        batch |= known

        def fill(first: int, last: int) -> None:
            rows = slice(first, last)
            part = images[rows], labels[rows], None if valids is None else valids[rows]
            copy_all(self._copies_of(of[rows], places[rows], part))
            for row in range(first, last):
                for channel in self._absent[of[row]]:
                    images[row, channel] = np.nan

        return Filling(batch, len(of), fill)

    def _copies_of(self, numbers: Sequence[int], places: Sequence[Any], into: Rows) -> list[Copy]:
        """Return the copies of the samples at `places` of cases into rows of a batch."""
        images, labels, valids = into
        return [
            one
            for row, (number, place) in enumerate(zip(numbers, places, strict=True))
            for one in self._copies(number, place, (images[row], labels[row], None if valids is None else valids[row]))
        ]

    @abstractmethod
    def _copies(self, number: int, place: Any, into: Rows) -> list[Copy]:
        """Return the copies of the sample at `place` of a case into a row of a batch."""

    def _arrays(self, number: int) -> Maps:
        found = self._maps.get(number)
        if found is None:
            with self._lock:
                case = self.cases[number]
                mask = case.valid
                # labels are read only where there are any
                label = Cropped.of(np.asarray(case.label), case.labelled)
                own = np.asarray(case.image), label, None if mask is None else np.asarray(mask)
                found = self._maps.setdefault(number, own)
        return found


class BatchIterator(StoredBatches):
    """An endless-by-epochs iterator over batches of slices; see :class:`Batches`.

    A batch is a dict: ``image`` float32 or int16 (B, C, H, W) in HU, ``label`` uint8 (B, H, W), ``case`` int64 (B,),
    ``slice`` int64 (B,), ``patient_id`` (list), and ``valid`` uint8 (B, C, H, W) if some case has voxels without data.

    Parameters
    ----------
    cases : sequence of StoredCase
        Of one image size, or of any with `size`.
    ranges : sequence of (int, int)
        Slices of each case, (first, one after the last).
    batch_size : int
        Samples in a batch; the last one of an epoch may be smaller unless `drop_last`.
    shuffle, seed
        Order; the same seed gives the same batches whatever the number of threads.
    threads : int
        How many gather at a time: threads of their own, in place of one of which the caller gathers while waiting for
        a batch; 0 for none, the caller gathers each batch when it is asked for. More than there are cores slow it down.
    prefetch : int
        Batches gathered ahead.
    drop_last : bool
        Leave out what does not fill a batch; every rank then has as many batches, as gradient exchange needs.
    rank, world_size : int
        Share of a distributed training.
    pin_memory : bool
        Gather into page-locked memory, from which a GPU copies asynchronously.
    dtype : torch.dtype
        Of the image: float32, or int16 to convert on the device.
    size : (int, int), optional
        Rows and columns to cut or pad every slice to, about its middle.
    """

    unit = "slice"

    def __init__(
        self,
        cases: Sequence[StoredCase],
        ranges: Sequence[tuple[int, int]],
        *,
        size: tuple[int, int] | None = None,
        **options: Unpack[BatchOptions],
    ) -> None:
        sizes = {case.shape[2:] for case in cases}
        if len(sizes) > 1 and size is None:
            raise StoreError(
                f"cases of different sizes {sorted(sizes)} do not make batches; load with "
                "unit=Slices(size=(rows, columns))."
            )
        self._case = np.repeat(np.arange(len(cases)), [last - first for first, last in ranges]).astype(np.int64)
        self._slice = np.concatenate([np.arange(*pair) for pair in ranges] or [np.zeros(0, dtype=np.int64)]).astype(
            np.int64
        )
        super().__init__(cases, len(self._case), size or next(iter(sizes), (0, 0)), **options)

    def _where(
        self, samples: npt.NDArray[np.int64], epoch: int
    ) -> tuple[npt.NDArray[np.int64], Sequence[int], dict[str, Tensor]]:
        where = self._slice[samples]
        return self._case[samples], where.tolist(), {"slice": torch.from_numpy(where)}

    def _copies_of(self, numbers: Sequence[int], places: Sequence[Any], into: Rows) -> list[Copy]:
        images, labels, valids = into
        found = [self._arrays(number) for number in numbers]
        size = images.shape[2:]
        if any(image.shape[2:] != size for image, _, _ in found):
            return super()._copies_of(numbers, places, into)
        copies = [fill(labels, 0)]
        for row, ((image, label, mask), place) in enumerate(zip(found, places, strict=True)):
            copies.append((images[row], image[:, place]))
            copies += label.slice_copies(place, labels[row])
            if valids is not None:
                copies.append(fill(valids[row], 1) if mask is None else (valids[row], mask[:, place]))
        return copies

    def _copies(self, number: int, place: int, into: Rows) -> list[Copy]:
        images, labels, valids = self._arrays(number)
        image, label, valid = into
        corner = middle_corner(labels.shape[1:], label.shape)
        copies = box_copies(images[:, place], corner, image, OUTSIDE_HU)
        copies += labels.box_copies((place, *corner), label[None])
        if valid is not None:
            mask = None if valids is None else valids[:, place]
            copies += box_copies(mask, corner, valid, 0, extent=images.shape[2:])
        return copies


class PatchBatchIterator(StoredBatches):
    """An endless-by-epochs iterator over batches of patches; see :class:`Batches`.

    A batch is as in :class:`BatchIterator` with ``image`` (B, C, d, h, w), ``label`` (B, d, h, w) and ``corner`` int64
    (B, 3), the first voxel of each patch in its volume, instead of ``slice``. Every epoch draws other patches.

    Parameters
    ----------
    cases : sequence of StoredCase
        Of any size.
    patches : Patches
        Size, number and share of foreground; its seed is also that of the order, unless another is given.
    liver_only : bool
        Centre all patches that are not on the tumour in the bounding box of the liver.
    **options
        As for :class:`BatchIterator`.
    """

    unit = "patch"

    def __init__(
        self,
        cases: Sequence[StoredCase],
        patches: Patches,
        *,
        liver_only: bool = False,
        **options: Unpack[BatchOptions],
    ) -> None:
        self.patches, self.liver_only = patches, liver_only
        options.setdefault("seed", patches.seed)
        super().__init__(cases, len(cases) * patches.per_volume, patches.size, **options)
        self._masked = self._masked or any(
            full < part for case in cases for full, part in zip(case.shape[1:], patches.size, strict=True)
        )

    def _where(
        self, samples: npt.NDArray[np.int64], epoch: int
    ) -> tuple[npt.NDArray[np.int64], Sequence[tuple[int, int, int]], dict[str, Tensor]]:
        numbers = samples // self.patches.per_volume
        corners = [
            patch_corner(self.cases[number], self.patches, sample=sample, epoch=epoch, liver_only=self.liver_only)
            for number, sample in zip(numbers.tolist(), samples.tolist(), strict=True)
        ]
        column = torch.from_numpy(np.array(corners, dtype=np.int64).reshape(-1, 3))
        return numbers, corners, {"corner": column}

    def _copies(self, number: int, place: tuple[int, int, int], into: Rows) -> list[Copy]:
        images, labels, valids = self._arrays(number)
        image, label, valid = into
        copies = box_copies(images, place, image, OUTSIDE_HU)
        copies += labels.box_copies(place, label)
        if valid is not None:
            copies += box_copies(valids, place, valid, 0, extent=images.shape[1:])
        return copies
