"""One HTML page about the reference models: discrimination, calibration, curves by risk, and who was left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hcc_tace_data.clinical.survival import ENDPOINTS, kaplan_meier
from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.outcome.crossval import HORIZONS, Evaluation, ModelScores
from hcc_tace_data.outcome.metrics import Interval
from hcc_tace_data.report.charts import survival_chart
from hcc_tace_data.report.page import render
from hcc_tace_data.report.provenance import provenance
from hcc_tace_data.report.svg import Chart, nice_ticks
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.words import count

__all__ = ["write_outcome_page"]

_TITLES = {
    "os": ("Overall survival", "death"),
    "ttp": ("Time to progression", "progression"),
    "tace_response": ("TACE response", "a refractory tumour"),
}
_SCORES = {
    "harrell_c": "Harrell’s C",
    "uno_c": "Uno’s C",
    "integrated_brier": "Integrated Brier score",
    "auc": "AUC",
    "average_precision": "Average precision",
    "balanced_accuracy": "Balanced accuracy",
    "brier": "Brier score",
}
#: Models whose calibration is drawn, where they are in the ladder.
_CALIBRATED = ("clinical", "stages", "clinical_images")
_THIRDS = ("low", "middle", "high")


def write_outcome_page(
    evaluations: Sequence[tuple[Evaluation, Evaluation | None]],
    path: str | os.PathLike[str],
    *,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write evaluations as one self-contained HTML page.

    Parameters
    ----------
    evaluations : sequence of (Evaluation, Evaluation or None)
        For each task the evaluation by repeated cross-validation, and the one by the shipped folds beside it.
    path : path-like
        The page.
    facts : mapping, optional
        What stands at the foot of the page: name -> text.
    """
    tasks = [_section(repeated, shipped) for repeated, shipped in evaluations]
    page = render(
        "outcome.html.j2", title="Outcome models", tasks=tasks, provenance=provenance(dict(facts or {}))
    )  # fmt: skip
    atomic_write_text(path, page)


def _section(found: Evaluation, shipped: Evaluation | None) -> dict[str, Any]:
    title, event = _TITLES[found.task.name]
    names = list(found.models[0].scores)
    beside = {} if shipped is None else {one.name: one.scores[names[0]] for one in shipped.models}
    reference = next(one for one in found.models if one.name == found.reference)
    rows = [
        {
            "label": one.label,
            "features": one.features or "",
            "scores": [_parts(one.scores.get(name)) for name in names],
            "shipped": _parts(beside.get(one.name)),
            "difference": _parts(one.difference, signed=True) if one.difference else ("reference", ""),
            "excludes": one.difference is not None and one.difference.excludes_zero,
            "brier": _parts(one.brier_difference, signed=True),
        }
        for one in found.models
    ]
    return {
        "key": found.task.name,
        "title": title,
        "event": event,
        "patients": found.patients,
        "events": found.events,
        "left_out": sorted(Counter(found.left_out.values()).items()),
        "out": sorted(found.left_out.items()),
        "repeats": found.repeats,
        "test_patients": found.test_patients,
        "shipped_patients": 0 if shipped is None else shipped.patients,
        "shipped_events": 0 if shipped is None else shipped.events,
        "scores": [_SCORES[name] for name in names],
        "first": _SCORES[names[0]],
        "reference": reference.label,
        "permuted": f"{found.permuted.value:.3f}",
        "permuted_range": f"{found.permuted.lower:.2f} to {found.permuted.upper:.2f}",
        "rows": rows,
        "says": _says(found, names[0]),
        "forest": _forest(found, names[0]),
        "calibration": _calibrations(found),
        "horizon": HORIZONS.get(found.task.name),
        "curves": _curves(found, reference, title, event) if found.task.survival else "",
    }


def _parts(interval: Interval | None, *, signed: bool = False) -> tuple[str, str]:
    """Return a score and its interval as texts."""
    if interval is None or not np.isfinite(interval.value):
        return "–", ""
    sign = "+" if signed else ""
    value, low, high = (
        f"{one:{sign}.3f}".replace("-", "−") for one in (interval.value, interval.lower, interval.upper)
    )
    return value, f"{low} to {high}"


def _shown(interval: Interval) -> str:
    value, spread = _parts(interval, signed=True)
    return f"{value} ({spread})"


def _says(found: Evaluation, first: str) -> list[str]:
    """Return what the figures allow to say, in sentences."""
    by_name = {one.name: one for one in found.models}
    reference = by_name[found.reference]
    better = [one.label for one in found.models if one.difference is not None and one.difference.lower > 0]
    chance = [one.label for one in found.models if one.scores[first].lower > 0.5]
    sentences = [
        f"Above chance (interval above 0.5): {', '.join(chance)}." if chance else "No model is clearly above chance.",
        f"Better than {reference.label}: {', '.join(better)}."
        if better
        else f"No model is better than {reference.label} with an interval that excludes 0.",
    ]
    images = by_name.get("clinical_images")
    if images is not None and images.difference is not None:
        helped = "an interval that excludes 0" if images.difference.excludes_zero else "an interval that includes 0"
        sentences.append(
            f"Image features added to the sheet change {_SCORES[first]} by {_shown(images.difference)}: "
            f"{helped}{'' if images.difference.lower > 0 else ', so images are not shown to help'}."
        )
    return sentences


def _forest(found: Evaluation, first: str) -> str:
    """Draw the first score of each model and its interval."""
    intervals = [one.scores[first] for one in found.models]
    low = min(0.4, *(one.lower for one in intervals if np.isfinite(one.lower)))
    high = max(0.7, *(one.upper for one in intervals if np.isfinite(one.upper)))
    low, high = np.floor(low * 10) / 10, np.ceil(high * 10) / 10
    count = len(intervals)
    chart = Chart(
        f"{_SCORES[first]} of each model",
        "; ".join(f"{one.label}: {one.scores[first]}" for one in found.models),
        width=820,
        height=74 + 26 * count,
        x=(float(low), float(high)),
        y=(0, count),
        margins=(12, 20, 52, 300),
    )
    chart.axes(nice_ticks(float(low), float(high)), [], x_label=f"{_SCORES[first]}, out of fold, with 95 % interval")
    chart.line([(0.5, 0), (0.5, count)], "limit")
    for row, (one, interval) in enumerate(zip(found.models, intervals, strict=True)):
        height = count - row - 0.5
        colour = "s0" if one.name == found.reference else "s1" if one.name in ("images", "clinical_images") else "s6"
        chart.text(288, chart.y(height) + 4, one.label, anchor="end", kind="name")
        if np.isfinite(interval.lower):
            chart.line([(interval.lower, height), (interval.upper, height)], f"line {colour}")
        chart.dot(interval.value, height, kind=f"dot solid {colour}", tip=f"{one.label}: {interval}", radius=4.5)
    return chart.svg()


def _calibrations(found: Evaluation) -> dict[str, Any]:
    """Draw observed against predicted probabilities of a few models, and list their slopes."""
    chosen = [one for one in found.models if one.name in (*_CALIBRATED, found.reference)]
    shown = [(one, one.calibration) for one in chosen if one.calibration is not None]
    if not shown:
        return {}
    top = max(
        0.2,
        *(max(group.predicted, group.upper) for _, calibration in shown for group in calibration.groups),
    )
    edge = min(1.0, float(np.ceil(top * 10) / 10))
    chart = Chart(
        "Calibration",
        "; ".join(
            f"{one.label}: " + ", ".join(f"predicted {g.predicted:.0%}, observed {g.observed:.0%}" for g in c.groups)
            for one, c in shown
        ),
        width=540,
        height=360,
        x=(0, edge),
        y=(0, edge),
        margins=(14, 18, 52, 78),
    )
    ticks = nice_ticks(0, edge, 5)
    chart.axes(ticks, ticks, x_label="predicted probability", y_label="observed share")
    chart.line([(0, 0), (edge, edge)], "limit")
    for place, (one, calibration) in enumerate(shown):
        # shifted a little, so that intervals do not hide each other
        shift = (place - (len(shown) - 1) / 2) * 0.008 * edge
        for group in calibration.groups:
            at = group.predicted + shift
            chart.line([(at, group.lower), (at, group.upper)], f"line thin s{place}")
            shares = f"predicted {group.predicted:.0%}, observed {group.observed:.0%}"
            tip = f"{one.label}: {count(group.patients, 'patient')}, {shares}"
            chart.dot(at, group.observed, kind=f"dot solid s{place}", tip=tip, radius=4)
    rows = [
        {
            "label": one.label,
            "expected": f"{calibration.expected:.0%}",
            "observed": f"{calibration.observed:.0%}",
            "slope": "–" if np.isnan(calibration.slope) else f"{calibration.slope:.2f}".replace("-", "−"),
        }
        for one, calibration in shown
    ]
    return {"svg": chart.svg(), "rows": rows}


def _curves(found: Evaluation, reference: ModelScores, title: str, event: str) -> str:
    """Draw Kaplan-Meier curves of the thirds by out-of-fold risk of the reference model."""
    import pandas as pd

    weeks, flag = ENDPOINTS[found.task.name]
    rank = pd.Series(reference.out_of_fold.risk).rank(method="first", pct=True)
    table = pd.DataFrame(
        {
            weeks: found.task.target["weeks"].to_numpy(float),
            flag: found.task.target["event"].to_numpy(bool),
            "third": pd.cut(rank, [0, 1 / 3, 2 / 3, 1], labels=list(_THIRDS)),
        }
    )
    try:
        return survival_chart(kaplan_meier(table, found.task.name, by="third"), title=f"{title} by risk", event=event)
    except ClinicalError:
        return ""
