"""Every error this package raises on purpose.

The tree (each child also inherits the builtin a caller would expect)::

    HccTaceError
    ├── CatalogError (ValueError)             catalog.yaml or a table of the package is wrong
    ├── CollectionNotFoundError (FileNotFoundError)   no data at the root
    ├── PatientNotFoundError (KeyError)       a patient the collection does not hold
    ├── UsageError (ValueError)               an argument makes no sense
    ├── DependencyError (ImportError)         an optional library is not installed
    ├── DicomReadError (ValueError)           a file is not DICOM, is cut short or cannot be decoded
    │   └── NotDicomError                     a file of another kind
    ├── GeometryError (ValueError)            positions and orientations do not make a volume
    │   ├── NotAVolumeError                   nothing here can be stacked, or two things are mixed
    │   ├── GapError                          a slice is missing, or the spacing is uneven
    │   ├── TiltError                         the gantry was tilted: slices are sheared
    │   ├── DuplicatePositionError            several slices lie at one position
    │   └── FrameOfReferenceError             two objects live in different coordinate systems
    ├── SegmentationError (ValueError)        a segmentation cannot be placed on its CT
    ├── RegistrationError (RuntimeError)      a registration failed or is implausible
    ├── FusionError (ValueError)              readers that cannot be fused
    ├── ClinicalError (ValueError)            the clinical sheet is not what it should be
    ├── DownloadError (OSError)               bytes could not be fetched
    │   ├── IntegrityError                    bytes came, but not the right ones
    │   ├── IncompleteDownloadError           some series could not be fetched; the rest is here
    │   ├── DiskFullError                     no room, or a limit on the size of files
    │   └── FolderLockedError                 another process works on the folder
    ├── OutputError (OSError)                 results cannot be written where they should be
    ├── StoreError (ValueError)               a training store is stale, foreign or broken
    ├── WorkerLostError (RuntimeError)        a worker process was killed from outside
    └── BaselineError (ValueError)            configuration, checkpoint or run of the baseline
        └── NoLiverError                      the liver network found nothing

A message says what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "BaselineError",
    "CatalogError",
    "ClinicalError",
    "CollectionNotFoundError",
    "DependencyError",
    "DicomReadError",
    "DiskFullError",
    "DownloadError",
    "DuplicatePositionError",
    "FolderLockedError",
    "FrameOfReferenceError",
    "FusionError",
    "GapError",
    "GeometryError",
    "HccTaceError",
    "IncompleteDownloadError",
    "IntegrityError",
    "NoLiverError",
    "NotAVolumeError",
    "NotDicomError",
    "OutputError",
    "PatientNotFoundError",
    "RegistrationError",
    "SegmentationError",
    "StoreError",
    "TiltError",
    "UsageError",
    "WorkerLostError",
]


class HccTaceError(Exception):
    """Base of every error raised on purpose by hcc-tace-data."""


class CatalogError(HccTaceError, ValueError):
    """``catalog.yaml`` or a table shipped with the package is wrong."""


class CollectionNotFoundError(HccTaceError, FileNotFoundError):
    """No data of the collection at the given root."""


class PatientNotFoundError(HccTaceError, KeyError):
    """A patient that the collection does not hold."""

    def __str__(self) -> str:  # KeyError would show the repr of its argument
        return str(self.args[0]) if self.args else ""


class UsageError(HccTaceError, ValueError):
    """An argument makes no sense, or contradicts another."""


class DependencyError(HccTaceError, ImportError):
    """An optional library is needed and not installed."""


class DicomReadError(HccTaceError, ValueError):
    """A file is not DICOM, is cut short, or its pixels cannot be decoded."""


class NotDicomError(DicomReadError):
    """A file that has no DICOM prefix."""


class GeometryError(HccTaceError, ValueError):
    """Positions and orientations do not make what was asked for.

    Parameters
    ----------
    message : str
        What is wrong, where, and what to do.
    positions : sequence of float, optional
        The positions in question, in mm along the slice normal.
    """

    def __init__(self, message: str, *, positions: Iterable[float] = ()) -> None:
        super().__init__(message)
        self.positions: tuple[float, ...] = tuple(float(p) for p in positions)


class NotAVolumeError(GeometryError):
    """Nothing here can be stacked, or two different things are mixed."""


class GapError(GeometryError):
    """A slice is missing, or the slice spacing is uneven."""


class TiltError(GeometryError):
    """The gantry was tilted: the slices are sheared, not a rectangular grid."""


class DuplicatePositionError(GeometryError):
    """Several slices lie at one position."""


class FrameOfReferenceError(GeometryError):
    """Two objects live in different frames of reference."""


class SegmentationError(HccTaceError, ValueError):
    """A segmentation cannot be read, or cannot be placed on its CT."""


class RegistrationError(HccTaceError, RuntimeError):
    """A registration failed, or its result is implausible."""


class FusionError(HccTaceError, ValueError):
    """Readers that cannot be fused."""


class ClinicalError(HccTaceError, ValueError):
    """The clinical sheet is not what it should be."""


class DownloadError(HccTaceError, OSError):
    """Bytes could not be fetched from their source."""


class IntegrityError(DownloadError):
    """Bytes arrived, but they are not the right ones."""


class IncompleteDownloadError(DownloadError):
    """Some series could not be fetched; all others are here.

    Parameters
    ----------
    message : str
        What is missing, why, and what to do.
    report : hcc_tace_data.downloads.DownloadReport
        What was done.
    """

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class DiskFullError(DownloadError):
    """No room on the disk, a quota, or a limit on the size of files."""


class FolderLockedError(DownloadError):
    """Another process works on the folder."""


class OutputError(HccTaceError, OSError):
    """Results cannot be written: no room, no right to, or another process writes there."""


class StoreError(HccTaceError, ValueError):
    """A training store is stale, foreign or broken."""


class WorkerLostError(HccTaceError, RuntimeError):
    """A worker process was killed from outside, most often by the system for lack of memory."""


class BaselineError(HccTaceError, ValueError):
    """Configuration, checkpoint or run of the baseline that cannot be used."""


class NoLiverError(BaselineError):
    """The liver network found nothing, so there is nowhere to look for a tumour."""
