"""What rules look at: one collection, and facts that are built once for all rules that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.parallel import Runner
from hcc_tace_data.validators.place import Place

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.facts.catalog import Catalog
    from hcc_tace_data.open import Collection

__all__ = ["Context", "series_place"]

Fact = TypeVar("Fact")


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

    def has(self, build: Callable[[Context], Any]) -> bool:
        """Return whether a fact was built already."""
        return build in self._facts

    def place(self, row: int) -> Place:
        """Return which file row `row` of the instance table is."""
        record = self.instances.iloc[row]
        names = ("patient_id", "study_uid", "series_uid", "sop_uid", "path")
        return Place(**{name: str(record[name]) for name in names})


def series_place(rows: pd.DataFrame) -> Place:
    """Return which series `rows` of the instance table are of."""
    first = rows.iloc[0]
    return Place(**{name: str(first[name]) for name in ("patient_id", "study_uid", "series_uid")})
