"""A collection on disk: patients, studies and series over one instance table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from hcc_tace_data.collection.kept import NOTHING_KEPT, Kept, Kind
from hcc_tace_data.collection.split import parts_at, places_of, split_series
from hcc_tace_data.errors import PatientNotFoundError
from hcc_tace_data.system.words import count, day

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.facts.catalog import Catalog

T = TypeVar("T")

#: Kind of entry: which rows each volume of a series holds.
SPLIT = Kind("split")

__all__ = ["SPLIT", "Collection", "Patient", "PhaseVolume", "Series", "Study"]


@dataclass(frozen=True, eq=False, repr=False)
class Series:
    """One series. `instances` are its rows of the instance table, `root` the collection's folder."""

    root: Path
    instances: pd.DataFrame
    catalog: Catalog = field(kw_only=True, repr=False)
    kept: Kept = field(default=NOTHING_KEPT, kw_only=True, repr=False)

    def __repr__(self) -> str:
        number = "" if self.number is None else f" {self.number}"
        return f"<{self.modality} series{number} of {self.patient_id}: {count(len(self.instances), 'file')}>"

    def _repr_html_(self) -> str:
        """Return a table of the volumes of a CT series, for notebooks; of another series, its files."""
        if self.modality != "CT":
            return _html(repr(self), ["files"], [[len(self.instances)]])
        return _html(repr(self), ["volume", "slices"], [[n, len(rows)] for n, rows in enumerate(self.volumes)])

    def _first(self, column: str) -> Any:
        return self.instances[column].iloc[0]

    @property
    def patient_id(self) -> str:
        """PatientID."""
        return str(self._first("patient_id"))

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return str(self._first("study_uid"))

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return str(self._first("series_uid"))

    @property
    def modality(self) -> str:
        """Modality, for example CT or SEG."""
        return str(self._first("modality"))

    @property
    def description(self) -> str:
        """SeriesDescription."""
        return str(self._first("series_description"))

    @property
    def number(self) -> int | None:
        """SeriesNumber, or None."""
        import pandas as pd

        value = self._first("series_number")
        return None if pd.isna(value) else int(value)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Absolute paths of the files."""
        return tuple(self.root / path for path in self.instances["path"])

    @cached_property
    def volumes(self) -> tuple[pd.DataFrame, ...]:
        """The rows of each phase volume; see :func:`hcc_tace_data.collection.split.split_series`."""
        rows = self.instances
        return self.kept.fact(
            SPLIT,
            rows["path"].tolist(),
            lambda: tuple(split_series(rows)),
            encode=lambda parts: places_of(rows, parts),
            decode=lambda places: parts_at(rows, places),
        )

    @property
    def origin(self) -> Literal["collection", "bamf"]:
        """Whose files they are: the collection's, or BAMF's additions to it in Imaging Data Commons."""
        prefix = str(self.catalog.sources["bamf"]["description_prefix"])
        return "bamf" if self.modality == "SEG" and self.description.startswith(prefix) else "collection"


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """One study. `is_baseline` is true for the patient's baseline."""

    root: Path
    instances: pd.DataFrame
    is_baseline: bool = True
    catalog: Catalog = field(kw_only=True, repr=False)
    kept: Kept = field(default=NOTHING_KEPT, kw_only=True, repr=False)
    _facts: dict[Callable[..., Any], Any] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        visit = "baseline" if self.is_baseline else "study"
        return (
            f"<{visit} {day(self.date) or 'without a date'} of {self.patient_id}: {count(len(self.series), 'series')}>"
        )

    def _repr_html_(self) -> str:
        """Return a table of the series, for notebooks."""
        rows = [[one.number, one.modality, len(one.volumes), len(one.instances)] for one in self.series]
        return _html(repr(self), ["series", "modality", "volumes", "files"], rows)

    @property
    def patient_id(self) -> str:
        """PatientID."""
        return str(self.instances["patient_id"].iloc[0])

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return str(self.instances["study_uid"].iloc[0])

    @property
    def date(self) -> str:
        """StudyDate as YYYYMMDD; empty if absent."""
        return str(self.instances["study_date"].max())

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """The series, by number and UID."""
        groups = [
            Series(self.root, rows, catalog=self.catalog, kept=self.kept)
            for _, rows in self.instances.groupby("series_uid", sort=True)
        ]
        return tuple(sorted(groups, key=lambda s: (s.number is None, s.number or 0, s.series_uid)))

    @property
    def segmentation(self) -> Series | None:
        """The collection's SEG series (the first one if there are several), or None.

        What BAMF added in Imaging Data Commons and what users drew is in :attr:`annotations`.
        """
        return next((s for s in self.series if s.modality == "SEG" and s.origin == "collection"), None)

    def fact(self, build: Callable[[Study], T]) -> T:
        """Return what `build` finds about this study; it is called once and its result kept.

        Parameters
        ----------
        build : callable
            A function of the study, for example :func:`hcc_tace_data.collection.annotated.find_annotated`.
        """
        if build not in self._facts:
            self._facts[build] = build(self)
        return cast("T", self._facts[build])


@dataclass(frozen=True, eq=False, repr=False)
class Patient:
    """One patient."""

    root: Path
    instances: pd.DataFrame
    catalog: Catalog = field(kw_only=True, repr=False)
    kept: Kept = field(default=NOTHING_KEPT, kw_only=True, repr=False)

    def __repr__(self) -> str:
        files = count(len(self.instances), "file")
        return f"<patient {self.patient_id}: {count(len(self.studies), 'study')}, {files}>"

    def _repr_html_(self) -> str:
        """Return a table of the studies, for notebooks."""
        rows = [
            [day(one.date), "baseline" if one.is_baseline else "", len(one.series), len(one.instances)]
            for one in self.studies
        ]
        return _html(repr(self), ["study", "", "series", "files"], rows)

    @property
    def patient_id(self) -> str:
        """PatientID."""
        return str(self.instances["patient_id"].iloc[0])

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """The studies, by date and UID; studies without a date come last."""
        groups = [
            Study(self.root, rows, False, catalog=self.catalog, kept=self.kept)
            for _, rows in self.instances.groupby("study_uid", sort=True)
        ]
        groups.sort(key=lambda s: (not s.date, s.date, s.study_uid))
        first = next((place for place, study in enumerate(groups) if study.segmentation is not None), 0)
        if groups:
            groups[first] = Study(self.root, groups[first].instances, catalog=self.catalog, kept=self.kept)
        return tuple(groups)

    @property
    def baseline(self) -> Study | None:
        """The first study that has a segmentation, else the first study."""
        return next((study for study in self.studies if study.is_baseline), None)

    @property
    def follow_up(self) -> Study | None:
        """The first study after the baseline, or None."""
        studies, baseline = self.studies, self.baseline
        if baseline is None:
            return None
        place = next(i for i, study in enumerate(studies) if study is baseline)
        return next((study for study in studies[place + 1 :] if study.date > baseline.date), None)


def _html(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]], *, more: int = 0) -> str:
    """Return a small table; every text is escaped."""

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape('' if c is None else str(c))}</{tag}>" for c in cells) + "</tr>"

    rest = f"<tr><td colspan={len(heads)}>and {more:,} more</td></tr>" if more else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table><caption>{escape(caption)}</caption>{line(heads, 'th')}{body}{rest}</table>"


class Collection(Mapping[str, Patient]):
    """The patients of one folder. Users get :class:`hcc_tace_data.open.Collection`, which describes the attributes."""

    def __init__(
        self,
        root: Path,
        instances: pd.DataFrame,
        problems: pd.DataFrame,
        *,
        catalog: Catalog,
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        self.root = root
        self.instances = instances
        self.problems = problems
        self.catalog = catalog
        self.kept = kept

    @cached_property
    def _patients(self) -> dict[str, Patient]:
        groups = self.instances.groupby("patient_id", sort=True)
        return {str(name): self._patient(rows) for name, rows in groups}

    def _patient(self, rows: pd.DataFrame) -> Patient:
        return Patient(self.root, rows, catalog=self.catalog, kept=self.kept)

    def __getitem__(self, patient_id: str) -> Patient:
        try:
            return self._patients[patient_id]
        except KeyError:
            raise PatientNotFoundError(
                f"No patient {patient_id!r} in {self.root} ({count(len(self._patients), 'patient')}); iterate over the "
                "collection for their IDs."
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._patients)

    def __len__(self) -> int:
        return len(self._patients)

    def __repr__(self) -> str:
        return f"<Collection {self.root}: {count(len(self), 'patient')}, {count(len(self.instances), 'file')}>"

    def _repr_html_(self) -> str:
        """Return a table of the patients, for notebooks; of a large collection the first ones."""
        shown = list(self.values())[:20]
        rows = [[one.patient_id, len(one.studies), len(one.instances)] for one in shown]
        return _html(repr(self), ["patient", "studies", "files"], rows, more=len(self) - len(shown))

    def subset(self, patients: Iterable[str]) -> Self:
        """Return the same collection with some of its patients only; those it does not hold are left out."""
        wanted = set(patients)
        rows = self.instances[self.instances["patient_id"].isin(wanted)]
        found = type(self)(self.root, rows, self.problems, catalog=self.catalog, kept=self.kept)
        # the very same objects, with all that is already known of them
        found._patients = {name: patient for name, patient in self._patients.items() if name in wanted}
        return found

    @cached_property
    def series(self) -> pd.DataFrame:
        """One row per series: UIDs, modality, number, description, `instances` (files) and `bytes`."""
        return (
            self.instances.groupby(["patient_id", "study_uid", "series_uid"], sort=True, as_index=False)
            .agg(
                study_date=("study_date", "first"),
                modality=("modality", "first"),
                series_number=("series_number", "first"),
                series_description=("series_description", "first"),
                instances=("path", "size"),
                bytes=("size", "sum"),
            )
        )  # fmt: skip


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
        Whether the study's segmentation was drawn on this volume; None where that cannot be determined.
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
    sop_uids: tuple[str, ...] = field(default=(), repr=False)
