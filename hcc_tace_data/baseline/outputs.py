"""Prediction of a file, and results as NIfTI and DICOM-SEG on the grid of the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hcc_tace_data.baseline.images import InputVolume, read_dicom, read_nifti, read_phases, stand_upright
from hcc_tace_data.baseline.predict import Cascade
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.grids import same_grid
from hcc_tace_data.volumes.nifti import write_nifti

__all__ = ["Predicted", "label_volumes", "predict_input", "save_nifti", "save_seg", "stem_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A label map on the grid of its volume.

    Attributes
    ----------
    volume : InputVolume
    label : ndarray of uint8, shape (D, H, W)
        1 liver, 2 tumour.
    resampled : bool
        Whether the networks saw the volume on another grid than its own.
    """

    volume: InputVolume
    label: npt.NDArray[np.uint8]
    resampled: bool


def stem_of(source: Path) -> str:
    """Return a name for results of a file or folder.

    Examples
    --------
    >>> stem_of(Path("a/ct.nii.gz"))
    'ct'
    """
    return source.resolve().name.removesuffix(".gz").removesuffix(".nii")


def predict_input(
    source: Path,
    cascade: Cascade,
    *,
    others: Mapping[str, Path] | None = None,
    liver: Path | None = None,
    flips: bool = False,
    batch_size: int = 8,
) -> Predicted:
    """Predict a folder of DICOM files or a NIfTI file.

    Parameters
    ----------
    source : pathlib.Path
        A folder with one CT volume, or a NIfTI file in HU (four dimensions for networks of several phases).
    cascade : Cascade
        The networks.
    others : mapping of str to pathlib.Path, optional
        Further phases of the study, for networks of several; see :func:`hcc_tace_data.baseline.images.read_phases`.
    liver : pathlib.Path, optional
        NIfTI mask on the same grid: look for the tumour there instead of in the predicted liver.
    flips, batch_size
        See :meth:`hcc_tace_data.baseline.predict.Cascade.run`.

    Raises
    ------
    NoLiverError
        The liver network found nothing.
    BaselineError
        The file cannot be read, or has other channels than the networks.
    """
    phases = cascade.liver_config.input.phases
    if others:
        volume = read_phases(source, others, phases)
    else:
        volume = read_dicom(source) if source.is_dir() else read_nifti(source)
    if len(volume.channels) != cascade.channels:
        raise BaselineError(
            f"{source} has {count(len(volume.channels), 'channel')}, the networks {cascade.channels} "
            f"({', '.join(phases)}); add --phase PHASE=FOLDER for each other phase of the study, or give a NIfTI of "
            "four dimensions or a patient of the collection."
        )
    upright = stand_upright(volume, *_voxel(cascade))
    inside = None
    if liver is not None:
        mask = read_nifti(liver, shape=volume.channels.shape[1:])
        if not same_grid(mask.affine, volume.affine, volume.channels.shape[1:]):
            raise BaselineError(f"{liver} lies on another grid than {source}; resample it first.")
        inside = torch.from_numpy(upright.forth((mask.array > 0).astype(np.uint8)).astype(bool))
    image = torch.from_numpy(np.ascontiguousarray(upright.array, dtype=np.float32))
    found = cascade.run(image, true_liver=inside, flips=flips, batch_size=batch_size)
    return Predicted(volume=volume, label=upright.back(found.label), resampled=upright.resampled)


def _voxel(cascade: Cascade) -> tuple[float | None, float | None]:
    """Return the pixel size of the training and, of 3D networks, the distance of its slices, mm."""
    sizes = np.array([about["spacing"] for about in cascade.about if "spacing" in about])
    if not len(sizes):
        return None, None
    volumes = cascade.liver_config.input.patches is not None
    return float(sizes[:, 1:].mean()), float(sizes[:, 0].mean()) if volumes else None


def label_volumes(label: npt.NDArray[np.uint8], spacing: Sequence[float]) -> dict[str, float]:
    """Return the volumes of liver (tumour included) and tumour in ml."""
    millilitre = float(np.prod(spacing)) / 1000
    return {
        "liver_ml": round(int(np.count_nonzero(label)) * millilitre, 3),
        "tumour_ml": round(int(np.count_nonzero(label == 2)) * millilitre, 3),
    }


def save_nifti(path: Path, label: npt.NDArray[np.uint8], volume: InputVolume) -> Path:
    """Write a label map as NIfTI on the grid of its volume."""
    write_nifti(path, label, volume.affine)
    return path


def save_seg(path: Path, label: npt.NDArray[np.uint8], sources: Sequence[Path], cascade: Cascade) -> Path:
    """Write a label map as DICOM Segmentation that cites every source image.

    Raises
    ------
    SegmentationError
        The sources are not the images of one volume on whose grid the label map lies.
    """
    about = cascade.about[0] if cascade.about else {}
    volumes = cascade.liver_config.input.patches is not None
    network = "3D residual-encoder U-Net" if volumes else "Cascaded 2D U-Net"
    algorithm = Algorithm(
        name=f"{network}, preset {cascade.liver_config.name}",
        version=str(about.get("package", "unknown")),
        parameters={"networks": str(len(cascade.liver)), "store": str(about.get("store_digest", ""))},
    )
    write_seg(
        path,
        label,
        sources,
        algorithm=algorithm,
        segments={1: "liver", 2: "tumour"},
        series_description="Liver and tumour, 3D U-Net" if volumes else "Liver and tumour, cascaded U-Net",
    )
    return path
