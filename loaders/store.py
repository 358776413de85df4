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

import errno
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import HccTaceError, StoreError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.supply.boxes import bounds
from hcc_tace_data.system.documents import parse_json
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.files import atomic_write_text, read_regular, require_regular, sync_folder, writing_to
from hcc_tace_data.system.identity import identity_of
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.partial import partial_folder
from hcc_tace_data.version import __version__

__all__ = [
    "FORMAT",
    "Store",
    "StoreParameters",
    "StoredCase",
    "case_digest",
    "source_digests",
    "source_identities",
    "write_case",
]

#: Raised whenever the meaning of the stored arrays changes.
FORMAT = 3
_RECORD_LIMIT = 16 << 20
_MOST_VOXELS = 1 << 40
_MADE_AGAIN = "'hcc-tace prepare', or loading the data set again, makes it again."
#: Errors of a process or system that has too much open, not of a file.
_TOO_MUCH_OPEN = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
#: What NumPy raises for a file that is not a complete array.
_NOT_AN_ARRAY = (ValueError, EOFError, SyntaxError, TokenError, TypeError, OverflowError, MemoryError, RecursionError)

logger = logging.getLogger(__name__)


class DamagedCaseError(StoreError):
    """A stored case whose files are not what was written; it is made again when it is next prepared."""


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
    deformable : bool
        Whether phases are registered deformably.
    """

    phases: tuple[str, ...] = ("portal_venous",)
    classes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    annotations: tuple[str, ...] = ("collection",)
    spacing: tuple[float, float, float] | None = None
    margin_mm: float | None = None
    deformable: bool = False

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with any parameter or with the format."""
        return _digest({"format": FORMAT, **self.plain()})

    def plain(self) -> dict[str, Any]:
        """The parameters as JSON-ready values."""
        plain = asdict(self)
        # The order of the classes matters: later ones are painted over earlier ones.
        if not self.deformable:  # stores made before there was a choice keep their names
            del plain["deformable"]
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
        Bounds (first, one after the last) along D, H, W of the liver, and of the tumour; None if missing.
    labelled : tuple of (int, int) or None
        Bounds of all that is labelled: the label is 0 outside.
    clinical : dict
        The clinical row.
    missing : dict of str to str
        Phase -> why its channel holds no data (all of it is marked invalid).
    registrations : dict of str to dict
        Phase -> engine, similarity before and after, whether it is plausible and why not, doubts, and `inverse_mm`.
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
            require_regular(path)
            mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            if error.errno in _TOO_MUCH_OPEN:
                raise StoreError(
                    f"{path} cannot be opened: {error.strerror}. The store is not damaged: raise the limit "
                    "('ulimit -n 8192'), or close data sets no longer in use."
                ) from error
            raise DamagedCaseError(f"{path} cannot be read ({error}). {_MADE_AGAIN}") from error
        except _NOT_AN_ARRAY as error:
            raise DamagedCaseError(f"{path} cannot be read ({error}). {_MADE_AGAIN}") from error
        expected = self.shape if name != "label.npy" else self.shape[1:]
        if mapped.shape != expected:
            raise DamagedCaseError(f"{path} has shape {mapped.shape}, its record says {expected}. {_MADE_AGAIN}")
        kind = np.dtype(np.int16 if name == "image.npy" else np.uint8)
        if mapped.dtype != kind or not mapped.flags.c_contiguous:
            raise DamagedCaseError(f"{path} holds {mapped.dtype}, not {kind} in C order. {_MADE_AGAIN}")
        return mapped

    def check(self) -> None:
        """Look whether all arrays are there, of the right shape and type.

        Raises
        ------
        StoreError
            They are not, or cannot be opened.
        """
        for array in (self.image, self.label, self.valid):
            del array


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
        """Return the stored form of `case`, or None if it has to be made: it is not there, is damaged or is stale.

        Raises
        ------
        StoreError
            It is there, but cannot be opened now (too many open files).
        """
        statuses = _statuses(case)
        return _find(self._place(case, statuses), case, statuses)

    def find_all(self, cases: Sequence[Case]) -> tuple[list[StoredCase | None], dict[str, str]]:
        """Return :meth:`find` of each case, and PatientID -> reason of those whose sources cannot be looked at."""
        stored: list[StoredCase | None] = []
        failed: dict[str, str] = {}
        for case in cases:
            try:
                stored.append(self.find(case))
            except OSError as error:
                stored.append(None)
                failed[case.patient_id] = reason_of(error)
        return stored, failed

    def write(self, case: Case, arrays: CaseArrays, *, identities: list[list[int]] | None = None) -> StoredCase:
        """Write a case, whole or not at all, and return it; see :func:`write_case`."""
        return write_case(self._place(case), case, arrays, self.parameters, identities=identities)

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

    def _place(self, case: Case, statuses: _Statuses | None = None) -> Path:
        return self.folder / f"{safe_name(case.patient_id)}-{case_digest(case, statuses)}"


#: Path -> status of every source file of a case, in the order of the files.
_Statuses = dict[Path, os.stat_result]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _files(case: Case) -> list[Path]:
    return [*case.paths, *case.label_files, *(path for channel in case.channels for path in channel)]


def _statuses(case: Case) -> _Statuses:
    """Return the status of every source file, each asked for once: the annotated volume is most channels, too."""
    return {path: path.stat() for path in dict.fromkeys(_files(case))}


def case_digest(case: Case, statuses: _Statuses | None = None) -> str:
    """Return sixteen hexadecimal digits that change when a source file or the clinical row of `case` does.

    Files count by name, size and time of change: hashing 28 GB before every training would cost more than it
    protects. A file that was replaced under the same name, size and time is found by :meth:`Store.find`.
    """
    known = _statuses(case) if statuses is None else statuses
    files = [[path.name, known[path].st_size, known[path].st_mtime_ns] for path in _files(case)]
    channels = [[phase, len(paths)] for phase, paths in zip(case.phases, case.channels, strict=True)]
    return _digest([case.series_uid, channels, case.readers, files, sorted(case.clinical.items(), key=str)])


def source_identities(case: Case, statuses: _Statuses | None = None) -> list[list[int]]:
    """Return time of change and inode of every source file: what no program that copies files can set back."""
    found = []
    for status in (_statuses(case) if statuses is None else statuses).values():
        identity = identity_of(status)
        found.append([identity.ctime_ns, identity.inode])
    return found


def source_digests(case: Case) -> dict[str, str]:
    """Return name -> SHA-256 of every file that `case` was made from; with its folders where a name occurs twice."""
    paths = list(dict.fromkeys(_files(case)))
    names = [path.name for path in paths]
    digests = {}
    for path in paths:
        with open(path, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        digests[path.name if names.count(path.name) == 1 else path.as_posix()] = digest
    return digests


def _find(place: Path, case: Case, statuses: _Statuses) -> StoredCase | None:
    try:
        record = _load(place)
        if record is None:
            return None
        stored = _stored(place, record)
        stored.check()
    except DamagedCaseError as error:
        logger.warning("%s is damaged and is made again: %s", place, error)
        return None
    if stored.series_uid != case.series_uid or not _is_current(place, record, case, statuses):
        return None
    return stored


def _is_current(place: Path, record: dict[str, Any], case: Case, statuses: _Statuses) -> bool:
    """Whether the sources are those that the case was made from; name, size and time are in the name of `place`."""
    identities = source_identities(case, statuses)
    if record.get("identities") == identities:
        return True
    # moved, linked, given other rights, or replaced: only the bytes say
    if sorted(record.get("sources", {}).values()) != sorted(source_digests(case).values()):
        logger.warning("%s: a source file was replaced under the same name, size and time; made again", place)
        return False
    with suppress(HccTaceError, OSError):  # a store that cannot be written is compared again the next time
        atomic_write_text(place / "case.json", json.dumps({**record, "identities": identities}, indent=1))
    return True


def write_case(
    place: Path,
    case: Case,
    arrays: CaseArrays,
    parameters: StoreParameters,
    *,
    identities: list[list[int]] | None = None,
) -> StoredCase:
    """Write `arrays` of `case` as the folder `place`, whole or not at all.

    Parameters
    ----------
    place : pathlib.Path
        Where. What is there and damaged or stale is replaced.
    case, arrays, parameters
        What to write.
    identities : list, optional
        :func:`source_identities` before the sources were read.

    Raises
    ------
    StoreError
        Arrays of other types or shapes than a store holds, or a source that changed while it was read.
    OutputError
        No room, or no right to write.
    """
    image = arrays.image if arrays.image.ndim == 4 else arrays.image[None]
    if image.dtype != np.int16 or arrays.label.dtype != np.uint8 or image.shape[1:] != arrays.label.shape:
        raise StoreError(
            f"{case.patient_id}: image {image.dtype} {image.shape} and label {arrays.label.dtype} "
            f"{arrays.label.shape} do not make a stored case (int16 (C, D, H, W) and uint8 (D, H, W))."
        )
    record = _record(case, arrays, image.shape, parameters)
    if identities is not None and identities != record["identities"]:
        raise StoreError(f"{case.patient_id}: a source file changed while it was read; run the same command again.")
    with writing_to(place.parent), partial_folder(place.parent) as temporary:
        _save(temporary / "image.npy", image)
        _save(temporary / "label.npy", arrays.label)
        if record["masked"]:
            _save(temporary / "valid.npy", np.asarray(arrays.valid, dtype=np.uint8))
        if arrays.registrations:
            (temporary / "transforms").mkdir()
            for phase, registration in arrays.registrations.items():
                registration.save(temporary / "transforms" / f"{safe_name(phase)}.tfm")
        with open(temporary / "case.json", "w", encoding="utf-8") as handle:
            json.dump(record, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        _put(temporary, place, case)
        sync_folder(place.parent)
    return read_record(place)


def _put(temporary: Path, place: Path, case: Case) -> None:
    """Give a case its final name, in place of a damaged or stale one."""
    try:
        temporary.rename(place)
    except OSError:
        if _find(place, case, _statuses(case)) is not None:
            return  # another process stored the same case meanwhile; both wrote the same
        if not os.path.lexists(place):
            raise
        with partial_folder(place.parent) as aside:  # removed with what is moved there
            place.rename(aside / "replaced")
            temporary.rename(place)


def _record(case: Case, arrays: CaseArrays, shape: tuple[int, ...], parameters: StoreParameters) -> dict[str, Any]:
    tumour = frozenset(load_catalog().vocabulary.tumour)
    return {
        "format": FORMAT,
        "package": __version__,
        "parameters": parameters.plain(),
        "identities": source_identities(case),
        "sources": source_digests(case),
        "patient_id": case.patient_id,
        "study_uid": case.study_uid,
        "series_uid": case.series_uid,
        "phases": list(case.phases),
        "readers": case.readers,
        "shape": list(shape),
        "spacing": arrays.spacing.tolist(),
        "affine": arrays.affine.tolist(),
        "liver": arrays.liver or _bounds_of(arrays.label, parameters, frozenset({"liver", *tumour})),
        "tumour": arrays.tumour or _bounds_of(arrays.label, parameters, tumour),
        "labelled": bounds(arrays.label),
        "masked": arrays.valid is not None and not bool(arrays.valid.all()),
        "missing": dict(arrays.missing),
        "registrations": {
            phase: {
                "engine": found.engine,
                "similarity_before": found.similarity_before,
                "similarity_after": found.similarity_after,
                "plausible": found.plausible,
                "reason": found.reason,
                "doubts": list(found.doubts),
                "inverse_mm": found.inverse_mm,
            }
            for phase, found in arrays.registrations.items()
        },
        "clinical": dict(case.clinical),
    }


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    array = np.ascontiguousarray(array)
    with open(path, "wb") as handle:
        # not np.save: a full disk is an OSError without a number there
        np.lib.format.write_array_header_1_0(handle, np.lib.format.header_data_from_array_1_0(array))
        handle.write(array.data)
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
    record = _load(place)
    if record is None:
        raise DamagedCaseError(f"{place} is not a stored case (no case.json). {_MADE_AGAIN}")
    return _stored(place, record)


def _load(place: Path) -> dict[str, Any] | None:
    """Return the JSON document of a case; None if missing."""
    try:
        record = parse_json(read_regular(place / "case.json", limit=_RECORD_LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in _TOO_MUCH_OPEN:
            raise StoreError(
                f"{place / 'case.json'} cannot be opened: {error.strerror}. The store is not damaged: raise the limit "
                "('ulimit -n 8192'), or close data sets no longer in use."
            ) from error
        raise DamagedCaseError(f"{place} cannot be read ({error}). {_MADE_AGAIN}") from error
    except ValueError as error:
        raise DamagedCaseError(f"{place} is not a stored case ({error}). {_MADE_AGAIN}") from error
    if not isinstance(record, dict):
        raise DamagedCaseError(f"{place} is not a stored case (its record is not an object). {_MADE_AGAIN}")
    return record


def _stored(place: Path, record: dict[str, Any]) -> StoredCase:
    try:
        if record["format"] != FORMAT:
            raise DamagedCaseError(f"{place} has format {record['format']!r}, this version writes {FORMAT}.")
        shape = tuple(_whole(number) for number in _list(record["shape"], 4))
        if math.prod(shape) > _MOST_VOXELS:
            raise ValueError(f"shape {shape}")

        def box(name: str) -> tuple[tuple[int, int], ...] | None:
            if record[name] is None:
                return None
            pairs = tuple(tuple(_whole(end, least=0) for end in _list(pair, 2)) for pair in _list(record[name], 3))
            if any(not first < last <= most for (first, last), most in zip(pairs, shape[1:], strict=True)):
                raise ValueError(f"{name} {pairs} in an image of {shape[1:]}")
            return pairs  # type: ignore[return-value]  # pairs of two

        phases = tuple(_text(phase) for phase in _list(record["phases"], shape[0]))
        if not isinstance(record["masked"], bool):
            raise TypeError("masked is not true or false")
        return StoredCase(
            folder=place,
            patient_id=_text(record["patient_id"]),
            study_uid=_text(record["study_uid"]),
            series_uid=_text(record["series_uid"]),
            phases=phases,
            readers=_whole(record["readers"], least=0),
            shape=shape,  # type: ignore[arg-type]  # of four
            spacing=tuple(_number(step, least=0) for step in _list(record["spacing"], 3)),  # type: ignore[arg-type]
            affine=tuple(tuple(_number(value) for value in _list(row, 4)) for row in _list(record["affine"], 4)),
            liver=box("liver"),
            tumour=box("tumour"),
            labelled=box("labelled"),
            clinical=_mapping(record["clinical"]),
            missing={_text(phase): _text(reason) for phase, reason in _mapping(record["missing"]).items()},
            registrations={_text(phase): _mapping(one) for phase, one in _mapping(record["registrations"]).items()},
            masked=record["masked"],
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, StoreError):
            raise
        raise DamagedCaseError(f"{place} is not a stored case ({error}). {_MADE_AGAIN}") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value


def _whole(value: object, *, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise TypeError(f"{value!r:.40} is not a whole number from {least}")
    return value


def _number(value: object, *, least: float = -math.inf) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= least:
        raise TypeError(f"{value!r:.40} is not a number above {least}")
    return float(value)


def _list(value: object, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise TypeError(f"{value!r:.40} is not a list of {length}")
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.40} is not an object")
    return value
