"""The cohort flow: how many patients remain after each criterion, and why the others were left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.splits import split_table
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import csv_table
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CRITERIA", "CohortFlow", "FlowStep", "Reason", "cohort_flow"]

#: Reason code -> the criterion that a patient left out with it does not meet, in the order in which they are applied.
CRITERIA = {
    "not_in_folder": "in this folder",
    "not_asked_for": "in the split or among the patients asked for",
    "no_annotation": "with the annotation asked for",
    "no_phase": "with all phases asked for",
    "not_readable": "with files that can be read",
    "not_registered": "with phases that can be registered",
    "no_lesion": "with a lesion to crop to",
}
_FIRST = "of the collection"


class Reason(str):
    """Why a patient is left out: a text, with a code of :data:`CRITERIA`."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, text: str, code: str) -> Reason:
        reason = super().__new__(cls, text)
        reason.code = code
        return reason

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # a str takes one
        return str(self), self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStep:
    """One criterion.

    Attributes
    ----------
    code : str
        Key of :data:`CRITERIA`; "collection" for the first row.
    criterion : str
        What the patients that remain have.
    left_out, remaining : int
        Patients.
    patients : tuple of str
        PatientIDs of those left out.
    """

    code: str
    criterion: str
    left_out: int
    remaining: int
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CohortFlow:
    """How many patients of the collection remain after each criterion; a table and a figure.

    Attributes
    ----------
    steps : tuple of FlowStep
        The collection first, then each criterion in the order of :data:`CRITERIA`.
    """

    steps: tuple[FlowStep, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row per step: code, criterion, left_out, remaining, patients (separated by spaces)."""
        import pandas as pd  # noqa: PLC0415 - slow to import

        return pd.DataFrame([{**asdict(step), "patients": " ".join(step.patients)} for step in self.steps])

    def plain(self) -> list[dict[str, Any]]:
        """Return the steps as JSON-ready values."""
        return [{**asdict(step), "patients": list(step.patients)} for step in self.steps]

    def svg(self) -> str:
        """Return a flow diagram: a box per criterion, and beside it who left."""
        rows = [step for step in self.steps if step.code == "collection" or step.left_out]
        step, wide, high = 84, 300, 48
        parts = []
        for place, one in enumerate(rows):
            top = 12 + step * place
            if place:
                middle = top - (step - high) / 2
                text = f"{one.left_out} left out: {one.code.replace('_', ' ')}"
                parts.append(
                    f'<path d="M{12 + wide / 2} {top - (step - high)}V{top - 6}" class="e" marker-end="url(#a)"/>'
                    f'<path d="M{12 + wide / 2} {middle}H{wide + 46}" class="e" marker-end="url(#a)"/>'
                    f'<rect x="{wide + 52}" y="{middle - 15}" width="300" height="30" class="o"/>'
                    f'<text x="{wide + 202}" y="{middle + 5}">{escape(text)}</text>'
                )
            patients = count(one.remaining, "patient")
            parts.append(
                f'<rect x="12" y="{top}" width="{wide}" height="{high}" class="b"/>'
                f'<text x="{12 + wide / 2}" y="{top + 20}" class="n">{patients}</text>'
                f'<text x="{12 + wide / 2}" y="{top + 38}">{escape(one.criterion)}</text>'
            )
        height = 24 + step * (len(rows) - 1) + high
        words = "; ".join(f"{one.remaining} {one.criterion}" for one in rows)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 666 {height}" width="666" height="{height}" '
            'role="img">'
            f"<title>Cohort flow</title><desc>{escape(words)}</desc><style>"
            "text{font:13px system-ui,'DejaVu Sans',sans-serif;text-anchor:middle;fill:#191d22}.n{font-weight:650}"
            ".b{fill:#fff;stroke:#576170;rx:6px}.o{fill:#f1efe9;stroke:#c9c4b8;rx:6px}.e{stroke:#576170;fill:none}</style>"
            '<defs><marker id="a" markerWidth="8" markerHeight="8" refX="6" refY="4" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="#576170"/></marker></defs>'
            f'<rect width="666" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
        )

    def _repr_svg_(self) -> str:
        return self.svg()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table (``.csv``) or the figure (``.svg``), complete or not at all.

        Raises
        ------
        UsageError
            Another suffix.
        """
        place = Path(path)
        if place.suffix not in (".csv", ".svg"):
            raise UsageError(f"{place.name} is neither .csv, for the table, nor .svg, for the figure.")
        atomic_write_text(place, csv_table(self.table) if place.suffix == ".csv" else self.svg())


def cohort_flow(
    present: Collection[str],
    asked: Iterable[str],
    left_out: Mapping[str, str],
    *,
    published: Sequence[str] | None = None,
) -> CohortFlow:
    """Return the flow from the collection to what is served or exported.

    Parameters
    ----------
    present : collection of str
        Patients in the folder.
    asked : iterable of str
        Patients that were asked for.
    left_out : mapping of str to str
        PatientID -> why; a :class:`Reason`, else the files could not be read.
    published : sequence of str, optional
        Patients of the collection; default those of the shipped split.
    """
    here, wanted = set(present), set(asked)
    everybody = sorted({*(split_table() if published is None else published), *here})
    code: dict[str, str] = {}
    for patient in everybody:
        if patient not in here:
            code[patient] = "not_in_folder"
        elif patient not in wanted:
            code[patient] = "not_asked_for"
        elif patient in left_out:
            code[patient] = getattr(left_out[patient], "code", "not_readable")
    remaining = len(everybody)
    steps = [FlowStep(code="collection", criterion=_FIRST, left_out=0, remaining=remaining, patients=())]
    for name, criterion in CRITERIA.items():
        out = tuple(patient for patient in everybody if code.get(patient) == name)
        remaining -= len(out)
        steps.append(
            FlowStep(code=name, criterion=criterion, left_out=len(out), remaining=remaining, patients=out)
        )  # fmt: skip
    return CohortFlow(tuple(steps))
