"""`write_report`: look at a collection once, write one page."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from hcc_tace_data.clinical import check_sheet, find_sheet, load_clinical, read_sheet
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError, PatientNotFoundError, WorkerLostError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.integrity.verify import VerifyReport, verify
from hcc_tace_data.open import open_collection
from hcc_tace_data.phases.label import label_phases
from hcc_tace_data.report import cohort
from hcc_tace_data.report.findings import findings_section
from hcc_tace_data.report.matrix import phase_matrix
from hcc_tace_data.report.page import render
from hcc_tace_data.report.patients import PatientCard, make_cards, read_evaluation
from hcc_tace_data.report.provenance import provenance
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.roots import resolve_root
from hcc_tace_data.system.words import count
from hcc_tace_data.validators import validate

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.open import Collection

__all__ = ["ReportSummary", "write_report"]

logger = logging.getLogger(__name__)

_SHOWN_PROBLEMS = 200
Progress = Callable[[str, int, int], None]
_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSummary:
    """What was written.

    Attributes
    ----------
    path : pathlib.Path
    bytes : int
        Size of the page.
    patients, pictures : int
        Patients on the page, and CT slices drawn.
    findings : dict of str to int
        Findings by severity.
    whole : bool
        Whether every file of the series table is here and none is damaged.
    not_drawn : dict of str to str
        PatientID -> why there are no slices.
    seconds : float
    failed : dict of str to str
        Part of the page -> why it could not be made; the page says so in its place.
    """

    path: Path
    bytes: int
    patients: int
    pictures: int
    findings: dict[str, int]
    whole: bool
    not_drawn: dict[str, str]
    seconds: float
    failed: dict[str, str] = field(default_factory=dict)


def write_report(
    root: str | os.PathLike[str] | None,
    path: str | os.PathLike[str],
    *,
    depth: Literal["index", "headers", "pixels"] = "headers",
    patients: Sequence[str] | None = None,
    predictions: str | os.PathLike[str] | None = None,
    slices: int = 5,
    workers: int = 2,
    progress: Progress | None = None,
) -> ReportSummary:
    """Write the report of a collection on disk as one HTML file that needs no network.

    Parameters
    ----------
    root : path-like or None
        The collection's folder; None for the default one.
    path : path-like
        The page; it appears under its name only when it is whole.
    depth : {"index", "headers", "pixels"}
        How deep the validators look.
    patients : sequence of str, optional
        Whose slices to draw; default all. Every other part is about the whole folder.
    predictions : path-like, optional
        Folder of predictions and ``evaluation.json``; default ``predictions`` in the collection's folder.
    slices : int
        CT slices a patient.
    workers : int
        Processes that read headers and threads that draw.
    progress : callable, optional
        Called with (step, done, total).

    Raises
    ------
    CollectionNotFoundError
        No data there.
    PatientNotFoundError
        One of `patients` is not there.
    """
    start = time.monotonic()
    show = progress or _nothing
    folder = resolve_root(root)
    collection = open_collection(folder, workers=workers, progress=lambda done, total: show("headers", done, total))
    if not len(collection):
        raise CollectionNotFoundError(f"No DICOM files at {folder}; 'hcc-tace phantom {folder}' writes a twin.")
    unknown = sorted(set(patients or ()) - set(collection))
    if unknown:
        raise PatientNotFoundError(
            f"{', '.join(unknown)} not in {folder}, which holds {count(len(collection), 'patient')}."
        )
    parts = _Parts()
    show("rules", 0, 1)
    findings = parts.make(
        "findings",
        lambda: findings_section(validate(folder, depth=depth, workers=workers).as_dict()),
        lambda: findings_section({}),
    )
    show("rules", 1, 1)
    whole = parts.make("files", lambda: verify(collection).as_dict(), _nothing_verified)
    volumes = parts.make("phases", lambda: label_phases(collection), _no_volumes)
    matrix = parts.make("phases", lambda: phase_matrix(collection, volumes), _no_matrix)
    table, clinical = parts.make("clinical", lambda: _clinical(folder, parts), lambda: (None, {}))
    clinical.setdefault("reason", parts.failed.get("clinical", ""))
    place = Path(predictions) if predictions is not None else folder / "predictions"
    scores: dict[str, dict[str, float]] = parts.make("scores", lambda: read_evaluation(place / "evaluation.json"), dict)
    wanted = list(patients if patients is not None else collection)
    cards = parts.make(
        "patients",
        lambda: make_cards(
            collection,
            wanted,
            predictions=place,
            scores=scores,
            slices=slices,
            workers=workers,
            progress=lambda done, total: show("drawing", done, total),
        ),
        lambda: [PatientCard(patient_id=patient) for patient in wanted],
    )
    html = render(
        "report.html.j2",
        title="HCC-TACE-Seg report",
        here=_here(collection, whole, volumes),
        findings=findings,
        linked=frozenset(card.patient_id for card in cards),
        matrix=matrix,
        failed=parts.failed,
        clinical=clinical,
        model=_model(cards),
        cards=_cards(cards, table, volumes, findings),
        provenance=provenance(_facts(collection, clinical, place, depth)),
    )
    atomic_write_text(path, html)
    return ReportSummary(
        path=Path(path),
        bytes=len(html.encode()),
        patients=len(collection),
        pictures=sum(len(card.slices) for card in cards),
        findings=dict(findings["counts"]),
        whole=bool(whole["ok"]),
        failed=parts.failed,
        not_drawn={card.patient_id: " ".join(card.remarks) for card in cards if not card.slices},
        seconds=time.monotonic() - start,
    )


class _Parts:
    """Makes the parts of a page, one at a time: what cannot be made is noted, and the page goes on without it."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def make(self, name: str, make: Callable[[], _Made], instead: Callable[[], _Made]) -> _Made:
        """Return what `make` gives, else what `instead` gives."""
        try:
            return make()
        except WorkerLostError:
            raise
        except Exception as error:
            self.failed[name] = reason_of(error)
            logger.warning("part '%s' of the report could not be made: %s", name, self.failed[name])
            return instead()


def _nothing_verified() -> dict[str, Any]:
    return VerifyReport(series=0, instances=0, bytes=0, problems=()).as_dict() | {"ok": False}


def _no_volumes() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"patient_id": [], "annotated": [], "phase": []}, dtype=object)


def _no_matrix() -> dict[str, Any]:
    return {"phases": [], "rows": [], "totals": [], "sources": {"published": 0, "inferred": 0}}


def _nothing(step: str, done: int, total: int) -> None:
    """Take the place of `progress`."""


def _here(collection: Collection, whole: dict[str, Any], volumes: pd.DataFrame) -> dict[str, Any]:
    """Counts of what is here, beside what the collection has, and what verification found."""
    counts = load_catalog().counts.idc
    series = collection.series
    published = set(load_series_table(None, with_bamf=True)["series_uid"])
    known = int(series["series_uid"].isin(published).sum())
    own = collection.root / "series.csv"
    tiles = [
        ("Patients", len(collection), counts.patients),
        ("Studies", int(series["study_uid"].nunique()), counts.studies),
        ("CT series", int((series["modality"] == "CT").sum()), counts.ct_series),
        ("Phase volumes", len(volumes), load_catalog().counts.paper.phase_volumes),
        ("Segmentations", int((series["modality"] == "SEG").sum()), counts.segmentations),
        ("Files", len(collection.instances), counts.instances),
    ]
    problems = whole["problems"]
    return {
        "tiles": [{"name": name, "here": here, "published": there} for name, here, there in tiles],
        "bytes": int(collection.instances["size"].sum()),
        "published_bytes": counts.bytes,
        "whole": whole,
        "shown": problems[:_SHOWN_PROBLEMS],
        "more": max(0, len(problems) - _SHOWN_PROBLEMS),
        "table": "the folder's own series.csv" if own.is_file() else "the collection's published series table",
        "known_series": known,
        "series": len(series),
        "synthetic": known == 0,
    }


def _clinical(folder: Path, parts: _Parts) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Return the clinical table and everything the page says of it, or why it is missing."""
    try:
        path = find_sheet(folder)
        problems = check_sheet(read_sheet(path))
        table = load_clinical(path, on_problem="ignore")
    except (CollectionNotFoundError, ClinicalError) as error:
        logger.warning("no clinical part: %s", error)
        return None, {"reason": str(error)}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return table, {
        "reason": "",
        "file": path.name,
        "sha256": digest,
        "official": digest == load_catalog().clinical.sha256,
        "patients": len(table),
        "problems": problems,
        "notes": table.attrs["notes"],
        "table_one": parts.make("cohort", lambda: cohort.table_one(table), lambda: {"columns": [], "groups": []}),
        "survival": parts.make("survival", lambda: cohort.survival_section(table), list),
        "competing": parts.make("competing", lambda: cohort.competing_section(table), dict),
        "cox": parts.make("stages", lambda: cohort.cox_rows(table), list),
        "response": parts.make("response", lambda: cohort.response_section(table), _no_response),
        "agreement": parts.make("readers", lambda: cohort.agreement_section(table), list),
    }


def _no_response() -> dict[str, Any]:
    return {"svg": "", "counts": {"shown": 0, "unmeasured": 0, "cut": 0}, "consensus": []}


def _model(cards: Sequence[PatientCard]) -> dict[str, Any]:
    """Summarise the Dice of the predictions by class."""
    scored = [card for card in cards if card.dice]
    names = list(dict.fromkeys(name for card in scored for name in card.dice))
    rows = []
    for name in names:
        values = np.array([card.dice[name] for card in scored if name in card.dice])
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        worst = min((card for card in scored if name in card.dice), key=lambda card: card.dice[name])
        rows.append(
            {
                "name": name,
                "cases": len(values),
                "mean": f"{values.mean():.3f}",
                "median": f"{middle:.3f}",
                "quartiles": f"{low:.3f}–{high:.3f}",
                "worst": worst.patient_id,
                "worst_dice": f"{worst.dice[name]:.3f}",
            }
        )
    return {"rows": rows, "patients": len(scored), "sources": sorted({card.dice_source for card in scored})}


def _cards(
    cards: Sequence[PatientCard], table: pd.DataFrame | None, volumes: pd.DataFrame, findings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Join what is drawn with the clinical row, the phase and the findings of each patient."""
    rows: dict[str, dict[str, Any]] = {}
    if table is not None:
        plain = table.astype(object).where(table.notna(), None)
        rows = {str(row["patient_id"]): {str(k): v for k, v in row.items()} for row in plain.to_dict("records")}
    drawn = volumes[volumes["annotated"].astype(object).map(lambda value: value is True).astype(bool)]
    phases = dict(zip(drawn["patient_id"], drawn["phase"], strict=True))
    tumour = next(item.number for item in load_catalog().label_sets["standard"] if item.name == "tumour")
    result = []
    for card in cards:
        row = rows.get(card.patient_id, {})
        own = [finding for finding in findings["rows"] if finding["patient_id"] == card.patient_id]
        result.append(
            {
                "card": card,
                "facts": cohort.facts_of(row),
                "response": row.get("tace_response") or "unknown",
                "phase": card.phase or phases.get(card.patient_id, "unknown"),
                "findings": sum(finding["severity"] in {"error", "warning"} for finding in own),
                "tumour_ml": card.volumes_ml.get(tumour),
                "tumour_dice": card.dice.get("tumour"),
            }
        )
    return result


def _facts(collection: Collection, clinical: dict[str, Any], predictions: Path, depth: str) -> dict[str, str]:
    facts = {
        "folder": collection.root.resolve().name,
        "files read": f"{count(len(collection.instances), 'header')}; rules to depth '{depth}'",
    }
    if not clinical["reason"]:
        match = "the published digest" if clinical["official"] else "not the digest of the published file"
        facts["clinical sheet"] = f"{clinical['file']}, SHA-256 {clinical['sha256'][:16]}… ({match})"
    predicted = len(list(predictions.glob("*.nii.gz"))) if predictions.is_dir() else 0
    facts["predictions"] = count(predicted, "label map") if predicted else "none found"
    return facts
