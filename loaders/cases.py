"""Cases: an annotated CT volume, its segmentation and its clinical row, found but not yet read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.load import load_clinical
from hcc_tace_data.clinical.sheet import find_sheet
from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.collection.visits import days_between
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError, UsageError
from hcc_tace_data.labels.annotations import Annotation, choose_annotations
from hcc_tace_data.loaders.channels import ANNOTATED, FOLLOW_UP, PhaseFiles, find_phases
from hcc_tace_data.loaders.flow import Reason
from hcc_tace_data.phases.label import published_for
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.identity import identity_of

if TYPE_CHECKING:
    from hcc_tace_data.open import Collection, Study
    from hcc_tace_data.volumes.registration import Registration

__all__ = ["Case", "CaseArrays", "clinical_rows", "find_cases"]

logger = logging.getLogger(__name__)

_CASE = Kind("case", ("loaders",))
_CLINICAL = Kind("clinical rows", ("loaders",), private=True)
_ANNOTATION = ("patient_id", "study_uid", "reader", "kind", "readers", "series_uid", "volume", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One annotated CT volume.

    Attributes
    ----------
    patient_id, study_uid, series_uid : str
        Which CT.
    phases : tuple of str
        Contrast phase of each channel of the image.
    paths : tuple of pathlib.Path
        Its files.
    sources : tuple of tuple of pathlib.Path
        The files of each channel: `paths` itself, another volume, or none where the phase was not acquired. Empty
        where the annotated volume is the only channel.
    series_uids : tuple of str
        SeriesInstanceUID of each channel, "" where the phase was not acquired. Empty where all channels are the
        annotated volume.
    segmentation : pathlib.Path
        File of the first annotation.
    readers : int
        How many readers stand behind the labels.
    annotations : tuple of Annotation
        What the labels are made of; several are fused by STAPLE. Empty: `segmentation` alone.
    follow_up_uid : str
        StudyInstanceUID of the follow-up; "" without one.
    days : int or None
        From the date of the annotated study to that of the follow-up.
    clinical : dict
        The patient's row of the clinical table as plain Python values; empty without a sheet.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    phases: tuple[str, ...]
    paths: tuple[Path, ...]
    segmentation: Path
    readers: int = 3
    clinical: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[tuple[Path, ...], ...] = ()
    series_uids: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    follow_up_uid: str = ""
    days: int | None = None

    @property
    def label_files(self) -> tuple[Path, ...]:
        """Files that the labels are made of."""
        return tuple(dict.fromkeys([self.segmentation, *(one.path for one in self.annotations)]))

    @property
    def channels(self) -> tuple[tuple[Path, ...], ...]:
        """The files of each channel, in the order of `phases`."""
        return self.sources or (self.paths,)

    @property
    def native(self) -> bool:
        """Whether all channels are the annotated volume, so that nothing has to be registered."""
        return all(files == self.paths for files in self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseArrays:
    """The arrays of one case.

    Attributes
    ----------
    image : ndarray of int16, shape (D, H, W) or (C, D, H, W)
        HU.
    label : ndarray of uint8, shape (D, H, W)
        Class numbers.
    spacing : ndarray of float64, shape (3,)
        mm along (D, H, W).
    affine : ndarray of float64, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    valid : ndarray of uint8, shape (C, D, H, W), or None
        0 where a registered phase had no data; None where all voxels have.
    liver, tumour : tuple of (int, int), or None
        Bounds (first, one after the last) along (D, H, W) of the liver with all that lies in it, and of the tumour.
    registrations : mapping of str to Registration
        Phase -> how it was brought onto this grid; only the plausible ones shaped `image`.
    missing : mapping of str to str
        Phase -> why its channel holds no data.
    """

    image: npt.NDArray[np.int16]
    label: npt.NDArray[np.uint8]
    spacing: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    valid: npt.NDArray[np.uint8] | None = None
    liver: tuple[tuple[int, int], ...] | None = None
    tumour: tuple[tuple[int, int], ...] | None = None
    registrations: Mapping[str, Registration] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def find_cases(
    collection: Collection,
    patients: Iterable[str],
    annotations: str | Sequence[str] = "collection",
    *,
    phases: Sequence[str] = (ANNOTATED,),
    keep_incomplete: bool = False,
) -> tuple[list[Case], dict[str, str]]:
    """Find the annotated CT volume of each patient's baseline study.

    Parameters
    ----------
    collection : Collection
        From :func:`hcc_tace_data.open_collection`.
    patients : iterable of str
        PatientIDs to look at; those the collection does not hold are left out.
    annotations : str or sequence of str
        Whose labels; see :func:`hcc_tace_data.labels.annotations.choose_annotations`.
    phases : sequence of str
        Channels, from :func:`hcc_tace_data.loaders.channels.resolve_phases`.
    keep_incomplete : bool
        Keep a patient who lacks a phase: that channel then has no files.

    Returns
    -------
    cases : list of Case
        In the order of `patients`.
    left_out : dict of str to str
        PatientID -> why there is no case.

    Raises
    ------
    UsageError
        No patient at all has an annotation so called.
    """
    patients = list(patients)
    rows = kept_clinical_rows(collection)
    known, keys = _recall(collection, patients, annotations, phases, keep_incomplete=keep_incomplete)
    labelled = find_phases(collection, [patient for patient in patients if patient not in known])
    cases: list[Case] = []
    left_out: dict[str, str] = {}
    made: dict[str, _Found] = {}
    readers: set[str] = {"collection", "bamf", "staple"}
    for patient_id in patients:
        try:
            found = known.get(patient_id) or _find_case(
                collection,
                patient_id,
                annotations,
                phases,
                labelled.get(patient_id, []),
                keep_incomplete=keep_incomplete,
            )
        except UsageError:
            raise
        except Exception as error:  # whatever is wrong with one patient, the others are found
            left_out[patient_id] = reason_of(error)
            continue
        made[patient_id] = found
        readers |= found.readers
        if found.case is None:
            left_out[patient_id] = found.reason
        else:
            cases.append(replace(found.case, clinical=rows.get(patient_id, rows.get("", {}))))
    collection.kept.put(
        _CASE,
        {
            key: _plain_case(made[patient], collection.root)
            for patient, key in keys.items()
            if patient in made and patient not in known and made[patient].whole
        },
    )
    unknown = sorted(({annotations} if isinstance(annotations, str) else set(annotations)) - readers)
    if unknown:
        raise UsageError(
            f"annotations names {', '.join(map(repr, unknown))}; here are {', '.join(map(repr, sorted(readers)))}."
        )
    return cases, left_out


@dataclass(frozen=True, slots=True)
class _Found:
    """The case of one patient, or why it is missing, and whose annotations there are."""

    case: Case | None
    reason: str = ""
    readers: frozenset[str] = frozenset()
    #: whether all that says where the labels lie could be read: else it may be another case the next time
    whole: bool = False


def _recall(
    collection: Collection,
    patients: Sequence[str],
    annotations: str | Sequence[str],
    phases: Sequence[str],
    *,
    keep_incomplete: bool,
) -> tuple[dict[str, _Found], dict[str, str]]:
    """Return what is kept of the cases of some patients, and the key of each.

    Only cases of the collection's own annotation are kept: where a user's readers lie is looked up each time.
    """
    if annotations != "collection":
        return {}, {}
    published = published_for(collection.root)
    kept, keys = collection.kept, {}
    files = _files(collection)
    for patient in patients:
        paths, segs, series = files.get(patient, ([], [], set()))
        if paths and kept.unchanged(segs):
            stated = [[uid, *published[uid].phases] for uid in sorted(series) if uid in published]
            keys[patient] = kept.key(_CASE, paths, list(phases), keep_incomplete, stated)
    values = kept.get(_CASE, keys.values())
    known = {}
    for patient, key in keys.items():
        if key in values:
            with suppress(KeyError, TypeError, ValueError):  # of something else: it is found again
                known[patient] = _from_plain_case(values[key], collection)
    return known, keys


def _files(collection: Collection) -> dict[str, tuple[list[str], list[str], set[str]]]:
    """Return PatientID -> files, files of segmentations, and series."""
    found: dict[str, tuple[list[str], list[str], set[str]]] = {}
    columns = (collection.instances[name].tolist() for name in ("patient_id", "path", "modality", "series_uid"))
    for patient, path, modality, series in zip(*columns, strict=True):
        paths, segs, held = found.setdefault(str(patient), ([], [], set()))
        paths.append(path)
        held.add(str(series))
        if modality == "SEG":
            segs.append(path)
    return found


def _plain_case(found: _Found, root: Path) -> dict[str, Any]:
    def below(paths: Iterable[Path]) -> list[str]:
        return [path.relative_to(root).as_posix() for path in paths]

    case = found.case
    plain: dict[str, Any] = {
        "reason": str(found.reason), "code": getattr(found.reason, "code", ""), "readers": sorted(found.readers),
        "case": None,
    }  # fmt: skip
    if case is not None:
        names = ("patient_id", "study_uid", "series_uid", "phases", "readers", "series_uids", "follow_up_uid", "days")
        own = tuple(case.paths)
        plain["case"] = {
            **{name: getattr(case, name) for name in names},
            "paths": below(case.paths),
            # most channels are the annotated volume itself
            "sources": [None if files == own else below(files) for files in case.sources],
            "segmentation": below([case.segmentation])[0],
            "annotations": [
                {
                    **{name: getattr(one, name) for name in _ANNOTATION},
                    "path": below([one.path])[0],
                    "paths": None if one.paths == own else below(one.paths),
                }
                for one in case.annotations
            ],
        }
    return plain


def _from_plain_case(value: Any, collection: Collection) -> _Found:
    """Return what :func:`_plain_case` was given.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is something else.
    """
    root = collection.root
    reason = Reason(value["reason"], value["code"]) if value["code"] else value["reason"]
    plain, readers = value["case"], frozenset(value["readers"])
    if plain is None:
        return _Found(None, reason, readers)
    own = tuple(root / path for path in plain["paths"])

    def files(paths: list[str] | None) -> tuple[Path, ...]:
        return own if paths is None else tuple(root / path for path in paths)

    annotations = tuple(
        Annotation(**{**one, "path": root / one["path"], "paths": files(one["paths"]), "catalog": collection.catalog})
        for one in plain["annotations"]
    )
    return _Found(
        Case(
            **{
                **plain,
                "phases": tuple(plain["phases"]),
                "series_uids": tuple(plain["series_uids"]),
                "paths": own,
                "sources": tuple(files(one) for one in plain["sources"]),
                "segmentation": root / plain["segmentation"],
                "annotations": annotations,
            }
        ),
        reason,
        readers,
    )


def _find_case(
    collection: Collection,
    patient_id: str,
    annotations: str | Sequence[str],
    phases: Sequence[str],
    volumes: Sequence[PhaseFiles],
    *,
    keep_incomplete: bool,
) -> _Found:
    if patient_id not in collection:
        return _Found(None, Reason("not in this folder", "not_in_folder"))
    study = collection[patient_id].baseline
    if study is None or (annotations == "collection" and study.segmentation is None):
        return _Found(None, Reason("no segmentation in the baseline study", "no_annotation"))
    available = study.annotations
    readers = frozenset(one.reader for one in available)
    whole = all(one.paths for one in available if one.reader == "collection")
    chosen, paths, reason = choose_annotations(available, annotations)
    if not chosen:
        return _Found(None, Reason(reason, "no_annotation"), readers)
    # of a volume of several regions one may be annotated alone
    own = next((volume for volume in volumes if set(paths) <= set(volume.paths)), None)
    drawn_on = "unknown" if own is None else own.phase
    follow_up = collection[patient_id].follow_up
    files = [
        paths
        if phase in (ANNOTATED, drawn_on)
        else _files_of(phase, volumes, _day(study), None if follow_up is None else _day(follow_up))
        for phase in phases
    ]
    lacking = [phase for phase, found in zip(phases, files, strict=True) if not found]
    if lacking and not keep_incomplete:
        text = f"no {', '.join(lacking)} volume (annotated: {drawn_on})"
        return _Found(None, Reason(text, "no_phase"), readers, whole)
    annotated = chosen[0].series_uid if own is None else own.series_uid
    series = {volume.paths: volume.series_uid for volume in volumes}
    case = Case(
        patient_id=patient_id,
        study_uid=study.study_uid,
        series_uid=annotated,
        series_uids=tuple(annotated if found == paths else series.get(found, "") for found in files),
        phases=tuple(drawn_on if phase == ANNOTATED else phase for phase in phases),
        paths=paths,
        sources=tuple(files),
        segmentation=chosen[0].path,
        readers=sum(one.readers for one in chosen),
        annotations=chosen,
        follow_up_uid="" if follow_up is None else follow_up.study_uid,
        days=None if follow_up is None else days_between(study.date, follow_up.date),
    )
    return _Found(case, "", readers, whole)


def _day(study: Study) -> str:
    return study.date or study.study_uid


def _files_of(phase: str, volumes: Sequence[PhaseFiles], date: str, follow_up: str | None) -> tuple[Path, ...]:
    """Return the files of the surest volume of a phase of the visit; none where it was not acquired."""
    day = follow_up if phase.startswith(FOLLOW_UP) else date
    name = phase.removeprefix(FOLLOW_UP)
    return next((v.paths for v in volumes if v.phase == name and v.study_date == day), ())


def kept_clinical_rows(collection: Collection) -> dict[str, dict[str, Any]]:
    """Return :func:`clinical_rows` of a collection's folder, as they are kept where the sheet is still the same."""
    kept = collection.kept
    try:
        sheet = find_sheet(collection.root)
        before = identity_of(sheet.stat())
        key = kept.key(_CLINICAL, (), str(sheet), *before)
    except (CollectionNotFoundError, OSError):
        return clinical_rows(collection.root)
    for value in kept.get(_CLINICAL, [key]).values():
        if isinstance(value, dict) and "" in value and all(isinstance(row, dict) for row in value.values()):
            return value
    rows = clinical_rows(collection.root)
    with suppress(OSError):  # it is gone meanwhile
        if rows and identity_of(sheet.stat()) == before:
            kept.put(_CLINICAL, {key: rows})
    return rows


def clinical_rows(root: Path) -> dict[str, dict[str, Any]]:
    """Return PatientID -> clinical row as plain values; empty where there is no sheet.

    Every row has the same keys and PyTorch's default collation takes it: a missing number or flag is NaN, a
    missing category the empty string. The key ``""`` holds the row of a patient whom the sheet does not know.
    """
    try:
        table = load_clinical(root, on_problem="ignore")
    except CollectionNotFoundError:
        logger.info("no clinical sheet at %s; samples carry no clinical row", root)
        return {}
    except ClinicalError as error:
        logger.warning("clinical sheet not used: %s", error)
        return {}
    numeric = {str(name) for name in table if table[name].dtype.kind in "iufb"}
    rows = {
        str(row["patient_id"]): {
            str(k): _plain(v, missing=float("nan") if k in numeric else "") for k, v in row.items()
        }
        for row in table.astype(object).to_dict("records")
    }
    rows[""] = {str(name): float("nan") if name in numeric else "" for name in table}
    return rows


def _plain(value: Any, *, missing: float | str) -> Any:
    """Turn a pandas value into a plain Python one; whole numbers become floats, so that a column has one type."""
    if value is None or value != value or type(value).__name__ == "NAType":
        return missing
    value = value.item() if hasattr(value, "item") else value
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
