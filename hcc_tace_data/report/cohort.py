"""The clinical part of the page: Table 1, survival, response, agreement of the readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical.agreement import reader_agreement
from hcc_tace_data.clinical.columns import COLUMNS, by_name, name_of
from hcc_tace_data.clinical.competing import competing_death
from hcc_tace_data.clinical.survival import cox_by_stage, kaplan_meier, log_rank
from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.report.charts import (
    COMPETING,
    bland_altman_chart,
    competing_chart,
    survival_chart,
    waterfall_chart,
)
from hcc_tace_data.system.faults import reason_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "agreement_section",
    "competing_section",
    "cox_rows",
    "facts_of",
    "response_section",
    "survival_section",
    "table_one",
]

#: Rows of Table 1, in the order of a paper.
_ROWS = (
    "age_years", "sex", "hepatitis", "alcohol", "smoking", "diabetes", "cirrhosis", "child_pugh",
    "performance_status_bclc", "tumour_size_cm", "tumour_nodularity", "tumour_involvement", "vascular_invasion",
    "portal_vein_thrombosis", "lymph_nodes", "metastasis", "afp_ng_ml", "afp_group", "pathology", "clip_score", "okuda",
    "tnm", "bclc", "chemotherapy", "interval_fu_weeks", "ttp_weeks", "progressed", "os_weeks", "died",
)  # fmt: skip

#: What the survival curves can be grouped by.
_GROUPINGS = (
    "tace_response", "bclc", "clip_group", "okuda", "child_pugh", "sex", "tumour_nodularity", "portal_vein_thrombosis",
    "afp_group", "tumour_size_cm", "mrecist_consensus",
)  # fmt: skip


def table_one(table: pd.DataFrame) -> dict[str, Any]:
    """Table 1 of a paper: the cohort as a whole and by TACE response.

    Returns
    -------
    dict
        ``columns`` (name, patients) and ``groups``: for each characteristic its name, unit and rows of cells, "median
        (quartiles)" for numbers, "n (%)" for categories, of patients whose value is known; missing ones are counted.
    """
    response = table["tace_response"]
    parts = [("All", table)]
    parts += [(f"TACE-{group}", table[(response == group).fillna(False)]) for group in ("refractory", "susceptible")]
    parts.append(("Unknown", table[response.isna()]))
    columns = [{"name": name, "patients": len(part)} for name, part in parts]
    frames = [part for _, part in parts]
    return {"columns": columns, "groups": [_characteristic(name, frames) for name in _ROWS]}


def _characteristic(name: str, parts: Sequence[pd.DataFrame]) -> dict[str, Any]:
    column = by_name(name)
    rows: list[tuple[str, list[str]]] = []
    if column.kind in {"integer", "number"}:
        rows.append(("median (quartiles)", [_quartiles(part[name]) for part in parts]))
    elif column.kind == "flag":
        rows.append(("yes", [_share(part[name], True) for part in parts]))
    else:
        rows += [(str(level), [_share(part[name], level) for part in parts]) for level in parts[0][name].cat.categories]
    missing = [int(part[name].isna().sum()) for part in parts]
    if any(missing):
        rows.append(("missing", [str(number) for number in missing]))
    return {"name": name_of(name), "unit": column.unit, "header": column.header, "rows": rows}


def _quartiles(values: pd.Series[Any]) -> str:
    known = values.dropna().astype(float)
    if known.empty:
        return "–"
    low, middle, high = known.quantile([0.25, 0.5, 0.75])
    return f"{_round(middle)} ({_round(low)}–{_round(high)})"


def _round(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"


def _share(values: pd.Series[Any], level: Any) -> str:
    known = values.dropna()
    if not len(known):
        return "–"
    number = int((known == level).sum())
    return f"{number} ({100 * number / len(known):.0f})"


def p_text(p: float) -> str:
    """Return a p-value as papers print it."""
    if math.isnan(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def survival_section(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Kaplan-Meier curves of both endpoints, for the cohort and by each grouping that has two groups."""
    sections = []
    for by in (None, *_GROUPINGS):
        charts = []
        for endpoint, title, event in (
            ("os", "Overall survival", "death"),
            ("ttp", "Time to progression", "progression"),
        ):
            if by == "tace_response" and endpoint == "ttp":
                continue  # the groups are made of this very endpoint
            chart = _or_reason(partial(_survival, table, endpoint, title, event, by))
            charts.append({"title": title, **chart})
        if by is None or any(chart["svg"] for chart in charts):
            sections.append({"key": by or "all", "name": name_of(by) if by else "Whole cohort", "charts": charts})
    return sections


def _or_reason(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `make` gives, or why there is nothing."""
    try:
        return make()
    except Exception as error:  # a column that is empty or constant ends in all kinds of errors
        return {"reason": reason_of(error), "svg": "", "groups": [], "test": ""}


def _survival(table: pd.DataFrame, endpoint: str, title: str, event: str, by: str | None) -> dict[str, Any]:
    curves = kaplan_meier(table, endpoint, by=by)
    if by is not None and len(curves) < 2:
        raise ClinicalError(f"{name_of(by)}: fewer than two groups with a known {title.lower()}.")
    named = f"{title} by {name_of(by)}" if by else title
    groups = [
        {
            "name": ("yes" if curve.group == "True" else "no" if curve.group == "False" else curve.group),
            "patients": curve.patients,
            "events": curve.events,
            "median": f"{curve.median_weeks:.1f}" if math.isfinite(curve.median_weeks) else "not reached",
        }
        for curve in curves
    ]
    test = ""
    if by is not None:
        statistic, p = log_rank(table, endpoint, by)
        test = f"log-rank {p_text(p)} (chi-squared {statistic:.1f}, {len(curves) - 1} df)"
    return {"svg": survival_chart(curves, title=named, event=event), "groups": groups, "test": test}


def competing_section(table: pd.DataFrame) -> dict[str, Any]:
    """Death as a competing event of progression: a sentence, a chart, and the names of its curves."""
    try:
        found = competing_death(table)
    except ClinicalError as error:
        return {"summary": str(error), "svg": "", "curves": []}
    return {"summary": found.summary, "svg": competing_chart(found), "curves": list(COMPETING.values())}


def cox_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Cox models with one staging system each, for both endpoints."""
    rows = []
    for endpoint, title in (("os", "Overall survival"), ("ttp", "Time to progression")):
        for system in ("clip_score", "okuda", "tnm", "bclc"):
            try:
                result = cox_by_stage(table, endpoint, systems=(system,))[0]
            except Exception as error:
                rows.append({"endpoint": title, "system": name_of(system), "reason": reason_of(error)})
                continue
            rows.append(
                {
                    "endpoint": title,
                    "system": name_of(system),
                    "patients": f"{result.patients} ({result.events})",
                    "ratio": f"{result.hazard_ratio:.2f} ({result.lower:.2f}–{result.upper:.2f})",
                    "p": p_text(result.p).removeprefix("p ").removeprefix("= "),
                    "c_index": f"{result.c_index:.3f}",
                    "apparent": f"{result.c_index_apparent:.3f}",
                    "corrected": f"{result.c_index_corrected:.3f}",
                    "ph": p_text(result.ph_p).removeprefix("p ").removeprefix("= "),
                }
            )
    return rows


def response_section(table: pd.DataFrame) -> dict[str, Any]:
    """Waterfall of mRECIST and the consensus categories of both criteria."""
    svg, counts = waterfall_chart(table)
    consensus = []
    for criterion in ("recist", "mrecist"):
        values = table[f"{criterion}_consensus"]
        row = {str(level): int((values == level).sum()) for level in values.cat.categories}
        consensus.append({"name": _criterion(criterion), **row, "unknown": int(values.isna().sum())})
    return {"svg": svg, "counts": counts, "consensus": consensus}


def _criterion(criterion: str) -> str:
    return "RECIST 1.1" if criterion == "recist" else "mRECIST"


def agreement_section(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Agreement of the readers on both criteria: categories and diameters."""
    sections: list[dict[str, Any]] = []
    for criterion in ("recist", "mrecist"):
        try:
            result = reader_agreement(table, criterion)
        except Exception as error:
            sections.append({"name": _criterion(criterion), "reason": reason_of(error)})
            continue
        limits = [
            {
                "pair": f"{a} and {b}",
                "visit": "baseline" if visit == "bl" else "follow-up",
                "cases": item.cases,
                "bias": f"{item.bias:+.1f}",
                "limits": f"{item.lower:+.1f} to {item.upper:+.1f}",
            }
            for (a, b, visit), item in result.diameters.items()
        ]
        pairs = list(result.weighted_kappa)
        plots = [
            bland_altman_chart(
                table, criterion, pair, {visit: result.diameters[(*pair, visit)] for visit in ("bl", "fu")}
            )
            for pair in pairs
        ]
        sections.append(
            {
                "name": _criterion(criterion),
                "cases": result.cases,
                "identical": result.identical,
                "fleiss": _coefficient(result.fleiss_kappa),
                "ac1": _coefficient(result.gwet_ac1),
                "kappas": [(f"{a} and {b}", _coefficient(result.weighted_kappa[(a, b)])) for a, b in pairs],
                "limits": limits,
                "plots": list(zip([f"Readers {a} and {b}" for a, b in pairs], plots, strict=True)),
            }
        )
    return sections


def _coefficient(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"


#: Facts on a patient's card: column, short name, and for a time the flag of its event and the mark it gets.
_FACTS = (
    ("age_years", "Age", "", ""),
    ("sex", "Sex", "", ""),
    ("tumour_size_cm", "Tumour", "", ""),
    ("child_pugh", "Child-Pugh", "", ""),
    ("bclc", "BCLC", "", ""),
    ("mrecist_consensus", "mRECIST", "", ""),
    ("ttp_weeks", "TTP", "progressed", " progressed"),
    ("os_weeks", "OS", "died", "†"),
)


def facts_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of one patient that stand on the card: name and text; a censored time is marked with +."""
    units = {column.name: column.unit for column in COLUMNS}
    facts = []
    for name, short, event, mark in _FACTS:
        value = row.get(name)
        if value is None or value != value or value == "":
            continue
        shown = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
        unit = units.get(name, "")
        suffix = "" if not event else mark if row.get(event) in (True, 1.0) else "+"
        facts.append((short, f"{shown}{' ' + unit if unit else ''}{suffix}"))
    return facts
