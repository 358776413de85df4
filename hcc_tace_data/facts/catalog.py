"""The facts of the collection, from ``catalog.yaml`` into frozen records."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hcc_tace_data.errors import CatalogError
from hcc_tace_data.facts.segments import CodedConcept, LabelClass, Segment, SegmentVocabulary
from hcc_tace_data.system.documents import parse_yaml

__all__ = [
    "Catalog",
    "CodedConcept",
    "Identity",
    "KnownIssue",
    "LabelClass",
    "Note",
    "Phase",
    "PhaseColours",
    "PublishedTable",
    "Segment",
    "load_catalog",
]


_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Source = Literal["paper", "idc", "sheet", "measured", "reported"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Identity(_Record):
    """What the collection is called, whose it is, and under which licence."""

    collection_id: str
    name: str
    title: str
    doi: str
    licence: str
    licence_url: str
    institution: str
    years: tuple[int, int]
    patients: int = Field(gt=0)
    patient_id_pattern: str
    patient_id_example: str


class Versions(_Record):
    """Versions of Imaging Data Commons that the facts were checked against."""

    idc_first: int
    idc_checked: int
    idc_index_data: str


class Citation(_Record):
    """One publication to cite."""

    key: str
    text: str
    doi: str
    year: int

    def bibtex(self) -> str:
        """Return an entry; names stay in one field, as the text gives them."""
        authors, _, rest = self.text.partition(f" ({self.year}). ")
        title, _, where = rest.partition(". ")
        kind = "misc" if self.key == "data" else "article"
        place = "howpublished" if kind == "misc" else "journal"
        return (
            f"@{kind}{{hcc_tace_{self.key},\n  author = {{{{{authors}}}}},\n  title = {{{title}}},\n"
            f"  {place} = {{{where.rstrip('.')}}},\n  year = {{{self.year}}},\n  doi = {{{self.doi}}}\n}}"
        )


class PaperCounts(_Record):
    """Counts of the data descriptor, which counts phase volumes."""

    patients: int
    studies: int
    phase_volumes: int
    ct_instances: int
    stacked_series: int
    segmentations: int
    phases: dict[str, int]


class IdcCounts(_Record):
    """Counts of the series index of Imaging Data Commons, which counts DICOM series."""

    patients: int
    studies: int
    ct_series: int
    ct_instances: int
    segmentations: int
    series: int
    instances: int
    bytes: int
    bamf_series: int
    bamf_corrected: int


class Counts(_Record):
    """Expected counts by who counted."""

    paper: PaperCounts
    idc: IdcCounts


class PhaseColours(_Record):
    """Colours of a phase on a light and on a dark page."""

    light: str = Field(pattern=r"^#[0-9A-F]{6}$")
    dark: str = Field(pattern=r"^#[0-9A-F]{6}$")


class Phase(_Record):
    """A contrast phase: its names, its colours, and when it is acquired.

    Attributes
    ----------
    key : str
        As in tables and arguments ("portal_venous").
    name : str
        As in titles ("Porto-venous").
    short, heading : str
        As at the head of a narrow column: three letters ("ven"), and a word in the report ("Porto").
    routine : bool
        Whether the protocol acquires it at every visit.
    delay_s : float or None
        Seconds after peak enhancement of the aorta, as the paper gives it.
    colours : PhaseColours
    """

    key: str = Field(pattern=r"^[a-z_]+$")
    name: str
    short: str
    heading: str
    routine: bool
    delay_s: float | None
    colours: PhaseColours


class PublishedTable(_Record):
    """A table of others that the package ships; `doi` of the publication or of the data that it describes."""

    table: str
    title: str
    source: str
    doi: str
    licence: str

    def heading(self) -> list[str]:
        """Return the lines that head the table."""
        return [f"{self.title}.", f"Source: {self.source}; https://doi.org/{self.doi}; {self.licence}."]


class Clinical(_Record):
    """The clinical sheet: where it is and what it holds."""

    url: str
    file: str
    sheet: str
    rows: int
    columns: int
    bytes: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    male: int
    female: int
    died: int
    progressed: int
    refractory_weeks: float


class Splits(_Record):
    """How the shipped split table was made."""

    table: str
    test_share: float
    folds: int
    stratified_by: tuple[str, ...]


class Note(_Record):
    """What sources say differently, and what explains it; `patients` are those concerned."""

    topic: str
    source: Source
    patients: tuple[str, ...]
    text: str


class KnownIssue(_Record):
    """A defect of the collection that is known and harmless, or cannot be helped."""

    code: str = Field(pattern=r"^HT\d{3}$")
    patient_id: str
    #: "YYYYMMDD number" of the series concerned; of a visit, "YYYYMMDD" and the phases that it lacks or has "twice";
    #: empty where the whole patient is.
    series: tuple[str, ...] = ()
    source: Source
    reason: str


class Catalog(_Record):
    """All facts of the collection.

    Examples
    --------
    >>> Catalog.load().identity.doi
    '10.7937/TCIA.5FNA-0924'
    """

    identity: Identity
    versions: Versions
    citations: tuple[Citation, ...]
    sources: dict[str, dict[str, Any]]
    counts: Counts
    segments: tuple[Segment, ...]
    label_sets: dict[str, tuple[LabelClass, ...]]
    phases: tuple[Phase, ...]
    published: dict[str, PublishedTable]
    acquisition: dict[str, tuple[float, float]]
    clinical: Clinical
    splits: Splits
    notes: tuple[Note, ...]
    known_issues: tuple[KnownIssue, ...]

    @field_validator("segments")
    @classmethod
    def _distinct(cls, segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        for name in ("number", "key", "name"):
            values = [getattr(segment, name) for segment in segments]
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"two segments have the {name} {twice[0]!r}")
        return segments

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Catalog:
        """Read the catalogue; see :func:`load_catalog`."""
        return load_catalog(path)

    @cached_property
    def vocabulary(self) -> SegmentVocabulary:
        """The segments with their names, numbers and label sets."""
        return SegmentVocabulary(self.segments, self.label_sets)

    def classes(self, label_set: str) -> dict[int, tuple[str, ...]]:
        """Return class number -> segment keys of a label set, in painting order.

        Raises
        ------
        CatalogError
            There is no such label set.
        """
        return self.vocabulary.classes(label_set)

    def colours(self, classes: Mapping[int, Sequence[str]]) -> dict[int, str]:
        """Return class number -> colour, that of its first segment, for every picture.

        Parameters
        ----------
        classes : mapping of int to sequence of str
            Class number -> segment keys, as :meth:`classes` returns.
        """
        by_key = {segment.key: segment.colour for segment in self.segments}
        return {number: by_key[keys[0]] for number, keys in classes.items()}

    def is_patient_id(self, text: str) -> bool:
        """Return whether `text` has the form of the collection's PatientIDs."""
        return re.fullmatch(self.identity.patient_id_pattern, text) is not None

    def has_known_issue(self, code: str, patient_id: str) -> bool:
        """Return whether an issue of this code is known for a patient."""
        return any(issue.code == code and issue.patient_id == patient_id for issue in self.known_issues)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle the shipped catalogue as a reference: it travels to worker processes with every study."""
        return (_shipped, ()) if self is _shipped() else super().__reduce_ex__(protocol)


def load_catalog(path: str | os.PathLike[str] | None = None) -> Catalog:
    """Read and check the catalogue.

    Parameters
    ----------
    path : path-like, optional
        Default: the one shipped with the package.

    Raises
    ------
    CatalogError
        No such file, not YAML, or a key that is missing, unknown or wrong; key and line are named.
    """
    return _shipped() if path is None else _read(Path(path))


@cache
def _shipped() -> Catalog:
    package = Path(__file__).resolve().parents[1]
    # in a wheel it lies in the package, in a checkout at the top
    for place in (package / "catalog.yaml", package.parent / "catalog.yaml"):
        if place.is_file():
            return _read(place, ours=True)
    raise CatalogError(f"catalog.yaml is neither in {package} nor beside it; install hcc-tace-data again.")


def _read(path: Path, *, ours: bool = False) -> Catalog:
    try:
        text = path.read_text(encoding="utf-8")
        # the parser in C is ten times as fast, and follows nesting until the stack is gone: not for other files
        values = yaml.load(text, _FAST) if ours else parse_yaml(text)
    except FileNotFoundError:
        raise CatalogError(f"no catalogue at {path}.") from None
    except (ValueError, yaml.YAMLError) as error:
        raise CatalogError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise CatalogError(f"{path} holds no keys.")
    try:
        return Catalog.model_validate(values)
    except ValidationError as error:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        faults = [
            f"line {_line(node, item['loc'])}, {'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors()
        ]
        raise CatalogError(f"{path} is wrong:\n  " + "\n  ".join(faults)) from error


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Return the line (from 1) of the deepest node on the way to a location."""
    line = 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line
