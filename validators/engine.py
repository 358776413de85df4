"""Run rules over a collection; a rule that raises becomes a finding, never silence."""

from __future__ import annotations

import logging
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical import find_sheet, read_sheet
from hcc_tace_data.collection.index import empty_index
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError, PatientNotFoundError, UsageError
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.open import Collection, open_collection
from hcc_tace_data.system.parallel import open_runner
from hcc_tace_data.system.roots import default_root
from hcc_tace_data.system.words import no_patient
from hcc_tace_data.validators.context import Context, part_of
from hcc_tace_data.validators.deid.phi_table import write_phi_table
from hcc_tace_data.validators.deid.redaction import Redactor
from hcc_tace_data.validators.registry import ENGINE, RULES
from hcc_tace_data.validators.reviewed import Review, read_reviews
from hcc_tace_data.validators.rule import DEPTHS, KNOWN_PLACE, SEVERITIES, Depth, Finding, Rule, Severity, Skip
from hcc_tace_data.validators.unchanged import by_patient, local_findings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Report", "RuleStatus", "validate"]

logger = logging.getLogger(__name__)

#: Files from which worker processes pay for their start.
_PARALLEL_HEADERS, _PARALLEL_PIXELS = 6000, 1500
_NO_FILES = "needs DICOM files; only tables were given"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """What became of one rule: ``passed``, ``failed`` or ``skipped``, and why, or what it left unchecked."""

    code: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All findings, and which rules were checked.

    Attributes
    ----------
    findings : tuple of Finding
        By rule, then by patient, then as the rule found them; the same whichever engine ran.
    rules : tuple of RuleStatus
    collection : dict
        Root, depth, and counts of patients, series and instances.
    unused_reviews : tuple of Review
        Entries of the file of reviewed findings that no longer match anything.
    """

    findings: tuple[Finding, ...]
    rules: tuple[RuleStatus, ...]
    collection: dict[str, Any]
    unused_reviews: tuple[Review, ...] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity; those that match a known issue are counted as ``known`` only."""
        found = Counter("known" if finding.known else finding.severity for finding in self.findings)
        return {name: found[name] for name in ("error", "warning", "info", "known")}

    @property
    def by_patient(self) -> pd.DataFrame:
        """One row per patient with findings: how many of each severity, known ones apart, and the codes."""
        import pandas as pd

        names = ("error", "warning", "info", "known")
        rows: dict[str, dict[str, Any]] = {}
        for finding in self.findings:
            row = rows.setdefault(finding.patient_id, {**dict.fromkeys(names, 0), "codes": []})
            row["known" if finding.known else finding.severity] += 1
            row["codes"].append(finding.code)
        for row in rows.values():
            row["codes"] = ", ".join(sorted(set(row["codes"])))
        table = pd.DataFrame.from_dict(rows, orient="index", columns=[*names, "codes"]).sort_index()
        return table.rename_axis("patient_id").reset_index()

    @property
    def ok(self) -> bool:
        """No error that is not known."""
        return self.counts["error"] == 0

    def as_dict(self) -> dict[str, Any]:
        """Return the document of ``hcc-tace validate --format json``."""
        return {
            "ok": self.ok,
            "counts": self.counts,
            "findings": [finding.as_dict() for finding in self.findings],
            "rules": [{"code": r.code, "status": r.status, "reason": r.reason} for r in self.rules],
            "collection": self.collection,
            "unused_reviews": [review.as_dict() for review in self.unused_reviews],
        }


def validate(
    root: str | os.PathLike[str] | Collection | None = None,
    *,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    severity: Severity = "info",
    depth: Depth = "headers",
    workers: int | None = None,
    dask: str | None = None,
    clinical: str | os.PathLike[str] | None = None,
    table: pd.DataFrame | None = None,
    from_table: bool = False,
    patients: Iterable[str] | None = None,
    reviewed: str | os.PathLike[str] | None = None,
    phi_table: str | os.PathLike[str] | None = None,
    rules: Sequence[Rule] = RULES,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check a folder against the curation rules.

    Parameters
    ----------
    root : path-like or Collection, optional
        The folder; or a collection or part of one, whose folder is opened again and whose patients are checked;
        default ``$HCC_TACE_HOME``, else the user's data folder.
    select, ignore : sequence of str, optional
        Codes or their beginnings (``HT3``, ``HT401``).
    severity : {"info", "warning", "error"}
        Findings lighter than this are left out of the report.
    depth : {"headers", "index", "pixels"}
        How deep to look; rules that look deeper are skipped.
    workers : int, optional
        Processes that read files; default: one per core, at most two. One means this process.
    dask : str, optional
        Address of a Dask scheduler whose workers do the reading instead.
    clinical : path-like, optional
        The clinical sheet; default the folder's.
    table : pandas.DataFrame, optional
        Series table to compare with; default the folder's ``series.csv``, else the collection's own.
    from_table : bool
        Check tables alone: the clinical sheet against the series table. No folder is opened.
    patients : iterable of str, optional
        Check these patients only; default all. Rules that compare patients see no others.
    reviewed : path-like, optional
        File of reviewed findings (:mod:`hcc_tace_data.validators.reviewed`), which count as known.
    phi_table : path-like, optional
        File for the table of every distinct header value (:mod:`hcc_tace_data.validators.deid.phi_table`).
    rules : sequence of Rule
        The rules to run; default all.
    progress : callable, optional
        Called with (headers read, headers to read).

    Raises
    ------
    CollectionNotFoundError
        There is no DICOM file at `root`.
    PatientNotFoundError
        One of `patients` is not there.
    UsageError
        Unknown depth or severity, a selection that matches no rule, a wrong file of reviewed findings, or a
        `clinical` that is not a clinical sheet.
    """
    for name, value, allowed in (("depth", depth, DEPTHS), ("severity", severity, SEVERITIES)):
        if value not in allowed:
            raise UsageError(f"{name}={value!r}: choose one of {', '.join(allowed)}.")
    chosen = _choose(rules, select or (), ignore or ())
    reviews = read_reviews(reviewed) if reviewed is not None else ()
    sheet = Path(clinical).expanduser() if clinical is not None else None
    if sheet is not None and not sheet.exists():
        raise CollectionNotFoundError(f"No clinical sheet at {sheet}.")
    if sheet is not None:
        _check_sheet(sheet)
    folder = root.root if isinstance(root, Collection) else root
    collection = _no_files(folder) if from_table else _open(folder, workers, progress)
    if from_table and table is None:
        table = _own_table(collection.root if folder is not None else None)
    chosen_patients = None if patients is None else frozenset(patients)
    if chosen_patients is None and isinstance(root, Collection):
        own = frozenset(root.instances["patient_id"])
        # what concerns the folder as a whole is judged where all of it is given
        chosen_patients = None if own >= set(collection.instances["patient_id"]) else own
    if chosen_patients is not None:
        collection = _of_patients(collection, chosen_patients, table if from_table else None)
    few = len(collection.instances) < (_PARALLEL_PIXELS if depth == "pixels" else _PARALLEL_HEADERS)
    processes = workers if workers is not None else 1 if few else min(2, os.cpu_count() or 1)
    with open_runner(processes, dask) as runner:
        context = Context(collection, runner=runner, table=table, clinical=sheet, depth=depth, patients=chosen_patients)
        report = _report(context, chosen, depth, severity, reviews, from_table=from_table)
        if phi_table is not None:
            write_phi_table(context, phi_table)
    return report


def _check_sheet(place: Path) -> None:
    """Refuse a named file that is not a sheet, before any file is read."""
    try:
        read_sheet(find_sheet(place))
    except ClinicalError as error:
        raise UsageError(f"clinical={str(place)!r} is not a clinical sheet. {error} Name another file.") from error


def _open(
    root: str | os.PathLike[str] | None, workers: int | None, progress: Callable[[int, int], None] | None
) -> Collection:
    collection = open_collection(root, workers=workers, progress=progress)
    if not len(collection.instances) and not len(collection.problems):
        raise CollectionNotFoundError(
            f"No DICOM files at {collection.root}. 'hcc-tace download' fetches the collection, "
            "'hcc-tace phantom' writes a synthetic twin."
        )
    return collection


def _of_patients(collection: Collection, patients: frozenset[str], table: pd.DataFrame | None) -> Collection:
    """Return the collection without the other patients; `table` lists the known ones where there are no files."""
    known = set(collection.instances["patient_id"]) if table is None else set(table["patient_id"])
    if unknown := sorted(patients - known):
        raise PatientNotFoundError(no_patient(unknown, known, str(collection.root)))
    return part_of(collection, patients)


def _no_files(root: str | os.PathLike[str] | None) -> Collection:
    """Return a collection without files, for rules that judge tables."""

    folder = Path(root).expanduser() if root is not None else default_root()
    return Collection(folder, *empty_index())


def _own_table(root: Path | None) -> pd.DataFrame:
    beside = root / "series.csv" if root is not None else None
    return load_series_table(beside if beside is not None and beside.is_file() else None, with_bamf=True)


def _report(
    context: Context,
    chosen: Sequence[Rule],
    depth: Depth,
    severity: Severity,
    reviews: Sequence[Review],
    *,
    from_table: bool,
) -> Report:
    findings: list[Finding] = []
    statuses: list[RuleStatus] = []
    here = () if from_table else [rule for rule in chosen if DEPTHS.index(rule.depth) <= DEPTHS.index(depth)]
    # the findings of another rule of the same code are another's
    known_already = local_findings(context, [rule for rule in here if rule.local and rule in RULES])
    for rule in chosen:
        if rule.code == ENGINE.code:
            continue
        if from_table and rule.needs_files:
            statuses.append(RuleStatus(code=rule.code, status="skipped", reason=_NO_FILES))
        elif DEPTHS.index(rule.depth) > DEPTHS.index(depth):
            statuses.append(RuleStatus(code=rule.code, status="skipped", reason=f"needs --depth {rule.depth}"))
        else:
            local = known_already.get(rule.code)
            found, status = _run(rule, context) if local is None else (local[0], _status(rule, *local))
            findings += found
            statuses.append(status)
    crashed = any(finding.code == ENGINE.code for finding in findings)
    if crashed or any(rule.code == ENGINE.code for rule in chosen):
        statuses.append(RuleStatus(code=ENGINE.code, status="failed" if crashed else "passed"))
    redactor = Redactor(context)
    if context.patients is not None:  # rules that need only tables look at the whole sheet
        findings = [one for one in findings if not one.patient_id or one.patient_id in context.patients]
    known = [redactor.finding(_known(finding, context)) for finding in findings]
    statuses = [replace(status, reason=redactor.text(status.reason)) for status in statuses]
    used: set[Review] = set()
    judged = [_reviewed(finding, reviews, used) for finding in known]
    kept = [one for one in judged if SEVERITIES.index(one.severity) <= SEVERITIES.index(severity)]
    table = context.instances
    summary = {
        "root": redactor.path(str(context.root)),
        "depth": depth,
        "patients": int(table["patient_id"].nunique()),
        "series": int(table["series_uid"].nunique()),
        "instances": len(table),
    }
    unused = tuple(review for review in reviews if review not in used)
    return Report(findings=tuple(kept), rules=tuple(statuses), collection=summary, unused_reviews=unused)


def _choose(rules: Sequence[Rule], select: Sequence[str], ignore: Sequence[str]) -> list[Rule]:
    for prefix in (*select, *ignore):
        if not prefix or not any(rule.code.startswith(prefix) for rule in (*rules, ENGINE)):
            raise UsageError(f"No rule's code begins with {prefix!r}. 'hcc-tace explain' lists all.")
    return [
        rule
        for rule in rules
        if (not select or rule.code.startswith(tuple(select))) and not rule.code.startswith(tuple(ignore))
    ]


def _run(rule: Rule, context: Context) -> tuple[list[Finding], RuleStatus]:
    found: list[Finding] = []
    unchecked: list[str] = []
    try:
        rule.collect(context, found, unchecked)
    except Skip as reason:
        return by_patient(found), RuleStatus(
            code=rule.code, status="failed" if found else "skipped", reason=str(reason)
        )
    except Exception as error:  # whatever a rule raises must be seen in the report
        # where it crashed, but not what the error says: it may quote a header
        trace = "".join(traceback.format_tb(error.__traceback__))
        logger.debug("rule %s crashed (%s):\n%s", rule.code, type(error).__name__, trace)
        crash = Finding(
            code=ENGINE.code,
            severity="error",
            message=f"Rule {rule.code} crashed ({type(error).__name__}); what it checks is unchecked.",
            hint="Report it as a defect of hcc-tace-data; 'hcc-tace --debug validate ...' shows where.",
            evidence={"rule": rule.code},
        )
        return [*by_patient(found), crash], RuleStatus(
            code=rule.code, status="failed", reason=f"crashed: {type(error).__name__}"
        )  # fmt: skip
    return by_patient(found), _status(rule, found, unchecked)


def _status(rule: Rule, found: Sequence[Finding], unchecked: Sequence[str]) -> RuleStatus:
    status = "failed" if found else "passed"
    return RuleStatus(code=rule.code, status=status, reason="; ".join(dict.fromkeys(unchecked)))


def _known(finding: Finding, context: Context) -> Finding:
    """Mark a finding that the catalogue lists. A patient is part of every known issue."""
    for issue in context.catalog.known_issues:
        same = issue.code == finding.code and issue.patient_id == finding.patient_id
        if same and (not issue.series or finding.evidence.get(KNOWN_PLACE) in issue.series):
            finding = replace(finding, known=issue.reason)
            break
    shown = {name: value for name, value in finding.evidence.items() if name != KNOWN_PLACE}
    return replace(finding, evidence=shown)


def _reviewed(finding: Finding, reviews: Sequence[Review], used: set[Review]) -> Finding:
    for review in reviews:
        if review.matches(finding):
            used.add(review)
            if not finding.known:
                finding = replace(finding, known=review.reason)
    return finding
