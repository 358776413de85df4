"""Opening a collection: patients, studies and series that can also read, and look up, what belongs to them.

The classes of :mod:`hcc_tace_data.collection.model` know the instance table alone. Those here add what needs the
readers, the phases and the labels.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from hcc_tace_data.collection import model
from hcc_tace_data.collection.annotated import AnnotatedVolume, find_annotated
from hcc_tace_data.collection.index import Progress, read_index
from hcc_tace_data.collection.kept import NOTHING_KEPT, Kept, kept_beside
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import NotAVolumeError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.labels.annotations import Annotation, find_annotations
from hcc_tace_data.phases.label import label_phases
from hcc_tace_data.system.roots import resolve_root
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from hcc_tace_data.dicom.ct import CTVolume
    from hcc_tace_data.dicom.seg import SegmentationOnGrid
    from hcc_tace_data.facts.catalog import Catalog

__all__ = ["Collection", "Patient", "Series", "Study", "open_collection"]


class Series(model.Series):
    """One series, which can be read."""

    def read(self, **options: Any) -> CTVolume | SegmentationOnGrid:
        """Read a CT series (see :func:`~hcc_tace_data.dicom.ct.read_ct`) or a SEG.

        A SEG takes ``like``, the CT volume whose grid it goes on (see :func:`~hcc_tace_data.dicom.seg.read_seg`).

        Raises
        ------
        NotAVolumeError
            A SEG series of several files.
        """
        if self.modality == "SEG":
            if len(self.instances) != 1:
                raise NotAVolumeError(
                    f"SEG series {self.series_uid} holds {count(len(self.instances), 'file')}; read one of them."
                )
            return read_seg(self.paths[0], **options)
        from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

        return cast("CTVolume", read_ct(self, **options))


class Study(model.Study):
    """One study, with the volume that its segmentation was drawn on and every annotation there is."""

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """The series, by number and UID."""
        return tuple(Series(one.root, one.instances, catalog=one.catalog, kept=one.kept) for one in super().series)

    @property
    def segmentation(self) -> Series | None:
        """The collection's SEG series (the first one if there are several), or None."""
        return cast("Series | None", super().segmentation)

    @property
    def annotated(self) -> AnnotatedVolume:
        """The CT volume that :attr:`segmentation` was drawn on.

        See :func:`hcc_tace_data.collection.annotated.find_annotated`.
        """
        return self.fact(find_annotated)

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        """Every annotation that exists for the study; see :func:`hcc_tace_data.labels.annotations.find_annotations`."""
        return self.fact(find_annotations)


class Patient(model.Patient):
    """One patient."""

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """The studies, by date and UID; studies without a date come last."""
        return tuple(
            Study(one.root, one.instances, one.is_baseline, catalog=one.catalog, kept=one.kept)
            for one in super().studies
        )

    @property
    def baseline(self) -> Study | None:
        """The first study that has a segmentation, else the first study."""
        return cast("Study | None", super().baseline)

    @property
    def follow_up(self) -> Study | None:
        """The first study after the baseline, or None."""
        return cast("Study | None", super().follow_up)


class Collection(model.Collection):
    """The patients of one folder. Made by :func:`open_collection`.

    Attributes
    ----------
    root : pathlib.Path
        The folder.
    instances : pandas.DataFrame
        One row per file.
    problems : pandas.DataFrame
        Files and folders that could not be read: `path`, `reason`.
    catalog : Catalog
        The facts of the collection these files belong to; default: those shipped with the package.
    kept : Kept
        What was found out about the files before.
    """

    def __init__(
        self,
        root: Path,
        instances: pd.DataFrame,
        problems: pd.DataFrame,
        *,
        catalog: Catalog | None = None,
        kept: Kept = NOTHING_KEPT,
    ) -> None:
        super().__init__(root, instances, problems, catalog=load_catalog() if catalog is None else catalog, kept=kept)

    def _patient(self, rows: pd.DataFrame) -> Patient:
        return Patient(self.root, rows, catalog=self.catalog, kept=self.kept)

    def __getitem__(self, patient_id: str) -> Patient:
        return cast("Patient", super().__getitem__(patient_id))

    @cached_property
    def phase_volumes(self) -> pd.DataFrame:
        """One row per phase volume: patient, study, series, `volume` within the series, `phase`, `annotated` and more.

        From table and headers; :func:`hcc_tace_data.label_phases` looks at the pixels too.
        """
        return label_phases(self, depth="headers")


def open_collection(
    root: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    cache: bool = True,
    progress: Progress | None = None,
    catalog: Catalog | None = None,
) -> Collection:
    """Open a folder of DICOM files, whatever its layout and names.

    Parameters
    ----------
    root : path-like, optional
        The folder; default ``$HCC_TACE_HOME``, else the user's data folder.
    workers : int, optional
        Processes that read headers; default one, or two where there are thousands of new files.
    cache : bool
        Keep the table in ``ROOT/.hcc-tace/index.parquet`` (if `root` is read-only: in ``$HCC_TACE_CACHE``, else the
        user's cache folder), and read only files whose size or time of change differ from it. What is found out
        later (volumes, phases, annotated CT) is kept beside it, in ``derived.sqlite``.
    progress : callable, optional
        Called with (files read, files to read).
    catalog : Catalog, optional
        The facts of another collection; default: those of HCC-TACE-Seg.

    Returns
    -------
    Collection
        Mapping of PatientID to patient. Files that could not be read are in its ``problems``.

    Raises
    ------
    CollectionNotFoundError
        There is nothing at `root`.
    """
    folder = resolve_root(root).resolve()
    scan = read_index(folder, workers=workers, cache=cache, progress=progress)
    kept = kept_beside(folder, scan.files, catalog=catalog) if cache else NOTHING_KEPT
    return Collection(folder, scan.instances, scan.problems, catalog=catalog, kept=kept)
