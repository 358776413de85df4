"""Boxes are copied voxel by voxel from their place, whatever the types, layouts and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.loaders.supply.boxes import Cropped, bounds, place_box


def _expected(
    array: npt.NDArray[Any], corner: tuple[int, ...], shape: tuple[int, ...], outside: int
) -> npt.NDArray[Any]:
    """Every voxel by its index."""
    full = np.full(shape, outside, dtype=array.dtype)
    lead = len(shape) - len(corner)
    for index in np.ndindex(*shape[lead:]):
        place = tuple(np.add(index, corner))
        if all(0 <= p < n for p, n in zip(place, array.shape[lead:], strict=True)):
            full[(..., *index)] = array[(..., *place)]
    return full


@given(
    data=st.data(),
    axes=st.integers(2, 3),
    channels=st.integers(0, 2),
    kind=st.sampled_from(["int16", "uint8", "float32"]),
    layout=st.sampled_from(["plain", "columns apart", "backwards", "Fortran"]),
)
@settings(deadline=None, max_examples=200)
def test_each_voxel_comes_from_its_place(data: st.DataObject, axes: int, channels: int, kind: str, layout: str) -> None:
    lead = (channels,) if channels else ()
    extent, size = (data.draw(st.tuples(*[st.integers(1, 6)] * axes)) for _ in range(2))
    corner = data.draw(st.tuples(*[st.integers(-3, 6)] * axes))
    array = np.arange(1, 1 + int(np.prod((*lead, *extent)))).astype(kind).reshape(*lead, *extent)
    if layout == "columns apart":
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "backwards":
        array = array[..., ::-1].copy()[..., ::-1]
    elif layout == "Fortran":
        array = np.asfortranarray(array)
    wide = np.empty((*lead, *size, 2), "float32" if kind == "float32" else "int16")
    for out in (np.empty((*lead, *size), "float32"), wide[..., 0]):
        place_box(array, corner, out, -7)
        np.testing.assert_array_equal(out, _expected(array.astype("int32"), corner, out.shape, -7))


@pytest.mark.parametrize("shape", [(150, 96, 96), (2, 120, 96, 97), (1, 2, 1000, 700), (900, 1300)])
def test_boxes_larger_than_what_is_converted_at_once(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(-1024, 3000, (*shape[:-1], shape[-1] + 5), dtype=np.int16)
    out = np.empty(shape, dtype=np.float32)
    place_box(array, (0,) * (len(shape) - 1) + (3,), out, 0)
    np.testing.assert_array_equal(out, array[..., 3:-2])


def test_ones_of_an_extent() -> None:
    out = np.empty((2, 3, 4), dtype=np.uint8)
    place_box(None, (-1, 0, 2), out, 0, extent=(5, 2, 4))
    assert out.sum() == 1 * 2 * 2
    assert out[1, :2, :2].all()


@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_what_is_left_out_of_a_label_map_is_zero(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    label = np.zeros(shape, dtype=np.uint8)
    for place in data.draw(st.lists(st.tuples(*[st.integers(0, n - 1) for n in shape]), max_size=3)):
        label[place] = data.draw(st.integers(1, 4))
    kept = Cropped.of(label, bounds(label)).copy()
    assert kept.array.size <= label.size
    corner, size = data.draw(st.tuples(*[st.integers(-3, 6)] * 3)), data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    out = np.full(size, 9, dtype=np.uint8)
    kept.place(corner, out)
    np.testing.assert_array_equal(out, _expected(label.astype("int32"), corner, size, 0))
    for d in range(len(label)):
        np.testing.assert_array_equal(kept.plane(d), label[d])
