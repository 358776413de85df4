"""Samples as other libraries want them, with their geometry: MONAI's MetaTensor and torchio's Subject.

Both libraries hold an affine from array index to RAS mm; samples of this package have one to LPS mm. MONAI keeps our
axes (D, H, W), torchio wants (W, H, D).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hcc_tace_data.errors import DependencyError
from hcc_tace_data.loaders.cases import Case
from hcc_tace_data.loaders.source import Source

if TYPE_CHECKING:
    import torchio

__all__ = ["for_monai", "is_monai", "to_subjects"]

_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ARRAYS = ("image", "label", "valid")


def is_monai(transform: object) -> bool:
    """Return whether `transform` is one of MONAI; imports nothing: if it is, MONAI is imported already."""
    module = sys.modules.get("monai.transforms")
    return module is not None and isinstance(transform, module.Transform)


def for_monai(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample whose arrays are MetaTensors with a RAS affine, as MONAI's spatial transforms need them.

    ``EnsureChannelFirstd(["image", "label"])`` knows which of them has channels. The entry ``affine`` stays as it is:
    the geometry after a transform is that of ``sample["image"].affine``. A slice is a 2D image for MONAI, so its affine
    holds spacing and origin in its own plane only.
    """
    from monai.data.meta_tensor import MetaTensor  # noqa: PLC0415 - optional, and slow to import

    flat = sample["label"].ndim == 2
    lps = sample["affine"].numpy()
    affine = _in_plane(lps) if flat else _RAS @ lps
    result = dict(sample)
    for name in _ARRAYS:
        if name in sample:
            channels = 0 if sample[name].ndim > sample["label"].ndim else float("nan")
            meta = {"original_channel_dim": channels, "space": "RAS", "patient_id": sample["patient_id"]}
            result[name] = MetaTensor(sample[name], affine=torch.from_numpy(affine.copy()), meta=meta)
    return result


def _in_plane(lps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (3, 3), index (h, w) -> mm along the columns and rows of the slice."""
    spacing = np.linalg.norm(lps[:3, 1:3], axis=0)
    origin = (lps[:3, 1:3] / spacing).T @ lps[:3, 3]
    affine = np.diag([*spacing, 1.0])
    affine[:2, 2] = origin
    return affine


def to_subjects(
    sources: Sequence[Source],
    *,
    classes: Mapping[int, Sequence[str]],
    masked: bool,
    clinical_of: Callable[[Case], dict[str, Any]],
) -> torchio.SubjectsDataset:
    """Return stored cases as torchio subjects; voxels are read when torchio asks for them.

    Raises
    ------
    DependencyError
        torchio is not installed.
    """
    try:
        import torchio  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        raise DependencyError("to_torchio needs torchio: pip install torchio.") from None
    tio: Any = torchio
    subjects = []
    for source in sources:
        case, stored = source.case, source.stored
        if stored is None:
            raise ValueError(f"{case.patient_id} is not stored")
        labels = {"+".join(keys): number for number, keys in classes.items()}
        images = {
            "image": tio.ScalarImage(stored.folder / "image.npy", reader=_Reader(source, "image")),
            "label": tio.LabelMap(stored.folder / "label.npy", reader=_Reader(source, "label"), labels=labels),
        }
        if masked:
            images["valid"] = tio.LabelMap(stored.folder / "image.npy", reader=_Reader(source, "valid"))
        subjects.append(
            tio.Subject(
                **images,
                patient_id=case.patient_id,
                study_uid=case.study_uid,
                series_uid=case.series_uid,
                phases=list(case.phases),
                clinical=clinical_of(case),
            )
        )
    dataset: torchio.SubjectsDataset = tio.SubjectsDataset(subjects)
    return dataset


class _Reader:
    """Reads an array of a case for torchio, in place of a reader of files; can be sent to worker processes."""

    def __init__(self, source: Source, name: str) -> None:
        self.source, self.name = source, name

    def __call__(self, path: object) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
        """Return (C, W, H, D) and the affine from index (w, h, d) to RAS mm."""
        region = self.source.volume()
        array: npt.NDArray[Any]
        if self.name == "image":
            array = region.image.astype(np.float32)
            for phase in {} if self.source.stored is None else self.source.stored.missing:
                array[self.source.case.phases.index(phase)] = np.nan
        elif self.name == "label":
            array = region.label[None]
        else:
            array = np.ones(region.image.shape, np.uint8) if region.valid is None else region.valid
        turned = np.ascontiguousarray(array.transpose(0, 3, 2, 1))
        return torch.from_numpy(turned.copy()), _RAS @ self.source.affine[:, [2, 1, 0, 3]]
