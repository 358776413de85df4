"""Linear models: how features become numbers, weights, and what turns a risk into a probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import ClinicalError

__all__ = ["LinearModel", "Preparation"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What was learnt from the training patients: gaps are filled with medians and marked, columns are scaled.

    Attributes
    ----------
    names : tuple of str
        Encoded columns.
    medians : ndarray of float64, shape (P,)
    marked : ndarray of bool, shape (P,)
        Columns with gaps in training, each of which gets a column that marks them.
    kept : ndarray of bool, shape (P + marked,)
        Columns that vary in training.
    centres, scales : ndarray of float64, shape (kept,)
    """

    names: tuple[str, ...]
    medians: Floats
    marked: Bools
    kept: Bools
    centres: Floats
    scales: Floats

    @classmethod
    def learn(cls, values: Floats, names: Sequence[str]) -> Self:
        """Learn from training patients; `values` is (N, P) with NaN for gaps."""
        gaps = np.isnan(values)
        empty = gaps.all(axis=0)
        medians = np.zeros(values.shape[1])
        for column in np.flatnonzero(~empty):
            medians[column] = np.median(values[~gaps[:, column], column])
        marked: Bools = np.asarray(gaps.any(axis=0) & ~empty)
        filled = np.hstack([np.where(gaps, medians, values), gaps[:, marked].astype(np.float64)])
        scales = filled.std(axis=0)
        kept = scales > 1e-9 * np.maximum(1, np.abs(filled).max(axis=0, initial=0))
        return cls(
            names=tuple(names),
            medians=medians,
            marked=marked,
            kept=kept,
            centres=filled.mean(axis=0)[kept],
            scales=scales[kept],
        )

    def apply(self, values: Floats) -> Floats:
        """Return the columns of any patients as the model takes them, (N, kept)."""
        gaps = np.isnan(values)
        filled = np.hstack([np.where(gaps, self.medians, values), gaps[:, self.marked].astype(np.float64)])
        result: Floats = (filled[:, self.kept] - self.centres) / self.scales
        return result

    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that the model takes."""
        marks = [f"{name} is missing" for name, mark in zip(self.names, self.marked, strict=True) if mark]
        return tuple(name for name, keep in zip([*self.names, *marks], self.kept, strict=True) if keep)

    def plain(self) -> dict[str, Any]:
        """Return the preparation as JSON-ready values."""
        return {
            "names": list(self.names),
            **{name: getattr(self, name).tolist() for name in ("medians", "marked", "kept", "centres", "scales")},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return what :meth:`plain` describes."""
        found = cls(
            names=tuple(map(str, plain["names"])),
            medians=_floats(plain["medians"]),
            marked=np.array(plain["marked"], dtype=bool),
            kept=np.array(plain["kept"], dtype=bool),
            centres=_floats(plain["centres"]),
            scales=_floats(plain["scales"]),
        )
        columns = len(found.names)
        kept = int(found.kept.sum())
        sizes = [len(found.medians), len(found.marked), len(found.kept) - int(found.marked.sum())]
        if sizes != [columns] * 3 or [len(found.centres), len(found.scales)] != [kept] * 2:
            raise ClinicalError("the preparation of the features is inconsistent: its lists differ in length.")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """A fitted Cox or logistic model.

    Attributes
    ----------
    preparation : Preparation
    weights : ndarray of float64, shape (kept,)
        Per standard deviation of each column.
    penalty : float
        Ridge penalty that cross-validation among the training patients chose.
    intercept : float
        Of a logistic model; 0 for Cox.
    weeks, hazard : ndarray of float64, shape (T,)
        Cumulative baseline hazard of a Cox model at each event time; empty for a logistic model.
    """

    preparation: Preparation
    weights: Floats
    penalty: float
    intercept: float
    weeks: Floats
    hazard: Floats

    def risk(self, values: Floats) -> Floats:
        """Return the linear predictor of patients with the encoded features `values`, (N,)."""
        result: Floats = self.preparation.apply(values) @ self.weights + self.intercept
        return result

    def event_by(self, values: Floats, weeks: Floats) -> Floats:
        """Return the probability of the event up to each of `weeks`, (N, T); of a logistic model in one column."""
        eta = self.risk(values)
        if not len(self.weeks):
            return np.asarray(1 / (1 + np.exp(-eta)))[:, None]
        place = np.searchsorted(self.weeks, weeks, side="right")
        baseline = np.concatenate([[0.0], self.hazard])[place]
        return np.asarray(1 - np.exp(-np.exp(np.clip(eta, -30, 30))[:, None] * baseline))

    def plain(self) -> dict[str, Any]:
        """Return the model as JSON-ready values."""
        return {
            "preparation": self.preparation.plain(),
            "weights": dict(zip(self.preparation.columns(), self.weights.tolist(), strict=True)),
            "penalty": self.penalty,
            "intercept": self.intercept,
            "weeks": self.weeks.tolist(),
            "hazard": self.hazard.tolist(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Return what :meth:`plain` describes.

        Raises
        ------
        ClinicalError
            Parts are missing, of the wrong kind, or do not fit each other.
        """
        try:
            preparation = Preparation.from_plain(plain["preparation"])
            weights = plain["weights"]
            found = cls(
                preparation=preparation,
                weights=_floats([weights[name] for name in preparation.columns()]),
                penalty=float(plain["penalty"]),
                intercept=float(plain["intercept"]),
                weeks=_floats(plain["weeks"]),
                hazard=_floats(plain["hazard"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ClinicalError(f"the model is incomplete: {error!r}.") from error
        if len(found.weeks) != len(found.hazard):
            raise ClinicalError("the model is inconsistent: its baseline has as many weeks as hazards.")
        return found


def _floats(values: Any) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError("a list of finite numbers was expected")
    return found
