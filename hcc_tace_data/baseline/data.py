"""The cases that the baseline works on: found, stored, and parted by the fixed split."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.errors import BaselineError, CollectionNotFoundError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.splits import FOLDS, patients_of
from hcc_tace_data.loaders.cases import Case, find_cases
from hcc_tace_data.loaders.label_sets import resolve_label_set
from hcc_tace_data.loaders.prepare import prepare_cases
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from hcc_tace_data.open import Collection

__all__ = ["Cohort", "Part", "held_out", "load_cohort", "part_of"]

logger = logging.getLogger(__name__)

#: The channel that needs no registration: the volume on which the readers drew.
ANNOTATED = ("annotated",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Stored cases of a collection.

    Attributes
    ----------
    root : pathlib.Path
        The collection.
    cases : mapping of str to Case
        PatientID -> where its files are.
    stored : mapping of str to StoredCase
        PatientID -> what training reads.
    left_out : mapping of str to str
        PatientID -> why it is not in `cases`.
    digest : str
        Changes with any source file, parameter or patient.
    """

    root: Path
    cases: Mapping[str, Case]
    stored: Mapping[str, StoredCase]
    left_out: Mapping[str, str]
    digest: str

    def pick(self, patients: Iterable[str]) -> list[StoredCase]:
        """Return the stored cases of those patients who are here, in order."""
        return [self.stored[patient] for patient in patients if patient in self.stored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One fold: patients to learn from and to choose by. The test patients are in neither."""

    fold: int
    train: tuple[StoredCase, ...]
    validation: tuple[StoredCase, ...]


def load_cohort(
    collection: Collection,
    *,
    patients: Sequence[str] | None = None,
    phases: Sequence[str] = ANNOTATED,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cohort:
    """Find the annotated CT of each patient and put it in the training store, unless it is there.

    Patients who lack one of the phases are left out, and those of whom one could not be registered.

    Parameters
    ----------
    collection : Collection
        From :func:`hcc_tace_data.open_collection`.
    patients : sequence of str, optional
        Default all.
    phases : sequence of str
        Channels of the image.
    cache : path-like, optional
        Folder of the store; default ``.hcc-tace/store`` in the collection.
    workers : int, optional
        Processes that prepare cases.
    progress : callable, optional
        Called with cases done and all cases.

    Raises
    ------
    CollectionNotFoundError
        No annotated CT.
    """
    wanted = list(collection) if patients is None else list(patients)
    classes = resolve_label_set("standard", tuple(segment.key for segment in load_catalog().segments))
    parameters = StoreParameters(phases=tuple(phases), classes=classes)
    store = Store(Path(cache) if cache is not None else collection.root / ".hcc-tace" / "store", parameters)
    total = len(wanted)

    finished = 0

    def done(steps: int) -> None:
        nonlocal finished
        finished += steps
        if progress is not None:
            progress(finished, total)

    cases, left_out = find_cases(collection, wanted, phases=tuple(phases))
    prepared, failed = prepare_cases(store, cases, workers=workers, done=done)
    # a network has no way to see that a phase is missing
    without = {case.patient_id: _lacks(case) for case in prepared if case is not None and case.missing}
    left_out = {**left_out, **failed, **without}
    stored = {case.patient_id: case for case in prepared if case is not None and case.patient_id not in without}
    reasons = "; ".join(f"{patient}: {reason}" for patient, reason in left_out.items())
    if not stored:
        raise CollectionNotFoundError(
            f"{collection.root} holds {count(len(collection), 'patient')}, none with an annotated CT to train on"
            + (f" ({reasons})." if reasons else ".")
        )
    if left_out:
        logger.warning("%s left out: %s", count(len(left_out), "patient"), reasons)
    names = sorted(case.folder.name for case in stored.values())
    digest = hashlib.sha256("\n".join([parameters.digest, *names]).encode()).hexdigest()[:16]
    return Cohort(
        root=collection.root,
        cases={case.patient_id: case for case in cases if case.patient_id in stored},
        stored=stored,
        left_out=left_out,
        digest=digest,
    )


def _lacks(case: StoredCase) -> str:
    return "; ".join(f"{phase} {reason}" for phase, reason in case.missing.items())


def part_of(cohort: Cohort, fold: int) -> Part:
    """Return the training and validation cases of a fold.

    Raises
    ------
    BaselineError
        The cohort has no patient of one of them.

    See Also
    --------
    hcc_tace_data.facts.splits.patients_of : the fixed split.
    """
    parts = {split: cohort.pick(patients_of(split, fold)) for split in ("train", "validation")}
    for split, cases in parts.items():
        if not cases:
            held = ", ".join(sorted(cohort.stored)[:8]) + (" ..." if len(cohort.stored) > 8 else "")
            usable = [other for other in range(FOLDS) if _usable(cohort, other)]
            hint = f"folds that work: {', '.join(map(str, usable))}" if usable else "no fold works: add patients"
            raise BaselineError(
                f"fold {fold} has no {split} patient among the {len(cohort.stored)} here ({held}); {hint}."
            )
    return Part(fold=fold, train=tuple(parts["train"]), validation=tuple(parts["validation"]))


def _usable(cohort: Cohort, fold: int) -> bool:
    return all(cohort.pick(patients_of(split, fold)) for split in ("train", "validation"))


def held_out(cohort: Cohort) -> list[StoredCase]:
    """Return the cases of the test set.

    Raises
    ------
    BaselineError
        None of them is here.
    """
    found = cohort.pick(patients_of("test"))
    if not found:
        raise BaselineError(
            f"none of the {count(len(cohort.stored), 'patient')} here belongs to the test set; add some."
        )
    return found
