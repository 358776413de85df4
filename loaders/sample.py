"""Reading one case: HU and class numbers on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import SegmentationError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.ct import CTVolume, read_ct
from hcc_tace_data.loaders.label_sets import to_classes

__all__ = ["liver_range", "read_case"]


def read_case(case: Case, classes: Mapping[int, tuple[str, ...]]) -> CaseArrays:
    """Read the CT of a case and its labels on the same grid.

    A missing slice of the CT is filled by linear interpolation, with a warning: the collection has one such
    series (HCC_001), and a sample without a slice would lie wrong in space.
    """
    volume = read_ct(list(case.paths), on_gap="fill")
    label = to_classes(_masks(case, volume), classes, volume.array.shape)
    _fill_labels(label, volume)
    return CaseArrays(
        image=volume.array,
        label=label,
        spacing=np.asarray(volume.spacing, dtype=np.float64),
        affine=np.asarray(volume.affine, dtype=np.float64),
    )


def liver_range(case: Case) -> tuple[int, int]:
    """Return the first slice of the liver (tumour and vessels in it included) and the one after the last.

    Raises
    ------
    SegmentationError
        The segmentation shows no liver.
    """
    volume = read_ct(list(case.paths), on_gap="fill")
    liver = np.zeros(len(volume.array), dtype=bool)
    for key, mask in _masks(case, volume).items():
        if key in {"liver", "tumour", "necrosis"}:
            liver |= mask.any(axis=(1, 2))
    where = np.flatnonzero(liver)
    if not len(where):
        raise SegmentationError(f"{case.segmentation} of {case.patient_id} shows no liver; no slice range.")
    return int(where[0]), int(where[-1]) + 1


def _fill_labels(label: npt.NDArray[np.uint8], volume: CTVolume) -> None:
    """Give slices that were interpolated, and that no frame of the SEG covers, the labels of the nearest slice."""
    normal = np.asarray(volume.affine)[:3, 0]
    step = float(np.linalg.norm(normal))
    places = (np.asarray(volume.affine)[:3, 3] @ normal) / step + step * np.arange(len(label))
    read = np.asarray(volume.positions)
    if not len(read) or len(read) == len(label):
        return
    nearest = np.abs(places[:, None] - read[None, :]).argmin(axis=1)
    on_slice = np.abs(places - read[nearest]) < 0.25 * step
    source = {int(number): d for d, number in enumerate(nearest) if on_slice[d]}
    for d in np.flatnonzero(~on_slice):
        if not label[d].any() and int(nearest[d]) in source:
            label[d] = label[source[int(nearest[d])]]


def _masks(case: Case, volume: CTVolume) -> dict[str, npt.NDArray[Any]]:
    """Return segment key -> mask on the CT's grid, for the segments that catalog.yaml knows."""
    from hcc_tace_data.annotations import Annotation, read_annotations

    annotations = case.annotations or (
        Annotation(
            patient_id=case.patient_id, study_uid=case.study_uid, reader="collection", kind="fusion",
            path=case.segmentation, readers=case.readers, series_uid=case.series_uid, volume=0, paths=case.paths,
            reason="",
        ),
    )  # fmt: skip
    return read_annotations(annotations, volume, case.paths).masks
