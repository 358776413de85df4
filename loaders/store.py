"""The training store: what training reads, laid out so that reading it costs one memory copy.

A store is a folder of cases. Each case is a folder with

``image.npy``
    int16 (C, D, H, W), HU, one channel a contrast phase, C order, uncompressed: it is memory-mapped, never loaded.
``label.npy``
    uint8 (D, H, W), class numbers.
``valid.npy``
    uint8 (C, D, H, W), 0 where a registered phase had no data; only where some voxel lacks data.
``case.json``
    Identifiers, geometry, bounds of liver, tumour and all that is labelled, clinical row, provenance with the SHA-256
    of every source file.
``transforms/PHASE.tfm``
    How a phase was registered, as an ITK text file, with its similarity before and after beside it.

The folder of a store carries the digest of the parameters, that of a case the digest of its sources: a changed
parameter or file is another folder, so stale data are never served. A case is written under a temporary name and
renamed when it is whole and synced.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import StoreError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.supply.boxes import bounds
from hcc_tace_data.system.files import sync_folder
from hcc_tace_data.version import __version__

__all__ = ["FORMAT", "Store", "StoreParameters", "StoredCase", "case_digest", "source_digests", "write_case"]

#: Raised whenever the meaning of the stored arrays changes.
FORMAT = 3
_TUMOUR = frozenset({"tumour", "necrosis"})
_LIVER = frozenset({"liver", *_TUMOUR})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreParameters:
    """All that decides what a stored case holds, besides its sources.

    Attributes
    ----------
    phases : tuple of str
        Channels of the image.
    classes : mapping of int to tuple of str
        Class number -> segment keys.
    annotations : tuple of str
        Whose labels.
    spacing : tuple of float or None
        mm along (D, H, W) to resample to; None keeps the CT's own grid.
    margin_mm : float or None
        Crop to the liver plus this margin; None keeps the whole field.
    """

    phases: tuple[str, ...] = ("portal_venous",)
    classes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    annotations: tuple[str, ...] = ("collection",)
    spacing: tuple[float, float, float] | None = None
    margin_mm: float | None = None

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any parameter or with the format."""
        return _digest({"format": FORMAT, **self.plain()})

    def plain(self) -> dict[str, Any]:
        """The parameters as JSON-ready values."""
        plain = asdict(self)
        # The order of the classes matters: later ones are painted over earlier ones.
        plain["classes"] = [[number, list(keys)] for number, keys in self.classes.items()]
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCase:
    """A case in the store; its arrays are memory-mapped when asked for.

    Attributes
    ----------
    folder : pathlib.Path
        Where it lies.
    patient_id, study_uid, series_uid : str
        Which CT.
    phases : tuple of str
        Channels of the image.
    readers : int
        How many readers stand behind the label.
    shape : tuple of int
        (C, D, H, W).
    spacing : tuple of float
        mm along (D, H, W).
    affine : tuple of tuple of float
        (4, 4), index (d, h, w) -> LPS mm.
    liver, tumour : tuple of (int, int) or None
        Bounds (first, one after the last) along D, H, W of the liver, and of the tumour; None where there is none.
    labelled : tuple of (int, int) or None
        Bounds of all that is labelled: the label is 0 outside.
    clinical : dict
        The clinical row.
    missing : dict of str to str
        Phase -> why its channel holds no data (all of it is marked invalid).
    registrations : dict of str to dict
        Phase -> engine, similarity before and after, whether it is plausible, and why not.
    masked : bool
        Whether some voxel of some channel holds no data.
    """

    folder: Path
    patient_id: str
    study_uid: str
    series_uid: str
    phases: tuple[str, ...]
    readers: int
    shape: tuple[int, int, int, int]
    spacing: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...]
    liver: tuple[tuple[int, int], ...] | None
    tumour: tuple[tuple[int, int], ...] | None
    labelled: tuple[tuple[int, int], ...] | None
    clinical: Mapping[str, Any]
    missing: Mapping[str, str] = field(default_factory=dict)
    registrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    masked: bool = False

    @property
    def image(self) -> npt.NDArray[np.int16]:
        """HU, int16 (C, D, H, W), read-only memory map."""
        return self._map("image.npy")

    @property
    def label(self) -> npt.NDArray[np.uint8]:
        """Class numbers, uint8 (D, H, W), read-only memory map."""
        return self._map("label.npy")

    @property
    def valid(self) -> npt.NDArray[np.uint8] | None:
        """1 where a phase has data, uint8 (C, D, H, W); None where all voxels have."""
        return self._map("valid.npy") if self.masked else None

    def _map(self, name: str) -> npt.NDArray[Any]:
        path = self.folder / name
        try:
            mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}). Delete {self.folder}; it is made anew.") from error
        expected = self.shape if name != "label.npy" else self.shape[1:]
        if mapped.shape != expected:
            raise StoreError(
                f"{path} has shape {mapped.shape}, its record says {expected}. Delete {self.folder}; it is made anew."
            )
        return mapped


class Store:
    """A folder of stored cases for one set of parameters.

    Parameters
    ----------
    folder : path-like
        Folder of all stores; this one is a folder in it, named by the parameters' digest.
    parameters : StoreParameters
        What the cases hold.
    """

    def __init__(self, folder: str | os.PathLike[str], parameters: StoreParameters) -> None:
        self.parameters = parameters
        self.folder = Path(folder) / parameters.digest

    def __repr__(self) -> str:
        return f"<Store {self.folder}>"

    def find(self, case: Case) -> StoredCase | None:
        """Return the stored form of `case`, or None if it is not (or no longer) there."""
        place = self._place(case)
        return read_record(place) if (place / "case.json").is_file() else None

    def write(self, case: Case, arrays: CaseArrays) -> StoredCase:
        """Write a case, whole or not at all, and return it."""
        return write_case(self._place(case), case, arrays, self.parameters)

    def fill(
        self,
        cases: Sequence[Case],
        read: Callable[[Case], CaseArrays],
        *,
        done: Callable[[int], None] = lambda steps: None,
    ) -> list[StoredCase]:
        """Return all `cases` stored, reading and writing those that are not there yet."""
        stored = []
        for case in cases:
            stored.append(self.find(case) or self.write(case, read(case)))
            done(1)
        return stored

    def _place(self, case: Case) -> Path:
        return self.folder / f"{case.patient_id}-{case_digest(case)}"


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def case_digest(case: Case) -> str:
    """Return sixteen hexadecimal digits that change when a source file or the clinical row of `case` does.

    Files count by name, size and time of change: hashing 28 GB before every training would cost more than it
    protects; ``hcc-tace verify --deep`` finds files whose bytes changed under the same size and time.
    """
    files = []
    for path in (*case.paths, *case.label_files, *(path for channel in case.channels for path in channel)):
        stat = path.stat()
        files.append([path.name, stat.st_size, stat.st_mtime_ns])
    channels = [[phase, len(paths)] for phase, paths in zip(case.phases, case.channels, strict=True)]
    return _digest([case.series_uid, channels, case.readers, files, sorted(case.clinical.items(), key=str)])


def source_digests(case: Case) -> dict[str, str]:
    """Return file name -> SHA-256 of every file that `case` was made from."""
    paths = dict.fromkeys((*case.paths, *case.label_files, *(path for channel in case.channels for path in channel)))
    digests = {}
    for path in paths:
        with open(path, "rb") as handle:
            digests[path.name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return digests


def write_case(place: Path, case: Case, arrays: CaseArrays, parameters: StoreParameters) -> StoredCase:
    """Write `arrays` of `case` as the folder `place`, whole or not at all."""
    image = arrays.image if arrays.image.ndim == 4 else arrays.image[None]
    if image.dtype != np.int16 or arrays.label.dtype != np.uint8 or image.shape[1:] != arrays.label.shape:
        raise StoreError(
            f"{case.patient_id}: image {image.dtype} {image.shape} and label {arrays.label.dtype} "
            f"{arrays.label.shape} do not make a stored case (int16 (C, D, H, W) and uint8 (D, H, W))."
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.parent / f".{uuid4().hex[:12]}.part"
    temporary.mkdir()
    try:
        _save(temporary / "image.npy", image)
        _save(temporary / "label.npy", arrays.label)
        masked = arrays.valid is not None and not arrays.valid.all()
        if masked:
            _save(temporary / "valid.npy", np.asarray(arrays.valid, dtype=np.uint8))
        if arrays.registrations:
            (temporary / "transforms").mkdir()
            for phase, registration in arrays.registrations.items():
                registration.save(temporary / "transforms" / f"{phase}.tfm")
        record = {
            "format": FORMAT,
            "package": __version__,
            "parameters": parameters.plain(),
            "sources": source_digests(case),
            "patient_id": case.patient_id,
            "study_uid": case.study_uid,
            "series_uid": case.series_uid,
            "phases": list(case.phases),
            "readers": case.readers,
            "shape": list(image.shape),
            "spacing": arrays.spacing.tolist(),
            "affine": arrays.affine.tolist(),
            "liver": arrays.liver or _bounds_of(arrays.label, parameters, _LIVER),
            "tumour": arrays.tumour or _bounds_of(arrays.label, parameters, _TUMOUR),
            "labelled": bounds(arrays.label),
            "masked": masked,
            "missing": dict(arrays.missing),
            "registrations": {
                phase: {
                    "engine": found.engine,
                    "similarity_before": found.similarity_before,
                    "similarity_after": found.similarity_after,
                    "plausible": found.plausible,
                    "reason": found.reason,
                }
                for phase, found in arrays.registrations.items()
            },
            "clinical": dict(case.clinical),
        }
        with open(temporary / "case.json", "w", encoding="utf-8") as handle:
            json.dump(record, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        try:
            temporary.rename(place)
        except OSError:
            if not (place / "case.json").is_file():
                raise
            # another process stored the same case meanwhile; both wrote the same
        sync_folder(place.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
    return read_record(place)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with open(path, "wb") as handle:
        np.save(handle, np.ascontiguousarray(array), allow_pickle=False)
        handle.flush()
        os.fsync(handle.fileno())


def _bounds_of(label: npt.NDArray[np.uint8], parameters: StoreParameters, keys: frozenset[str]) -> Any:
    """Return the bounds of the classes that show one of `keys`."""
    numbers = [number for number, shown in parameters.classes.items() if keys.intersection(shown)]
    return bounds(np.isin(label, numbers)) if numbers else None


def read_record(place: Path) -> StoredCase:
    """Read the record of a stored case.

    Raises
    ------
    StoreError
        It is not one, or of another format.
    """
    try:
        record = json.loads((place / "case.json").read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise StoreError(f"{place} has format {record['format']}, this version writes {FORMAT}. Delete it.")

        def box(name: str) -> tuple[tuple[int, int], ...] | None:
            return None if record[name] is None else tuple((int(a), int(b)) for a, b in record[name])

        return StoredCase(
            folder=place,
            patient_id=record["patient_id"],
            study_uid=record["study_uid"],
            series_uid=record["series_uid"],
            phases=tuple(record["phases"]),
            readers=int(record["readers"]),
            shape=tuple(record["shape"]),
            spacing=tuple(record["spacing"]),
            affine=tuple(tuple(row) for row in record["affine"]),
            liver=box("liver"),
            tumour=box("tumour"),
            labelled=box("labelled"),
            clinical=record["clinical"],
            missing=record["missing"],
            registrations=record["registrations"],
            masked=bool(record["masked"]),
        )
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise StoreError(f"{place} is not a stored case ({error}). Delete it; it is made anew.") from error
