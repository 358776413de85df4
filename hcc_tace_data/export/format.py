"""What an export format is, as the registry, the command and the docs read it, and what an export returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hcc_tace_data.export.output_folder import ExportRecord
    from hcc_tace_data.facts.catalog import Catalog
    from hcc_tace_data.loaders.cases import Case, CaseArrays
    from hcc_tace_data.loaders.flow import CohortFlow

__all__ = ["CaseWriter", "Classes", "ExportSummary", "Exported", "Format", "LeftOut", "images_of"]

T = TypeVar("T")

#: Class number -> segment keys, in painting order.
Classes = dict[int, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export holds as a whole.

    Attributes
    ----------
    out : pathlib.Path
        Its folder.
    records : dict of str to ExportRecord
        Name in file names -> what was written for a patient.
    names : dict of int to str
        Class number -> name.
    phases : tuple of str
        The channels, as asked for: phases, or "annotated".
    catalog : Catalog
    """

    out: Path
    records: dict[str, ExportRecord]
    names: dict[int, str]
    phases: tuple[str, ...]
    catalog: Catalog


@dataclass(frozen=True, kw_only=True)
class CaseWriter:
    """The three functions of a format that writes one annotated CT per patient.

    Attributes
    ----------
    files : callable
        ``files(out, name, split, phases)`` returns the files of a case that is called `name` in file names; `phases`
        are the channels of its image.
    write_case : callable
        ``write_case(case, arrays, files, classes)`` writes them, each complete or not at all. Runs in worker processes.
    finish : callable
        ``finish(exported)`` writes what describes the whole.
    """

    files: Callable[[Path, str, str, tuple[str, ...]], list[Path]]
    write_case: Callable[[Case, CaseArrays, list[Path], Classes], None]
    finish: Callable[[Exported], None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One export format.

    Attributes
    ----------
    name : str
        As given to ``hcc-tace export``.
    summary : str
        One line for ``--help``.
    written, read_with : str
        Cells of the table in docs/export.md: the files, and what reads them. Markdown.
    needs : {"annotated", "studies", "table"}
        Annotated CT volumes, all studies with segmentations, or the series table alone (no DICOM files).
    options : frozenset of str
        Which of "patients", "labels", "annotations", "phases", "roi" and "all_volumes" it takes.
    write : CaseWriter or callable
        The functions that write one patient; or ``write(source, out, **options)``, which returns an
        :class:`ExportSummary`, where `source` is the collection, or the series table.
    next_step : str
        What to do with the result, if that needs saying; ``{out}`` is the folder.
    """

    name: str
    summary: str
    written: str
    read_with: str
    needs: Literal["annotated", "studies", "table"]
    options: frozenset[str]
    write: CaseWriter | Callable[..., ExportSummary[Any]]
    next_step: str = ""


def images_of(arrays: CaseArrays) -> list[npt.NDArray[np.int16]]:
    """Return the channels of a case, each (D, H, W)."""
    return [arrays.image] if arrays.image.ndim == 3 else list(arrays.image)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that was not exported, or not as a whole, and why."""

    patient_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportSummary(Sequence[T], Generic[T]):
    """What an export did; also the sequence of what became of each patient or study.

    Attributes
    ----------
    format : str
    out : pathlib.Path
    parts : tuple
        One entry per patient or study.
    files : tuple of pathlib.Path
        Every file written, or found complete from an earlier run.
    skipped, known : tuple of LeftOut
        What was left out; and what ``catalog.yaml`` lists as an issue of the collection itself.
    flow : CohortFlow or None
        How many patients of the collection remain after each criterion; None where no DICOM files are exported.
    """

    format: str
    out: Path
    parts: tuple[T, ...]
    files: tuple[Path, ...]
    skipped: tuple[LeftOut, ...] = ()
    known: tuple[LeftOut, ...] = ()
    flow: CohortFlow | None = None

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self.parts[index]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[T]:
        return iter(self.parts)

    def __repr__(self) -> str:
        files = count(len(self.files), "file")
        return f"<ExportSummary {self.format} in {self.out}: {files}, {len(self.skipped)} left out>"
