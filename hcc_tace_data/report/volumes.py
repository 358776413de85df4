"""One patient's CT phases and labels as NIfTI in memory, made when asked for."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.errors import RegistrationError, SegmentationError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.open import Collection as Folder
from hcc_tace_data.phases.names import PHASES
from hcc_tace_data.report.patients import read_prediction
from hcc_tace_data.volumes.grids import through
from hcc_tace_data.volumes.nifti import nifti_bytes
from hcc_tace_data.volumes.registration import register

if TYPE_CHECKING:
    from hcc_tace_data.open import Collection
    from hcc_tace_data.volumes.registration import Registration

__all__ = ["PatientVolumes", "ShownVolume"]

logger = logging.getLogger(__name__)

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Volumes kept in memory; a full one takes about 50 MB.
_KEPT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownVolume:
    """One CT volume that the viewer offers."""

    phase: str
    visit: str
    description: str
    confidence: float
    annotated: bool
    same_frame: bool
    slices: int
    paths: tuple[Path, ...]

    @property
    def shares_labels(self) -> bool:
        """Whether the labels lie on this volume as drawn: the same visit and the same frame of reference."""
        return self.visit == "baseline" and self.same_frame


class PatientVolumes:
    """The volumes of one patient.

    Attributes
    ----------
    patient_id : str
    volumes : tuple of ShownVolume
        Baseline first, in order of the phases.
    has_labels : bool
        Whether the baseline study has a segmentation whose CT is known.
    reason : str
        Why there are no labels.
    prediction : pathlib.Path or None
    """

    def __init__(self, collection: Collection, patient_id: str, *, prediction: Path | None = None) -> None:
        patient = collection[patient_id]
        own = Folder(
            collection.root, patient.instances, collection.problems, catalog=collection.catalog, kept=collection.kept
        )
        cases, left_out = find_cases(own, [patient_id])
        self.patient_id = patient_id
        self._case = cases[0] if cases else None
        self.reason = left_out.get(patient_id, "")
        self.prediction = prediction if prediction is not None and prediction.is_file() and cases else None
        self.volumes = _volumes(own, patient_id, self._case.paths if self._case else ())
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._registrations: dict[int, Registration] = {}
        self._lock = Lock()

    @property
    def has_labels(self) -> bool:
        """Whether there are labels to show."""
        return self._case is not None

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to know, as plain JSON values."""
        catalog = load_catalog()
        colours = catalog.colours(catalog.classes("standard"))
        names = {phase.key: phase.name for phase in catalog.phases} | {"unknown": "Unknown phase"}
        classes = sorted(catalog.label_sets["standard"], key=lambda item: item.number)
        return {
            "patient": self.patient_id,
            "volumes": [
                {
                    "name": names[item.phase],
                    "visit": item.visit,
                    "description": item.description,
                    "confidence": item.confidence,
                    "annotated": item.annotated,
                    "labels": self.has_labels and item.shares_labels,
                    "carried": self.has_labels and not item.shares_labels,
                    "slices": item.slices,
                }
                for item in self.volumes
            ],
            "classes": [{"number": item.number, "name": item.name, "colour": colours[item.number]} for item in classes],
            "labels": self.has_labels,
            "reason": self.reason,
            "prediction": self.prediction is not None,
        }

    def ct(self, number: int) -> bytes:
        """Return CT volume `number` as NIfTI, int16 HU.

        Raises
        ------
        HccTaceError
            It cannot be read as a volume.
        """
        from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

        def make() -> bytes:
            volume = read_ct(list(self.volumes[number].paths), on_gap="fill")
            return nifti_bytes(volume.array, np.asarray(volume.affine))

        return self._made(f"ct{number}", make)

    def labels(self) -> bytes:
        """Return the class numbers (label set "standard") on the annotated CT's grid as NIfTI."""
        from hcc_tace_data.loaders.sample import read_case  # noqa: PLC0415 - its libraries are slow to import

        case = self._case
        if case is None:
            raise SegmentationError(f"{self.patient_id} has no labels to show: {self.reason}.")

        def make() -> bytes:
            arrays = read_case(case, load_catalog().classes("standard"))
            return nifti_bytes(arrays.label, arrays.affine)

        return self._made("labels", make)

    def carried(self, number: int) -> bytes:
        """Return the labels moved onto the grid of CT volume `number` by the registration of the two CTs, as NIfTI.

        No reader drew them there: the registration is one affine transform, and the tumour may have changed since.

        Raises
        ------
        SegmentationError
            There are no labels.
        RegistrationError
            The registration is not plausible.
        HccTaceError
            A CT cannot be read as a volume, or is too thin to be registered.
        """
        from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import
        from hcc_tace_data.loaders.sample import read_labels  # noqa: PLC0415 - its libraries are slow to import

        case = self._case
        if case is None:
            raise SegmentationError(f"{self.patient_id} has no labels to carry: {self.reason}.")

        def make() -> bytes:
            found = self._registrations.get(number)  # a refused one is not tried again
            if found is None or found.plausible:
                target = read_ct(list(self.volumes[number].paths), on_gap="fill")
                drawn = read_ct(list(case.paths), on_gap="fill")
            if found is None:
                self._registrations[number] = found = register(target, drawn)
            if not found.plausible:
                raise RegistrationError(
                    f"Labels not carried to this volume: the registration is implausible ({found.reason})."
                )
            label, _, _ = read_labels(case, load_catalog().classes("standard"), drawn)
            onto, shape = np.asarray(target.affine), target.array.shape
            result = np.zeros(shape, np.uint8)
            for key in sorted(set(np.unique(label).tolist()) - {0}):
                result[through(label == key, np.asarray(drawn.affine), onto, shape, found.matrix)] = key
            return nifti_bytes(result, onto)

        return self._made(f"carried{number}", make)

    def predicted(self) -> bytes:
        """Return the prediction, checked to lie on the annotated CT's grid, as NIfTI."""
        from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

        case, path = self._case, self.prediction
        if case is None or path is None:
            raise SegmentationError(f"There is no prediction for {self.patient_id}.")

        def make() -> bytes:
            volume = read_ct(list(case.paths), on_gap="fill")
            affine = np.asarray(volume.affine)
            return nifti_bytes(read_prediction(path, affine, volume.array.shape), affine)

        return self._made("prediction", make)

    def _made(self, name: str, make: Any) -> bytes:
        with self._lock:  # one volume is read at a time: the page asks for several at once
            if name not in self._kept:
                self._kept[name] = make()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]


def _volumes(collection: Collection, patient_id: str, drawn: tuple[Path, ...]) -> tuple[ShownVolume, ...]:
    patient = collection[patient_id]
    baseline = patient.baseline.date if patient.baseline is not None else ""
    series = {one.series_uid: one for study in patient.studies for one in study.series if one.modality == "CT"}
    parts = {uid: one.volumes for uid, one in series.items()}
    frame = next(
        (
            str(part["frame_of_reference_uid"].iloc[0])
            for uid, own in parts.items()
            for part in own
            if drawn and series[uid].root / part["path"].iloc[0] in set(drawn)
        ),
        "",
    )
    shown = []
    for row in collection.phase_volumes.to_dict("records"):
        one, part = series[row["series_uid"]], parts[row["series_uid"]][row["volume"]]
        paths = tuple(one.root / path for path in part["path"])
        shown.append(
            ShownVolume(
                phase=row["phase"],
                visit="baseline" if row["study_date"] == baseline else "follow-up",
                description=row["description"],
                confidence=float(row["confidence"]),
                annotated=row["annotated"] is True,
                same_frame=bool(frame) and str(part["frame_of_reference_uid"].iloc[0]) == frame,
                slices=len(part),
                paths=paths,
            )
        )
    order = {phase: rank for rank, phase in enumerate(PHASES)}
    return tuple(sorted(shown, key=lambda item: (item.visit, order[item.phase])))
