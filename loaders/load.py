"""`load_hcc_tace`: the collection as a data set."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from hcc_tace_data.downloads import ensure
from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.channels import both_visits, resolve_phases
from hcc_tace_data.loaders.flow import Reason, cohort_flow
from hcc_tace_data.loaders.hf import HFDataset, clinical_dataset, to_hf
from hcc_tace_data.loaders.label_sets import resolve_label_set
from hcc_tace_data.loaders.store import Store, StoreParameters
from hcc_tace_data.loaders.units import Patches, SliceRange, Slices
from hcc_tace_data.open import open_collection
from hcc_tace_data.system.roots import cache_folder, resolve_root
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import datasets

    from hcc_tace_data.loaders.cases import Case
    from hcc_tace_data.loaders.datasets import PairDataset, PatchDataset, SliceDataset, VolumeDataset
    from hcc_tace_data.loaders.source import Source
    from hcc_tace_data.open import Collection

__all__ = ["load_hcc_tace", "make_parameters", "open_root", "store_folder"]

logger = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "split": (None, "train", "validation", "test"),
    "missing": ("skip", "nan", "raise"),
    "clinical": ("baseline", "all"),
    "format": ("torch", "hf"),
}
_UNITS = {"torch": ("volume", "slice", "patch", "pair"), "hf": ("volume", "slice", "clinical")}


class _Options(TypedDict, total=False):
    """What decides nothing about the class that :func:`load_hcc_tace` returns."""

    fold: int
    phases: str | Sequence[str]
    labels: str | Mapping[str, int]
    annotations: str | Sequence[str]
    missing: Literal["skip", "nan", "raise"]
    clinical: Literal["baseline", "all"]
    spacing: float | Sequence[float] | None
    margin: float | None
    deformable: bool
    transform: Callable[[dict[str, Any]], Any] | None
    download: bool
    cache: str | os.PathLike[str] | None
    workers: int | None


_Root = str | os.PathLike[str] | None


@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["volume"] = "volume", format: Literal["torch"] = "torch",
    split: Split | None = None, streaming: Literal[False] = False, **options: Unpack[_Options],
) -> VolumeDataset: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["slice"] | Slices, format: Literal["torch"] = "torch",
    split: Split | None = None, streaming: Literal[False] = False, **options: Unpack[_Options],
) -> SliceDataset: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["patch"] | Patches, format: Literal["torch"] = "torch",
    split: Split | None = None, streaming: Literal[False] = False, **options: Unpack[_Options],
) -> PatchDataset: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["pair"], format: Literal["torch"] = "torch",
    split: Split | None = None, streaming: Literal[False] = False, **options: Unpack[_Options],
) -> PairDataset: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["volume", "slice", "clinical"] | Slices = "volume", format: Literal["hf"],
    split: Split, streaming: Literal[False] = False, **options: Unpack[_Options],
) -> datasets.Dataset: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["volume", "slice", "clinical"] | Slices = "volume", format: Literal["hf"],
    split: None = None, streaming: Literal[False] = False, **options: Unpack[_Options],
) -> datasets.DatasetDict: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["volume", "slice", "clinical"] | Slices = "volume", format: Literal["hf"],
    split: Split, streaming: Literal[True], **options: Unpack[_Options],
) -> datasets.IterableDataset: ...  # fmt: skip
@overload
def load_hcc_tace(
    root: _Root = None, *, unit: Literal["volume", "slice", "clinical"] | Slices = "volume", format: Literal["hf"],
    split: None = None, streaming: Literal[True], **options: Unpack[_Options],
) -> datasets.IterableDatasetDict: ...  # fmt: skip
def load_hcc_tace(  # noqa: PLR0913 - the package's main entry: every argument is one decision about the data set
    root: str | os.PathLike[str] | None = None,
    *,
    split: Split | None = None,
    fold: int = 0,
    unit: Literal["volume", "slice", "patch", "pair", "clinical"] | Slices | Patches = "volume",
    phases: str | Sequence[str] = ("portal_venous",),
    labels: str | Mapping[str, int] = "standard",
    annotations: str | Sequence[str] = "collection",
    missing: Literal["skip", "nan", "raise"] = "skip",
    clinical: Literal["baseline", "all"] = "baseline",
    spacing: float | Sequence[float] | None = None,
    margin: float | None = None,
    deformable: bool = False,
    format: Literal["torch", "hf"] = "torch",
    transform: Callable[[dict[str, Any]], Any] | None = None,
    download: bool = False,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    streaming: bool = False,
) -> VolumeDataset | SliceDataset | PatchDataset | PairDataset | HFDataset:
    """Load HCC-TACE-Seg as a PyTorch or Hugging Face data set.

    By default every patient is served as one volume in the portal-venous phase. Where the segmentation was drawn on
    another phase, the portal-venous CT is registered onto that one and this case is stored (see `cache`);
    ``phases="annotated"`` serves each CT as it was annotated, and stores nothing. Whatever is written is announced as a
    warning of this package's logger, with a progress bar on a terminal.

    Parameters
    ----------
    root : path-like, optional
        The collection's folder. Default: ``$HCC_TACE_HOME``, else the user's data folder.
    split : {"train", "validation", "test"}, optional
        Part of the fixed split by patient; None is all patients.
    fold : int
        Which of the five folds is the validation part, 0 to 4.
    unit : {"volume", "slice", "patch", "pair"}, Slices or Patches
        What one sample is: a whole volume, an axial slice of the liver, a random patch, or both visits of a patient:
        each of `phases` at baseline and at the follow-up, registered onto the annotated CT.
        :class:`~hcc_tace_data.loaders.units.Slices` chooses other slices and their size,
        :class:`~hcc_tace_data.loaders.units.Patches` size and number of patches; "slice" and "patch" are their
        defaults. With ``format="hf"`` also "clinical", a row of the clinical table, but no patches.
    phases : str or sequence of str
        Channels of the image, in order: "pre_contrast", "arterial", "portal_venous", "delayed" of the annotated visit;
        "annotated" for the volume the segmentation was drawn on, whatever its phase; "follow_up_portal_venous" and so
        on for the follow-up; "all" for the first three. A phase other than the annotated one is registered onto its
        grid (affine) and resampled, and stored in `cache`, as that takes seconds.
    labels : str or mapping
        "standard" (1 liver, 2 tumour, 3 portal vein, 4 aorta), "lesion" (1 whole liver, 2 tumour), "liver" (1), or
        a mapping of segment key to class number.
    annotations : str or sequence of str
        Whose labels: "collection"; "bamf"; the name of a reader in ``ROOT/annotations/<reader>/``; a list of these,
        fused by STAPLE; or "staple", all readers on the annotated CT. See
        :func:`hcc_tace_data.labels.annotations.choose_annotations`. ``readers`` in each sample says how many there
        are.
    missing : {"skip", "nan", "raise"}
        What to do where a phase was not acquired or its registration failed: leave the patient out with a warning that
        counts, serve a channel of NaN, or raise. A patient without an annotated CT is left out, or raises.
    clinical : {"baseline", "all"}
        Columns of the clinical table in each sample: those known before treatment, or all, with outcomes and what the
        follow-up decided. See :mod:`hcc_tace_data.clinical.roles`.
    spacing : float or (float, float, float), optional
        mm along (D, H, W) to resample to, image linearly, labels to the nearest voxel; a single number for all three.
        Default: the CT's own grid.
    margin : float, optional
        Crop to the liver and this many mm around it.
    deformable : bool
        Follow what the affine registration of a phase leaves by a deformable one; see
        :func:`hcc_tace_data.volumes.registration.register`. Some 10 s of processor time more for each phase.
    format : {"torch", "hf"}
        A :class:`torch.utils.data.Dataset`, or a :class:`datasets.Dataset` (of all splits a ``DatasetDict``).
    transform : callable, optional
        Called with each sample, a dict; what it returns is served. For ``format="torch"``.
    download : bool
        First fetch what is not here yet (:func:`hcc_tace_data.download`).
    cache : path-like, optional
        Folder of training stores; default ``ROOT/.hcc-tace/store``. ``hcc-tace prepare`` fills it ahead.
    workers : int, optional
        Processes that read headers, and that prepare cases.
    streaming : bool
        With ``format="hf"``: an ``IterableDataset``, which writes nothing.

    Returns
    -------
    VolumeDataset, SliceDataset, PatchDataset, PairDataset, or a data set of Hugging Face
        Of PyTorch, ``ds[i]`` is a dict with ``image`` float32 (C, D, H, W) in HU, ``label`` uint8 (D, H, W),
        ``spacing`` (3,) in mm, ``affine`` (4, 4) index -> LPS mm, ``patient_id``, ``study_uid``, ``series_uid`` (of the
        annotated CT), ``series_uids`` (of each channel; "" for a missing one), ``phases``, ``readers``, ``clinical``
        (dict); and, if some voxel of the data set lies outside a registered phase's field of view, ``valid`` uint8
        (C, D, H, W), 0 there. Pairs: also ``days`` and ``follow_up_study_uid``. Slices: ``image`` (C, H, W),
        ``label`` (H, W), ``slice``; patches: ``corner``. See
        :mod:`hcc_tace_data.loaders.datasets` and :mod:`hcc_tace_data.loaders.hf`. Under a MONAI transform the arrays
        are ``MetaTensor`` objects; see :mod:`hcc_tace_data.loaders.bridges`.

    Raises
    ------
    CollectionNotFoundError
        No data at the root, none of the split's patients, or with ``missing="raise"`` a patient who lacks something.
    UsageError
        An argument that makes no sense.
    """
    for name, value in {"split": split, "missing": missing, "clinical": clinical, "format": format}.items():
        if value not in _CHOICES[name]:
            raise UsageError(f"{name} is {value!r}; use {', '.join(map(repr, _CHOICES[name]))}.")
    chosen = _unit(unit, format)
    if format == "hf" and transform is not None:
        raise UsageError("transform goes with format='torch'; a Hugging Face data set has .map and .set_transform.")
    if streaming and format != "hf":
        raise UsageError("streaming goes with format='hf'.")
    if chosen == "pair":
        phases = both_visits(phases)
    parameters = make_parameters(
        phases=phases, labels=labels, annotations=annotations, spacing=spacing, margin=margin, deformable=deformable
    )
    folder, collection = open_root(root, download=download, workers=workers)

    wanted = None if split is None else patients_of(split, fold)
    present = list(collection) if wanted is None else [patient for patient in wanted if patient in collection]
    if split is not None and not present:
        raise CollectionNotFoundError(_empty_split(folder, collection, split, fold))
    if chosen == "clinical":
        return clinical_dataset(folder, present, split=split, fold=fold, streaming=streaming)

    store = Store(store_folder(folder, cache), parameters)
    cases, left_out = find_cases(
        collection, present, annotations, phases=parameters.phases, keep_incomplete=missing == "nan"
    )
    # a CT that is served as it was annotated can be read from its files; everything else is stored
    stored_only = format == "hf" or spacing is not None or margin is not None
    needed = [case for case in cases if stored_only or not case.native]
    sources, failed = _sources(store, cases, needed, missing=missing, workers=workers)
    left_out |= failed
    if left_out:
        reasons = "; ".join(f"{patient}: {reason}" for patient, reason in left_out.items())
        if missing == "raise":
            raise CollectionNotFoundError(
                f"{len(left_out)} of {count(len(present), 'patient')} cannot be served: {reasons}."
            )
        logger.warning("%d of %s left out: %s", len(left_out), count(len(present), "patient"), reasons)
    if not sources:
        raise CollectionNotFoundError(
            f"{folder} holds {count(len(collection), 'patient')}, none of whom can be served"
            + (f" in the split '{split}' of fold {fold}" if split else "")
            + (f": {'; '.join(f'{patient}: {reason}' for patient, reason in left_out.items())}." if left_out else ".")
        )

    from hcc_tace_data.loaders.datasets import PairDataset, PatchDataset, Serving, SliceDataset, VolumeDataset  # noqa: PLC0415 - its libraries are slow to import

    flow = cohort_flow(collection, present, left_out)
    serving = Serving(store=store, transform=transform, left_out=left_out, flow=flow, clinical=clinical)
    if isinstance(chosen, Patches):
        return PatchDataset(sources, serving, chosen)
    if chosen == "pair":
        return PairDataset(sources, serving)
    dataset = (
        SliceDataset(sources, serving, [_range(source, chosen.range) for source in sources], chosen.size)
        if isinstance(chosen, Slices)
        else VolumeDataset(sources, serving)
    )
    return to_hf(dataset, split=split, fold=fold, streaming=streaming) if format == "hf" else dataset


def _empty_split(folder: Path, collection: Collection, split: str, fold: int) -> str:
    parts = {name: sum(one in collection for one in patients_of(name, fold)) for name in _CHOICES["split"] if name}
    held = ", ".join(f"'{name}' has {count}" for name, count in parts.items() if count)
    return (
        f"{folder} holds no patient of the split '{split}' of fold {fold}; "
        + (f"{held}." if held else "none of its patients is in the table of splits.")
        + " Use one of these splits, another fold, or split=None for all patients."
    )


def _unit(unit: object, format: str) -> str | Slices | Patches:
    """Return "volume", "clinical", or the object that says which slices or patches."""
    allowed = _UNITS[format]
    chosen = {"slice": Slices(), "patch": Patches()}.get(unit, unit) if isinstance(unit, str) else unit
    name = {Slices: "slice", Patches: "patch"}.get(type(chosen), chosen)
    if isinstance(name, str) and name in {one for units in _UNITS.values() for one in units}:
        if name in allowed and isinstance(chosen, str | Slices | Patches):
            return chosen
        other = "; load_clinical() gives the table in pandas" if name == "clinical" else ""
        raise UsageError(f"unit={unit!r} does not go with format={format!r}, which serves {_either(allowed)}{other}.")
    raise UsageError(f"unit is {unit!r}; use {_either(allowed)}, a Slices or a Patches object.")


def _either(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def make_parameters(
    *,
    phases: str | Sequence[str] = ("portal_venous",),
    labels: str | Mapping[str, int] = "standard",
    annotations: str | Sequence[str] = "collection",
    spacing: float | Sequence[float] | None = None,
    margin: float | None = None,
    deformable: bool = False,
) -> StoreParameters:
    """Return the parameters of a store from arguments as :func:`load_hcc_tace` takes them.

    Raises
    ------
    UsageError
        An argument that makes no sense.
    """
    if margin is not None and not (_is_number(margin) and margin >= 0):
        raise UsageError(f"margin is {margin!r}; give mm, 0 or more.")
    return StoreParameters(
        phases=resolve_phases(phases),
        classes=resolve_label_set(labels, tuple(segment.key for segment in load_catalog().segments)),
        annotations=(annotations,) if isinstance(annotations, str) else tuple(annotations),
        spacing=None if spacing is None else _steps(spacing),
        margin_mm=None if margin is None else float(margin),
        deformable=bool(deformable),
    )


def open_root(
    root: str | os.PathLike[str] | None, *, download: bool = False, workers: int | None = None
) -> tuple[Path, Collection]:
    """Open the collection's folder, after fetching it if `download` says so.

    Raises
    ------
    CollectionNotFoundError
        No data there.
    """
    if download:
        root = ensure(root)
    folder = resolve_root(root)
    collection = open_collection(folder, workers=workers)
    if not len(collection):
        raise CollectionNotFoundError(
            f"No DICOM files of the collection at {folder}. 'hcc-tace download {folder}' fetches it; "
            f"'hcc-tace phantom {folder}' writes a synthetic twin."
        )
    return folder, collection


def store_folder(root: Path, cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of training stores: `cache`, else beside the data, else (read-only data) the user's cache."""
    if cache is not None:
        return Path(cache).expanduser().resolve()
    own = root.resolve() / ".hcc-tace"
    if os.access(own if own.is_dir() else root, os.W_OK):
        return own / "store"

    return cache_folder() / f"store-{sha256(str(root.resolve()).encode()).hexdigest()[:12]}"


def _sources(
    store: Store, cases: Sequence[Case], needed: Sequence[Case], *, missing: str, workers: int | None
) -> tuple[list[Source], dict[str, str]]:
    """Return a source for each case that can be served, and why others cannot; cases `needed` are stored."""
    from hcc_tace_data.loaders.source import DicomSource, LabelCache, StoredSource  # noqa: PLC0415 - its libraries are slow to import

    stored, failed = store.find_all(cases)
    by_patient = {case.patient_id: item for case, item in zip(cases, stored, strict=True)}
    absent = [case for case in needed if by_patient[case.patient_id] is None]
    if absent:
        from hcc_tace_data.loaders.prepare import prepare_cases, writing  # noqa: PLC0415 - its libraries are slow to import

        with writing(store, absent) as done:
            made, unmade = prepare_cases(store, absent, workers=workers, done=done)
        written = {case.patient_id: item for case, item in zip(absent, made, strict=True)}
        by_patient |= written
        failed = {patient: reason for patient, reason in failed.items() if patient not in written} | unmade
    labels = LabelCache()
    sources: list[Source] = []
    for case in cases:
        item = by_patient[case.patient_id]
        if item is not None and item.missing and missing != "nan":
            text = "; ".join(f"{phase} {reason}" for phase, reason in item.missing.items())
            failed[case.patient_id] = Reason(text, "not_registered")
        elif item is not None:
            sources.append(StoredSource(case, item))
        elif case.patient_id not in failed:
            sources.append(DicomSource(case, store.parameters.classes, labels))
    return sources, failed


def _range(source: Source, slices: SliceRange) -> tuple[int, int]:
    """Return the slices of a case that are served; none where nothing is drawn."""
    if slices == "all":
        return 0, source.shape[1]
    box = source.liver if slices == "liver" else source.tumour
    if box is None:
        logger.warning("%s: the segmentation shows no %s; it gives no slices", source.case.patient_id, slices)
        return 0, 0
    return box[0]


def _steps(spacing: Any) -> tuple[float, float, float]:
    """Return mm along (D, H, W); one number counts for all three."""
    values: Any = [spacing] * 3 if isinstance(spacing, Real) else spacing
    if (
        not hasattr(values, "__getitem__")
        or len(values) != 3
        or not all(_is_number(value) and 0.05 <= value <= 100 for value in values)
    ):
        raise UsageError(f"spacing is {spacing!r}; give one number of mm, or three along (D, H, W), from 0.05 to 100.")
    return float(values[0]), float(values[1]), float(values[2])


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
