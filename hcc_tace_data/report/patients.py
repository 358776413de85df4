"""What the page shows of each patient: slices with contours, scores, a few facts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.phases.label import phase_paths
from hcc_tace_data.report.strips import Slice, choose_slices, make_strip
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.parallel import in_threads

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case
    from hcc_tace_data.open import Collection
from hcc_tace_data.volumes.nifti import check_nifti_claims, patient_affine

__all__ = ["PatientCard", "make_cards", "read_evaluation", "read_prediction"]

logger = logging.getLogger(__name__)

_GRID_TOLERANCE_MM = 0.05
_MAX_EVALUATION_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientCard:
    """One patient on the page.

    Attributes
    ----------
    patient_id : str
    slices : tuple of Slice
        Empty where nothing can be drawn; `remarks` says why.
    depth : int
        Slices of the volume.
    volumes_ml : dict of int to float
        Class number -> annotated volume.
    dice : dict of str to float
        Name of the class -> Dice of the prediction.
    dice_source : str
        Where the Dice comes from, or the empty string.
    remarks : tuple of str
        What is missing, and why.
    phase : str
        Phase of what is drawn; empty for the segmented CT.
    """

    patient_id: str
    slices: tuple[Slice, ...] = ()
    depth: int = 0
    volumes_ml: Mapping[int, float] = field(default_factory=dict)
    dice: Mapping[str, float] = field(default_factory=dict)
    dice_source: str = ""
    remarks: tuple[str, ...] = ()
    phase: str = ""


def make_cards(
    collection: Collection,
    patients: Sequence[str],
    *,
    predictions: Path,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    slices: int = 5,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> list[PatientCard]:
    """Draw every patient's annotated CT, with the predictions that lie in a folder; without one, the CT alone.

    Parameters
    ----------
    collection : Collection
    patients : sequence of str
    predictions : pathlib.Path
        Folder of ``<patient_id>.nii.gz`` (class numbers of the set "standard" on the annotated CT's grid) and
        ``evaluation.json``; it need not exist.
    scores : mapping, optional
        PatientID -> name of the class -> Dice; default from ``evaluation.json``.
    slices : int
        Pictures a patient.
    workers : int
        Threads.
    progress : callable, optional
        Called with (patients done, patients).
    """
    cases, left_out = find_cases(collection, patients)
    by_patient = {case.patient_id: case for case in cases}
    known = read_evaluation(predictions / "evaluation.json") if scores is None else scores

    def draw(patient: str) -> PatientCard:
        case = by_patient.get(patient)
        if case is None:
            reason = left_out.get(patient, "no annotated CT")
        try:
            if case is None:
                return _bare_card(collection, patient, predictions / f"{safe_name(patient)}.nii.gz", slices, reason)
            return _card(case, predictions / f"{safe_name(patient)}.nii.gz", known.get(patient, {}), slices)
        except Exception as error:  # whatever is wrong with one patient, the others are drawn
            reason = reason_of(error)
            logger.warning("%s is not drawn: %s", patient, reason)
            return PatientCard(patient_id=patient, remarks=(f"Nothing drawn: {reason}",))

    cards = []
    for done, card in enumerate(in_threads(draw, [(patient,) for patient in patients], workers), start=1):
        cards.append(card)
        if progress is not None:
            progress(done, len(patients))
    return cards


def _bare_card(collection: Collection, patient: str, prediction: Path, count: int, reason: str) -> PatientCard:
    """Draw the baseline's porto-venous CT, or else another phase, of a patient without a segmented CT."""
    study = collection[patient].baseline
    phases = phase_paths(study) if study is not None else {}
    if not phases:
        return PatientCard(patient_id=patient, remarks=(f"Nothing drawn: {reason}.",))
    phase = next((one for one in ("portal_venous", "arterial") if one in phases), next(iter(phases)))
    volume = read_ct(list(phases[phase]), on_gap="fill")
    nothing = np.zeros(volume.array.shape, np.uint8)
    affine = np.asarray(volume.affine, dtype=np.float64)
    remarks, predicted = [f"Shown without the annotation: {reason}."], None
    if prediction.is_file():
        try:
            predicted = read_prediction(prediction, affine, nothing.shape)
        except UsageError as error:
            remarks.append(str(error))
    names = {item.number: item.name for item in load_catalog().label_sets["standard"]}
    tumour = next(number for number, keys in load_catalog().classes("standard").items() if "tumour" in keys)
    indices = choose_slices(nothing if predicted is None else predicted, count=count, tumour=tumour)
    strip = make_strip(
        volume.array, nothing, affine=affine, indices=indices, predicted=predicted, numbers=names
    )  # fmt: skip
    return PatientCard(
        patient_id=patient, slices=tuple(strip), depth=len(volume.array), remarks=tuple(remarks), phase=phase
    )


def _card(case: Case, prediction: Path, scores: Mapping[str, float], count: int) -> PatientCard:
    from hcc_tace_data.loaders.sample import read_case  # noqa: PLC0415 - its libraries are slow to import

    catalog = load_catalog()
    classes = catalog.classes("standard")
    names = {item.number: item.name for item in catalog.label_sets["standard"]}
    arrays = read_case(case, classes)
    tumour = next(number for number, keys in classes.items() if "tumour" in keys)
    remarks: list[str] = []
    predicted = None
    if prediction.is_file():
        try:
            predicted = read_prediction(prediction, arrays.affine, arrays.label.shape)
        except UsageError as error:
            remarks.append(str(error))
    dice, source = dict(scores), "evaluation.json" if scores else ""
    if predicted is not None and not dice:
        dice, source = _dice(arrays.label, predicted, names), "computed for this page"
    elif dice and predicted is None and not prediction.is_file():
        remarks.append("Scored, but no prediction file to draw.")
    indices = choose_slices(arrays.label, count=count, tumour=tumour)
    strip = make_strip(
        arrays.image, arrays.label, affine=arrays.affine, indices=indices, predicted=predicted, numbers=names
    )
    counts = np.bincount(arrays.label.ravel(), minlength=256)
    millilitres = float(np.prod(arrays.spacing)) / 1000
    return PatientCard(
        patient_id=case.patient_id,
        slices=tuple(strip),
        depth=len(arrays.image),
        volumes_ml={number: int(counts[number]) * millilitres for number in names},
        dice=dice,
        dice_source=source,
        remarks=tuple(remarks),
    )


def read_prediction(path: Path, affine: npt.NDArray[np.float64], shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Read a label map in NIfTI that lies on the grid of a CT.

    Parameters
    ----------
    path : pathlib.Path
    affine : ndarray, shape (4, 4)
        The CT's index (d, h, w) -> LPS mm.
    shape : sequence of int
        The CT's (D, H, W).

    Returns
    -------
    ndarray of uint8, shape (D, H, W)

    Raises
    ------
    UsageError
        Unreadable, or on another grid.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        stored, own = tuple(image.shape), np.diag([-1.0, -1.0, 1.0, 1.0]) @ patient_affine(path, image, UsageError)
        if stored != tuple(reversed(shape)):
            raise UsageError(
                f"Prediction {path.name} has shape {stored}, its CT {tuple(reversed(shape))} (W, H, D); not drawn."
            )
        corners = np.array([[d, h, w, 1] for d in (0, shape[0]) for h in (0, shape[1]) for w in (0, shape[2])], float)
        apart = np.abs(own @ corners[:, [2, 1, 0, 3]].T - affine @ corners.T).max()
        if apart > _GRID_TOLERANCE_MM:
            raise UsageError(f"Prediction {path.name} lies up to {apart:.2f} mm from its CT; not drawn.")
        check_nifti_claims(path, image, UsageError)
        values = np.asarray(image.dataobj)
    except UsageError:
        raise
    except Exception as error:  # nibabel, zlib and the file system raise many kinds
        raise UsageError(f"Prediction {path.name} cannot be read ({type(error).__name__}); not drawn.") from error
    if values.min(initial=0) < 0 or values.max(initial=0) > 255 or (values != np.rint(values)).any():
        raise UsageError(f"Prediction {path.name} holds values that are not class numbers; not drawn.")
    return np.ascontiguousarray(values.astype(np.uint8).transpose(2, 1, 0))


def read_evaluation(path: Path) -> dict[str, dict[str, float]]:
    """Return PatientID -> name of the class -> Dice, from ``evaluation.json``; empty if missing.

    Raises
    ------
    UsageError
        The file is not such a document.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_EVALUATION_BYTES:
        raise UsageError(f"{path} has {path.stat().st_size:,} bytes: not an evaluation of this collection.")
    try:
        document = read_json_object(path)
        return {
            str(case["patient_id"]): {
                str(name).replace("_", " "): float(score["dice"])
                for name, score in case["labels"].items()
                if score.get("dice") is not None
            }
            for case in document["cases"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} is not an evaluation ({type(error).__name__}: {error}); 'hcc-tace baseline evaluate' writes one."
        ) from error


def _dice(label: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], names: Mapping[int, str]) -> dict[str, float]:
    scores = {}
    for number in sorted(names):
        truth, guess = label == number, predicted == number
        total = int(truth.sum()) + int(guess.sum())
        if total:  # absent from both: no score
            scores[names[number]] = 2 * int((truth & guess).sum()) / total
    return scores
