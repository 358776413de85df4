"""Threaded batches: every slice once, in a seeded order, resumable and shared between ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.errors import StoreError, UsageError
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.loaders.supply.batches import BatchIterator, epoch_order

QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _ranges(stored: list[StoredCase]) -> list[tuple[int, int]]:
    return [case.liver[0] for case in stored if case.liver is not None]


def _pairs(iterator: BatchIterator) -> list[tuple[int, int]]:
    return [pair for batch in iterator for pair in zip(batch["case"].tolist(), batch["slice"].tolist(), strict=True)]


@given(batch_size=st.integers(1, 9), threads=st.integers(0, 3), prefetch=st.integers(1, 5), seed=st.integers(0, 99))
@QUICK
def test_an_epoch_shows_every_slice_once_with_its_own_voxels(
    stored: list[StoredCase], batch_size: int, threads: int, prefetch: int, seed: int
) -> None:
    iterator = BatchIterator(
        stored, _ranges(stored), batch_size=batch_size, threads=threads, prefetch=prefetch, seed=seed
    )
    batches = list(iterator)
    assert len(batches) == len(iterator)
    seen = []
    for batch in batches:
        for image, label, case, d in zip(batch["image"], batch["label"], batch["case"], batch["slice"], strict=True):
            np.testing.assert_array_equal(image.numpy(), stored[case].image[:, d].astype(np.float32))
            np.testing.assert_array_equal(label.numpy(), stored[case].label[d])
            seen.append((int(case), int(d)))
    assert sorted(seen) == [(n, d) for n, pair in enumerate(_ranges(stored)) for d in range(*pair)]


def test_order_depends_on_seed_and_epoch_but_not_on_threads(stored: list[StoredCase]) -> None:
    def make(seed: int, threads: int) -> BatchIterator:
        return BatchIterator(stored, _ranges(stored), batch_size=3, seed=seed, threads=threads)

    one, two = make(1, 0), make(1, 3)
    first = _pairs(one)
    assert first == _pairs(two)
    second = _pairs(one)
    assert second != first
    assert sorted(second) == sorted(first)
    assert _pairs(make(2, 0)) != first


@given(taken=st.integers(0, 7), threads=st.integers(0, 2))
@QUICK
def test_a_resumed_iterator_continues_exactly(stored: list[StoredCase], taken: int, threads: int) -> None:
    def make() -> BatchIterator:
        return BatchIterator(stored, _ranges(stored), batch_size=3, seed=4, threads=threads)

    whole = make()
    expected = [batch["image"] for _ in range(2) for batch in whole]
    broken = make()
    source = iter(broken)
    got = [next(source)["image"] for _ in range(min(taken, len(broken)))]
    state = broken.state_dict()
    source.close()  # type: ignore[attr-defined]  # a generator
    resumed = make()
    resumed.load_state_dict(state)
    while len(got) < len(expected):
        got += [batch["image"] for batch in resumed]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_foreign_state_is_refused(stored: list[StoredCase]) -> None:
    state = BatchIterator(stored, _ranges(stored), batch_size=3).state_dict()
    with pytest.raises(StoreError, match="repeat some samples and miss others"):
        BatchIterator(stored[:2], _ranges(stored)[:2], batch_size=3).load_state_dict(state)


@given(count=st.integers(0, 50), world=st.integers(1, 6), epoch=st.integers(0, 5), shuffle=st.booleans())
@settings(deadline=None, max_examples=60)
def test_ranks_share_an_epoch_without_overlap(count: int, world: int, epoch: int, shuffle: bool) -> None:
    parts = [
        epoch_order(count, seed=3, epoch=epoch, shuffle=shuffle, rank=rank, world_size=world) for rank in range(world)
    ]
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_int16_and_dropped_last(stored: list[StoredCase]) -> None:
    iterator = BatchIterator(stored, _ranges(stored), batch_size=4, drop_last=True, dtype=torch.int16)
    batches = list(iterator)
    assert all(batch["image"].dtype == torch.int16 and len(batch["image"]) == 4 for batch in batches)
    assert len(batches) == len(iterator) == sum(b - a for a, b in _ranges(stored)) // 4


def test_nonsense_is_refused(stored: list[StoredCase]) -> None:
    with pytest.raises(UsageError):
        BatchIterator(stored, _ranges(stored), batch_size=0)
    with pytest.raises(UsageError, match=r"torch\.float64"):
        BatchIterator(stored, _ranges(stored), batch_size=1, dtype=torch.float64)
    with pytest.raises(UsageError, match="rank"):
        epoch_order(5, seed=0, epoch=0, shuffle=True, rank=2, world_size=2)


@given(taken=st.integers(1, 4), threads=st.integers(0, 2))
@QUICK
def test_after_a_broken_off_epoch_the_next_one_begins(stored: list[StoredCase], taken: int, threads: int) -> None:
    def make() -> BatchIterator:
        return BatchIterator(stored, _ranges(stored), batch_size=3, seed=8, threads=threads)

    whole = make()
    _, second = _pairs(whole), _pairs(whole)
    broken = make()
    for number, _ in enumerate(broken, start=1):
        if number == taken:
            break
    assert _pairs(broken) == second


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("threads", [0, 2])
def test_a_forked_child_iterates_the_batches_of_its_parent(stored: list[StoredCase], threads: int) -> None:
    batches = BatchIterator(stored, _ranges(stored), batch_size=2, seed=3, threads=threads)
    source = iter(batches)
    held = [next(source), next(source)]  # threads are at work, and memory is lent
    if threads:  # the worst moment: a thread that the child does not have holds the locks
        batches._lock.acquire()
        batches._pool._lock.acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            held.clear()
            with pytest.raises(StoreError, match="parent process") if threads else nullcontext():
                next(source)
            pairs = [pair for batch in batches for pair in _places(batch)]
            status = 0 if len(pairs) == len(set(pairs)) == batches.count else 2
        finally:
            os._exit(status)
    if threads:
        batches._pool._lock.release()
        batches._lock.release()
    limit = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    assert len(held) + len(list(source)) == len(batches)


def _places(batch: dict[str, Any]) -> list[tuple[int, int]]:
    return list(zip(batch["case"].tolist(), batch["slice"].tolist(), strict=True))


def test_a_batch_may_outlive_the_modules(stored: list[StoredCase]) -> None:
    """At the end of the program Python empties modules before it drops what others still hold."""
    program = f"""
import builtins, pathlib, sys
from hcc_tace_data.loaders.store import read_record
from hcc_tace_data.loaders.supply.batches import BatchIterator
cases = [read_record(pathlib.Path(folder)) for folder in {[str(case.folder) for case in stored]!r}]
batches = BatchIterator(cases, [(0, 3)] * len(cases), batch_size=2)
builtins.held = list(batches)
# a module that something refers to is emptied, as happens after libraries that keep modules were imported
builtins.kept = sys.modules["hcc_tace_data.loaders.supply.buffers"]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
