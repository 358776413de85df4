"""The cohort's charts: survival curves, waterfall of the response, Bland-Altman plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.clinical.agreement import BlandAltman
from hcc_tace_data.clinical.columns import READERS
from hcc_tace_data.clinical.competing import CompetingDeath
from hcc_tace_data.clinical.survival import KaplanMeier
from hcc_tace_data.report.svg import Chart, nice_ticks
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["bland_altman_chart", "competing_chart", "survival_chart", "waterfall_chart"]


def survival_chart(curves: list[KaplanMeier], *, title: str, event: str) -> str:
    """Kaplan-Meier curves with their bands, censored patients as strokes, and the numbers at risk below."""
    end = max(float(curve.weeks[-1]) for curve in curves)
    rows = 18 * len(curves)
    chart = Chart(
        title,
        "; ".join(
            f"{curve.group}: {count(curve.patients, 'patient')}, {count(curve.events, 'event')}, "
            f"median {_median(curve)}"
            for curve in curves
        ),
        width=540,
        height=310 + rows + 12,
        x=(0, end * 1.02),
        y=(0, 1),
        margins=(14, 18, 64 + rows, 78),
    )
    ticks = nice_ticks(0, end)
    chart.axes(ticks, [0, 0.25, 0.5, 0.75, 1], x_label="weeks after TACE", y_label=f"without {event}", percent=True)
    for place, curve in enumerate(curves):
        colour = f"s{place % 7}"
        chart.area(_band(curve), f"band {colour}")
        chart.line(_steps(curve.weeks, curve.survival), f"line {colour}")
        for week in curve.censored():
            survival = curve.survival[np.searchsorted(curve.weeks, week, side="right") - 1]
            chart.tick(float(week), float(survival), f"censor {colour}")
    base = chart.height - rows - 6
    chart.text(6, base - 8, "At risk", anchor="start", kind="name")
    for place, curve in enumerate(curves):
        line = base + 8 + 18 * place
        chart.text(6, line, curve.group if len(curves) > 1 else "all", anchor="start", kind=f"key s{place % 7}")
        for tick in ticks:
            index = int(np.searchsorted(curve.weeks, tick, side="left"))
            number = int(curve.at_risk[index]) if index < len(curve.at_risk) else 0
            chart.text(chart.x(tick), line, str(number))
    return chart.svg()


#: Curves of a :class:`CompetingDeath`, in the order of the colours.
COMPETING = {
    "kaplan_meier": "progression, deaths censored (1 − Kaplan-Meier)",
    "progression": "progression, death as a competing event",
    "death": "death without recorded progression",
}


def competing_chart(found: CompetingDeath) -> str:
    """Progression with deaths censored and with death as a competing event, and death before progression."""
    end = float(found.weeks[-1])
    chart = Chart(
        "Progression and death without progression",
        "; ".join(f"{name}: {getattr(found, key)[-1]:.0%} at {end:.0f} weeks" for key, name in COMPETING.items()),
        width=540,
        height=310,
        x=(0, end * 1.02),
        y=(0, 1),
        margins=(14, 18, 52, 78),
    )
    chart.axes(nice_ticks(0, end), [0, 0.25, 0.5, 0.75, 1], x_label="weeks after TACE", y_label="share", percent=True)
    for place, key in enumerate(COMPETING):
        chart.line(_steps(found.weeks, getattr(found, key)), f"line s{place}")
    return chart.svg()


def _median(curve: KaplanMeier) -> str:
    return f"{curve.median_weeks:.1f} weeks" if np.isfinite(curve.median_weeks) else "not reached"


def _steps(weeks: Any, values: Any) -> list[tuple[float, float]]:
    """Corners of a staircase that falls at each time."""
    points = []
    for place, (week, value) in enumerate(zip(weeks.tolist(), values.tolist(), strict=True)):
        if place:
            points.append((week, float(values[place - 1])))
        points.append((week, value))
    return points


def _band(curve: KaplanMeier) -> list[tuple[float, float]]:
    known = ~(np.isnan(curve.lower) | np.isnan(curve.upper))
    weeks, lower, upper = curve.weeks[known], curve.lower[known], curve.upper[known]
    return _steps(weeks, upper) + _steps(weeks, lower)[::-1]


def waterfall_chart(table: pd.DataFrame, criterion: str = "mrecist") -> tuple[str, dict[str, int]]:
    """Change of the sum of diameters by patient, sorted, coloured by the readers' consensus.

    Returns
    -------
    svg : str
        Empty if no patient was measured.
    counts : dict of str to int
        ``shown``, ``unmeasured``, ``cut`` (changes above +100 %, drawn to the edge).
    """
    columns = [f"reader{reader}_{criterion}_change_pct" for reader in READERS]
    change = table[columns].astype("Float64").median(axis=1).astype(float)
    change.index = table["patient_id"].astype(str)
    consensus = table[f"{criterion}_consensus"].astype(object).where(table[f"{criterion}_consensus"].notna(), None)
    groups = dict(zip(change.index, consensus, strict=True))
    shown = change.dropna().sort_values(ascending=False)
    counts = {"shown": len(shown), "unmeasured": int(change.isna().sum()), "cut": int((shown > 100).sum())}
    if shown.empty:
        return "", counts
    chart = Chart(
        f"Waterfall of the {criterion} change",
        f"{count(len(shown), 'patient')}, from {shown.iloc[0]:+.0f} % to {shown.iloc[-1]:+.0f} %; "
        f"median {shown.median():+.0f} %",
        width=1040,
        height=360,
        x=(0, len(shown)),
        y=(-100, 100),
        margins=(14, 12, 18, 64),
    )
    chart.axes([], [-100, -50, 0, 50, 100], y_label="change, per cent of baseline")
    for place, (patient, value) in enumerate(shown.items()):
        group = groups[str(patient)]
        chart.bar(
            place + 0.5,
            0,
            min(value, 100),
            width=0.78,
            kind=f"bar r-{str(group).lower() if group else 'none'}",
            tip=f"{patient}: {value:+.1f} %, consensus {group or 'not all readers'}",
        )
    # the bars fall from left to right: above the axis there is room on the right, below it on the left
    for limit, name, place, anchor in (
        (20, "+20 %: progression", chart.width - chart.right - 4, "end"),
        (-30, "−30 %: partial response", chart.left + 6, "start"),
    ):
        chart.line([(0, limit), (len(shown), limit)], "limit")
        chart.text(place, chart.y(limit) - 5, name, anchor=anchor, kind="small")
    return chart.svg(), counts


def bland_altman_chart(
    table: pd.DataFrame, criterion: str, pair: tuple[int, int], limits: dict[str, BlandAltman]
) -> str:
    """Differences of two readers' diameters against their means, baseline and follow-up."""
    readings = {
        visit: [table[f"reader{reader}_{criterion}_{visit}_mm"].astype(float).to_numpy() for reader in pair]
        for visit in ("bl", "fu")
    }
    means = np.concatenate([(a + b) / 2 for a, b in readings.values()])
    differences = np.concatenate([a - b for a, b in readings.values()])
    edges = [abs(edge) for item in limits.values() for edge in (item.lower, item.upper)]
    reach = 1.08 * max(float(np.nanmax(np.abs(differences))), *edges) or 1.0
    chart = Chart(
        f"Bland-Altman plot, {criterion}, readers {pair[0]} and {pair[1]}",
        "; ".join(
            f"{name}: bias {item.bias:.1f} mm, limits {item.lower:.1f} to {item.upper:.1f} mm"
            for name, item in (("baseline", limits["bl"]), ("follow-up", limits["fu"]))
        ),
        width=340,
        height=250,
        x=(0, float(np.nanmax(means)) * 1.04),
        y=(-reach, reach),
        margins=(12, 10, 44, 56),
    )
    chart.axes(
        nice_ticks(0, float(np.nanmax(means)), 4),
        nice_ticks(-reach, reach, 5),
        x_label="mean of both, mm",
        y_label="difference, mm",
    )
    end = float(np.nanmax(means)) * 1.04
    for visit, colour, name in (("bl", "s0", "baseline"), ("fu", "s1", "follow-up")):
        item = limits[visit]
        chart.line([(0, item.bias), (end, item.bias)], f"line {colour}")
        for edge in (item.lower, item.upper):
            chart.line([(0, edge), (end, edge)], f"line dashed {colour}")
        for patient, a, b in zip(table["patient_id"], *readings[visit], strict=True):
            if not np.isnan(a - b):
                chart.dot((a + b) / 2, a - b, kind=f"dot {colour}", tip=f"{patient}, {name}: {a:g} and {b:g} mm")
    return chart.svg()
