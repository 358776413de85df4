"""Predictions of many patients on disk, and their scores."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hcc_tace_data.baseline.data import Cohort
from hcc_tace_data.baseline.evaluate import DEFINITIONS, evaluate_case, summarise
from hcc_tace_data.baseline.images import read_nifti
from hcc_tace_data.baseline.options import PredictOptions
from hcc_tace_data.baseline.predict import Cascade
from hcc_tace_data.baseline.stages import whole_liver
from hcc_tace_data.baseline.trivial import TrivialPredictors
from hcc_tace_data.errors import BaselineError, NoLiverError
from hcc_tace_data.loaders.store import StoredCase
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.files import atomic_write_text, mark_output
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.grids import same_grid
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    import numpy.typing as npt

    from hcc_tace_data.open import Collection

__all__ = ["annotated_phases", "evaluate_predictions", "predict_cases", "read_prediction", "write_evaluation"]

logger = logging.getLogger(__name__)

TRUE_LIVER = "true-liver"


def predict_cases(
    cascade: Cascade,
    cases: Sequence[StoredCase],
    out: str | os.PathLike[str],
    options: PredictOptions | None = None,
    *,
    keep: bool = False,
    refuse: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Path]:
    """Predict stored cases and write ``<patient_id>.nii.gz`` for each, on the grid of the annotated CT.

    Parameters
    ----------
    cascade : Cascade
        The networks.
    cases : sequence of StoredCase
    out : path-like
        Folder; 1 is liver, 2 tumour.
    options : PredictOptions, optional
        How.
    keep : bool
        Leave predictions of the same networks that are there.
    refuse : bool
        Write nothing for a patient in whom no liver is found, and name them in an error when all others are done.
        Default an empty label map, so that they count when they are scored, and a warning.
    progress : callable, optional
        Called with cases done and all cases.

    Returns
    -------
    dict
        PatientID -> file.

    Raises
    ------
    NoLiverError
        With `refuse`: no liver was found.
    """
    options = options or PredictOptions()
    files: dict[str, Path] = {}
    about = {"networks": _fingerprint(cascade), "true_liver": options.true_liver, "flips": options.flips}
    without: list[str] = []
    for case in cases:
        path = Path(out) / f"{safe_name(case.patient_id)}.nii.gz"
        note = path.with_name(f"{safe_name(case.patient_id)}.json")
        if not (keep and path.is_file() and _same(note, about, case)):
            label = torch.from_numpy(np.array(case.label))
            image = torch.from_numpy(np.array(case.image))
            found = True
            try:
                result = cascade.run(
                    image,
                    true_liver=whole_liver(label) if options.true_liver else None,
                    flips=options.flips,
                    batch_size=options.batch_size,
                ).label
            except NoLiverError:
                if refuse:
                    without.append(case.patient_id)
                    continue
                logger.warning("%s: no liver found; the prediction is empty and counts as such", case.patient_id)
                result, found = np.zeros(label.shape, dtype=np.uint8), False
            mark_output(path.parent.parent if path.parent.name == TRUE_LIVER else path.parent)
            write_nifti(path, result, np.asarray(case.affine))
            atomic_write_text(note, json.dumps({**about, "case": case.folder.name, "liver_found": found}, indent=1))
        files[case.patient_id] = path
        if progress is not None:
            progress(len(files) + len(without), len(cases))
    if without:
        raise NoLiverError(
            f"no liver found in {', '.join(without)}: nothing written for them "
            f"({count(len(files), 'other')} predicted). Were the networks trained long enough?"
        )
    return files


def _same(note: Path, about: Mapping[str, Any], case: StoredCase) -> bool:
    try:
        said = read_json_object(note)
    except (OSError, ValueError):
        return False
    return {key: said.get(key) for key in (*about, "case")} == {**about, "case": case.folder.name}


def _fingerprint(cascade: Cascade) -> str:
    """Return sixteen hexadecimal digits that change with any weight."""
    digest = hashlib.sha256()
    for network in (*cascade.liver, *cascade.tumour):
        for name, value in network.state_dict().items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_prediction(path: str | os.PathLike[str], case: StoredCase) -> npt.NDArray[np.uint8]:
    """Read a predicted label map, uint8 (D, H, W), that must lie on the grid of a stored case.

    Raises
    ------
    BaselineError
        No file, another grid, or values that are not class numbers.
    """
    if not Path(path).is_file():
        raise BaselineError(f"no prediction at {path}; 'hcc-tace baseline predict' makes it.")
    found = read_nifti(path, shape=case.shape[1:])
    if not same_grid(found.affine, np.asarray(case.affine), case.shape[1:]):
        raise BaselineError(
            f"{path} lies on another grid ({found.array.shape}) than the annotated CT of {case.patient_id} "
            f"({case.shape[1:]}); resample it to the nearest neighbour first."
        )
    values = np.unique(found.array)
    if not np.isin(values, (0, 1, 2, 3, 4)).all():
        raise BaselineError(f"{path} holds {values.tolist()[:8]}; class numbers of the standard set are 0 to 4.")
    return found.array.astype(np.uint8)


def annotated_phases(collection: Collection) -> dict[str, str]:
    """Return PatientID -> contrast phase of the annotated volume, as far as it can be determined."""
    table = collection.phase_volumes
    drawn = table[table["annotated"].fillna(False).astype(bool)]
    return dict(zip(drawn["patient_id"].astype(str), drawn["phase"].astype(str), strict=True))


def evaluate_predictions(
    cohort: Cohort,
    patients: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    phases: Mapping[str, str] | None = None,
    trivial: TrivialPredictors | Mapping[str, TrivialPredictors] | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score the predictions of a folder.

    Parameters
    ----------
    cohort : Cohort
        Annotations.
    patients : sequence of str
        Who; each must have a prediction ``<patient_id>.nii.gz``.
    folder : path-like
        Predictions; those of the tumour in the true liver, where there are any, in its subfolder ``true-liver``.
    phases : mapping, optional
        PatientID -> phase of the annotated volume.
    trivial : TrivialPredictors or mapping of str to TrivialPredictors, optional
        Scored beside; of several folds, PatientID -> those of the patient's fold.
    about : mapping, optional
        Added to the document.
    progress : callable, optional
        Called with cases done and all cases.

    Returns
    -------
    dict
        The document of ``evaluation.json``: ``cases``, ``left_out`` (who cannot be scored, and why), ``summary``,
        ``true_liver`` (its summary and cases, or None), ``trivial``, ``definitions`` and what `about` gives.
    """
    cases: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []
    for number, patient in enumerate(patients, start=1):
        case = cohort.stored[patient]
        label = np.asarray(case.label)
        predicted = read_prediction(Path(folder) / f"{safe_name(patient)}.nii.gz", case)
        row: dict[str, Any] = {
            "patient_id": patient,
            "series_uid": case.series_uid,
            "phase": (phases or {}).get(patient, "unknown"),
            "labels": evaluate_case(predicted, label, case.spacing),
        }
        if trivial is not None:
            own = trivial[patient] if isinstance(trivial, Mapping) else trivial
            row["trivial"] = own.score(np.asarray(case.image), np.isin(predicted, (1, 2, 3)), label)
        cases.append(row)
        other = Path(folder) / TRUE_LIVER / f"{safe_name(patient)}.nii.gz"
        if other.is_file():
            scores = evaluate_case(read_prediction(other, case), label, case.spacing)
            second.append({"patient_id": patient, "phase": row["phase"], "labels": scores})
        if progress is not None:
            progress(number, len(patients))
    return {
        "format": 2,
        **(about or {}),
        "labels": "standard",
        "definitions": DEFINITIONS,
        "cases": cases,
        "left_out": dict(cohort.left_out),
        "summary": summarise(cases),
        "true_liver": {"summary": summarise(second), "cases": second} if len(second) == len(cases) else None,
        "trivial": _trivial(trivial, cases),
    }


def _trivial(
    trivial: TrivialPredictors | Mapping[str, TrivialPredictors] | None, cases: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    if trivial is None or not cases:
        return None
    fitted = list(trivial.values()) if isinstance(trivial, Mapping) else [trivial]
    names = list(cases[0]["trivial"])
    return {
        name: {
            "what": "; or ".join(dict.fromkeys(one.about()[name] for one in fitted)),
            "dice": {
                label: float(np.mean([case["trivial"][name][label] for case in cases])) for label in ("liver", "tumour")
            },
        }
        for name in names
    }


def write_evaluation(folder: str | os.PathLike[str], document: Mapping[str, Any]) -> Path:
    """Write ``evaluation.json`` into the folder of the predictions and return its path."""
    path = Path(folder) / "evaluation.json"
    atomic_write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    return path
