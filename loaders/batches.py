"""Shuffled batches from stored cases, gathered by threads of this process.

A stored slice is half a megabyte of memory-mapped int16; gathering it is one memory copy, which releases the
interpreter lock. So threads keep up where worker processes lose their time sending arrays to each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hcc_tace_data.errors import StoreError, UsageError
from hcc_tace_data.loaders.store import StoredCase

__all__ = ["BatchIterator", "epoch_order"]


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


class BatchIterator:
    """An endless-by-epochs iterator over batches of slices.

    ``for batch in iterator`` runs through one epoch; the next ``for`` runs through the next, in another order.
    A batch is a dict: ``image`` float32 or int16 (B, C, H, W) in HU, ``label`` uint8 (B, H, W), ``case`` int64 (B,) and
    ``slice`` int64 (B,).

    Parameters
    ----------
    cases : sequence of StoredCase
        Of one image size.
    ranges : sequence of (int, int)
        Slices of each case, (first, one after the last).
    batch_size : int
        Samples in a batch; the last one of an epoch may be smaller unless `drop_last`.
    shuffle, seed
        Order; the same seed gives the same batches whatever the number of threads.
    threads : int
        Threads that gather, 0 for none.
    prefetch : int
        Batches gathered ahead.
    drop_last : bool
        Leave out a last batch that is not full.
    rank, world_size : int
        Share of a distributed training.
    pin_memory : bool
        Gather into page-locked memory, from which a GPU copies asynchronously.
    dtype : torch.dtype
        Of the image: float32, or int16 to convert on the device.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        ranges: Sequence[tuple[int, int]],
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        threads: int = 2,
        prefetch: int = 4,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch_size < 1 or threads < 0 or prefetch < 1:
            raise UsageError(f"batch_size {batch_size}, threads {threads}, prefetch {prefetch}: use 1, 0, 1 or more.")
        if dtype not in (torch.float32, torch.int16):
            raise UsageError(f"dtype is {dtype}; stored slices come as torch.float32 or torch.int16.")
        sizes = {case.shape[:1] + case.shape[2:] for case in cases}
        if len(sizes) > 1:
            raise StoreError(f"cases of different sizes {sorted(sizes)} do not make batches; crop or resample them.")
        self.cases = tuple(cases)
        self.batch_size, self.threads, self.prefetch = batch_size, threads, prefetch
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.rank, self.world_size = rank, world_size
        self.pin_memory, self.dtype = pin_memory, dtype
        self.epoch, self.position = 0, 0
        self._case = np.repeat(np.arange(len(cases)), [last - first for first, last in ranges]).astype(np.int64)
        self._slice = np.concatenate([np.arange(*pair) for pair in ranges] or [np.zeros(0, dtype=np.int64)]).astype(
            np.int64
        )
        self._maps: dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<BatchIterator: {len(self._case)} slices, batches of {self.batch_size}, epoch {self.epoch}>"

    def __len__(self) -> int:
        """Batches in an epoch of this rank."""
        mine = len(range(self.rank, len(self._case), self.world_size))
        return mine // self.batch_size if self.drop_last else -(-mine // self.batch_size)

    def state_dict(self) -> dict[str, int]:
        """Return where the iterator is: the next batch is `position` of `epoch`."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, "samples": len(self._case)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue exactly where another iterator over the same samples was.

        Raises
        ------
        StoreError
            The state is of another set of samples, or of another seed.
        """
        if state["samples"] != len(self._case) or state["seed"] != self.seed:
            raise StoreError(
                f"the state is of {state['samples']} samples with seed {state['seed']}, this iterator has "
                f"{len(self._case)} with seed {self.seed}; continuing would repeat some and miss others."
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        order = epoch_order(
            len(self._case),
            seed=self.seed,
            epoch=self.epoch,
            shuffle=self.shuffle,
            rank=self.rank,
            world_size=self.world_size,
        )
        parts = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        todo = parts[self.position :]
        if not self.threads:
            for part in todo:
                batch = self._gather(part)
                self.position += 1
                yield batch
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                queue: deque[Future[dict[str, Tensor]]] = deque()
                remaining = iter(todo)
                try:
                    for part in remaining:
                        queue.append(pool.submit(self._gather, part))
                        if len(queue) <= self.prefetch:
                            continue
                        batch = queue.popleft().result()
                        self.position += 1
                        yield batch
                    while queue:
                        batch = queue.popleft().result()
                        self.position += 1
                        yield batch
                finally:
                    for future in queue:
                        future.cancel()
        self.epoch, self.position = self.epoch + 1, 0

    def _gather(self, samples: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        channels, _, height, width = self.cases[0].shape
        image = torch.empty((len(samples), channels, height, width), dtype=self.dtype, pin_memory=self.pin_memory)
        label = torch.empty((len(samples), height, width), dtype=torch.uint8, pin_memory=self.pin_memory)
        image_array, label_array = image.numpy(), label.numpy()
        for row, sample in enumerate(samples):
            images, labels = self._arrays(int(self._case[sample]))
            d = int(self._slice[sample])
            np.copyto(image_array[row], images[:, d])
            np.copyto(label_array[row], labels[d])
        return {
            "image": image,
            "label": label,
            "case": torch.from_numpy(self._case[samples]),
            "slice": torch.from_numpy(self._slice[samples]),
        }

    def _arrays(self, number: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        found = self._maps.get(number)
        if found is None:
            with self._lock:
                case = self.cases[number]
                found = self._maps.setdefault(number, (np.asarray(case.image), np.asarray(case.label)))
        return found
