"""The whole baseline: data check, store, folds and stages, ensemble on the test set, report.

Every part leaves its result in the folder of the run and is not done again: a run that was interrupted at any point is
continued by the same call.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.baseline.data import Cohort, Part, held_out, load_cohort, part_of
from hcc_tace_data.baseline.folds import seen_in_training, train_fold
from hcc_tace_data.baseline.options import PredictOptions, ReproduceRequest, TrainOptions
from hcc_tace_data.baseline.out_of_fold import OUT_OF_FOLD, evaluate_out_of_fold
from hcc_tace_data.baseline.pace import torch_threads
from hcc_tace_data.baseline.page import write_page
from hcc_tace_data.baseline.plots import draw_all
from hcc_tace_data.baseline.predict import Cascade
from hcc_tace_data.baseline.processes import world_size
from hcc_tace_data.baseline.published import LEAK_ABOVE, PUBLISHED
from hcc_tace_data.baseline.run_files import environment
from hcc_tace_data.baseline.scoring import (
    TRUE_LIVER,
    annotated_phases,
    evaluate_predictions,
    predict_cases,
    read_prediction,
    write_evaluation,
)
from hcc_tace_data.baseline.training_plan import Plan
from hcc_tace_data.baseline.training_plan_file import plan_of, refuse_other
from hcc_tace_data.baseline.trivial import TrivialPredictors
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.integrity.verify import verify
from hcc_tace_data.labels.scores import dice
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import atomic_write_text, mark_output
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from hcc_tace_data.loaders.store import StoredCase
    from hcc_tace_data.open import Collection

__all__ = ["Tell", "reproduce"]

logger = logging.getLogger(__name__)


class Tell:
    """How a run reports what it does; the default says nothing.

    Parameters
    ----------
    note : callable
        Called with a line when a part begins.
    bar : callable
        Called with the name of what is done, steps done and all steps.
    """

    def __init__(
        self,
        note: Callable[[str], None] = lambda text: None,
        bar: Callable[[str, int, int], None] = lambda name, done, total: None,
    ) -> None:
        self.note, self.bar = note, bar

    def moving(self, name: str) -> Callable[[int, int], None]:
        """Return `bar` for one thing."""
        return lambda done, total: self.bar(name, done, total)


def reproduce(
    collection: Collection,
    out: str | os.PathLike[str],
    request: ReproduceRequest,
    *,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    estimate_only: bool = False,
    started: float | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Train, predict, score and report the reference baseline.

    Parameters
    ----------
    collection : Collection
        From :func:`hcc_tace_data.open_collection`.
    out : path-like
        Folder of the run; ``report.html`` and ``report.json`` are in it at the end.
    request : ReproduceRequest
        Preset, folds, budget, control.
    cache : path-like, optional
        Folder of the training store.
    workers : int, optional
        Processes that prepare cases.
    estimate_only : bool
        Return after the estimate; nothing is trained.
    started : float, optional
        ``time.monotonic()`` when the budget began to run; default now.
    tell : Tell, optional
        Where to say what is done.

    Returns
    -------
    dict
        The document of ``report.json``; of an estimate ``plan`` and ``data`` alone.

    Raises
    ------
    BaselineError
        Several processes; a fold or the test set has no patient; the folder holds another run; the networks have seen
        a test patient.
    """
    if world_size() > 1:
        raise BaselineError("reproduce runs in one process; several train with 'torchrun ... baseline train'.")
    tell = tell or Tell()
    began = time.monotonic() if started is None else started
    place = Path(out)
    refuse_other(place, request)
    tell.note("checking the data")
    checked = _check(collection)
    tell.note("preparing the training store")
    cohort = load_cohort(
        collection, phases=request.config.input.phases, cache=cache, workers=workers, progress=tell.moving("preparing")
    )
    parts = [part_of(cohort, fold) for fold in request.folds]
    test = held_out(cohort)
    left = None if request.budget is None else max(1.0, 60 * request.budget - (time.monotonic() - began))
    if not estimate_only:
        mark_output(place)
    plan = plan_of(place, request, cohort, parts, left, keep=not estimate_only)
    tell.note(_estimate_text(plan))
    data = {
        **checked,
        "left_out": dict(cohort.left_out),
        "store_digest": cohort.digest,
        "test": [c.patient_id for c in test],
    }
    if estimate_only:
        return {"plan": plan.plain(), "data": data}
    with torch_threads(plan.threads):
        return _carry_out(_Run(plan, collection, cohort, parts, test, place, tell), data, began)


@dataclass(frozen=True, slots=True)
class _Run:
    """What the parts of a reproduction work with."""

    plan: Plan
    collection: Collection
    cohort: Cohort
    parts: Sequence[Part]
    test: Sequence[StoredCase]
    place: Path
    tell: Tell


def _carry_out(run: _Run, data: Mapping[str, Any], began: float) -> dict[str, Any]:
    """Train, predict, score and write, and leave out what is there already."""
    plan, cohort, parts, test = run.plan, run.cohort, run.parts, run.test
    collection, place, tell, folds = run.collection, run.place, run.tell, run.plan.folds
    _train(plan, cohort, parts, place, tell)
    seen = sorted({case.patient_id for case in test} & seen_in_training(place, folds))
    if seen:
        raise BaselineError(f"the networks in {place} have seen the test patients {', '.join(seen)}; scores are void.")
    tell.note(f"predicting {count(len(test), 'test patient')} with {count(len(parts), 'network')} per stage")
    cascade = Cascade.load_folds(place, folds)
    for inside, folder in ((False, place / "predictions"), (True, place / "predictions" / TRUE_LIVER)):
        predict_cases(
            cascade, test, folder, PredictOptions(true_liver=inside), keep=True, progress=tell.moving("predicting")
        )
    tell.note("scoring")
    development = [case for part in parts for case in part.train]
    trivial = TrivialPredictors.fit(list({case.patient_id: case for case in development}.values()))
    document = evaluate_predictions(
        cohort,
        [case.patient_id for case in test],
        place / "predictions",
        phases=annotated_phases(collection),
        trivial=trivial,
        about={"split": "test", "store_digest": cohort.digest, "model": str(place)},
        progress=tell.moving("scoring"),
    )
    write_evaluation(place / "predictions", document)
    tell.note("predicting and scoring development patients out of fold")
    second = evaluate_out_of_fold(
        place,
        cohort,
        parts,
        place / "predictions" / OUT_OF_FOLD,
        phases=annotated_phases(collection),
        progress=tell.moving("predicting"),
    )
    shuffled = _score_control(plan, cohort, place, tell) if plan.control else None
    report = {
        "format": 2,
        "synthetic": (collection.root / "truth" / "twin.json").is_file(),
        "data": data,
        "preset": plan.config.name,
        "plan": plan.plain(),
        "environment": environment(),
        "folds": [_fold_row(place, part, plan.steps) for part in parts],
        "evaluation": {key: document[key] for key in ("summary", "trivial", "cases", "definitions")},
        "true_liver": document["true_liver"],
        "out_of_fold": {key: second[key] for key in ("summary", "trivial", "cases", "note")},
        "control": shuffled,
        "published": [item._asdict() for item in PUBLISHED],
        "warnings": _warnings(document, second, plan, collection),
        "seconds": round(time.monotonic() - began, 1),
    }

    tell.note("drawing and writing the report")
    pictures = draw_all(place / "plots", document, cohort, place / "predictions", place)
    atomic_write_text(place / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_page(place / "report.html", report, pictures)
    return report


def _estimate_text(plan: Plan) -> str:
    estimate = plan.estimate
    steps = " and ".join(f"{count} ({stage})" for stage, count in plan.steps.items())
    over = (
        "; longer than the budget, but smaller networks or fewer steps are not planned"
        if estimate.get("over_budget")
        else ""
    )
    return (
        f"{count(plan.trainings, 'training')} of at most {steps} "
        f"steps: about {count(estimate['minutes'], 'minute')}, {estimate['memory_bytes'] / 1e9:.2f} GB of memory, "
        f"{estimate['disk_bytes'] / 1e6:.0f} MB on disk{over}"
    )


def _check(collection: Collection) -> dict[str, Any]:
    """Return what is here and what `verify` says of it."""
    found = verify(collection, patients=list(collection))
    return {
        "root": str(collection.root),
        "patients": len(collection),
        "series": len(collection.series),
        "files": len(collection.instances),
        "verified": bool(found.ok),
        "problems": len(found.problems),
    }


def _train(plan: Plan, cohort: Cohort, parts: Sequence[Part], place: Path, tell: Tell) -> None:
    runs = [(part, place, False) for part in parts]
    if plan.control:
        runs.append((parts[0], place / "control", True))
    for part, folder, shuffled in runs:
        name = "control" if shuffled else f"fold {part.fold}"
        tell.note(f"training {name}")

        def bar(stage: str, done: int, total: int, loss: float, name: str = name) -> None:
            tell.bar(f"{name}, {stage}", done, total)

        options = TrainOptions(resume=True, shuffled=shuffled)
        train_fold(plan.config, cohort, part, folder, options, steps=plan.steps, progress=bar)


def _score_control(plan: Plan, cohort: Cohort, place: Path, tell: Tell) -> dict[str, Any]:
    """Score the control on the test patients: its liver, and its tumour in the true liver."""
    tell.note("scoring the control")
    cascade = Cascade.load_folds(place / "control", [plan.folds[0]])
    cases = held_out(cohort)
    scores: dict[str, list[float]] = {"liver": [], "tumour": []}
    for label, inside in (("liver", False), ("tumour", True)):
        folder = place / "control" / "predictions" / (TRUE_LIVER if inside else "")
        files = predict_cases(cascade, cases, folder, PredictOptions(true_liver=inside), keep=True)
        for case in cases:
            predicted, true = read_prediction(files[case.patient_id], case), np.asarray(case.label)
            pair = (predicted > 0, np.isin(true, (1, 2, 3))) if label == "liver" else (predicted == 2, true == 2)
            scores[label].append(dice(*pair))
    return {
        "what": "networks of one fold, trained on labels of other patients' slices; "
        "tumour searched in the annotated liver",
        "dice": {label: float(np.mean(values)) for label, values in scores.items()},
    }


def _fold_row(place: Path, part: Part, stages: Iterable[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "fold": part.fold,
        "train": sorted(case.patient_id for case in part.train),
        "validation": sorted(case.patient_id for case in part.validation),
    }
    for stage in stages:
        path = place / f"fold{part.fold}" / stage / "run.json"
        try:
            record = read_json_object(path)
            row[stage] = {key: record[key] for key in ("best_dice", "steps", "epoch", "train_patients")}
        except (OSError, ValueError, KeyError) as error:
            raise BaselineError(f"{path} is not the record of a training ({error}); train that part again.") from error
    return row


def _warnings(document: Mapping[str, Any], others: Mapping[str, Any], plan: Plan, collection: Collection) -> list[str]:
    found = []
    tumour = document["summary"]["labels"]["tumour"]["dice"]["mean"]
    synthetic = (collection.root / "truth" / "twin.json").is_file()
    if synthetic:
        found.append("Synthetic twin: the scores say that the pieces fit, nothing about patients.")
    if plan.changes:
        found.append("Scaled to a budget; not the reference baseline: " + "; ".join(plan.changes) + ".")
    if tumour > LEAK_ABOVE and not synthetic:
        found.append(
            f"Tumour Dice above {LEAK_ABOVE}, where two readers agree no better: a leak until shown otherwise."
        )
    for scored, where in ((document, ""), (others, " out of fold")):
        best = max((row["dice"]["tumour"] for row in (scored["trivial"] or {}).values()), default=0.0)
        if scored["cases"] and scored["summary"]["labels"]["tumour"]["dice"]["mean"] <= best:
            found.append(f"The tumour network does not beat the trivial predictors{where}.")
    return found
