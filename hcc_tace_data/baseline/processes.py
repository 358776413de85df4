"""The processes of a distributed training: who does what, and how they wait for each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

__all__ = ["default_device", "gather", "leave", "on_cpu", "one_after_the_other", "rank", "share_of", "world_size"]


def rank() -> int:
    """Return the number of this process, from what ``torchrun`` sets."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_cpu() -> bool:
    """Whether the processes must be configured for the CPU: accelerate only joins them there if so."""
    import torch  # noqa: PLC0415 - slow to import

    return world_size() > 1 and not torch.cuda.is_available()


def default_device() -> str:
    """Return the device of this process: its own GPU where there are any, else the CPU."""
    import torch  # noqa: PLC0415 - slow to import

    if torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def share_of(sizes: Sequence[int], number: int | None = None, count: int | None = None) -> list[int]:
    """Return which of several tasks a process does, so that all processes are busy for about as long.

    Parameters
    ----------
    sizes : sequence of int
        How long each task takes, in any unit.
    number, count : int, optional
        The process, and how many there are; default this one of those that run.

    Returns
    -------
    list of int
        Indices into `sizes`, ascending. Each index belongs to one process.

    Examples
    --------
    >>> [share_of([90, 40, 50, 10], number, 2) for number in (0, 1)]
    [[0, 3], [1, 2]]
    """
    number, count = rank() if number is None else number, world_size() if count is None else count
    loads, mine = [0] * count, []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        process = loads.index(min(loads))
        loads[process] += sizes[index]
        if process == number:
            mine.append(index)
    return sorted(mine)


def gather(value: Any) -> list[Any]:
    """Return what every process has, in order of the processes; each waits for the slowest."""
    if world_size() == 1:
        return [value]
    import torch.distributed  # noqa: PLC0415 - slow to import

    parts: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(parts, value, group=_waiting_group())
    return parts


def leave() -> None:
    """Leave the other processes, once all have come this far.

    A program that ends while it is still connected to the others may be aborted as they close their ends.
    """
    if world_size() == 1:
        return
    import torch.distributed  # noqa: PLC0415 - slow to import

    gather(None)
    torch.distributed.destroy_process_group()
    _waiting.clear()


def _waiting_group() -> Any:
    """Return a group for waiting: NCCL ends a program when one process is ten minutes late, this group does not."""
    import torch.distributed  # noqa: PLC0415 - slow to import
    from accelerate import PartialState  # noqa: PLC0415 - slow to import

    PartialState(cpu=on_cpu())  # joins the processes, if nothing has before
    whole = torch.distributed.group.WORLD
    if whole not in _waiting:
        _waiting.clear()
        _waiting[whole] = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    return _waiting[whole]


#: Group of all processes -> the group in which they wait for each other.
_waiting: dict[Any, Any] = {}
#: How long a process waits for another: the first may prepare a whole collection.
_PATIENCE = timedelta(days=1)


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """Let the first process through the block, then all others: what it leaves on disk is there for them."""
    if rank() > 0:
        gather(None)
    yield
    if rank() == 0:
        gather(None)
