"""The fixed split by patient: one test set and five folds, shipped as a table and never recomputed."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from hcc_tace_data.errors import CatalogError, UsageError

__all__ = ["FOLDS", "patients_of", "split_table"]

FOLDS = 5
_SPLITS = ("train", "validation", "test")


@cache
def split_table() -> MappingProxyType[str, int | None]:
    """Return PatientID -> the fold in which the patient is validated, None for the test set."""
    text = (files("hcc_tace_data") / "data" / "splits.csv").read_text(encoding="utf-8")
    table: dict[str, int | None] = {}
    for row in csv.DictReader(text.splitlines()):
        if (row["split"] == "test") != (row["fold"] == ""):
            raise CatalogError(
                f"splits.csv: {row['patient_id']} is in split '{row['split']}' and fold '{row['fold']}'."
            )
        table[row["patient_id"]] = None if row["split"] == "test" else int(row["fold"])
    return MappingProxyType(table)


def patients_of(split: str, fold: int = 0) -> list[str]:
    """Return the PatientIDs of a part of the split, sorted.

    Parameters
    ----------
    split : {"train", "validation", "test"}
        Which part. The test set is the same for every fold.
    fold : int
        The fold that is the validation part, 0 to 4; the other four are the training part.

    Examples
    --------
    >>> [len(patients_of(split)) for split in ("train", "validation", "test")]
    [68, 17, 20]
    """
    if split not in _SPLITS:
        raise UsageError(f"split is {split!r}; use {', '.join(map(repr, _SPLITS))}.")
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < FOLDS:
        raise UsageError(f"fold is {fold!r}; use a whole number from 0 to {FOLDS - 1}.")
    return sorted(patient for patient, own in split_table().items() if _part(own, fold) == split)


def _part(own: int | None, fold: int) -> str:
    if own is None:
        return "test"
    return "validation" if own == fold else "train"
