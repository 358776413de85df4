"""What rules look at: the collection, the catalogue, and header values read once for all rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.catalog import Catalog
    from hcc_tace_data.collection import Collection
    from hcc_tace_data.validators.deid_facts import DeidFacts
    from hcc_tace_data.validators.header_scan import HeaderScan

__all__ = ["Context"]


class Context:
    """Read-only view of one collection; costly parts are made on first use."""

    def __init__(
        self, collection: Collection, *, mapper: Callable[[Any, Sequence[Any]], list[Any]] | None = None
    ) -> None:
        self.collection = collection
        self.root = Path(collection.root)
        #: ``map(function, jobs)`` returns the results in order; it may use other processes.
        self.map = mapper or _here

    @property
    def instances(self) -> pd.DataFrame:
        """The instance table."""
        return self.collection.instances

    @cached_property
    def catalog(self) -> Catalog:
        """The facts of the collection."""
        from hcc_tace_data.catalog import load_catalog

        return load_catalog()

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """The series table beside the files, or None. A twin brings its own."""
        from hcc_tace_data.series_table import load_series_table

        file = self.root / "series.csv"
        return load_series_table(file) if file.is_file() else None

    @cached_property
    def headers(self) -> HeaderScan:
        """Every distinct value of every header element at any depth, private and unknown ones included."""
        from hcc_tace_data.validators.header_scan import scan_headers

        return scan_headers(self.root, self.instances, run=self.map)

    @cached_property
    def deid(self) -> DeidFacts:
        """The header values, with what decides how the rules of de-identification judge them."""
        from hcc_tace_data.validators.deid_facts import DeidFacts

        return DeidFacts(self, self.headers)

    def place(self, row: int) -> dict[str, Any]:
        """Return the fields of a finding that say which file row `row` is."""
        record = self.instances.iloc[row]
        return {name: str(record[name]) for name in ("patient_id", "study_uid", "series_uid", "sop_uid", "path")}


def _here(function: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
    return [function(job) for job in jobs]
