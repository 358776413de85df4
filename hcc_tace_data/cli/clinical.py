"""`hcc-tace clinical`: the clinical table, its checks, reader agreement and survival."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, say, say_wrapped
from hcc_tace_data.cli.options import Json, Quiet
from hcc_tace_data.clinical.agreement import reader_agreement
from hcc_tace_data.clinical.competing import competing_death
from hcc_tace_data.clinical.load import load_clinical
from hcc_tace_data.clinical.plots import plot_survival
from hcc_tace_data.clinical.schema import check_sheet
from hcc_tace_data.clinical.sheet import find_sheet, read_sheet
from hcc_tace_data.clinical.survival import ENDPOINTS, cox_by_stage, kaplan_meier, log_rank
from hcc_tace_data.errors import ClinicalError
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import csv_table
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False)


@app.command()
def clinical(
    root: Annotated[Path | None, typer.Argument(help="The collection's folder, or the sheet itself.")] = None,
    by: Annotated[str | None, typer.Option(help="Column to group the survival curves by.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the typed table to this CSV file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the survival curves to this PNG file.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Load and check the clinical sheet; print endpoints, reader agreement and survival."""
    path = find_sheet(root)
    problems = check_sheet(read_sheet(path))
    table = load_clinical(path, on_problem="ignore")
    document = _document(table, by)
    document["problems"] = [
        {"check": p.check, "severity": p.severity, "patient_id": p.patient_id, "column": p.column, "message": p.message}
        for p in problems
    ]
    document["ok"] = not any(problem.severity == "error" for problem in problems)
    if csv is not None:
        atomic_write_text(csv, csv_table(table))
        note(f"wrote {csv}", quiet=quiet)
    if plot is not None:
        plot_survival(table, plot, by=by)
        note(f"wrote {plot}", quiet=quiet)
    if as_json:
        emit_json(document)
    else:
        _print(document)
    raise typer.Exit(0 if document["ok"] else 1)


def _document(table: pd.DataFrame, by: str | None) -> dict[str, Any]:
    response = table["tace_response"]
    document: dict[str, Any] = {
        "source": table.attrs["source"],
        "patients": len(table),
        "notes": table.attrs["notes"],
        "tace_response": {
            "refractory": int((response == "refractory").sum()),
            "susceptible": int((response == "susceptible").sum()),
            "unknown": int(response.isna().sum()),
        },
        "survival": {},
        "agreement": {},
    }
    for endpoint in ENDPOINTS:
        curves = kaplan_meier(table, endpoint, by=by)
        entry: dict[str, Any] = {
            "groups": [
                {"group": c.group, "patients": c.patients, "events": c.events, "median_weeks": _finite(c.median_weeks)}
                for c in curves
            ]
        }
        if by is not None and len(curves) > 1:
            statistic, p = log_rank(table, endpoint, by)
            entry["log_rank"] = {"statistic": statistic, "p": p}
        try:
            entry["cox"] = [
                {name: _finite(value) if isinstance(value, float) else value for name, value in asdict(result).items()}
                for result in cox_by_stage(table, endpoint)
            ]
        except ClinicalError as error:  # a handful of phantom patients may share one stage
            entry["cox"], entry["cox_reason"] = [], str(error)
        document["survival"][endpoint] = entry
    try:
        competing = competing_death(table)
    except ClinicalError as error:
        document["survival"]["ttp"]["competing_death"] = {"reason": str(error)}
    else:
        document["survival"]["ttp"]["competing_death"] = {
            "censored": competing.censored,
            "died": competing.died,
            "median_weeks_to_death": _finite(competing.median_weeks),
            "summary": competing.summary,
        }
    for criterion in ("recist", "mrecist"):
        try:
            result = reader_agreement(table, criterion)
        except ClinicalError as error:
            document["agreement"][criterion] = {"reason": str(error)}
            continue
        document["agreement"][criterion] = {
            "cases": result.cases,
            "identical": result.identical,
            "fleiss_kappa": _finite(result.fleiss_kappa),
            "gwet_ac1": _finite(result.gwet_ac1),
            "weighted_kappa": {f"{a}-{b}": _finite(k) for (a, b), k in result.weighted_kappa.items()},
            "bland_altman_mm": {f"{a}-{b} {v}": asdict(limits) for (a, b, v), limits in result.diameters.items()},
        }
    return document


def _finite(value: float) -> float | None:
    """JSON has neither NaN nor infinity: a median not reached is null."""
    return value if value == value and abs(value) != float("inf") else None


def _print(document: dict[str, Any]) -> None:
    say(f"{count(document['patients'], 'patient')} in {document['source']}")
    response = document["tace_response"]
    say_wrapped(
        f"TACE response at 14 weeks: {response['refractory']} refractory, {response['susceptible']} susceptible, "
        f"{response['unknown']} unknown (censored before)"
    )
    for endpoint, entry in document["survival"].items():
        say(f"{endpoint.upper()}:")
        for group in entry["groups"]:
            median = "not reached" if group["median_weeks"] is None else f"{group['median_weeks']:.1f} weeks"
            sizes = f"{count(group['patients'], 'patient')}, {count(group['events'], 'event')}"
            say(f"  {group['group']}: {sizes}, median {median}")
        if "log_rank" in entry:
            say(f"  log-rank p = {entry['log_rank']['p']:.4g}")
        if entry["cox"]:
            say("  system     C-index  hazard ratio per stage  apparent  corrected  PH test, p")
        for cox in entry["cox"]:
            ratio = f"{cox['hazard_ratio']:.2f} ({cox['lower']:.2f} to {cox['upper']:.2f})"
            rest = [_shown(cox[name]) for name in ("c_index_apparent", "c_index_corrected", "ph_p")]
            say(f"  {cox['covariate']:<11}{_shown(cox['c_index']):<9}{ratio:<24}{rest[0]:<10}{rest[1]:<11}{rest[2]}")
        if "summary" in entry.get("competing_death", {}):
            say_wrapped(f"  {entry['competing_death']['summary']}")
    for criterion, entry in document["agreement"].items():
        if "reason" in entry:
            say(f"Readers, {criterion}: {entry['reason']}")
            continue
        say(
            f"Readers, {criterion}: {entry['identical']} of {entry['cases']} identical, "
            f"Fleiss' kappa {_shown(entry['fleiss_kappa'])}, AC1 {_shown(entry['gwet_ac1'])}"
        )
    for remark in document["notes"]:
        say_wrapped(f"note: {remark}")
    for problem in document["problems"]:
        say(f"{problem['severity']}: {problem['message']}")


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
