"""`load_hcc_tace`: the collection as a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.roots import resolve_root

__all__ = ["load_hcc_tace"]

logger = logging.getLogger(__name__)

_CHOICES = {
    "split": (None, "train", "validation", "test"),
    "unit": ("volume", "slice"),
    "missing": ("skip", "nan", "raise"),
    "format": ("torch",),
}


def load_hcc_tace(
    root: str | os.PathLike[str] | None = None,
    *,
    split: Literal["train", "validation", "test"] | None = None,
    fold: int = 0,
    unit: Literal["volume", "slice"] = "volume",
    phases: Sequence[str] = ("portal_venous",),
    labels: str | Mapping[str, int] = "standard",
    annotations: str | Sequence[str] = "collection",
    missing: Literal["skip", "nan", "raise"] = "skip",
    spacing: Sequence[float] | None = None,
    format: Literal["torch"] = "torch",
    transform: Callable[[dict[str, Any]], Any] | None = None,
    download: bool = False,
    cache: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> Any:
    """Load the annotated CT of HCC-TACE-Seg as a PyTorch data set.

    Parameters
    ----------
    root : path-like, optional
        The collection's folder. Default: ``$HCC_TACE_HOME``, else the user's data folder.
    split : {"train", "validation", "test"}, optional
        Part of the fixed split by patient; None is all patients.
    fold : int
        Which of the five folds is the validation part, 0 to 4.
    unit : {"volume", "slice"}
        What one sample is: a whole volume, or an axial slice that shows the liver.
    phases : sequence of str
        Channels of the image. Today the annotated phase alone: ``("portal_venous",)``.
    labels : str or mapping
        "standard" (1 liver, 2 tumour, 3 portal vein, 4 aorta), "lesion" (1 whole liver, 2 tumour), "liver" (1), or
        a mapping of segment key to class number.
    annotations : str or sequence of str
        Whose labels: "collection"; "bamf"; the name of a reader in ``ROOT/annotations/<reader>/``; a list of these,
        fused by STAPLE; or "staple", all readers on the annotated CT. See
        :func:`hcc_tace_data.annotations.choose_annotations`. Each sample says in ``readers`` how many stand behind it.
    missing : {"skip", "nan", "raise"}
        What to do with a patient who has no annotated CT here: leave out with a warning, or raise.
    spacing : sequence of float, optional
        Not available yet; samples come on their own grid.
    format : {"torch"}
        A :class:`torch.utils.data.Dataset`.
    transform : callable, optional
        Called with each sample, a dict; what it returns is served.
    download : bool
        First fetch what is not here yet (:func:`hcc_tace_data.download`).
    cache : path-like, optional
        Folder for caches; default beside the data.
    workers : int, optional
        Processes that read headers and segmentations at the start.

    Returns
    -------
    torch.utils.data.Dataset
        ``ds[i]`` is a dict with ``image`` float32 (C, D, H, W) in HU, ``label`` uint8 (D, H, W), ``spacing`` (3,)
        in mm, ``affine`` (4, 4) index -> LPS mm, ``patient_id``, ``study_uid``, ``series_uid``, ``phases``,
        ``readers`` and ``clinical`` (dict). Slices: ``image`` (C, H, W), ``label`` (H, W).

    Raises
    ------
    CollectionNotFoundError
        No data at the root, or none of the split's patients.
    UsageError
        An argument that makes no sense.
    """
    from hcc_tace_data.downloads import ensure
    from hcc_tace_data.loaders.label_sets import resolve_label_set

    for name, value in {"split": split, "unit": unit, "missing": missing, "format": format}.items():
        if value not in _CHOICES[name]:
            raise UsageError(f"{name} is {value!r}; use {', '.join(map(repr, _CHOICES[name]))}.")
    if isinstance(phases, str) or tuple(phases) != ("portal_venous",):
        raise UsageError(f"phases is {phases!r}; this version serves the annotated phase alone: ('portal_venous',).")
    if spacing is not None:
        raise UsageError("spacing: this version serves volumes on their own grid; leave it out.")

    from hcc_tace_data.catalog import load_catalog
    from hcc_tace_data.index import open_collection
    from hcc_tace_data.splits import patients_of

    if download:
        root = ensure(root)
    classes = resolve_label_set(labels, tuple(segment.key for segment in load_catalog().segments))
    wanted = None if split is None else patients_of(split, fold)
    folder = resolve_root(root)
    collection = open_collection(folder, workers=workers)
    if not len(collection):
        raise CollectionNotFoundError(
            f"No DICOM files of the collection at {folder}. 'hcc-tace download {folder}' fetches it; "
            f"'hcc-tace phantom {folder}' writes a synthetic twin."
        )

    from hcc_tace_data.loaders.cases import find_cases

    present = list(collection) if wanted is None else [patient for patient in wanted if patient in collection]
    cases, left_out = find_cases(collection, present, annotations)
    if left_out:
        reasons = "; ".join(f"{patient}: {reason}" for patient, reason in left_out.items())
        if missing == "raise":
            raise CollectionNotFoundError(f"{len(left_out)} of {len(present)} patients cannot be served: {reasons}.")
        logger.warning("%d of %d patients left out: %s", len(left_out), len(present), reasons)
    if not cases:
        raise CollectionNotFoundError(
            f"{folder} holds {len(collection)} patients, none of them with an annotated CT"
            + (f" in the split '{split}' of fold {fold}." if split else ".")
        )

    from hcc_tace_data.loaders.torch import SliceDataset, VolumeDataset

    if unit == "volume":
        return VolumeDataset(cases, classes, transform)

    from hcc_tace_data.loaders.sample import liver_range

    return SliceDataset(cases, classes, [liver_range(case) for case in cases], transform)
