"""Small frozen records that the pieces of the package hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PHASES", "PhaseVolume"]

#: Contrast phases, in order of acquisition; `unknown` where nothing tells.
PHASES = ("pre_contrast", "arterial", "portal_venous", "delayed", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseVolume:
    """The slices of one series that were acquired in one contrast phase.

    Attributes
    ----------
    patient_id, study_uid, series_uid : str
        Where the slices come from.
    volume : int
        Number of the volume inside its series, from 0, in order of acquisition.
    phase : str
        One of :data:`PHASES`.
    confidence : float
        Probability that `phase` is right, 0 to 1.
    evidence : tuple of str
        What the phase was concluded from, strongest first.
    annotated : bool or None
        Whether the study's segmentation was drawn on this volume; None where that cannot be told.
    sop_uids : tuple of str
        The slices, along +normal.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    volume: int
    phase: str = "unknown"
    confidence: float = 0.0
    evidence: tuple[str, ...] = ()
    annotated: bool | None = None
    sop_uids: tuple[str, ...] = ()
