"""Fitting a reference model on the development patients, and keeping it as a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import ClinicalError, UsageError
from hcc_tace_data.outcome.linear import LinearModel
from hcc_tace_data.outcome.models import encode, ladder
from hcc_tace_data.outcome.tasks import TASKS, Task, TaskName
from hcc_tace_data.system.files import read_regular, write_json
from hcc_tace_data.version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FittedModel", "fit_outcome"]

Floats = npt.NDArray[np.float64]

_FORMAT = "hcc-tace outcome model 1"
_LARGEST = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """A reference model fitted on the development patients of the shipped split.

    Attributes
    ----------
    task : {"os", "ttp", "tace_response"}
    name, label : str
        The model of the ladder.
    columns : tuple of str
        Features it takes, as in :func:`hcc_tace_data.load_task`.
    model : LinearModel
    fitted_on : tuple of str
        PatientIDs.
    held_out : tuple of str
        PatientIDs of the test set, none of whom decided anything.
    version : str
        Of this package, when the model was fitted.
    """

    task: TaskName
    name: str
    label: str
    columns: tuple[str, ...]
    model: LinearModel
    fitted_on: tuple[str, ...]
    held_out: tuple[str, ...]
    version: str

    def risk(self, features: pd.DataFrame) -> Floats:
        """Return the linear predictor of each patient: higher means an earlier event, or a refractory tumour.

        Parameters
        ----------
        features : pandas.DataFrame
            With `columns`; :attr:`hcc_tace_data.outcome.tasks.Task.features` has them.

        Raises
        ------
        UsageError
            A column is missing or of another kind than when the model was fitted.
        """
        return self.model.risk(self._values(features))

    def event_by(self, features: pd.DataFrame, weeks: Floats) -> Floats:
        """Return the probability of the event up to each of `weeks`, (N, T); of a response in one column."""
        return self.model.event_by(self._values(features), np.asarray(weeks, dtype=np.float64))

    def _values(self, features: pd.DataFrame) -> Floats:
        missing = [name for name in self.columns if name not in features]
        if missing:
            raise UsageError(f"the model {self.name!r} needs the column {missing[0]!r}, which the features lack.")
        encoded = encode(features[list(self.columns)])
        if tuple(map(str, encoded.columns)) != self.model.preparation.names:
            raise UsageError(f"the features of the model {self.name!r} have other categories than when it was fitted.")
        return encoded.to_numpy(float)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a JSON file, complete or not at all."""
        write_json(Path(path), self.plain())

    def plain(self) -> dict[str, Any]:
        """Return the model as JSON-ready values."""
        return {
            "format": _FORMAT,
            "version": self.version,
            "task": self.task,
            "name": self.name,
            "label": self.label,
            "columns": list(self.columns),
            "model": self.model.plain(),
            "fitted_on": list(self.fitted_on),
            "held_out": list(self.held_out),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model that :meth:`save` wrote. Nothing in the file is executed.

        Raises
        ------
        ClinicalError
            The file is not such a model.
        """
        try:
            plain = json.loads(read_regular(path, limit=_LARGEST))
        except (OSError, ValueError) as error:
            raise ClinicalError(f"{path} is not a model: {error}.") from error
        if not isinstance(plain, Mapping) or plain.get("format") != _FORMAT or plain.get("task") not in TASKS:
            raise ClinicalError(f"{path} is not a model of `hcc-tace outcome fit`: its format is not {_FORMAT!r}.")
        try:
            lists = {name: tuple(map(str, plain[name])) for name in ("columns", "fitted_on", "held_out")}
            return cls(
                task=plain["task"],
                name=str(plain["name"]),
                label=str(plain["label"]),
                columns=lists["columns"],
                model=LinearModel.from_plain(plain["model"]),
                fitted_on=lists["fitted_on"],
                held_out=lists["held_out"],
                version=str(plain["version"]),
            )
        except (KeyError, TypeError, ClinicalError) as error:
            raise ClinicalError(f"{path} is not a whole model: {error}.") from error


def fit_outcome(task: Task, name: str = "clinical") -> FittedModel:
    """Fit a linear model of the ladder on the development patients.

    Its penalty is chosen by cross-validation among them. The test set of the shipped split decides nothing; its
    patients are recorded in `held_out`.

    Parameters
    ----------
    task : Task
        From :func:`hcc_tace_data.load_task`.
    name : str
        "nothing", a staging system, "stages", "size_afp_child_pugh", "clinical", "images" or "clinical_images".

    Raises
    ------
    UsageError
        No such model for this task.
    """
    models = {one.name: one for one in ladder(task, forest=False)}
    fit = models[name].fit if name in models else None
    if fit is None:
        raise UsageError(f"there is no linear model {name!r} for these features; use {', '.join(models)}.")
    chosen, own = models[name], task.development()
    model = fit(encode(own.features[list(chosen.columns)]), own.target)
    return FittedModel(
        task=task.name,
        name=name,
        label=chosen.label,
        columns=chosen.columns,
        model=model,
        fitted_on=tuple(map(str, own.features.index)),
        held_out=tuple(map(str, task.features.index[task.fold.isna()])),
        version=__version__,
    )
