"""What summaries and devices need of a data set, so that they do not import the data sets, which import them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hcc_tace_data.loaders.cases import Case
from hcc_tace_data.loaders.source import Source

__all__ = ["CaseSet", "SliceSet"]


class CaseSet(Protocol):
    """A data set over annotated CT volumes."""

    unit: str
    sources: tuple[Source, ...]
    masked: bool

    @property
    def cases(self) -> tuple[Case, ...]:
        """The cases, in the order of `sources`."""

    @property
    def classes(self) -> dict[int, tuple[str, ...]]:
        """Class number -> keys of its segments."""

    @property
    def phases(self) -> tuple[str, ...]:
        """Channels of the image, as they were asked for."""

    @property
    def store_folder(self) -> Path:
        """Folder of the store that its cases are, or would be, in."""

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """PatientIDs, in order, each once."""

    def __len__(self) -> int: ...

    def untransformed(self, index: int) -> Mapping[str, Any]:
        """Return a sample before any transform."""


class SliceSet(CaseSet, Protocol):
    """A data set of axial slices."""

    ranges: tuple[tuple[int, int], ...]
    size: tuple[int, int] | None
