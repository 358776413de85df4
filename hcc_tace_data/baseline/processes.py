"""The processes of a distributed training, before the training itself has begun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["on_cpu", "one_after_the_other", "rank", "world_size"]


def rank() -> int:
    """Return the number of this process, from what ``torchrun`` sets."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_cpu() -> bool:
    """Whether the processes must be told to use the CPU: accelerate joins them there only when told."""
    import torch  # noqa: PLC0415 - slow to import

    return world_size() > 1 and not torch.cuda.is_available()


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """Let the first process through the block, then all others: what it leaves on disk is there for them."""
    if world_size() == 1:
        yield
        return
    from accelerate import PartialState  # noqa: PLC0415 - slow to import

    with PartialState(cpu=on_cpu()).main_process_first():
        yield
