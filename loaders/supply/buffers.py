"""Memory for batches that is used again once nobody holds the batch.

A batch of 16 slices is 20 MB. Memory of that size comes fresh from the kernel, which clears it page by page: that costs
several times what filling it does.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["BufferPool"]

_KEPT = 16
# bytes; rows that begin between two lines of the processor's cache take longer to write
_LINE = 64


class BufferPool:
    """Gives out tensors, and takes their memory back when the last tensor that shares it is gone.

    A tensor that somebody keeps, or a view of it, is never written again: its memory returns with it.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = {}
        self._lent: dict[int, tuple[weakref.ref[Any], npt.NDArray[np.uint8]]] = {}
        # a batch may be dropped by the garbage collector at any moment, also while this very thread holds the lock
        self._lock = threading.RLock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def empty(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], *, pin_memory: bool = False
    ) -> tuple[Tensor, npt.NDArray[Any]]:
        """Return a tensor of undefined content, and an array over the same memory to fill it by.

        Page-locked memory comes from PyTorch's own cache, which waits for copies to a GPU that are still under way.
        """
        if pin_memory:
            tensor = torch.empty(shape, dtype=getattr(torch, dtype.name), pin_memory=True)
            return tensor, tensor.numpy()
        nbytes = math.prod(shape) * dtype.itemsize
        with self._lock:
            kept = self._free.get(nbytes)
            memory = kept.pop() if kept else _aligned(nbytes)
            array = memory.view(dtype).reshape(shape)
            # the tensor's storage holds this array, and whatever shares the storage holds it alive; a bare reference,
            # for weakref.finalize takes longer than all the rest
            gone = weakref.ref(array, self._take_back)
            self._lent[id(gone)] = gone, memory
        return torch.from_numpy(array), array

    def _take_back(self, gone: weakref.ref[Any], *, most: int = _KEPT, getpid: Callable[[], int] = os.getpid) -> None:
        # Defaults, because a batch may outlive this module's names when the interpreter ends. In a forked child nobody
        # may hold the lock any more who could give it back, and the memory is the parent's to reuse.
        if getpid() != self._process:
            return
        with self._lock:
            _, memory = self._lent.pop(id(gone))
            kept = self._free.setdefault(memory.nbytes, [])
            if len(kept) < most:
                kept.append(memory)


def _aligned(nbytes: int) -> npt.NDArray[np.uint8]:
    memory = np.empty(nbytes + _LINE, dtype=np.uint8)
    first = -memory.ctypes.data % _LINE
    return memory[first : first + nbytes]
