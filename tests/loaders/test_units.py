"""Slices and patches as objects: what they accept, refuse and print."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcc_tace_data import Patches, Slices
from hcc_tace_data.errors import UsageError


@given(side=st.integers(1, 600), kind=st.sampled_from([int, np.int64, np.uint16]))
def test_one_number_counts_for_all_axes(side: int, kind: Any) -> None:
    assert Slices(size=kind(side)) == Slices(size=(side, side)) == Slices("liver", [side, side])
    assert Patches(kind(side)) == Patches(size=np.array([side] * 3))
    assert {type(n) for n in (*(Slices(size=kind(side)).size or ()), *Patches(kind(side)).size)} == {int}


@pytest.mark.parametrize("unit", [Slices("tumour", 48), Patches(32, 2, 0.25, 9)])
def test_they_are_values(unit: Any) -> None:
    assert eval(repr(unit), {"Slices": Slices, "Patches": Patches}) == unit
    assert pickle.loads(pickle.dumps(unit)) == unit == copy.deepcopy(unit) == dataclasses.replace(unit)
    assert len({unit, copy.copy(unit)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        unit.size = None


@pytest.mark.parametrize("size", [0, -1, 1.0, True, "44", b"44", (1,), (1, 2, 3, 4), (0, 1, 1), (1.5, 1, 1), {}, None])
def test_other_sizes_are_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="patch size"):
        Patches(size=size)
    if size is not None:
        with pytest.raises(UsageError, match="slice size"):
            Slices(size=size)


@pytest.mark.parametrize(
    "wrong",
    [
        {"per_volume": 0},
        {"per_volume": 1.5},
        {"foreground": 1.5},
        {"foreground": float("nan")},
        {"foreground": "half"},
        {"seed": 0.5},
        {"seed": None},
    ],
)
def test_other_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Patches(**wrong)
    with pytest.raises(UsageError, match="range"):
        Slices("kidney")  # type: ignore[arg-type]  # the point of the test
