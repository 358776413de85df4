"""What rules look at: the collection, the catalogue, and header values read once for all rules."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.errors import DicomReadError
from hcc_tace_data.validators.header_values import Key, header_values

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.catalog import Catalog
    from hcc_tace_data.collection import Collection

__all__ = ["Context", "Seen"]


class Seen:
    """How often a header value occurs, and the first file that holds it."""

    __slots__ = ("count", "row")

    def __init__(self, row: int) -> None:
        self.count = 0
        self.row = row


class Context:
    """Read-only view of one collection; costly parts are made on first use."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.root = Path(collection.root)

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
    def _scanned(self) -> tuple[dict[Key, Seen], list[tuple[int, str]]]:
        values: dict[Key, Seen] = {}
        failures: list[tuple[int, str]] = []
        for row, path in enumerate(self.instances["path"]):
            try:
                keys = header_values(self.root / path)
            except (DicomReadError, OSError) as error:
                failures.append((row, type(error).__name__))
                continue
            for key in keys:
                seen = values.get(key)
                if seen is None:
                    seen = values[key] = Seen(row)
                seen.count += 1
        return values, failures

    @property
    def values(self) -> dict[Key, Seen]:
        """Every distinct (tag path, VR, raw value) of text, date, UID and unknown elements at any depth."""
        return self._scanned[0]

    @property
    def unscanned(self) -> list[tuple[int, str]]:
        """Rows whose header could not be walked, and the error's name."""
        return self._scanned[1]

    def place(self, row: int) -> dict[str, Any]:
        """Return the fields of a finding that say which file row `row` is."""
        record = self.instances.iloc[row]
        return {name: str(record[name]) for name in ("patient_id", "study_uid", "series_uid", "sop_uid", "path")}
