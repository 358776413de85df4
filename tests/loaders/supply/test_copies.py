"""Copies put down and then done in one go are those NumPy would have made one by one, compiled or not."""

from __future__ import annotations

import shutil
import sysconfig
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.loaders.supply import copies as module
from hcc_tace_data.loaders.supply.copies import Copy, compiled, copy_all, fill

Array = npt.NDArray[Any]


@pytest.fixture(params=["compiled", "NumPy"], scope="module", autouse=True)
def engine(request: pytest.FixtureRequest) -> Any:
    if request.param == "compiled" and not compiled():
        pytest.skip("no C compiler was there at installation; with one, 'pip install -e .' compiles these copies")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "NumPy":
            patch.setattr(module, "_compiled", None)
        yield request.param


def test_copies_are_compiled_where_there_is_a_compiler(engine: str) -> None:
    compiler = (sysconfig.get_config_var("CC") or "").split(" ")[0]
    if engine == "compiled" and shutil.which(compiler):
        assert compiled()


def _laid_out(draw: Any, shape: tuple[int, ...], dtype: str) -> Array:
    """An array of `shape` whose values lie in memory as views of other arrays do."""
    wide = tuple(n + draw(st.integers(0, 2)) for n in shape)
    steps = tuple(draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in shape)
    base = np.zeros(tuple(n * abs(step) for n, step in zip(wide, steps, strict=True)), dtype=dtype)
    if draw(st.booleans()):
        base = np.asfortranarray(base)
    if draw(st.booleans()):  # begins between two values
        raw = np.zeros(base.nbytes + 1, dtype=np.uint8)
        base = raw[1:].view(dtype).reshape(base.shape)
    base[...] = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 200, base.shape)
    view = base[tuple(slice(None, None, step) for step in steps)]
    return view[tuple(slice(n) for n in shape)]


PAIRS = [
    ("<i2", "<f4"), ("<i2", "<i2"), ("<u1", "<u1"), ("<f4", "<f4"), ("<f8", "<f8"), ("<u1", "<f4"),
    (">i2", "<f4"), (">i2", ">i2"), ("<i2", ">f4"), ("<c8", "<c8"), ("?", "?"),
]  # fmt: skip


@given(data=st.data())
@settings(deadline=None, max_examples=400)
def test_several_copies_are_what_numpy_makes_one_by_one(data: st.DataObject) -> None:
    copies: list[Copy] = []
    targets, wanted = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        source_type, target_type = data.draw(st.sampled_from(PAIRS))
        shape = data.draw(st.lists(st.sampled_from([0, 1, 1, 2, 3, 5, 33, 70]), min_size=1, max_size=3))
        shape = tuple(shape) if np.prod(shape) < 5000 else tuple(shape[:1])
        if data.draw(st.booleans()):
            shape = (*shape, 1)
        target, source = (_laid_out(data.draw, shape, kind) for kind in (target_type, source_type))
        want = target.copy()
        if data.draw(st.booleans()):
            copies.append((target, source))
            np.copyto(want, source)
        else:
            value = data.draw(st.integers(0, 1))
            copies.append(fill(target, value))
            want[...] = value
        targets.append(target)
        wanted.append(want)
    copy_all(copies)
    for target, want in zip(targets, wanted, strict=True):
        np.testing.assert_array_equal(target, want)


def test_every_int16_becomes_its_float() -> None:
    every = np.arange(-(2**15), 2**15).astype(np.int16)
    out = np.empty(every.shape, np.float32)
    copy_all([(out, every)])
    np.testing.assert_array_equal(out, every.astype(np.float64))


@pytest.mark.parametrize("value", [0, 1, -1024])
@pytest.mark.parametrize("dtype", ["float32", "int16", "float64"])
def test_filling_leaves_what_lies_beside(value: int, dtype: str) -> None:
    base = np.full((7, 9, 11), 5, dtype=dtype)
    copy_all([fill(base[1:6, 2:8, 3:10], value)])
    want = np.full((7, 9, 11), 5, dtype=dtype)
    want[1:6, 2:8, 3:10] = value
    np.testing.assert_array_equal(base, want)


def test_later_copies_are_over_earlier_ones_and_none_is_made_before_all_are_known() -> None:
    out = np.full(4, 9, np.uint8)
    copies = [fill(out, 0), (out[1:3], np.array([3, 4], np.uint8))]
    assert out.tolist() == [9, 9, 9, 9]
    copy_all(copies)
    assert out.tolist() == [0, 3, 4, 0]
    out[:] = 7
    copy_all([])
    assert out.tolist() == [7, 7, 7, 7]


def test_other_shapes_and_read_only_targets_are_refused() -> None:
    out = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="another shape"):
        copy_all([(out, np.ones((3, 2), np.int16))])
    with pytest.raises(ValueError, match="another shape"):
        copy_all([(out, np.ones((1, 2, 3), np.int16))])
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        copy_all([(out, np.ones((2, 3), np.int16))])
    assert not out.any()


def test_python_objects_are_counted() -> None:
    import sys

    thing = object()
    before = sys.getrefcount(thing)
    out = np.empty(3, dtype=object)
    copy_all([(out, np.array([thing] * 3, dtype=object))])
    assert sys.getrefcount(thing) == before + 3
    del out
    assert sys.getrefcount(thing) == before


def test_others_run_while_it_copies(engine: str) -> None:
    out, source = np.zeros(8_000_000, np.float32), np.ones(8_000_000, np.int16)
    copies, spent, counted = [(out, source)] * 60, threading.Event(), []

    def count() -> None:
        while not spent.is_set():
            counted.append(time.perf_counter())

    other = threading.Thread(target=count)
    other.start()
    start = time.perf_counter()
    copy_all(copies)
    end = time.perf_counter()
    spent.set()
    other.join()
    # held, the lock would come back once at the end, or after each of the 60 copies
    here = [t for t in counted if start < t < end]
    assert len(here) > 1000
    assert max(np.diff([start, *here, end])) < (end - start) / 2
