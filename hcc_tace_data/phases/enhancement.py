"""What was measured of a volume's enhancement; kept apart from the measuring, whose libraries are slow to import."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Enhancement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enhancement:
    """HU of what enhances, and how it was found; NaN where it was not.

    Attributes
    ----------
    aorta, portal_vein, liver : float
        Robust means, HU.
    masks : bool
        Whether a segmentation said where they are.
    reason : str
        Why something is missing.
    """

    aorta: float = float("nan")
    portal_vein: float = float("nan")
    liver: float = float("nan")
    masks: bool = False
    reason: str = ""
