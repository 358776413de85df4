"""Which files give each channel of an image: the annotated volume itself, and the other phases of its visit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.errors import UsageError
from hcc_tace_data.phases.names import KNOWN, ROUTINE

if TYPE_CHECKING:
    from hcc_tace_data.open import Collection, Patient, Series

__all__ = ["ANNOTATED", "FOLLOW_UP", "PhaseFiles", "both_visits", "find_phases", "resolve_phases"]

#: Asks for the volume the segmentation was drawn on, whatever its phase.
ANNOTATED = "annotated"
#: Asks for a phase of the follow-up, as in ``"follow_up_portal_venous"``.
FOLLOW_UP = "follow_up_"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseFiles:
    """A labelled CT volume and its files.

    Attributes
    ----------
    phase : str
        One of :data:`hcc_tace_data.phases.names.PHASES`.
    confidence : float
        Probability of `phase`.
    study_date, series_uid : str
        Where it lies.
    volume : int
        Number within a stacked series.
    paths : tuple of pathlib.Path
        Files, along +normal.
    """

    phase: str
    confidence: float
    study_date: str
    series_uid: str
    volume: int
    paths: tuple[Path, ...]


def resolve_phases(phases: str | Sequence[str]) -> tuple[str, ...]:
    """Return the channels that `phases` asks for, in order.

    Parameters
    ----------
    phases : str or sequence of str
        Phases, "annotated", "follow_up_" and a phase, or "all": those of :data:`~hcc_tace_data.phases.names.ROUTINE`.

    Raises
    ------
    UsageError
        None, an unknown one, or one twice.

    Examples
    --------
    >>> resolve_phases("all")
    ('pre_contrast', 'arterial', 'portal_venous')
    """
    names = ROUTINE if phases == "all" else (phases,) if isinstance(phases, str) else tuple(phases)
    allowed = {*KNOWN, ANNOTATED, *(FOLLOW_UP + phase for phase in KNOWN)}
    wrong = [name for name in names if name not in allowed]
    if wrong or not names or len(set(names)) < len(names):
        what = f"phases={phases!r} names a phase twice" if names else "phases is empty"
        what = f"Unknown phase {wrong[0]!r}" if wrong else what
        raise UsageError(
            f"{what}. Valid: {', '.join(KNOWN)}, {ANNOTATED!r}; prefix with "
            f"{FOLLOW_UP!r} for the follow-up scan; 'all' = {', '.join(ROUTINE)}."
        )
    return names


def both_visits(phases: str | Sequence[str]) -> tuple[str, ...]:
    """Return each phase at baseline, and after it at the follow-up.

    Raises
    ------
    UsageError
        Not a phase: "annotated" has no counterpart at the follow-up.

    Examples
    --------
    >>> both_visits(["arterial", "portal_venous"])
    ('arterial', 'follow_up_arterial', 'portal_venous', 'follow_up_portal_venous')
    """
    names = resolve_phases(phases)
    wrong = [name for name in names if name not in KNOWN]
    if wrong:
        raise UsageError(f"a pair is of one phase at both visits; {wrong[0]!r} is not one of {', '.join(KNOWN)}.")
    return tuple(name for phase in names for name in (phase, FOLLOW_UP + phase))


def find_phases(collection: Collection, patients: Iterable[str]) -> dict[str, list[PhaseFiles]]:
    """Label the CT volumes of some patients, and list the files of each.

    Parameters
    ----------
    collection : Collection
        From :func:`hcc_tace_data.open_collection`.
    patients : iterable of str
        PatientIDs; only their files are looked at.

    Returns
    -------
    dict of str to list of PhaseFiles
        PatientID -> volumes, the surest label first.
    """
    chosen = collection.subset(patients)
    found: dict[str, list[PhaseFiles]] = {}
    volumes = chosen.phase_volumes
    # as in phases.phase_paths: of two equally sure volumes the one with more slices
    order = volumes.assign(confidence=volumes["confidence"].round(4))
    order = order.sort_values(["confidence", "instances"], ascending=False, kind="stable")
    for row in order.to_dict("records"):
        patient_id, series_uid = str(row["patient_id"]), str(row["series_uid"])
        part = _series(chosen[patient_id], str(row["study_uid"]), series_uid).volumes[int(row["volume"])]
        found.setdefault(patient_id, []).append(
            PhaseFiles(
                phase=str(row["phase"]),
                confidence=float(row["confidence"]),
                study_date=str(row["study_date"]),
                series_uid=series_uid,
                volume=int(row["volume"]),
                paths=tuple(collection.root / path for path in part["path"]),
            )
        )
    return found


def _series(patient: Patient, study_uid: str, series_uid: str) -> Series:
    study = next(study for study in patient.studies if study.study_uid == study_uid)
    return next(series for series in study.series if series.series_uid == series_uid)
