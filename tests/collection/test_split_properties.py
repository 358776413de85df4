"""Sweeps stacked in one series come apart whatever the headers lost, and slices never get lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.collection.split import split_series
from hcc_tace_data.collection.split_marks import clock, cluster


@dataclass
class Stack:
    """Sweeps over one region, in the order of acquisition: heights of each, and the table they make."""

    sweeps: list[np.ndarray]
    frame: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        heights = np.concatenate(self.sweeps)
        sweep = np.repeat(np.arange(len(self.sweeps)), [len(one) for one in self.sweeps])
        count = len(heights)
        self.frame = pd.DataFrame(
            {
                "position_x": -200.0, "position_y": -200.0, "position_z": heights,
                "orientation_0": 1.0, "orientation_1": 0.0, "orientation_2": 0.0,
                "orientation_3": 0.0, "orientation_4": 1.0, "orientation_5": 0.0,
                "acquisition_number": pd.array(sweep + 1, dtype="Int64"),
                "instance_number": pd.array(np.arange(1, count + 1), dtype="Int64"),
                "acquisition_date": "20060301", "acquisition_time": "", "content_time": "",
                "rows": 512, "columns": 512, "spacing_row": 0.8, "spacing_column": 0.8, "slice_thickness": 2.5,
                "sop_uid": [f"1.{i}" for i in range(count)], "sweep": sweep,
            }
        )  # fmt: skip

    def times(self, start: int, pauses: list[int], *, each: float) -> list[str]:
        """One time a slice, `each` seconds apart within a sweep, sweeps `pauses` apart; may run over midnight."""
        within = self.frame.groupby("sweep").cumcount().to_numpy() * each
        seconds = (start + np.array(pauses)[self.frame["sweep"]] + within) % 86400
        return [f"{int(s) // 3600:02d}{int(s) // 60 % 60:02d}{s % 60:09.6f}" for s in seconds]


@st.composite
def stacks(draw: st.DrawFn, *, offsets: tuple[float, ...] = (0.0, 0.5, -0.5), cut: bool = True) -> Stack:
    """Two or three sweeps: same spacing, shifted by half a millimetre, cut at either end, up or down, a slice gone."""
    spacing = draw(st.sampled_from([1.0, 1.25, 2.5, 5.0]))
    length = draw(st.integers(10, 30))
    sweeps = []
    down = draw(st.booleans())
    for number in range(draw(st.integers(2, 3))):
        heights = -120.0 + spacing * np.arange(length)
        if number:
            heights = heights + draw(st.sampled_from(offsets))
            if cut:
                first = draw(st.integers(0, length // 4))
                heights = heights[first : length - draw(st.integers(0, length // 4))]
        if cut and draw(st.booleans()):
            heights = np.delete(heights, draw(st.integers(1, len(heights) - 2)))
        sweeps.append(heights[::-1] if down else heights)
    return Stack(sweeps)


def _check(stack: Stack, frame: pd.DataFrame) -> None:
    parts = split_series(frame)
    assert sorted(uid for part in parts for uid in part["sop_uid"]) == sorted(frame["sop_uid"])
    assert [part["sweep"].unique().tolist() for part in parts] == [[n] for n in range(len(stack.sweeps))]
    assert all((np.diff(part["position_z"]) > 0).all() for part in parts)


SETTINGS = settings(deadline=None, max_examples=40)


@given(stacks(), st.data())
@SETTINGS
def test_acquisition_numbers_with_shuffled_instances_and_no_times(stack: Stack, data: st.DataObject) -> None:
    frame = stack.frame
    order = data.draw(st.permutations(range(len(frame))))
    frame["instance_number"] = pd.array(np.array(order) + 1, dtype="Int64")
    _check(stack, frame.iloc[data.draw(st.permutations(range(len(frame))))])


@given(stacks(offsets=(0.0,), cut=False), st.data())
@SETTINGS
def test_a_few_acquisition_numbers_are_missing(stack: Stack, data: st.DataObject) -> None:
    frame = stack.frame
    # at most one at a height, so that a slice belongs where one lacks
    heights = sorted(set(frame["position_z"]))
    for height in data.draw(st.lists(st.sampled_from(heights), max_size=len(heights) // 3, unique=True)):
        rows = frame.index[frame["position_z"] == height]
        frame.loc[data.draw(st.sampled_from(list(rows))), "acquisition_number"] = pd.NA
    _check(stack, frame.sample(frac=1, random_state=1))


@given(
    stacks(), st.integers(0, 86399), st.sampled_from(["acquisition_time", "content_time"]), st.sampled_from([0.0, 0.4])
)
@SETTINGS
def test_times_alone_also_over_midnight(stack: Stack, start: int, column: str, each: float) -> None:
    frame = stack.frame
    frame["acquisition_number"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    frame["instance_number"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    frame[column] = stack.times(start, [0, 40, 200], each=each)
    _check(stack, frame.sample(frac=1, random_state=2))


@given(stacks())
@SETTINGS
def test_order_of_instances_alone(stack: Stack) -> None:
    frame = stack.frame
    frame["acquisition_number"] = pd.array([1] * len(frame), dtype="Int64")
    frame["acquisition_time"] = "101500"  # one time for all, as in some series of the collection
    _check(stack, frame.sample(frac=1, random_state=3))


@given(stacks(offsets=(0.0, 0.5), cut=False))
@SETTINGS
def test_a_table_that_runs_back(stack: Stack) -> None:
    stack = Stack([heights[::-1] if number % 2 else heights for number, heights in enumerate(stack.sweeps)])
    stack.frame["acquisition_number"] = pd.array([1] * len(stack.frame), dtype="Int64")
    _check(stack, stack.frame.sample(frac=1, random_state=3))


@given(stacks(offsets=(0.0,), cut=False))
@SETTINGS
def test_slices_of_one_height_in_a_row(stack: Stack) -> None:
    frame = stack.frame.sort_values(["position_z", "sweep"], kind="stable")
    frame["acquisition_number"] = pd.array([1] * len(frame), dtype="Int64")
    frame["instance_number"] = pd.array(np.arange(1, len(frame) + 1), dtype="Int64")
    _check(stack, frame.sample(frac=1, random_state=4))


@given(stacks(), st.data())
@SETTINGS
def test_without_any_mark_nothing_is_guessed_and_nothing_lost(stack: Stack, data: st.DataObject) -> None:
    frame = stack.frame
    frame["acquisition_number"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    lost = data.draw(st.sampled_from(["none", "shuffled", "same"]))
    numbers = {
        "none": [pd.NA] * len(frame),
        "shuffled": list(np.random.default_rng(5).permutation(len(frame))),
        "same": frame.groupby("sweep").cumcount().tolist(),
    }[lost]
    frame["instance_number"] = pd.array(numbers, dtype="Int64")
    parts = split_series(frame)
    assert sorted(uid for part in parts for uid in part["sop_uid"]) == sorted(frame["sop_uid"])
    if len(parts) > 1:  # then rightly
        assert [part["sweep"].nunique() for part in parts] == [1] * len(stack.sweeps)


@given(st.integers(8, 40), st.sampled_from([1.0, 2.5, 5.0]), st.data())
@SETTINGS
def test_one_sweep_stays_one(length: int, spacing: float, data: st.DataObject) -> None:
    """Missing slices, two thicknesses in a row, a number for each slice or stretch, pauses: one volume all the same."""
    steps = np.full(length, spacing)
    coarse = data.draw(st.integers(0, length))
    steps[coarse:] *= data.draw(st.sampled_from([1.0, 2.0, 4.0]))
    heights = np.delete(np.cumsum(steps), data.draw(st.lists(st.integers(1, length - 2), max_size=2, unique=True)))
    stack = Stack([heights])
    frame = stack.frame
    kind = data.draw(st.sampled_from(["one", "each", "stretches", "stray", "none"]))
    numbers = {
        "one": [1] * len(frame),
        "each": list(range(1, len(frame) + 1)),
        "stretches": list(np.arange(len(frame)) // 4),
        "stray": [2 if i == len(frame) // 2 else 1 for i in range(len(frame))],
        "none": [pd.NA] * len(frame),
    }[kind]
    frame["acquisition_number"] = pd.array(numbers, dtype="Int64")
    frame["acquisition_time"] = stack.times(3600, [0], each=data.draw(st.sampled_from([0.0, 0.5, 7.0])))
    if data.draw(st.booleans()):
        frame["instance_number"] = pd.array(np.random.default_rng(6).permutation(len(frame)), dtype="Int64")
    assert [len(part) for part in split_series(frame)] == [len(frame)]


def test_a_scout_first_is_no_reason_to_measure_along_it() -> None:
    stack = Stack([np.arange(0.0, 50, 2.5), np.arange(0.0, 50, 2.5)])
    scout = stack.frame.iloc[[0]].assign(
        orientation_3=0.0, orientation_4=0.0, orientation_5=-1.0, sop_uid="scout", acquisition_number=2
    )
    parts = split_series(pd.concat([scout, stack.frame], ignore_index=True))
    assert [len(part) for part in parts] == [20, 21]
    assert parts[1]["sop_uid"].iloc[-1] == "scout"


def test_a_number_that_marks_only_one_of_three_sweeps() -> None:
    heights = np.arange(0.0, 60, 2.5)
    stack = Stack([heights, heights, heights])
    stack.frame["acquisition_number"] = pd.array([1] * 24 + [2] * 48, dtype="Int64")
    _check(stack, stack.frame)


def test_two_regions_of_one_sweep_and_a_second_phase() -> None:
    chest, abdomen = 300 + np.arange(0.0, 100, 5), np.arange(0.0, 300, 5)
    both = np.concatenate([abdomen, chest])
    stack = Stack([both, both])
    stack.frame["acquisition_number"] = pd.array([1] * 60 + [2] * 20 + [3] * 60 + [4] * 20, dtype="Int64")
    _check(stack, stack.frame)


def test_clock_by_date_and_by_gap() -> None:
    assert np.ptp(clock(["235959", "000001"], ["20060301", "20060302"])) == 2
    assert np.ptp(clock(["235959", "000001"])) == 2
    assert np.ptp(clock(["081500", "201500"])) == 12 * 3600
    assert np.isnan(clock(["", "x"])).all()


@given(
    st.sampled_from(["position_x", "position_y", "spacing_row", "spacing_column", "slice_thickness"]),
    st.floats(-300.5, 300.5).map(lambda value: round(value * 2) / 2),
    st.integers(0, 2**20 - 1),
    st.integers(8, 20),
)
@settings(deadline=None, max_examples=60)
def test_noise_in_the_last_digits_is_no_second_volume(column: str, corner: float, bits: int, length: int) -> None:
    """A corner at a rounding boundary, written with noise in the sixth decimal, is one place."""
    frame = Stack([-120.0 + 2.5 * np.arange(length)]).frame.drop(columns="acquisition_number")
    noise = np.array([1e-6 if bits >> k & 1 else -1e-6 for k in range(length)])
    value = corner if column.startswith("position") else 0.685
    frame = frame.assign(acquisition_number=pd.array([None] * length, dtype="Int64"))
    frame[column] = value + noise
    assert len(split_series(frame)) == 1


@given(st.integers(0, 2**20 - 1), st.floats(-1, 1))
@settings(deadline=None, max_examples=40)
def test_noise_in_the_orientation_keeps_slices_in_their_volume(bits: int, tilt: float) -> None:
    frame = Stack([-120.0 + 2.5 * np.arange(12), -120.0 + 2.5 * np.arange(12)]).frame
    angle = np.round(tilt, 2) + np.array([4e-7 if bits >> k % 20 & 1 else -4e-7 for k in range(24)])
    frame["orientation_4"], frame["orientation_5"] = np.cos(angle), np.sin(angle)
    assert [len(part) for part in split_series(frame)] == [12, 12]


@given(st.lists(st.floats(-1000, 1000) | st.just(float("nan")), max_size=30), st.floats(0.001, 5), st.randoms())
@settings(deadline=None)
def test_clusters_depend_on_distances_only(values: list[float], tolerance: float, random: Random) -> None:
    groups = cluster(np.array(values), tolerance)
    order = list(range(len(values)))
    random.shuffle(order)
    assert cluster(np.array([values[k] for k in order]), tolerance).tolist() == [int(groups[k]) for k in order]
    known = sorted((value, group) for value, group in zip(values, groups, strict=True) if value == value)
    for (one, first), (two, second) in pairwise(known):
        assert (first == second) == (two - one <= tolerance)
