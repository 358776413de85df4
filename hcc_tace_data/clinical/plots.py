"""Pictures of the cohort's outcomes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.clinical.columns import by_name, name_of
from hcc_tace_data.clinical.survival import KaplanMeier, kaplan_meier, log_rank
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["plot_survival", "survival_figure"]

_EVENTS = {"os": "share of patients alive", "ttp": "share without progression"}
#: Groups smaller than this get a faint band.
_FEW = 10
_TITLES = {"os": "Overall survival", "ttp": "Time to progression"}
# Okabe and Ito's colours, which differ with any colour vision.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def survival_figure(table: pd.DataFrame, *, by: str | None = None) -> Figure:
    """Draw Kaplan-Meier curves of both endpoints with 95 % bands, censoring marks and numbers at risk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.6), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 2, height_ratios=(4, 1))
    for column, (endpoint, title) in enumerate(_TITLES.items()):
        curves = kaplan_meier(table, endpoint, by=by)
        upper, lower = axes[0, column], axes[1, column]
        used = sum(curve.patients for curve in curves)
        for curve, colour in zip(curves, _COLOURS * 2, strict=False):
            label = f"{curve.group} ({count(curve.patients, 'patient')}, {count(curve.events, 'event')})"
            upper.step(curve.weeks, curve.survival, where="post", color=colour, label=label)
            _mark_censored(upper, curve, colour)
            faint = 0.15 if curve.patients >= _FEW else 0.05  # a wide band of few patients would hide the others
            upper.fill_between(curve.weeks, curve.lower, curve.upper, step="post", color=colour, alpha=faint, lw=0)
        title += f", {count(used, 'patient')}"
        if by is not None and len(curves) > 1:
            title += f", log-rank p = {log_rank(table, endpoint, by)[1]:.3g}"
        upper.set_title(title, fontsize=11)
        upper.set(ylim=(0, 1.02), xlim=(0, None), ylabel=_EVENTS[endpoint], xlabel="weeks after TACE")
        upper.spines[["top", "right"]].set_visible(False)
        upper.legend(frameon=False, fontsize=8, title=_grouping(by), title_fontsize=8)
        _numbers_at_risk(lower, curves, upper.get_xticks(), upper.get_xlim())
    return figure


def _grouping(by: str | None) -> str | None:
    """Return the grouping column's name for people, with its unit."""
    if by is None:
        return None
    try:
        unit = by_name(by).unit
    except KeyError:
        unit = ""
    return name_of(by) + (f", {unit}" if unit else "")


def _mark_censored(axes: Any, curve: KaplanMeier, colour: str) -> None:
    weeks = curve.censored()
    places = np.searchsorted(curve.weeks, weeks, side="right") - 1
    axes.plot(weeks, curve.survival[places], "|", color=colour, ms=7, mew=1.2)


def _numbers_at_risk(axes: Any, curves: Any, ticks: Any, limits: Any) -> None:
    axes.set(xlim=limits, ylim=(len(curves) - 0.5, -0.5), yticks=range(len(curves)))
    axes.set_yticklabels([curve.group for curve in curves], fontsize=8)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, pad=14)  # room for the numbers at week 0
    axes.set_title("at risk", fontsize=8, loc="left")
    for side in axes.spines.values():
        side.set_visible(False)
    for row, curve in enumerate(curves):
        for tick in ticks:
            if limits[0] <= tick <= limits[1]:
                index = int(np.searchsorted(curve.weeks, tick, side="left"))
                number = int(curve.at_risk[index]) if index < len(curve.at_risk) else 0
                axes.text(tick, row, str(number), ha="center", va="center", fontsize=8)


def plot_survival(table: pd.DataFrame, path: str | os.PathLike[str], *, by: str | None = None) -> None:
    """Write :func:`survival_figure` to a PNG file."""
    figure = survival_figure(table, by=by)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
