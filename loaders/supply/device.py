"""All slices on one device: indexing, windowing and augmentation there, nothing copied during training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.errors import StoreError, UsageError
from hcc_tace_data.loaders.protocols import SliceSet
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.augment import Augment
from hcc_tace_data.loaders.supply.batches import Batches, world
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, middle_corner, place_box
from hcc_tace_data.loaders.supply.gather import Batch
from hcc_tace_data.system.words import count

__all__ = ["DeviceBatches", "DeviceSlices", "window_hu"]


def window_hu(image: Tensor, window: tuple[float, float]) -> Tensor:
    """Scale HU linearly so that `window` becomes 0 to 1, and clip.

    Examples
    --------
    >>> window_hu(torch.tensor([-500, 0, 100]), (-100.0, 100.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    low, high = window
    if not low < high:
        raise UsageError(f"window is {window}; the first HU must be lower than the second.")
    return ((image.to(torch.float32) - low) / (high - low)).clamp_(0, 1)


class DeviceSlices:
    """The slices of a data set as two tensors on a device; the whole cohort takes about 6 GB.

    Attributes
    ----------
    image : Tensor of int16, shape (N, C, H, W)
        HU.
    label : Tensor of uint8, shape (N, H, W)
        Class numbers.
    valid : Tensor of uint8, shape (N, C, H, W), or None
        0 where a channel holds no data; None where all voxels do.
    case, slice : Tensor of int64, shape (N,)
        Which slice of which case.
    patient_ids : tuple of str
        PatientID of each case.
    """

    def __init__(
        self,
        image: Tensor,
        label: Tensor,
        valid: Tensor | None,
        case: Tensor,
        slices: Tensor,
        patient_ids: Sequence[str],
    ) -> None:
        self.image, self.label, self.valid = image, label, valid
        self.case, self.slice = case, slices
        self.patient_ids = tuple(patient_ids)

    @classmethod
    def of(cls, dataset: SliceSet, device: torch.device) -> DeviceSlices:
        """Copy a stored data set to `device`, case by case, so that no second copy is ever held."""
        sizes = {source.shape[2:] for source in dataset.sources}
        if dataset.size is None and len(sizes) > 1:
            raise StoreError(
                f"slices of different sizes {sorted(sizes)} do not stack; load with unit=Slices(size=(rows, columns))."
            )
        if any(source.stored is not None and source.stored.missing for source in dataset.sources):
            raise UsageError("int16 cannot say that a phase is missing; leave those patients out (missing='skip').")
        size = dataset.size or next(iter(sizes), (0, 0))
        channels = dataset.sources[0].shape[0] if dataset.sources else 1
        count = len(dataset)
        try:
            image = torch.empty((count, channels, *size), dtype=torch.int16, device=device)
            label = torch.empty((count, *size), dtype=torch.uint8, device=device)
            valid = torch.empty(image.shape, dtype=torch.uint8, device=device) if dataset.masked else None
        except RuntimeError as error:
            need = count * int(np.prod(size)) * (2 * channels + 1)
            raise StoreError(f"{need / 1e9:.1f} GB of slices do not fit on {device}: {error}") from error
        place = 0
        for source, (first, last) in zip(dataset.sources, dataset.ranges, strict=True):
            whole = source.volume()
            images, labels = whole.image[:, first:last].swapaxes(0, 1), whole.label[first:last]
            mask = None if whole.valid is None else whole.valid[:, first:last].swapaxes(0, 1)
            here = slice(place, place + last - first)
            image[here] = _fitted(images, size, OUTSIDE_HU)
            label[here] = _fitted(labels, size, 0)
            if valid is not None:
                valid[here] = _fitted(np.ones(images.shape, np.uint8) if mask is None else mask, size, 0)
            place += last - first
        numbers = np.repeat(np.arange(len(dataset.ranges)), [last - first for first, last in dataset.ranges])
        places = np.concatenate([np.arange(*pair) for pair in dataset.ranges] or [np.zeros(0, dtype=np.int64)])
        return cls(
            image,
            label,
            valid,
            torch.from_numpy(numbers.astype(np.int64)).to(device),
            torch.from_numpy(places.astype(np.int64)).to(device),
            [case.patient_id for case in dataset.cases],
        )

    @classmethod
    def of_stored(
        cls, cases: Sequence[StoredCase], ranges: Sequence[tuple[int, int]], device: torch.device
    ) -> DeviceSlices:
        """Copy these slices of stored cases, all of one size, to `device`; `ranges` as of ``BatchIterator``."""
        sizes = {case.shape[:1] + case.shape[2:] for case in cases}
        if len(sizes) != 1:
            raise StoreError(f"cases of different sizes {sorted(sizes)} do not stack; crop or resample them.")
        image, label, valid = [], [], []
        for case, (first, last) in zip(cases, ranges, strict=True):
            image.append(torch.from_numpy(np.array(case.image[:, first:last].swapaxes(0, 1))).to(device))
            label.append(torch.from_numpy(np.array(case.label[first:last])).to(device))
            mask = case.valid
            valid.append(
                torch.ones(image[-1].shape, dtype=torch.uint8, device=device)
                if mask is None
                else torch.from_numpy(np.array(mask[:, first:last].swapaxes(0, 1))).to(device)
            )
        numbers = [n for n, (first, last) in enumerate(ranges) for _ in range(first, last)]
        places = [d for first, last in ranges for d in range(first, last)]
        return cls(
            torch.cat(image),
            torch.cat(label),
            torch.cat(valid) if any(case.valid is not None for case in cases) else None,
            torch.tensor(numbers, dtype=torch.int64, device=device),
            torch.tensor(places, dtype=torch.int64, device=device),
            [case.patient_id for case in cases],
        )

    @property
    def device(self) -> torch.device:
        """Where the slices are."""
        return self.image.device

    def __len__(self) -> int:
        return len(self.image)

    def __repr__(self) -> str:
        held = self.image.nbytes + self.label.nbytes + (0 if self.valid is None else self.valid.nbytes)
        what = f"{count(len(self), 'slice')} of {count(len(self.patient_ids), 'patient')}"
        return f"<DeviceSlices: {what} on {self.device}, {held / 1e6:.0f} MB>"

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Batch:
        """Return the slices at `index` as a batch, ``image`` int16 in HU; a single number gives a batch of one."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"slice {index} of {len(self)}")
            index = [index % len(self)]
        where = (
            torch.arange(len(self), device=self.device)[index]
            if isinstance(index, slice)
            else torch.as_tensor(index, dtype=torch.int64, device=self.device)
        )
        batch: Batch = {
            "image": self.image[where],
            "label": self.label[where],
            "case": self.case[where],
            "slice": self.slice[where],
        }
        if self.valid is not None:
            batch["valid"] = self.valid[where]
        return batch

    def batches(
        self,
        batch_size: int,
        *,
        window: tuple[float, float] | None = None,
        augment: Augment | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> DeviceBatches:
        """Return an iterator over batches made on the device; see :class:`DeviceBatches`."""
        return DeviceBatches(
            self,
            batch_size=batch_size,
            window=window,
            augment=augment,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )


class DeviceBatches(Batches):
    """Batches of slices that never leave their device; order, shards and resuming are those of :class:`Batches`.

    A batch is a dict: ``image`` float32 (B, C, H, W), in HU or scaled by `window` to 0-1, ``label`` uint8 (B, H, W),
    ``case``, ``slice`` int64 (B,), and ``valid`` where some voxels hold no data (moved like the label).

    Parameters
    ----------
    slices : DeviceSlices
    window : (float, float), optional
        HU that become 0 and 1.
    augment : Augment, optional
        Drawn again for each batch from seed, epoch and rank, the same on every device; needs `window`.
    batch_size, shuffle, seed, drop_last, rank, world_size
        See :class:`~hcc_tace_data.loaders.supply.batches.BatchIterator`.
    """

    unit = "slice"

    def __init__(
        self,
        slices: DeviceSlices,
        *,
        batch_size: int,
        window: tuple[float, float] | None = None,
        augment: Augment | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        rank, world_size = world(rank, world_size)
        super().__init__(
            len(slices),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        if augment is not None and window is None:
            raise UsageError("augment works on images scaled to 0-1; give a window, for example (-160, 240).")
        self.slices, self.window, self.augment = slices, window, augment

    def _made(self, parts: Sequence[npt.NDArray[np.int64]], epoch: int) -> Iterator[Batch]:
        return (self._batch(samples, epoch) for samples in parts)

    def _batch(self, samples: npt.NDArray[np.int64], epoch: int) -> Batch:
        batch = self.slices[torch.from_numpy(samples)]
        if self.window is None:
            batch["image"] = batch["image"].to(torch.float32)
            return batch
        batch["image"] = window_hu(batch["image"], self.window)
        if self.augment is not None:
            # of the batch's first sample, so that a resumed iterator draws the same
            seed = np.random.SeedSequence([self.seed, epoch, int(samples[0])]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(seed) % 2**63)
            mask = batch.get("valid")
            if mask is None:
                batch["image"], batch["label"] = self.augment(batch["image"], batch["label"], generator)
            else:
                batch["image"], batch["label"], batch["valid"] = self.augment.with_mask(
                    batch["image"], batch["label"], mask, generator
                )
        return batch


def _fitted(array: npt.NDArray[Any], size: tuple[int, ...], outside: int) -> Tensor:
    if array.shape[-2:] == tuple(size):
        # the map is read-only, which torch warns of; this is only read, once
        return torch.from_numpy(np.array(array))
    out = np.empty((*array.shape[:-2], *size), dtype=array.dtype)
    place_box(array, middle_corner(array.shape[-2:], size), out, outside)
    return torch.from_numpy(out)
