"""Development patients scored by the networks of the fold that did not train on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hcc_tace_data.baseline.data import Cohort, Part
from hcc_tace_data.baseline.folds import trained_on
from hcc_tace_data.baseline.options import PredictOptions
from hcc_tace_data.baseline.predict import Cascade
from hcc_tace_data.baseline.scoring import evaluate_predictions, predict_cases, write_evaluation
from hcc_tace_data.baseline.trivial import TrivialPredictors
from hcc_tace_data.errors import BaselineError

__all__ = ["NOTE", "OUT_OF_FOLD", "evaluate_out_of_fold"]

#: Folder of the predictions, beside those of the test set.
OUT_OF_FOLD = "out-of-fold"

#: Written beside the scores.
NOTE = (
    "each development patient predicted by the networks of the one fold that did not train on them; these patients "
    "chose the epoch of those networks, so the scores are slightly optimistic"
)


def evaluate_out_of_fold(
    run: Path,
    cohort: Cohort,
    parts: Sequence[Part],
    out: Path,
    *,
    options: PredictOptions | None = None,
    phases: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Predict and score the validation patients of each fold; all five folds give the 85 development patients.

    Parameters
    ----------
    run : pathlib.Path
        Holds ``fold0`` and so on.
    cohort : Cohort
        Annotations.
    parts : sequence of Part
        The folds.
    out : pathlib.Path
        Folder of the predictions and ``evaluation.json``. Predictions of the same networks are kept.
    options : PredictOptions, optional
        How.
    phases : mapping, optional
        PatientID -> phase of the annotated volume.
    progress : callable, optional
        Called with patients predicted and all patients.

    Returns
    -------
    dict
        See :func:`hcc_tace_data.baseline.scoring.evaluate_predictions`; ``split`` is "out-of-fold".

    Raises
    ------
    BaselineError
        Networks that were trained on a patient whom they would be scored on.
    """
    patients = [case.patient_id for part in parts for case in part.validation]
    done = 0
    for part in parts:
        own = [case.patient_id for case in part.validation]
        seen = sorted(set(own) & trained_on(run, part.fold))
        if seen:
            raise BaselineError(
                f"the networks of fold {part.fold} in {run} were trained on {', '.join(seen)}; scores would be void."
            )
        cascade = Cascade.load_folds(run, [part.fold])
        before = done

        def advance(count: int, _total: int, before: int = before) -> None:
            if progress is not None:
                progress(before + count, len(patients))

        predict_cases(cascade, part.validation, out, options, keep=True, progress=advance)
        done += len(own)
    fitted = TrivialPredictors.fit_each([part.train for part in parts])
    document = evaluate_predictions(
        cohort,
        patients,
        out,
        phases=phases,
        trivial={case.patient_id: own for part, own in zip(parts, fitted, strict=True) for case in part.validation},
        about={"split": OUT_OF_FOLD, "note": NOTE, "store_digest": cohort.digest, "model": str(run)},
    )
    write_evaluation(out, document)
    return document
