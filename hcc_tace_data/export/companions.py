"""The files that accompany exported data: licence, citations and provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hcc_tace_data.export.output_folder import ExportRecord
from hcc_tace_data.facts.catalog import Catalog
from hcc_tace_data.loaders.flow import CohortFlow
from hcc_tace_data.system.files import atomic_write_text, write_json
from hcc_tace_data.version import __version__

__all__ = ["COMPANIONS", "licence_text", "write_companions"]

COMPANIONS = ("LICENSE.txt", "CITATION.bib", "cohort_flow.csv", "cohort_flow.svg", "provenance.json")


def licence_text(catalog: Catalog) -> str:
    """Return the licence of the data and what it requires."""
    identity = catalog.identity
    return (
        f"{identity.title}\nhttps://doi.org/{identity.doi}\n\n"
        f"Files of the collection and what was derived from them here are under {identity.licence}\n"
        f"({identity.licence_url}): name the authors (CITATION.bib) and say what you changed.\n"
        "Changed here: format, and labels as provenance.json tells.\n"
    )


def write_companions(
    out: Path,
    parameters: Mapping[str, Any],
    records: Mapping[str, ExportRecord],
    *,
    catalog: Catalog,
    flow: CohortFlow | None = None,
    unit: str = "patients",
) -> list[Path]:
    """Write LICENSE.txt, CITATION.bib, the cohort flow and provenance.json, and return their paths.

    Parameters
    ----------
    out : pathlib.Path
    parameters : mapping of str to Any
        What was asked for.
    records : mapping of str to ExportRecord
        Name -> what was written.
    catalog : Catalog
        Where licence and citations come from.
    flow : CohortFlow, optional
        Written as ``cohort_flow.csv`` and ``cohort_flow.svg``.
    unit : str
        What a record stands for, in the plural.
    """
    atomic_write_text(out / "LICENSE.txt", licence_text(catalog))
    atomic_write_text(out / "CITATION.bib", "\n\n".join(citation.bibtex() for citation in catalog.citations) + "\n")
    if flow is not None:
        for suffix in ("csv", "svg"):
            flow.save(out / f"cohort_flow.{suffix}")
    provenance = {
        "collection": {"name": catalog.identity.name, "doi": catalog.identity.doi, "licence": catalog.identity.licence},
        "generated_by": {
            "hcc-tace-data": __version__,
            **{name: version(name) for name in ("highdicom", "nibabel", "numpy", "pydicom")},
        },
        "generated": datetime.fromtimestamp(float(os.environ.get("SOURCE_DATE_EPOCH", _now())), UTC).isoformat(),
        "parameters": dict(parameters),
        unit: {
            name: {
                "patient_id": record.patient_id,
                **({"split": record.split, "fold": record.fold} if record.split else {}),
                **record.sources,
                "files": record.files,
            }
            for name, record in sorted(records.items())
        },
    }
    write_json(out / "provenance.json", provenance)
    return [out / name for name in COMPANIONS if flow is not None or not name.startswith("cohort_flow")]


def _now() -> float:
    return datetime.now(UTC).timestamp()
