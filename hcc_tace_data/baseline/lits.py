"""Training data of the liver network in the layout of the LiTS challenge.

A folder with ``volume-N.nii`` and ``segmentation-N.nii`` (or ``.nii.gz``; segmentations may lie beside or below), where
1 is liver and 2 is tumour (Bilic et al. 2023, 10.1016/j.media.2022.102680). The data are not ours to ship.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hcc_tace_data.baseline.images import read_nifti, stand_upright
from hcc_tace_data.errors import BaselineError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters
from hcc_tace_data.volumes.grids import same_grid

__all__ = ["find_lits", "load_lits"]

_NAME = re.compile(r"(volume|segmentation)-(\d+)\.nii(\.gz)?")


def find_lits(folder: str | os.PathLike[str]) -> dict[int, tuple[Path, Path]]:
    """Return number -> volume and segmentation.

    Raises
    ------
    BaselineError
        No pair there, or a volume without its segmentation.
    """
    place = Path(folder)
    found: dict[str, dict[int, Path]] = {"volume": {}, "segmentation": {}}
    for path in sorted(place.rglob("*.nii*")) if place.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match:
            found[match[1]][int(match[2])] = path
    pairs = {n: (path, found["segmentation"][n]) for n, path in found["volume"].items() if n in found["segmentation"]}
    if not pairs:
        raise BaselineError(
            f"no liver data in {place}: expected volume-N.nii and segmentation-N.nii as the LiTS challenge has them."
        )
    alone = sorted(set(found["volume"]) - set(pairs))
    if alone:
        raise BaselineError(f"{place}: no segmentation for volume {', '.join(map(str, alone))}; add or remove them.")
    return dict(sorted(pairs.items()))


def load_lits(
    folder: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[StoredCase]:
    """Put LiTS volumes into a training store, each once, and return them.

    Slices are turned as this package has them: feet to head, rows to the back, columns to the left. Labels become
    those of the standard set: 1 liver, 2 tumour.

    Raises
    ------
    BaselineError
        See :func:`find_lits`; or a pair of different grids, or labels other than 0, 1, 2.
    """
    parameters = StoreParameters(classes={1: ("liver",), 2: ("tumour",)}, annotations=("lits",))
    store = Store(cache, parameters)
    pairs = find_lits(folder)
    stored: list[StoredCase] = []
    for number, (volume, segmentation) in pairs.items():
        case = Case(
            patient_id=f"LiTS_{number:03d}",
            study_uid="",
            series_uid=f"LiTS-{number}",
            phases=("portal_venous",),
            paths=(volume,),
            segmentation=segmentation,
            readers=1,
        )
        stored.append(store.find(case) or store.write(case, _arrays(volume, segmentation)))
        if progress is not None:
            progress(len(stored), len(pairs))
    return stored


def _arrays(volume: Path, segmentation: Path) -> CaseArrays:
    image = read_nifti(volume)
    mask = read_nifti(segmentation, shape=image.array.shape)
    if not same_grid(image.affine, mask.affine, image.array.shape):
        raise BaselineError(f"{segmentation.name} has another grid than {volume.name}.")
    label = mask.array
    if not np.isin(np.unique(label), (0, 1, 2)).all():
        raise BaselineError(f"{segmentation.name} holds {np.unique(label).tolist()[:8]}; LiTS has 0, 1 and 2.")
    upright = stand_upright(image)
    return CaseArrays(
        image=np.clip(np.rint(upright.array[0]), -32768, 32767).astype(np.int16),
        label=upright.forth(label.astype(np.uint8)),
        spacing=np.linalg.norm(upright.affine[:3, :3], axis=0),
        affine=upright.affine,
    )
