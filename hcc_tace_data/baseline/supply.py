"""What a stage trains on: batches of stored slices or patches, with the liver that the tumour network sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.baseline.config import TrainConfig
from hcc_tace_data.baseline.stages import Stage
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.batches import BatchIterator, PatchBatchIterator
from hcc_tace_data.loaders.supply.boxes import cut
from hcc_tace_data.loaders.supply.device import DeviceBatches, DeviceSlices
from hcc_tace_data.loaders.units import Patches
from hcc_tace_data.system.words import count

__all__ = ["Placement", "StageBatches", "is_resident", "sample_count", "slice_ranges"]

Masks = Mapping[str, npt.NDArray[np.bool_]]


def slice_ranges(config: TrainConfig, stage: Stage, cases: Sequence[StoredCase]) -> list[tuple[int, int]]:
    """Return the slices of each case, (first, one after the last), that a stage trains on."""
    whole = stage == "liver" and config.input.slices == "all"
    return [(0, case.shape[1]) if whole or case.liver is None else case.liver[0] for case in cases]


def sample_count(config: TrainConfig, stage: Stage, cases: Sequence[StoredCase]) -> int:
    """Return how many slices or patches an epoch of a stage has."""
    if config.input.patches is not None:
        return len(cases) * config.input.patches.per_volume
    return sum(last - first for first, last in slice_ranges(config, stage, cases))


def is_resident(
    config: TrainConfig, cases: Sequence[StoredCase], ranges: Sequence[tuple[int, int]], device: torch.device | None
) -> bool:
    """Tell whether all slices are to be kept on the device; patches never are."""
    if config.input.patches is not None:
        return False
    if config.resident != "auto" or device is None or device.type != "cuda":
        return config.resident == "yes"
    voxels = [(last - first) * case.shape[2] * case.shape[3] for case, (first, last) in zip(cases, ranges, strict=True)]
    # image int16 and mask uint8 for each channel, label uint8
    need = sum(count * (3 * case.shape[0] + 1) for count, case in zip(voxels, cases, strict=True))
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * need < free


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which process of a training this is, and where its network is.

    Attributes
    ----------
    rank, world_size : int
        Number of this process, and of all.
    device : torch.device, optional
        Of the network; see `resident` of the configuration.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device | None = None

    @property
    def pin_memory(self) -> bool:
        """Whether batches are gathered in pinned memory: a GPU copies from it while it computes."""
        return self.device is not None and self.device.type == "cuda"


class StageBatches:
    """Epochs of batches for one process of a training: of slices, or of patches where the configuration has them.

    Every process gets the same number of batches, or the slower ones would wait for ever: the last batch of an epoch
    is left out where not all have one.

    Parameters
    ----------
    config : TrainConfig
        Batch size, seed, slices.
    stage : {"liver", "tumour", "joint"}
        Which network. Patches of the tumour network all lie on the liver.
    cases : sequence of StoredCase
        Training cases.
    livers : mapping of str to ndarray of bool (D, H, W), optional
        Name of a case's folder -> the liver that the tumour network sees, instead of the true one.
    shuffled : bool
        A control: the target of a slice is the label of another slice, of another patient where there are several;
        that of a patch is the label at the same place of another patient. A network that still scores on held-out
        patients scores by something else than the image.
    threads : int
        Threads that gather batches.
    placement : Placement, optional
        Which process this is and where its network is; default one process, slices from the store.
    """

    def __init__(
        self,
        config: TrainConfig,
        stage: Stage,
        cases: Sequence[StoredCase],
        *,
        livers: Masks | None = None,
        shuffled: bool = False,
        threads: int = 2,
        placement: Placement | None = None,
    ) -> None:
        placement = placement or Placement()
        rank, world_size, device = placement.rank, placement.world_size, placement.device
        self.cases = tuple(cases)
        self.ranges = slice_ranges(config, stage, cases)
        missing = [case.folder.name for case in cases if livers is not None and case.folder.name not in livers]
        if missing:
            raise BaselineError(f"no predicted liver for {', '.join(missing)}; predict all training cases first.")
        self._livers = livers
        self._patches = config.input.patches
        self._donor = _donors(self.ranges, config.seed) if shuffled and self._patches is None else None
        self._other = _others(len(cases), config.seed) if shuffled and self._patches is not None else None
        self._spacing = torch.tensor([case.spacing for case in cases], dtype=torch.float32)
        #: What a batch is made of.
        self.unit, self.units = ("slice", "slices") if self._patches is None else ("patch", "patches")
        share: dict[str, Any] = {"batch_size": config.batch_size, "seed": config.seed}
        share |= {"rank": rank, "world_size": world_size}
        #: Whether all slices lie on the device.
        self.resident = is_resident(config, cases, self.ranges, device)
        self.iterator: BatchIterator | DeviceBatches | PatchBatchIterator
        gathered: dict[str, Any] = {"threads": threads, "pin_memory": placement.pin_memory, "dtype": torch.int16}
        if self._patches is not None:
            settings = self._patches
            patches = Patches(settings.size, settings.per_volume, settings.foreground, config.seed)
            self.iterator = PatchBatchIterator(cases, patches, liver_only=stage == "tumour", **gathered, **share)
        elif self.resident:
            slices = DeviceSlices.of_stored(cases, self.ranges, device or torch.device("cpu"))
            self.iterator = slices.batches(**share)
        else:
            self.iterator = BatchIterator(cases, self.ranges, **gathered, **share)
        #: Epochs begun; set it to continue another training.
        self.epochs = 0
        self.samples = samples = sample_count(config, stage, cases)
        # the ranks' shares differ by one sample at the most, the last rank's is the smallest
        self.batches = max(1, -(-(samples // world_size) // config.batch_size))
        if samples < world_size:
            what = count(samples, self.unit)
            raise BaselineError(f"{what} for {count(world_size, 'process')}; use fewer processes.")

    def epoch(self) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of one epoch; the next call yields the next epoch's, also if this one was interrupted."""
        self.iterator.load_state_dict({**self.iterator.state_dict(), "epoch": self.epochs, "position": 0})
        self.epochs += 1
        for number, batch in enumerate(self.iterator, start=1):
            yield self._complete(batch)
            if number == self.batches:
                break

    def patients(self, batch: Mapping[str, Tensor]) -> set[str]:
        """Return the PatientIDs that a batch shows, those of swapped labels included."""
        return {self.cases[number].patient_id for number in torch.unique(batch["case"]).tolist()} | {
            self.cases[number].patient_id for number in torch.unique(batch.get("donor", batch["case"])).tolist()
        }

    def _complete(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._patches is not None:
            return self._complete_patches(batch, self._patches.size)
        places = list(zip(batch["case"].tolist(), batch["slice"].tolist(), strict=True))
        if self._livers is not None:
            masks = [self._livers[self.cases[c].folder.name][d] for c, d in places]
            batch["liver"] = torch.from_numpy(np.stack(masks)).to(batch["label"].device)
        if self._donor is not None:
            donors = [self._donor[place] for place in places]
            target = torch.from_numpy(np.stack([self.cases[c].label[d] for c, d in donors]))
            batch["target"] = target.to(batch["label"].device)
            batch["donor"] = torch.tensor([c for c, _ in donors])
        return batch

    def _complete_patches(self, batch: dict[str, Tensor], size: tuple[int, int, int]) -> dict[str, Tensor]:
        places = list(zip(batch["case"].tolist(), batch["corner"].tolist(), strict=True))
        batch["spacing"] = self._spacing[batch["case"]]
        if self._livers is not None:
            livers = [self._livers[self.cases[c].folder.name].view(np.uint8) for c, _ in places]
            masks = [cut(mask, corner, size, outside=0) for mask, (_, corner) in zip(livers, places, strict=True)]
            batch["liver"] = torch.from_numpy(np.stack(masks)).bool()
        if self._other is not None:
            donors = [self._other[c] for c, _ in places]
            labels = []
            for donor, (c, corner) in zip(donors, places, strict=True):
                there = _moved(corner, self.cases[c].shape[1:], self.cases[donor].shape[1:], size)
                labels.append(cut(self.cases[donor].label, there, size, outside=0))
            batch["target"] = torch.from_numpy(np.stack(labels))
            batch["donor"] = torch.tensor(donors)
        return batch


def _moved(corner: Sequence[int], here: Sequence[int], there: Sequence[int], size: Sequence[int]) -> list[int]:
    """Return the corner of a patch at the same place of another volume, as a part of the way that a corner has."""
    found = []
    for start, own, other, side in zip(corner, here, there, size, strict=True):
        way = own - side
        found.append((other - side) // 2 if other <= side or way <= 0 else round(start * (other - side) / way))
    return found


def _others(count: int, seed: int) -> list[int]:
    """Return for each of several cases another one; a single case is its own."""
    order = np.random.default_rng([seed, 1]).permutation(count)
    others = np.empty(count, dtype=np.int64)
    others[order] = np.roll(order, 1)
    return [int(other) for other in others]


def _donors(ranges: Sequence[tuple[int, int]], seed: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Give each slice the label of one of another case, each label used once where that is possible."""
    places = [(case, d) for case, (first, last) in enumerate(ranges) for d in range(first, last)]
    rng: Any = np.random.default_rng([seed, 1])
    order = [places[i] for i in rng.permutation(len(places))]
    if len(ranges) > 1:
        for i, place in enumerate(places):
            if order[i][0] == place[0]:  # swap with one that suits both, if any does
                for j in rng.permutation(len(places)):
                    if order[j][0] != place[0] and order[i][0] != places[j][0]:
                        order[i], order[j] = order[j], order[i]
                        break
    return dict(zip(places, order, strict=True))
