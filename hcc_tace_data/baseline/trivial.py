"""Predictors that know next to nothing: what a network must beat before its score means anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hcc_tace_data.baseline.predict import largest_component
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.system.words import count

__all__ = ["Band", "TrivialPredictors"]

#: HU above which a voxel is body and not air.
_BODY = -300
#: HU between which thresholds are sought, and their step.
_RANGE, _STEP = (-150, 300), 10


class Band(NamedTuple):
    """HU from `low` to below `high`, in a channel of the image or in its difference to another.

    Attributes
    ----------
    low, high : int
        HU.
    channel : int
        Which channel.
    less : int or None
        The channel that is taken off it: what washes out is bright in an arterial image and dark in a later one.
    """

    low: int
    high: int
    channel: int = 0
    less: int | None = None

    def holds(self, image: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
        """Return which voxels (D, H, W) of `image` (C, D, H, W) lie in the band."""
        values = _seen(image, self.channel, self.less)
        found: npt.NDArray[np.bool_] = (values >= self.low) & (values < self.high)
        return found

    def about(self, phases: Sequence[str]) -> str:
        """Say in words what lies in it; `phases` are those of the channels."""
        where = f" in the {phases[self.channel]} phase" if len(phases) > 1 else ""
        if self.less is not None:
            where = f" of {phases[self.channel]} minus {phases[self.less]}"
        return f"{self.low} to {self.high} HU{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialPredictors:
    """Fitted on training patients.

    Attributes
    ----------
    liver_band, tumour_band : Band
        With the best mean Dice on the training patients: for the liver in the body, for the tumour in the true liver.
        Of several phases, that one or that difference of two is taken which is best.
    patients : tuple of str
        Fitted on.
    phases : tuple of str
        Of the channels.
    """

    liver_band: Band
    tumour_band: Band
    patients: tuple[str, ...]
    phases: tuple[str, ...] = ("annotated",)

    @classmethod
    def fit(cls, cases: Sequence[StoredCase]) -> TrivialPredictors:
        """Find the HU bands on training cases."""
        return cls.fit_each([cases])[0]

    @classmethod
    def fit_each(cls, groups: Sequence[Sequence[StoredCase]]) -> list[TrivialPredictors]:
        """Find the HU bands on each of several groups of training cases, such as folds; each case is read once."""
        counted: dict[Path, _Counts] = {}
        fitted = []
        for cases in groups:
            usable = [case for case in cases if case.liver is not None]
            if not usable:
                raise BaselineError("no training case shows a liver; nothing to fit thresholds on.")
            views = _views(usable[0].shape[0])
            for case in usable:
                if case.folder not in counted:
                    counted[case.folder] = _count(case, views)
            best = [
                max(
                    (
                        _best_band([counted[case.folder][place][number] for case in usable], *view)
                        for number, view in enumerate(views)
                    ),
                    key=lambda found: found[0],
                )
                for place in (0, 1)
            ]
            fitted.append(
                cls(
                    liver_band=best[0][1],
                    tumour_band=best[1][1],
                    patients=tuple(sorted({case.patient_id for case in usable})),
                    phases=tuple(usable[0].phases),
                )
            )
        return fitted

    def score(
        self, image: npt.NDArray[np.int16], liver: npt.NDArray[np.bool_], true: npt.NDArray[np.uint8]
    ) -> dict[str, dict[str, float]]:
        """Return predictor -> label -> Dice.

        Parameters
        ----------
        image : ndarray, shape (C, D, H, W)
            HU.
        liver : ndarray of bool, shape (D, H, W)
            In which the tumour is sought: the same that the tumour network saw.
        true : ndarray of uint8, shape (D, H, W)
            Annotation, standard classes.
        """
        band = largest_component(self.liver_band.holds(image))
        whole, tumour = np.isin(true, (1, 2, 3)), true == 2
        return {
            "all_liver": {"liver": dice(image[0] > _BODY, whole), "tumour": dice(liver, tumour)},
            "hu_threshold": {
                "liver": dice(band, whole),
                "tumour": dice(liver & self.tumour_band.holds(image), tumour),
            },
        }

    def about(self) -> dict[str, str]:
        """Say what each predictor does."""
        return {
            "all_liver": "takes the whole body for liver, and all of the network's liver for tumour",
            "hu_threshold": f"takes the largest component of {self.liver_band.about(self.phases)} for liver, and "
            f"{self.tumour_band.about(self.phases)} inside the network's liver for tumour; the "
            f"bands with the best Dice on {count(len(self.patients), 'training patient')}",
        }


#: How many voxels lie in each step of HU: of all, and of those sought.
_Pair = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
#: Of one case, for each channel and difference: the liver in the body, and the tumour in the liver.
_Counts = tuple[list[_Pair], list[_Pair]]


def _views(channels: int) -> list[tuple[int, int | None]]:
    """Return the channels, and the differences of two."""
    return [(channel, None) for channel in range(channels)] + list(combinations(range(channels), 2))


def _count(case: StoredCase, views: Sequence[tuple[int, int | None]]) -> _Counts:
    image, label = np.asarray(case.image), np.asarray(case.label)
    body, whole, tumour = image[0] > _BODY, np.isin(label, (1, 2, 3)), label == 2
    in_body, in_liver = list[_Pair](), list[_Pair]()
    for channel, less in views:
        values = _seen(image, channel, less)
        in_body.append((_histogram(values, body), _histogram(values, whole)))
        in_liver.append((_histogram(values, whole), _histogram(values, tumour)))
    return in_body, in_liver


def _seen(image: npt.NDArray[np.int16], channel: int, less: int | None) -> npt.NDArray[np.int32]:
    """Return a channel of `image` (C, D, H, W), or its difference to another."""
    values: npt.NDArray[np.int32] = image[channel].astype(np.int32)
    if less is not None:
        values -= image[less]
    return values


def _histogram(values: npt.NDArray[np.int32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how many voxels of `mask` lie in each step of the range, what lies outside at its ends."""
    low, high = _RANGE
    edges = np.clip((values[mask] - low) // _STEP, -1, (high - low) // _STEP) + 1
    counts: npt.NDArray[np.int64] = np.bincount(edges, minlength=(high - low) // _STEP + 2)
    return counts


def _best_band(pairs: Sequence[_Pair], channel: int, less: int | None) -> tuple[float, Band]:
    """Return the best mean Dice over cases, and its band, from histograms."""
    low, high = _RANGE
    steps = (high - low) // _STEP
    scores = np.zeros((steps + 1, steps + 1))
    for every, true in pairs:
        before_all, before_true = (np.concatenate([[0], np.cumsum(counts)]) for counts in (every, true))
        start, end = np.meshgrid(np.arange(1, steps + 2), np.arange(1, steps + 2), indexing="ij")
        found = before_all[end] - before_all[start]
        hit = before_true[end] - before_true[start]
        scores += np.where(end > start, 2 * hit / np.maximum(1, found + true.sum()), 0)
    first, last = np.unravel_index(int(scores.argmax()), scores.shape)
    band = Band(low + int(first) * _STEP, low + int(last) * _STEP, channel, less)
    return float(scores.max()) / len(pairs), band
