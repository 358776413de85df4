"""Tasks: features that were known before treatment, a target, and the shipped split, matched by patient."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from hcc_tace_data.clinical import load_clinical
from hcc_tace_data.clinical.roles import role_of
from hcc_tace_data.clinical.survival import ENDPOINTS, STAGING_SYSTEMS
from hcc_tace_data.errors import ClinicalError, UsageError
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CLINICAL", "TASKS", "Task", "TaskName", "load_task"]

logger = logging.getLogger(__name__)

TaskName = Literal["os", "ttp", "tace_response"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)

#: The clinical variables of the reference models: what the sheet states of a patient before treatment, less what only
#: restates another column (age and AFP groups, the CLIP group) and the readers' measurements.
CLINICAL = (
    "age_years", "sex", "smoking", "alcohol", "diabetes", "hepatitis", "cirrhosis", "performance_status_bclc",
    "child_pugh", "tumour_size_cm", "tumour_nodularity", "vascular_invasion", "metastasis", "lymph_nodes",
    "portal_vein_thrombosis", "tumour_involvement", "afp_ng_ml", "personal_history_cancer",
)  # fmt: skip


#: Columns of `hcc-tace measure --by pair` that the follow-up decides.
_LATER = re.compile(r"^(follow_up_|change_|days$)|_fu_|_follow_up_|_consensus$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Features, target and split of one prediction task; rows are patients, in the same order everywhere.

    Attributes
    ----------
    name : {"os", "ttp", "tace_response"}
        Which task.
    features : pandas.DataFrame
        Indexed by PatientID.
    target : pandas.DataFrame
        ``weeks`` (float) and ``event`` (bool) for "os" and "ttp"; ``refractory`` (bool) for "tace_response".
    fold : pandas.Series
        Fold in which the shipped split validates the patient; missing for the test set.
    left_out : dict of str to str
        PatientID -> why the patient is not in the task.
    source : str
        Name of the clinical sheet.
    extra : tuple of str
        Features that are not columns of the clinical table: measurements, radiomics or your own.
    """

    name: TaskName
    features: pd.DataFrame
    target: pd.DataFrame
    fold: pd.Series[int]
    left_out: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    source: str = ""

    @property
    def survival(self) -> bool:
        """Whether the target is a time that may be censored."""
        return self.name in ENDPOINTS

    def __len__(self) -> int:
        return len(self.features)

    def development(self) -> Task:
        """Return the task without the test set of the shipped split."""
        own = self.fold.notna().to_numpy()
        out = dict.fromkeys(map(str, self.features.index[~own]), "in the test set of the shipped split")
        return replace(
            self,
            features=self.features[own],
            target=self.target[own],
            fold=self.fold[own],
            left_out=self.left_out | out,
        )


def load_task(
    name: TaskName,
    source: str | os.PathLike[str] | None = None,
    *,
    features: Iterable[str] = (*CLINICAL, *STAGING_SYSTEMS),
    extra: pd.DataFrame | None = None,
) -> Task:
    """Load a prediction task.

    Parameters
    ----------
    name : {"os", "ttp", "tace_response"}
        Overall survival, time to progression, or response: refractory (progression within 14 weeks) or susceptible.
    source : path-like, optional
        The clinical sheet or the collection's folder, as for :func:`hcc_tace_data.load_clinical`.
    features : iterable of str
        Columns of the clinical table. Only those known before treatment are accepted.
    extra : pandas.DataFrame, optional
        More features, one row per patient, with a column ``patient_id`` or indexed by it: measurements, radiomics or
        your own. Patients without a row get missing values.

    Raises
    ------
    UsageError
        Another task; a column whose role is not `baseline`; in `extra`, a column of the clinical table or one that the
        follow-up decides, or a patient twice.
    ClinicalError
        Nobody has the target.

    Notes
    -----
    Patients censored before 14 weeks have no known response; they are left out of "tace_response" and counted in
    ``left_out``.
    """
    import pandas as pd

    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; use {', '.join(map(repr, TASKS))}.")
    table = load_clinical(source)
    source_name = str(table.attrs["source"])
    table = table.set_index("patient_id")
    columns = list(features)
    for column in columns:
        role = role_of(column)
        if role != "baseline":
            raise UsageError(
                f"{column!r} is not a feature for {name!r}: its role is {role!r}, which was not known before treatment."
            )
    chosen = table[columns].copy()
    added: tuple[str, ...] = ()
    if extra is not None:
        rows = _by_patient(extra, taken=[*table.columns])
        added = tuple(map(str, rows.columns))
        chosen = pd.concat([chosen, rows.reindex([str(one) for one in table.index]).set_axis(table.index)], axis=1)
    left_out: dict[str, str] = {}
    if name in ENDPOINTS:
        weeks, event = ENDPOINTS[name]
        target = pd.DataFrame({"weeks": table[weeks].astype(float), "event": table[event].astype("boolean")})
        lacking = "no time or event in the sheet"
    else:
        response = table["tace_response"].astype("string")
        target = pd.DataFrame({"refractory": (response == "refractory").astype("boolean").mask(response.isna())})
        lacking = "censored before 14 weeks: the response is unknown"
    known = target.notna().all(axis=1)
    left_out |= dict.fromkeys(target.index[~known], lacking)
    if not known.any():
        raise ClinicalError(f"no patient has the target of {name!r}.")
    target = target[known].copy()
    for column in target.columns.difference(["weeks"]):
        target[column] = target[column].astype(bool)
    chosen = chosen[known]
    # pandas copies the notes of a table with every operation
    chosen.attrs, target.attrs = {}, {}
    folds = split_table()
    fold = pd.Series([folds.get(str(one)) for one in target.index], index=target.index, dtype="Int64", name="fold")
    if left_out:
        logger.info("%s: %d of %s left out: %s", name, len(left_out), count(len(table), "patient"), lacking)
    return Task(
        name=name, features=chosen, target=target, fold=fold, left_out=left_out, extra=added, source=source_name
    )


def _by_patient(extra: pd.DataFrame, taken: list[str]) -> pd.DataFrame:
    rows = extra.set_index("patient_id") if "patient_id" in extra.columns else extra
    twice = rows.index[rows.index.duplicated()]
    if len(twice):
        raise UsageError(f"the extra features hold {twice[0]} more than once; give one row per patient.")
    both = sorted(set(rows.columns) & set(taken))
    if both:
        raise UsageError(f"the extra features repeat columns of the clinical table: {', '.join(both)}; rename them.")
    later = [str(name) for name in rows.columns if _LATER.search(str(name))]
    if later:
        raise UsageError(
            f"the extra features hold {later[0]!r}, which the follow-up decides; it was not known before treatment."
        )
    return rows
