"""From sections to one HTML file that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.phases.names import phase_records
from hcc_tace_data.report.findings import findings_section
from hcc_tace_data.report.provenance import provenance
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from jinja2 import Environment

    from hcc_tace_data.validators.engine import Report

__all__ = ["findings_page", "render"]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hcc_tace_data.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}".replace(",", " ")
    environment.filters["megabytes"] = _bytes
    environment.filters["counted"] = count
    environment.filters["dice"] = lambda value: f"{value:.3f}"
    return environment


def _bytes(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return count(int(number), "byte")


def static_text(name: str) -> str:
    """Return a text file of the package's ``static`` folder."""
    return (files("hcc_tace_data.report") / "static" / name).read_text(encoding="utf-8")


def _phase_style() -> str:
    """Return the style of the cells of each phase; a browser without light-dark() shows the light shade."""
    return "".join(
        f".cell.ph-{key}{{background:{light};background:light-dark({light},{dark})}}"
        for key, record in phase_records().items()
        for light, dark in [(record.colours.light, record.colours.dark)]
    )


def render(template: str, **context: Any) -> str:
    """Render a template with style and script inside, and a policy that forbids the page any request.

    The script is named in the policy by its digest, so that nothing else can run, whatever text the page shows.
    """
    catalog = load_catalog()
    script = static_text("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    colours = catalog.colours(catalog.classes("standard"))
    classes = sorted(catalog.label_sets["standard"], key=lambda item: item.number)
    return (
        _environment()
        .get_template(template)
        .render(
            style=static_text("report.css") + _phase_style(),
            script=script,
            policy=(
                "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
                f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
            ),
            catalog=catalog,
            classes=[{"number": item.number, "name": item.name, "colour": colours[item.number]} for item in classes],
            **context,
        )
    )


def findings_page(report: Report | Mapping[str, Any]) -> str:
    """Return the findings of the validators as one self-contained HTML page.

    Parameters
    ----------
    report : Report or mapping
        What :func:`hcc_tace_data.validate` returns, or the document of ``hcc-tace validate --format json``.

    Returns
    -------
    str
        HTML with filters by severity, rule, patient and text; it opens from disk and loads nothing.
    """
    document = report if isinstance(report, Mapping) else report.as_dict()
    collection = document.get("collection") or {}
    facts = {str(key).replace("_", " "): value for key, value in collection.items() if isinstance(value, (str, int))}
    return render(
        "findings.html.j2",
        title="Curation findings",
        findings=findings_section(document),
        linked=frozenset(),
        provenance=provenance(facts),
    )
