"""What rules look at: one collection, and facts that are built once for all rules that ask for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.open import Collection
from hcc_tace_data.system.parallel import Runner
from hcc_tace_data.validators.place import Place

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.kept import Kind
    from hcc_tace_data.facts.catalog import Catalog

__all__ = ["Context", "chunks_of", "part_of", "series_place"]

Fact = TypeVar("Fact")
Job = TypeVar("Job")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


#: Folders of fewer files than this share a chunk.
_WHOLE = 32
_AT_ONCE = 64


class Context:
    """Read-only view of one collection, with the facts that rules share.

    Parameters
    ----------
    collection : Collection
        May be empty: then rules that need files are not run.
    runner : Runner, optional
        Runs the reading of files; default in this process.
    table : pandas.DataFrame, optional
        Series table; default the one beside the files, else the collection's own if the files belong to it.
    clinical : path-like, optional
        The clinical sheet; default the one of the folder.
    depth : str
        How deep rules may look.
    patients : collection of str, optional
        The patients to check, if not all: `collection` holds them alone, tables are read without the others.

    Examples
    --------
    A fact is a function of the context; it runs once, however often it is used::

        def patients(context: Context) -> int:
            return int(context.instances["patient_id"].nunique())

        context.fact(patients)
    """

    def __init__(
        self,
        collection: Collection,
        *,
        runner: Runner | None = None,
        table: pd.DataFrame | None = None,
        clinical: Path | None = None,
        depth: str = "headers",
        patients: frozenset[str] | None = None,
    ) -> None:
        self.collection = collection
        self.root = Path(collection.root)
        self.map = (runner or Runner()).map
        self.depth = depth
        self.patients = patients
        self.given_table = table
        self.given_sheet = clinical
        self._facts: dict[Callable[[Context], Any], Any] = {}

    @property
    def instances(self) -> pd.DataFrame:
        """The instance table."""
        return self.collection.instances

    @property
    def catalog(self) -> Catalog:
        """The facts of the collection."""
        return load_catalog()

    def fact(self, build: Callable[[Context], Fact]) -> Fact:
        """Return what `build` gives of this context; it is called on first use only.

        What `build` raises is not kept: the next rule that asks calls it again.
        """
        if build not in self._facts:
            self._facts[build] = build(self)
        found: Fact = self._facts[build]
        return found

    def know(self, build: Callable[[Context], Fact], found: Fact) -> None:
        """Take `found` for what `build` gives: another fact came by it."""
        self._facts.setdefault(build, found)

    def has(self, build: Callable[[Context], Any]) -> bool:
        """Return whether a fact was built already."""
        return build in self._facts

    def kept_map(
        self,
        kind: Kind,
        function: Callable[[Job], Result],
        jobs: Sequence[Job],
        files: Sequence[Sequence[str]],
        *,
        encode: Callable[[Result], Any],
        decode: Callable[[Any], Result],
        run: Callable[[Callable[[Job], Result], list[Job]], list[Result]] | None = None,
    ) -> list[Result]:
        """Return the result of each job, from what is kept of the collection where it is there.

        Parameters
        ----------
        kind : Kind
        function : callable
            A top-level function of this package, run where the reading is done.
        jobs : sequence
        files : sequence of sequence of str
            For each job, all files below the root that its result is made from; nothing else may decide it.
        encode : callable
            To a JSON-ready value; None says that the result is not to be kept, as when a file could not be read.
        decode : callable
            Back; a ValueError, TypeError, KeyError or IndexError says that the value makes no sense.
        run : callable, optional
            Runs the jobs; default :attr:`map`.
        """
        kept = self.collection.kept
        keys = [kept.key(kind, some) for some in files]
        results: dict[int, Result] = {}
        for start in range(0, len(keys), _AT_ONCE):  # values as text take more memory than what they stand for
            values = kept.get(kind, keys[start : start + _AT_ONCE])
            for number in range(start, min(start + _AT_ONCE, len(keys))):
                try:
                    if keys[number] in values:
                        results[number] = decode(values[keys[number]])
                except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                    logger.warning("a kept %s makes no sense and is made again: %s", kind.name, type(error).__name__)
        missing = [number for number in range(len(jobs)) if number not in results]
        made = (run or self.map)(function, [jobs[number] for number in missing])
        new: dict[str, Any] = {}
        for number, result in zip(missing, made, strict=True):
            results[number] = result
            value = encode(result) if keys[number] else None
            if value is not None and kept.unchanged(files[number]):
                new[keys[number]] = value
        kept.put(kind, new)
        return [results[number] for number in range(len(jobs))]

    def among(self, patients: frozenset[str]) -> Context:
        """Return the same view of some patients' files alone."""
        own = Context(
            part_of(self.collection, patients),
            table=self.given_table,
            clinical=self.given_sheet,
            depth=self.depth,
            patients=self.patients,
        )
        own.map = self.map
        return own

    def place(self, row: int) -> Place:
        """Return which file row `row` of the instance table is."""
        record = self.instances.iloc[row]
        names = ("patient_id", "study_uid", "series_uid", "sop_uid", "path")
        return Place(**{name: str(record[name]) for name in names})


def part_of(collection: Collection, patients: frozenset[str]) -> Collection:
    """Return a collection without the files of other patients."""
    rows = collection.instances[collection.instances["patient_id"].isin(patients)].reset_index(drop=True)
    return Collection(collection.root, rows, collection.problems, catalog=collection.catalog, kept=collection.kept)


def chunks_of(paths: Sequence[str], most: int) -> list[tuple[int, int]]:
    """Cut sorted paths into chunks (first, one after the last) of at most `most`, where folders end if they are large.

    A file that is added or removed changes the chunks of its folder and few others, so that what is kept of the rest is
    found again.
    """
    chunks = []
    start = 0
    folder = ""
    for number, path in enumerate(paths):
        own = path.rpartition("/")[0]
        if number - start >= most or (own != folder and number - start >= _WHOLE):
            chunks.append((start, number))
            start = number
        folder = own
    return [*chunks, (start, len(paths))] if len(paths) > start else chunks


def series_place(rows: pd.DataFrame) -> Place:
    """Return which series `rows` of the instance table are of."""
    first = rows.iloc[0]
    return Place(**{name: str(first[name]) for name in ("patient_id", "study_uid", "series_uid")})
