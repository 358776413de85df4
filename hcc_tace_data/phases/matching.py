"""Which series each row of a published table is about, and how labels compare with it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Literal

from hcc_tace_data.phases.names import KNOWN
from hcc_tace_data.phases.published import PublishedRow

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.facts.published import PublishedPhases

__all__ = ["Comparison", "Match", "compare_phases", "compare_published", "match_rows"]

Differs = Literal["", "date", "description", "images"]
_KEYS: tuple[Differs, ...] = ("date", "description", "images")


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A row of a published table and the series that it is about.

    Attributes
    ----------
    row : PublishedRow
    series_uid : str
    how : {"uid", "exact", "tolerance"}
    differs : {"", "date", "description", "images"}
        What differs, with tolerance.
    """

    row: PublishedRow
    series_uid: str
    how: Literal["uid", "exact", "tolerance"]
    differs: Differs = ""


def match_rows(
    rows: Sequence[PublishedRow], series: Iterable[Mapping[str, Any]]
) -> tuple[list[Match], list[PublishedRow]]:
    """Match the rows of a published table to series.

    A row that gives a UID is about that series. Any other must have the patient, the study date, the description and
    the number of images of one series that no other row is about; what is left may differ in one of the last three.

    Parameters
    ----------
    rows : sequence of PublishedRow
    series : iterable of mapping
        `series_uid`, `patient_id`, `study_date` (YYYY-MM-DD), `series_description`, `instances` of each.

    Returns
    -------
    matches : list of Match
        In the order of `rows`. A row with a UID always matches, whether the series is there or not.
    left : list of PublishedRow
        Rows that match no series, or several alike.
    """
    matches = {row.line: Match(row=row, series_uid=row.series_uid, how="uid") for row in rows if row.series_uid}
    taken = {match.series_uid for match in matches.values()}
    free: dict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for one in series:
        if one["series_uid"] not in taken:
            key = str(one["study_date"]), str(one["series_description"] or ""), int(one["instances"])
            free[str(one["patient_id"])][str(one["series_uid"])] = key
    open_rows: dict[str, list[PublishedRow]] = defaultdict(list)
    for row in rows:
        if not row.series_uid:
            open_rows[row.patient_id].append(row)
    for patient, own in open_rows.items():
        for match in _match_patient(own, free[patient]):
            matches[match.row.line] = match
    ordered = [matches[row.line] for row in rows if row.line in matches]
    return ordered, [row for row in rows if row.line not in matches]


def _match_patient(rows: list[PublishedRow], series: dict[str, tuple[Any, ...]]) -> list[Match]:
    found: list[Match] = []
    for allowed in (0, 1):
        # the likest pair first; a row that two series fit equally well stays open
        pairs = sorted(
            (-likeness, row.line, uid, differs)
            for row in rows
            for uid, key in series.items()
            for likeness, differs in [_compare(row, key)]
            if len(differs) == allowed
        )
        while pairs:
            likeness, line, uid, differs = pairs[0]
            rivals = [pair for pair in pairs if pair[0] == likeness and (pair[1] == line) != (pair[2] == uid)]
            row = next(one for one in rows if one.line == line)
            if rivals:
                pairs = [pair for pair in pairs if pair[1] not in {line, *(rival[1] for rival in rivals)}]
                continue
            found.append(
                Match(row=row, series_uid=uid, how="tolerance" if differs else "exact",
                      differs=differs[0] if differs else "")
            )  # fmt: skip
            pairs = [pair for pair in pairs if pair[1] != line and pair[2] != uid]
        rows = [row for row in rows if row.line not in {match.row.line for match in found}]
        series = {uid: key for uid, key in series.items() if uid not in {match.series_uid for match in found}}
    return found


def _compare(row: PublishedRow, key: tuple[Any, ...]) -> tuple[float, tuple[Differs, ...]]:
    """Return how alike the descriptions are, from 0 to 1, and what differs."""
    own = row.study_date, row.description, row.images
    differs = tuple(name for name, a, b in zip(_KEYS, own, key, strict=True) if a != b)
    one, two = (re.sub(r"[^A-Z0-9]", "", str(text).upper()) for text in (row.description, key[1]))
    return round(SequenceMatcher(None, one, two, autojunk=False).ratio(), 6), differs


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Labels against a published table.

    Attributes
    ----------
    matrix : dict of str to dict of str to int
        Published phase -> label -> volumes; "missing" counts published volumes of a series that holds fewer.
    wrong : tuple of dict
        Each pair that differs: `patient_id`, `series_uid`, `published`, `phase`.
    surplus : int
        Volumes beyond those that the table has of their series.
    not_here : tuple of str
        Series of the table that are not among the labelled ones.
    not_published : int
        Labelled series that the table does not hold.
    matches : tuple of Match
        Which series each row is about.
    left : tuple of PublishedRow
        Rows about no series, or about one of several alike.
    """

    matrix: dict[str, dict[str, int]]
    wrong: tuple[dict[str, str], ...]
    surplus: int
    not_here: tuple[str, ...]
    not_published: int
    matches: tuple[Match, ...]
    left: tuple[PublishedRow, ...]

    @property
    def volumes(self) -> int:
        """Number of published volumes that were compared."""
        return sum(sum(row.values()) for row in self.matrix.values())

    @property
    def right(self) -> int:
        """Number of them that have the published phase."""
        return sum(row.get(phase, 0) for phase, row in self.matrix.items())

    def document(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        how = Counter(match.how for match in self.matches)
        return {
            "volumes": self.volumes,
            "right": self.right,
            "accuracy": self.right / self.volumes if self.volumes else None,
            "matrix": self.matrix,
            "wrong": list(self.wrong),
            "surplus": self.surplus,
            "not_here": list(self.not_here),
            "not_published": self.not_published,
            "rows": {
                "total": len(self.matches) + len(self.left),
                "matched": len(self.matches),
                "left": len(self.left),
                **{name: how[name] for name in ("uid", "exact", "tolerance")},
                "tolerated": [
                    {"row": match.row.line, "patient_id": match.row.patient_id, "differs": match.differs,
                     "study_date": match.row.study_date, "description": match.row.description,
                     "images": match.row.images, "series_uid": match.series_uid}
                    for match in self.matches if match.how == "tolerance"
                ],
                "unmatched": [row.line for row in self.left],
            },
        }  # fmt: skip


def compare_phases(
    volumes: pd.DataFrame, rows: Sequence[PublishedRow], series: Iterable[Mapping[str, Any]] | None = None
) -> Comparison:
    """Compare labels with a published table, series by series.

    The table does not say which slices of a stacked series belong to a phase. Volumes are paired by their numbers of
    images where these differ and agree with the table's; else by phase, and what is left in the table's order.

    Parameters
    ----------
    volumes : pandas.DataFrame
        From :func:`hcc_tace_data.label_phases` or :func:`hcc_tace_data.phases.label.label_table`.
    rows : sequence of PublishedRow
        From :func:`hcc_tace_data.phases.published.read_published`.
    series : iterable of mapping, optional
        The series that the table may be about, as for :func:`match_rows`; default those of `volumes`. With data of a
        few patients, give all of the collection's, so that no row is taken for a series it only resembles.
    """
    matches, left = match_rows(rows, series if series is not None else _series_of(volumes))
    published: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
    for match in matches:
        images = match.row.images if len(match.row.phases) == 1 else None
        published[match.series_uid] += [(phase, images) for phase in match.row.phases]
    return _compared(volumes, published, tuple(matches), tuple(left))


def compare_published(volumes: pd.DataFrame, published: Mapping[str, PublishedPhases]) -> Comparison:
    """Compare labels with the published table that the package ships; see :func:`compare_phases`."""
    table = {uid: [(phase, None) for phase in one.phases] for uid, one in published.items()}
    return _compared(volumes, table, (), ())


def _compared(
    volumes: pd.DataFrame,
    published: Mapping[str, Sequence[tuple[str, int | None]]],
    matches: tuple[Match, ...],
    left: tuple[PublishedRow, ...],
) -> Comparison:
    matrix = {true: dict.fromkeys((*KNOWN, "unknown", "missing"), 0) for true in KNOWN}
    wrong: list[dict[str, str]] = []
    surplus = 0
    here = {str(uid): group for uid, group in volumes.groupby("series_uid", sort=False)}
    for uid in sorted(published.keys() & here.keys()):
        one, group = published[uid], here[uid].sort_values("volume")
        patient = str(group["patient_id"].iloc[0])
        for true, label in _pairs(one, group["phase"].tolist(), group["instances"].tolist()):
            matrix[true][label] += 1
            if true != label:
                wrong.append({"patient_id": patient, "series_uid": uid, "published": true, "phase": label})
        surplus += max(0, len(group) - len(one))
    return Comparison(
        matrix=matrix,
        wrong=tuple(wrong),
        surplus=surplus,
        not_here=tuple(sorted(published.keys() - here.keys())),
        not_published=len(here.keys() - published.keys()),
        matches=matches,
        left=left,
    )


def _series_of(volumes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the series of a phase table, with their numbers of images."""
    return [
        {
            "series_uid": str(uid),
            "patient_id": str(rows["patient_id"].iloc[0]),
            "study_date": str(rows["study_date"].iloc[0]) if "study_date" in rows else "",
            "series_description": str(rows["description"].iloc[0]) if "description" in rows else "",
            "instances": int(rows["instances"].sum()),
        }
        for uid, rows in volumes.groupby("series_uid", sort=False)
    ]


def _pairs(one: Sequence[tuple[str, int | None]], labels: list[str], counts: list[int]) -> list[tuple[str, str]]:
    phases = [phase for phase, _ in one]
    known = [images for _, images in one if images is not None]
    if len(known) == len(labels) == len(set(known)) and sorted(known) == sorted(counts) and len(known) > 1:
        by_count = dict(zip(counts, labels, strict=True))
        return [(true, by_count[count]) for true, count in zip(phases, known, strict=True)]
    agreed = Counter(phases) & Counter(labels)
    pairs = [(phase, phase) for phase in agreed.elements()]
    left = list((Counter(phases) - agreed).elements())
    other = list((Counter(labels) - agreed).elements())
    return [*pairs, *zip(left, [*other, *["missing"] * len(left)], strict=False)]
