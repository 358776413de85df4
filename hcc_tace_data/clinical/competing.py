"""Death without a recorded progression: what time to progression does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.survival import ENDPOINTS, kaplan_meier
from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.system.words import count, verb

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompetingDeath", "competing_death"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompetingDeath:
    """How many patients without a recorded progression died, and what that leaves open.

    TTP ends with the last assessment, often long before death. Whether a patient progressed in between is not known, so
    there are two bounds: ``kaplan_meier`` takes those who left assessment to progress like the others;
    ``progression`` takes those who died to have died without progression.

    Attributes
    ----------
    patients, progressed, censored : int
        With a known endpoint; of them with a recorded progression, and without.
    died : int
        Of the censored, those who died.
    median_weeks : float
        From the last assessment to death, over these; NaN without any.
    weeks : ndarray of float64, shape (T,)
        Times of the curves.
    kaplan_meier : ndarray of float64, shape (T,)
        1 less the Kaplan-Meier estimate of TTP: death counts as censoring at the last assessment.
    progression, death : ndarray of float64, shape (T,)
        Cumulative incidence (Aalen-Johansen) of progression, and of death before it.
    """

    patients: int
    progressed: int
    censored: int
    died: int
    median_weeks: float
    weeks: Floats
    kaplan_meier: Floats
    progression: Floats
    death: Floats

    @property
    def summary(self) -> str:
        """One sentence."""
        text = (
            f"{self.censored} of {count(self.patients, 'patient')} {verb(self.censored, 'has')} no recorded progression"
        )
        if not self.died:
            return f"{text}; none of them died."
        return f"{text}; {self.died} of them died, in median {self.median_weeks:.0f} weeks after the last assessment."


def competing_death(table: pd.DataFrame) -> CompetingDeath:
    """Describe death as a competing event of time to progression.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`hcc_tace_data.load_clinical`.

    Raises
    ------
    ClinicalError
        Nobody has both endpoints.
    """
    columns = [name for pair in ENDPOINTS.values() for name in pair]
    known = table[table[columns].notna().all(axis=1)]
    if known.empty:
        raise ClinicalError("no patient has both time to progression and survival.")
    ttp, survival = known["ttp_weeks"].to_numpy(float), known["os_weeks"].to_numpy(float)
    progressed, died = known["progressed"].to_numpy(bool), known["died"].to_numpy(bool)
    without = ~progressed & died
    left = np.where(progressed, ttp, survival)
    curve = kaplan_meier(known, "ttp")[0]
    weeks = np.unique(np.concatenate([[0.0], left, curve.weeks]))
    progression, death = _incidence(left, progressed, without, weeks)
    place = np.searchsorted(curve.weeks, weeks, side="right") - 1
    return CompetingDeath(
        patients=len(known),
        progressed=int(progressed.sum()),
        censored=int((~progressed).sum()),
        died=int(without.sum()),
        median_weeks=float(np.median((survival - ttp)[without])) if without.any() else float("nan"),
        weeks=weeks,
        kaplan_meier=1 - curve.survival[place],
        progression=progression,
        death=death,
    )


def _incidence(
    left: Floats, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], at: Floats
) -> tuple[Floats, Floats]:
    """Return the cumulative incidences of two events that exclude each other."""
    free, sums = 1.0, [0.0, 0.0]
    rows = []
    for week in at:
        at_risk = int((left >= week).sum())
        now = [int((event & (left == week)).sum()) for event in (first, second)]
        if at_risk:
            sums = [value + free * number / at_risk for value, number in zip(sums, now, strict=True)]
            free *= 1 - sum(now) / at_risk
        rows.append(sums)
    both = np.array(rows)
    return both[:, 0], both[:, 1]
