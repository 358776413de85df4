"""Memory for batches that is used again once nobody holds the batch.

A batch of 16 slices is 20 MB. Memory of that size comes fresh from the kernel, which clears it page by page: that costs
several times what filling it does.
"""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["BufferPool"]

_KEPT = 16


class BufferPool:
    """Gives out tensors, and takes their memory back when the last tensor that shares it is gone.

    A tensor that somebody keeps, or a view of it, is never written again: its memory returns with it.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = {}
        # a batch may be dropped by the garbage collector at any moment, also while this very thread holds the lock
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool = False) -> Tensor:
        """Return a tensor of undefined content.

        Page-locked memory comes from PyTorch's own cache, which waits for copies to a GPU that are still under way.
        """
        if pin_memory:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        nbytes = math.prod(shape) * dtype.itemsize
        with self._lock:
            kept = self._free.get(nbytes)
            memory = kept.pop() if kept else None
        if memory is None:
            memory = np.empty(nbytes, dtype=np.uint8)
        # the tensor's storage holds this view, and whatever shares the storage holds it alive
        view = memory[:]
        weakref.finalize(view, self._give_back, nbytes, memory).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    def _give_back(self, nbytes: int, memory: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            kept = self._free.setdefault(nbytes, [])
            if len(kept) < _KEPT:
                kept.append(memory)
