"""Predictors that know next to nothing: what a network must beat before its score means anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hcc_tace_data.baseline.predict import largest_component
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.system.words import count

__all__ = ["TrivialPredictors"]

#: HU above which a voxel is body and not air.
_BODY = -300
#: HU between which thresholds are sought, and their step.
_RANGE, _STEP = (-50, 300), 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialPredictors:
    """Fitted on training patients.

    Attributes
    ----------
    liver_band, tumour_band : tuple of int
        HU (from, below) with the best mean Dice on the training patients: for the liver in the body, for the tumour in
        the true liver.
    patients : tuple of str
        Fitted on.
    """

    liver_band: tuple[int, int]
    tumour_band: tuple[int, int]
    patients: tuple[str, ...]

    @classmethod
    def fit(cls, cases: Sequence[StoredCase]) -> TrivialPredictors:
        """Find the HU bands on training cases."""
        usable = [case for case in cases if case.liver is not None]
        if not usable:
            raise BaselineError("no training case shows a liver; nothing to fit thresholds on.")
        liver, tumour = [], []
        for case in usable:
            image, label = case.image[0], case.label
            whole = np.isin(label, (1, 2, 3))
            liver.append((_histogram(image, image > _BODY), _histogram(image, whole)))
            tumour.append((_histogram(image, whole), _histogram(image, label == 2)))
        return cls(
            liver_band=_best_band(liver),
            tumour_band=_best_band(tumour),
            patients=tuple(sorted({case.patient_id for case in usable})),
        )

    def score(
        self, image: npt.NDArray[np.int16], liver: npt.NDArray[np.bool_], true: npt.NDArray[np.uint8]
    ) -> dict[str, dict[str, float]]:
        """Return predictor -> label -> Dice.

        Parameters
        ----------
        image : ndarray, shape (D, H, W)
            HU.
        liver : ndarray of bool, shape (D, H, W)
            In which the tumour is sought: the same that the tumour network saw.
        true : ndarray of uint8, shape (D, H, W)
            Annotation, standard classes.
        """
        low, high = self.liver_band
        band = largest_component((image >= low) & (image < high))
        low, high = self.tumour_band
        whole, tumour = np.isin(true, (1, 2, 3)), true == 2
        return {
            "all_liver": {"liver": dice(image > _BODY, whole), "tumour": dice(liver, tumour)},
            "hu_threshold": {
                "liver": dice(band, whole),
                "tumour": dice(liver & (image >= low) & (image < high), tumour),
            },
        }

    def about(self) -> dict[str, str]:
        """Say what each predictor does."""
        return {
            "all_liver": "takes the whole body for liver, and all of the network's liver for tumour",
            "hu_threshold": f"takes the largest component of {self.liver_band[0]} to {self.liver_band[1]} HU for "
            f"liver, and {self.tumour_band[0]} to {self.tumour_band[1]} HU inside the network's liver for tumour; the "
            f"bands with the best Dice on {count(len(self.patients), 'training patient')}",
        }


def _histogram(image: npt.NDArray[np.int16], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how many voxels of `mask` lie in each step of the range, what lies outside at its ends."""
    low, high = _RANGE
    edges = np.clip((image[mask].astype(np.int32) - low) // _STEP, -1, (high - low) // _STEP) + 1
    counts: npt.NDArray[np.int64] = np.bincount(edges, minlength=(high - low) // _STEP + 2)
    return counts


def _best_band(pairs: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> tuple[int, int]:
    """Return the band whose mean Dice over cases is best, from histograms of all voxels and of the true ones."""
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
    return low + int(first) * _STEP, low + int(last) * _STEP
