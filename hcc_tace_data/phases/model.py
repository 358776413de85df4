"""From evidence on single volumes to the phases of a visit.

Every source gives each volume a log-likelihood of each phase. The phases of one visit are found together: one sweep
a phase, in the order of their acquisition, delayed phases as rare as in the collection. The probability of a phase is
the share, among all assignments of phases to volumes, of those that have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from math import lgamma

import numpy as np
import numpy.typing as npt

from hcc_tace_data.phases.names import KNOWN, published_volumes

__all__ = ["PUBLISHED_RIGHT", "log_likelihood", "posterior"]

#: Probability that a published phase is right: readers saw the images, and a slip in a table of 572 rows is rare.
PUBLISHED_RIGHT = 0.998

# A second sweep of one phase in a visit is as unlikely as a rare reconstruction ...
_TWICE = -4.0
# ... and phases do not come in another order than they were acquired in, unless the visit's clock is wrong.
_DISORDER = -10.0
_CLOCK = 0.97
# More volumes in a visit than this are labelled one by one: assignments are counted in full.
_MOST = 7

Array = npt.NDArray[np.float64]


def log_likelihood(phase: str, confidence: float) -> Array:
    """Return the log-likelihoods (4,) of a source that is right about `phase` with probability `confidence`."""
    if phase not in KNOWN:
        return np.zeros(len(KNOWN))
    rest = (1 - confidence) / (len(KNOWN) - 1)
    return np.log([confidence if name == phase else rest for name in KNOWN])


def posterior(
    evidence: Array,
    times: Sequence[float],
    pairs: Array | None = None,
    *,
    table: Array | None = None,
    trust: float = 0.85,
    orders: Sequence[tuple[Sequence[float], float]] = (),
) -> Array:
    """Return the probability of each phase for each volume of a visit.

    A clock, and the numbers and names of a visit's series, are right or wrong as a whole: two swapped series are one
    mistake, not two. Each of them may therefore be discarded for the visit, at the price of how rarely it is wrong.

    Parameters
    ----------
    evidence : ndarray of float64, shape (V, 4)
        Log-likelihoods of what speaks of each volume alone, summed; see :data:`KNOWN` for the order.
    times : sequence of float, length V
        When each volume was acquired, in seconds; NaN where unknown. Only their order counts here.
    pairs : ndarray of float64, shape (V, V, 4, 4), optional
        Log-likelihood of the phases of two volumes together by their times, for ``[earlier, later]``.
    table : ndarray of float64, shape (V, 4), optional
        Log-likelihoods of what numbers and names of the series say.
    trust : float
        Probability that they are right for this visit.
    orders : sequence of (sequence of float, float)
        Other numbers that rise with acquisition, NaN where unknown, and the probability that they do in a visit.

    Returns
    -------
    ndarray of float64, shape (V, 4)
        Rows sum to 1.
    """
    count = len(evidence)
    if not count:
        return np.zeros((0, len(KNOWN)))
    score = evidence + _base()
    if count > _MOST:
        return _normalised(score + (table if table is not None else 0))
    states = np.array(list(product(range(len(KNOWN)), repeat=count)))
    total = score[np.arange(count), states].sum(axis=1)
    gaps = np.zeros(len(states))
    for one in range(count):
        for two in range(one + 1, count):
            total += _TWICE * (states[:, one] == states[:, two])
            if pairs is None or times[one] != times[one] or times[two] != times[two] or times[one] == times[two]:
                continue
            early, late = (one, two) if times[one] < times[two] else (two, one)
            gaps += pairs[early, late][states[:, early], states[:, late]]
    total += _unless_wrong(_disorder(states, times) + gaps, _CLOCK, count)
    for order, right in orders:
        total += _unless_wrong(_disorder(states, order), right, count)
    if table is not None:
        total += _unless_wrong(table[np.arange(count), states].sum(axis=1), trust, count)
    weight = np.exp(total - total.max())
    weight /= weight.sum()
    chances: Array = np.stack([[weight[states[:, v] == k].sum() for k in range(len(KNOWN))] for v in range(count)])
    return chances


def _disorder(states: npt.NDArray[np.int_], order: Sequence[float]) -> Array:
    """Return the log-likelihood (S,) of assignments (S, V), given when each volume was acquired."""
    result = np.zeros(len(states))
    for one in range(len(order)):
        for two in range(len(order)):
            if order[one] < order[two]:
                result += _DISORDER * (states[:, one] > states[:, two])
    return result


def _unless_wrong(likelihood: Array, trust: float, count: int) -> Array:
    """Mix a source's log-likelihood with that of a source that put the visit's volumes in any order."""
    if not likelihood.any():  # it says nothing
        return likelihood
    return np.asarray(np.logaddexp(np.log(trust) + likelihood, np.log1p(-trust) - lgamma(count + 1)))


def _normalised(score: Array) -> Array:
    weight: Array = np.exp(score - score.max(axis=1, keepdims=True))
    shares: Array = weight / weight.sum(axis=1, keepdims=True)
    return shares


@cache
def _base() -> npt.NDArray[np.float64]:
    """Return the logarithm of how common each phase is; one without a published count is as rare as one volume."""
    counts = np.array([max(1.0, count) for count in published_volumes().values()])
    return np.asarray(np.log(counts / counts.sum()))
