"""STAPLE: fusing several readers' masks into the probability of being true (Warfield et al. 2004).

The same steps as ITK's binary ``STAPLEImageFilter``, which the collection's authors used through Convert3D, for each
label on its own. (``MultiLabelSTAPLE`` of ITK is a different algorithm.) Expectation and maximisation depend on nothing
but how often each of the ``2 ** readers`` patterns of votes occurs, so they run on those counts instead of on voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import FusionError, UsageError
from hcc_tace_data.labels.arrays import as_arrays, kind_of, labels_in, wanted_labels

__all__ = ["Fusion", "fuse_arrays", "fuse_masks"]

# The squared change of every reader's p and q below which ITK stops.
_CONVERGED = 1e-14
_MAX_ITERATIONS = 200_000
# Where readers stand against each other like for like, rounding decides which way the iteration turns. Images of so
# many voxels are summed in ITK's order, voxel by voxel, and so agree with it to the last bit; in larger ones counts
# stand for voxels.
_SUMMED_IN_ORDER = 1 << 18
# Votes of so many readers fit one code of 16 bits; more readers are counted by their distinct rows.
_CODED_READERS = 16
_PART = 1 << 18
_COMPARED_CODES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _FusedLabel:
    """One label; `reached` says where, within `box`, its probability is high enough, and `reached_outside` whether
    it is so everywhere else. It is computed in float64, whatever type the probabilities have."""

    probability: npt.NDArray[np.floating[Any]]
    sensitivity: npt.NDArray[np.float64]
    specificity: npt.NDArray[np.float64]
    iterations: int
    prior: float
    box: tuple[slice, ...]
    reached: npt.NDArray[np.bool_]
    reached_outside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """What STAPLE found.

    Attributes
    ----------
    probability : dict of int to ndarray
        Label -> probability of being true, shape of the readers' arrays.
    label_map : ndarray
        Labels where a probability reaches the threshold: the most probable one, the first of `labels` on a tie.
    sensitivity, specificity : dict of int to ndarray of float64, shape (R,)
        Label -> each reader's. NaN where nothing tells: no voxel, or every voxel, has the label for anybody.
    iterations : dict of int to int
        Label -> iterations, counted as ITK does.
    prior : dict of int to float
        Label -> share of voxels expected to have it.
    region : str
        "image" or "union": what the prior was taken over.
    """

    probability: dict[int, npt.NDArray[np.floating[Any]]]
    label_map: npt.NDArray[Any]
    sensitivity: dict[int, npt.NDArray[np.float64]]
    specificity: dict[int, npt.NDArray[np.float64]]
    iterations: dict[int, int]
    prior: dict[int, float]
    region: str


def fuse_masks(
    readers: Sequence[Mapping[int, npt.ArrayLike]],
    *,
    labels: Sequence[int] | None = None,
    weight: float = 1.0,
    dtype: Literal["float64", "float32"] = "float64",
    threshold: float = 0.5,
    region: Literal["image", "union"] = "image",
) -> Fusion:
    """Fuse readers' masks by STAPLE where readers drew different labels, or labels that overlap.

    Parameters
    ----------
    readers : sequence of mapping of int to array-like
        Label -> mask of each reader (non-zero is inside). A reader without a label has no say in it: not one who saw
        nothing, which an empty mask tells.
    labels, weight, dtype, threshold, region
        See :func:`fuse_staple`.

    Returns
    -------
    Fusion
        Sensitivity and specificity are NaN for readers who had no say.
    """
    if not any(readers):
        raise FusionError("no readers to fuse.")
    given = [dict(zip(map(int, reader), as_arrays(list(reader.values())), strict=True)) for reader in readers]
    every = [mask for reader in given for mask in reader.values()]
    _check(every, weight, dtype, threshold, region)
    arrays = [{k: mask if mask.dtype == bool else mask != 0 for k, mask in reader.items()} for reader in given]
    wanted = wanted_labels(labels if labels is not None else sorted({k for reader in arrays for k in reader}))
    fused = _nothing_yet(every[0].shape, wanted, region)
    for label in wanted:
        who = [number for number, reader in enumerate(arrays) if label in reader]
        if not who:
            raise FusionError(f"no reader drew label {label}.")
        masks = [arrays[number][label].view(np.uint8) for number in who]
        found = _fuse_label(masks, 1, weight, np.dtype(dtype), threshold, region)
        _add(fused, label, found, who, len(arrays))
    return fused


def _nothing_yet(shape: tuple[int, ...], labels: Sequence[int], region: str) -> Fusion:
    kind = kind_of(labels)
    return Fusion(
        probability={}, label_map=np.zeros(shape, dtype=kind), sensitivity={}, specificity={}, iterations={}, prior={},
        region=region,
    )  # fmt: skip


def _add(fused: Fusion, label: int, found: _FusedLabel, who: list[int] | slice, readers: int) -> None:
    """Enter what was found for a label; `who` of all the readers had a say."""
    for kept, values in ((fused.sensitivity, found.sensitivity), (fused.specificity, found.specificity)):
        kept[label] = np.full(readers, np.nan)
        kept[label][who] = values
    fused.probability[label], fused.iterations[label], fused.prior[label] = (
        found.probability, found.iterations, found.prior,
    )  # fmt: skip
    _claim(fused, label, found)


def _claim(fused: Fusion, label: int, found: _FusedLabel) -> None:
    """Give a label the voxels where it is probable enough and more probable than the label that has them."""
    box, wins = found.box, found.reached
    if found.reached_outside:
        box, wins = (slice(None),) * fused.label_map.ndim, np.ones(fused.label_map.shape, dtype=bool)
        wins[found.box] = found.reached
    label_map, probability = fused.label_map[box], found.probability[box]
    for other in np.unique(label_map[wins]).tolist() if len(fused.probability) > 1 else ():
        if other:
            wins = wins & ((label_map != other) | (probability > fused.probability[other][box]))
    np.copyto(label_map, label, where=wins)


def _check(arrays: list[npt.NDArray[Any]], weight: float, dtype: str, threshold: float, region: str) -> None:
    if not arrays:
        raise FusionError("no readers to fuse.")
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise FusionError(
                f"reader {number + 1} has shape {array.shape}, the first {arrays[0].shape}; "
                "bring all onto one grid first."
            )
    if not 0 < weight < float("inf") or not 0 < threshold <= 1:
        raise UsageError(
            f"weight is {weight} and threshold {threshold}; use a positive, finite weight, and 0 < threshold <= 1."
        )
    if dtype not in {"float64", "float32"} or region not in {"image", "union"}:
        raise UsageError(f"dtype is {dtype!r} and region {region!r}; see the documentation for their values.")


def _fuse_label(
    arrays: list[npt.NDArray[Any]], label: int, weight: float, kind: np.dtype[Any], threshold: float, region: str
) -> _FusedLabel:
    shape, readers = arrays[0].shape, len(arrays)
    box = _box(arrays, label)
    undefined, ones = np.full(readers, np.nan), np.ones(readers)
    if box is None:
        nowhere = (slice(0),) * len(shape)
        return _FusedLabel(
            probability=np.zeros(shape, kind), sensitivity=undefined, specificity=ones, iterations=0, prior=0.0,
            box=nowhere, reached=np.zeros((0,) * len(shape), bool),
        )  # fmt: skip
    in_order = region == "image" and arrays[0].size <= _SUMMED_IN_ORDER
    if in_order:
        box = (slice(None),) * len(shape)
    masks = [array[box] == label for array in arrays]
    codes, all_votes, all_counts = _patterns(masks)
    used = np.flatnonzero(all_counts)
    votes, counts = all_votes[used], all_counts[used]
    outside = arrays[0].size - masks[0].size if region == "image" else 0
    if outside:
        # voxels outside the box have no votes; they are counted, not visited
        blank = ~votes.any(axis=1)
        if blank.any():
            counts[blank] += outside
        else:
            votes = np.concatenate([votes, np.zeros((1, readers), bool)])
            counts = np.concatenate([counts, [float(outside)]])
    if votes.all():
        result = np.zeros(shape, kind)
        result[box] = 1
        return _FusedLabel(
            probability=result, sensitivity=ones, specificity=undefined, iterations=0, prior=1.0, box=box,
            reached=np.ones(masks[0].shape, bool),
        )  # fmt: skip
    order = None
    if in_order:
        place = np.zeros(len(all_votes), dtype=np.intp)
        place[used] = np.arange(len(used))
        order = place[codes.ravel()]
    probability, p, q, iterations, prior = _expect_and_maximise(votes, counts, weight, order)
    of_nobody = float(probability[~votes.any(axis=1)][0]) if outside else 0.0
    result = np.full(shape, of_nobody, dtype=kind)
    by_code = np.zeros(len(all_votes), dtype=kind)
    by_code[used] = probability[: len(used)]
    _look_up(by_code, codes, result[box])
    reaches = np.zeros(len(all_votes), dtype=bool)
    reaches[used] = probability[: len(used)] >= threshold
    lowest = by_code[reaches].min(initial=np.inf)
    if (by_code[used][~reaches[used]] < lowest).all():
        reached = result[box] >= lowest
    else:  # rounded to float32, one that does not reach the threshold is as high as one that does
        reached = np.empty(codes.shape, dtype=bool)
        _look_up(reaches, codes, reached)
    return _FusedLabel(
        probability=result, sensitivity=p, specificity=q, iterations=iterations, prior=prior, box=box, reached=reached,
        reached_outside=of_nobody >= threshold,
    )  # fmt: skip


def _look_up(table: npt.NDArray[Any], codes: npt.NDArray[Any], into: npt.NDArray[Any]) -> None:
    """Write the table's value of each code."""
    if codes.ndim < 2:
        into[...] = table[codes]
        return
    for plane, code in zip(into, codes, strict=True):  # look-ups make wide copies too
        plane[...] = table[code]


def _box(arrays: list[npt.NDArray[Any]], label: int) -> tuple[slice, ...] | None:
    """Return the box that holds every reader's voxels of a label, or None without any."""
    if arrays[0].ndim < 2:
        used = np.flatnonzero(np.logical_or.reduce([array == label for array in arrays]))
        return (slice(int(used[0]), int(used[-1]) + 1),) if len(used) else None
    # slice by slice, so that what is compared stays in the cache
    seen = np.zeros(arrays[0].shape[1:], dtype=bool)
    first = last = -1
    for d, planes in enumerate(zip(*arrays, strict=True)):
        found = False
        for plane in planes:
            mask = plane == label
            if mask.any():
                seen |= mask
                found = True
        if found:
            first, last = d if first < 0 else first, d
    if first < 0:
        return None
    rest = _box([seen], True)
    return None if rest is None else (slice(first, last + 1), *rest)


def _patterns(
    masks: list[npt.NDArray[np.bool_]],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return each voxel's code (an index into the patterns), the patterns' votes (P, R), and how often each occurs."""
    readers = len(masks)
    if readers <= _CODED_READERS:
        codes = np.zeros(masks[0].shape, dtype=np.uint8 if readers <= 8 else np.uint16)
        for number, mask in enumerate(masks):
            codes |= mask.view(np.uint8).astype(codes.dtype, copy=False) << codes.dtype.type(number)
        counted = _count(codes, 1 << readers)
        votes = (np.arange(1 << readers)[:, None] >> np.arange(readers)) & 1
        return codes, votes.astype(bool), counted.astype(float)
    rows = np.stack([mask.ravel() for mask in masks], axis=1)
    distinct, inverse, counted = np.unique(np.packbits(rows, axis=1), axis=0, return_inverse=True, return_counts=True)
    split_up = np.unpackbits(distinct, axis=1, count=readers).astype(np.bool_)
    patterns: npt.NDArray[np.int64] = np.asarray(inverse, dtype=np.int64).reshape(masks[0].shape)
    return patterns, split_up, counted.astype(np.float64)


def _count(codes: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Return how often each code occurs; by pieces, as counting makes copies."""
    counted = np.zeros(size, dtype=np.int64)
    for part in _parts(codes):
        if size > _COMPARED_CODES:
            counted += np.bincount(part, minlength=size)
        else:  # comparing bytes with each of a few codes is faster than sorting them into bins
            counted += [np.count_nonzero(part == code) for code in range(size)]
    return counted


def _parts(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Yield pieces of a contiguous array, flat, each small enough for a core's cache."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, _PART):
        yield flat[start : start + _PART]


def _expect_and_maximise(
    votes: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.float64],
    weight: float,
    order: npt.NDArray[np.intp] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], int, float]:
    """Return the probability of each pattern, the readers' p and q, the iterations and the prior.

    As ITK: the first probability is the mean vote; then p and q from the probabilities, probabilities from p and q,
    until no p or q changes. The change is not tested in the first pass. A zero denominator keeps the old value.

    Parameters
    ----------
    votes : ndarray of bool, shape (P, R)
        Patterns.
    counts : ndarray, shape (P,)
        How often each occurs.
    weight : float
        Factor of the prior.
    order : ndarray of int, shape (N,), optional
        The pattern of each voxel, to sum over voxels in their order instead of over counts.
    """

    def total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if order is None:
            return np.asarray(values @ counts)
        return np.array([np.add.accumulate(row[order])[-1] for row in values])

    yes, no = votes.T.astype(float), (~votes.T).astype(float)
    probability = votes.mean(axis=1)
    prior = float(total(probability[None])[0] / counts.sum()) * weight
    p = np.full(len(yes), -10.0)
    q = np.full(len(yes), -10.0)
    for iteration in range(_MAX_ITERATIONS):
        true, false = total(np.stack([probability, 1 - probability]))
        old_p, old_q = p, q
        p = total(yes * probability) / true if true > 0 else p
        q = total(no * (1 - probability)) / false if false > 0 else q
        given_true, given_false = np.ones(len(votes)), np.ones(len(votes))
        for vote, one_p, one_q in zip(votes.T, p, q, strict=True):
            given_true *= np.where(vote, one_p, 1 - one_p)
            given_false *= np.where(vote, 1 - one_q, one_q)
        given_true *= prior
        evidence = given_true + (1 - prior) * given_false
        probability = np.divide(given_true, evidence, out=probability.copy(), where=evidence > 0)
        if iteration and ((p - old_p) ** 2 <= _CONVERGED).all() and ((q - old_q) ** 2 <= _CONVERGED).all():
            return probability, p, q, iteration, prior
    raise FusionError(f"STAPLE did not converge in {_MAX_ITERATIONS} iterations; the readers contradict each other.")


def fuse_arrays(
    readers: Sequence[npt.ArrayLike],
    *,
    labels: Sequence[int] | None = None,
    weight: float = 1.0,
    dtype: Literal["float64", "float32"] = "float64",
    threshold: float = 0.5,
    region: Literal["image", "union"] = "image",
) -> Fusion:
    """Fuse readers' label maps by STAPLE; see :func:`hcc_tace_data.fuse_staple`, which also takes files."""
    arrays = as_arrays(readers)
    _check(arrays, weight, dtype, threshold, region)
    wanted = wanted_labels(labels) if labels is not None else labels_in(arrays)
    fused = _nothing_yet(arrays[0].shape, wanted, region)
    for label in wanted:
        found = _fuse_label(arrays, label, weight, np.dtype(dtype), threshold, region)
        _add(fused, label, found, slice(None), len(arrays))
    return fused
