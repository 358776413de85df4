"""Readers of CT and SEG, and data sets for training.

Names are loaded on first use, so importing the package loads neither PyTorch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "hcc_tace_data.loaders":
    raise ImportError("import this package as hcc_tace_data.loaders")

if TYPE_CHECKING:
    from hcc_tace_data.dicom.ct import read_ct as read_ct
    from hcc_tace_data.dicom.seg import read_seg as read_seg
    from hcc_tace_data.loaders.datasets import PairDataset as PairDataset
    from hcc_tace_data.loaders.datasets import PatchDataset as PatchDataset
    from hcc_tace_data.loaders.datasets import SliceDataset as SliceDataset
    from hcc_tace_data.loaders.datasets import VolumeDataset as VolumeDataset
    from hcc_tace_data.loaders.flow import CohortFlow as CohortFlow
    from hcc_tace_data.loaders.lightning import HccTaceDataModule as HccTaceDataModule
    from hcc_tace_data.loaders.load import load_hcc_tace as load_hcc_tace
    from hcc_tace_data.loaders.units import Patches as Patches
    from hcc_tace_data.loaders.units import Slices as Slices

_PUBLIC = {
    "CohortFlow": "hcc_tace_data.loaders.flow",
    "HccTaceDataModule": "hcc_tace_data.loaders.lightning",
    "PairDataset": "hcc_tace_data.loaders.datasets",
    "PatchDataset": "hcc_tace_data.loaders.datasets",
    "Patches": "hcc_tace_data.loaders.units",
    "SliceDataset": "hcc_tace_data.loaders.datasets",
    "Slices": "hcc_tace_data.loaders.units",
    "VolumeDataset": "hcc_tace_data.loaders.datasets",
    "load_hcc_tace": "hcc_tace_data.loaders.load",
    "read_ct": "hcc_tace_data.dicom.ct",
    "read_seg": "hcc_tace_data.dicom.seg",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
