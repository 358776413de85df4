"""Reading one case: HU and class numbers on one grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.labels.annotations import Annotation, read_annotations
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.label_sets import to_classes
from hcc_tace_data.loaders.supply.boxes import Box, bounds

if TYPE_CHECKING:
    from hcc_tace_data.dicom.ct import CTVolume

__all__ = ["read_case", "read_labels", "read_masks", "whole_liver"]


def read_case(case: Case, classes: Mapping[int, tuple[str, ...]]) -> CaseArrays:
    """Read the CT of a case and its labels on the same grid.

    A missing slice of the CT is filled by linear interpolation, with a warning: the collection has one such
    series (HCC_001), and a sample without a slice would lie wrong in space.
    """
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    volume = read_ct(list(case.paths), on_gap="fill")
    label, liver, tumour = read_labels(case, classes, volume)
    return CaseArrays(
        image=volume.array,
        label=label,
        spacing=np.asarray(volume.spacing, dtype=np.float64),
        affine=np.asarray(volume.affine, dtype=np.float64),
        liver=liver,
        tumour=tumour,
    )


def read_labels(
    case: Case,
    classes: Mapping[int, tuple[str, ...]],
    volume: CTVolume,
    masks: dict[str, npt.NDArray[Any]] | None = None,
) -> tuple[npt.NDArray[np.uint8], Box, Box]:
    """Read the labels of a case onto the grid of its CT.

    Parameters
    ----------
    case : Case
        Whose labels.
    classes : mapping of int to tuple of str
        Class number -> segment keys.
    volume : CTVolume
        Its CT.
    masks : dict, optional
        From :func:`read_masks`, where they were read already; filled slices are filled there too.

    Returns
    -------
    label : ndarray of uint8, shape (D, H, W)
        Class numbers.
    liver, tumour : tuple of (int, int), or None
        Bounds along (D, H, W) of the liver, tumour and necrosis included, and of tumour and necrosis; None where
        nothing was drawn. They do not depend on `classes`.
    """
    masks = read_masks(case, volume) if masks is None else masks
    label = to_classes(masks, classes, volume.array.shape)
    for to, source in _fill_labels(label, volume).items():
        for mask in masks.values():
            mask[to] = mask[source]
    parts = load_catalog().vocabulary.tumour
    tumour = _union(bounds(mask) for key, mask in masks.items() if key in parts)
    return label, _union([tumour, *(bounds(mask) for key, mask in masks.items() if key == "liver")]), tumour


def whole_liver(masks: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_] | None:
    """Return the liver with tumour and necrosis, (D, H, W); None where nothing of it was drawn."""
    keys = ("liver", *load_catalog().vocabulary.tumour)
    drawn = [np.asarray(mask) > 0 for key, mask in masks.items() if key in keys]
    return np.any(drawn, axis=0) if drawn else None


def _union(boxes: Iterable[Box]) -> Box:
    drawn = [box for box in boxes if box is not None]
    if not drawn:
        return None
    return tuple((min(low for low, _ in axis), max(high for _, high in axis)) for axis in zip(*drawn, strict=True))


def _fill_labels(label: npt.NDArray[np.uint8], volume: CTVolume) -> dict[int, int]:
    """Give slices that were interpolated, and that no frame of the SEG covers, the labels of the nearest slice.

    Return the slices that were given labels, each with the one that they are from.
    """
    normal = np.asarray(volume.affine)[:3, 0]
    step = float(np.linalg.norm(normal))
    places = (np.asarray(volume.affine)[:3, 3] @ normal) / step + step * np.arange(len(label))
    read = np.asarray(volume.positions)
    given: dict[int, int] = {}
    if not len(read) or len(read) == len(label):
        return given
    nearest = np.abs(places[:, None] - read[None, :]).argmin(axis=1)
    on_slice = np.abs(places - read[nearest]) < 0.25 * step
    source = {int(number): d for d, number in enumerate(nearest) if on_slice[d]}
    for d in np.flatnonzero(~on_slice):
        if not label[d].any() and int(nearest[d]) in source:
            given[int(d)] = source[int(nearest[d])]
            label[d] = label[given[int(d)]]
    return given


def read_masks(case: Case, volume: CTVolume) -> dict[str, npt.NDArray[Any]]:
    """Return segment key -> mask on the CT's grid, for the segments that catalog.yaml knows."""
    annotations = case.annotations or (
        Annotation(
            patient_id=case.patient_id, study_uid=case.study_uid, reader="collection", kind="fusion",
            path=case.segmentation, readers=case.readers, series_uid=case.series_uid, volume=0, paths=case.paths,
            reason="", catalog=load_catalog(),
        ),
    )  # fmt: skip
    return read_annotations(annotations, volume, case.paths).masks
