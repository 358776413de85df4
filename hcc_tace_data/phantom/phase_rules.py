"""Which phases a series holds, concluded from the series table.

The table of the collection names series, not phases. How its 572 CT series become 203 pre-contrast, 204 arterial,
210 porto-venous and 4 delayed volumes is concluded from the series themselves:

- a day with three series holds one 'PRE' series; the others are arterial and porto-venous by series number
  modulo 100 (the scanner exports a second reconstruction of series 3 as 103); with no 'PRE' series they are
  arterial, porto-venous, delayed;
- a day with two series holds one pre-contrast and one stacked series, unless the larger one is too short
  to hold two phases, and then it is porto-venous;
- a day with one series holds all of them stacked.

These rules give exactly the published totals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hcc_tace_data.facts.series_table import load_series_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_table", "phases_of_day", "slice_spacing"]

#: Days with two series whose second one is too short to hold two phases.
_SINGLE = {"HCC_029", "HCC_045", "HCC_050", "HCC_063", "HCC_085", "HCC_090"}
#: The one series that stacks three phases.
_TRIPLE = "HCC_008"
#: The day without pre-contrast series whose second series stacks porto-venous and delayed.
_PORTAL_DELAYED = "HCC_082"


def load_table() -> pd.DataFrame:
    """Return the real series table (CT and SEG of the collection itself, no third-party series)."""
    return load_series_table()


def phases_of_day(rows: Sequence[Mapping[str, Any]], patient_id: str) -> dict[str, tuple[str, ...]]:
    """Phases of each series of one day, by series UID."""
    ordered = sorted(rows, key=lambda row: (int(str(row["series_number"])) % 100, int(str(row["series_number"]))))
    uids = [str(row["series_uid"]) for row in ordered]
    pre = [str(row["series_uid"]) for row in ordered if str(row["series_description"] or "").upper().find("PRE") >= 0]
    both = ("arterial", "portal_venous")
    if len(rows) == 1:
        return {uids[0]: ("pre_contrast", *both) if patient_id == _TRIPLE else both}
    if len(rows) == 2:
        if patient_id == _PORTAL_DELAYED and not pre:
            return {uids[0]: ("arterial",), uids[1]: ("portal_venous", "delayed")}
        first = pre[0] if pre else uids[0]
        second = next(uid for uid in uids if uid != first)
        alone = patient_id in _SINGLE
        return {first: ("pre_contrast",), second: ("portal_venous",) if alone else both}
    if pre:
        rest = [uid for uid in uids if uid != pre[0]]
        return {pre[0]: ("pre_contrast",), rest[0]: both[:1], rest[1]: both[1:]}
    return dict(zip(uids, (("arterial",), ("portal_venous",), ("delayed",)), strict=True))


def slice_spacing(count: int, phase: str) -> float:
    """Slice spacing in mm: the finest of the scanner's that still covers a liver."""
    choices = (2.5, 5.0, 10.0) if phase == "pre_contrast" else (2.5, 5.0, 7.5, 10.0)
    return next((mm for mm in choices if mm * count >= 150.0), choices[-1])
