"""A user's masks against the annotations of the collection, structure by structure on the CT they were drawn on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.clinical.agreement import BlandAltman, bland_altman
from hcc_tace_data.errors import SegmentationError, UsageError
from hcc_tace_data.labels.annotations import choose_annotations, find_annotations, place_file, read_annotations
from hcc_tace_data.labels.files import LABEL_SUFFIXES
from hcc_tace_data.labels.scores import MaskScores, score_masks
from hcc_tace_data.system.files import atomic_path

if TYPE_CHECKING:
    from hcc_tace_data.collection.model import Study
    from hcc_tace_data.facts.segments import SegmentVocabulary
    from hcc_tace_data.labels.annotations import Annotation

__all__ = [
    "ComparedStructure",
    "compare_masks",
    "compare_reader",
    "files_by_patient",
    "has_reader",
    "plot_volumes",
    "structures",
    "volume_agreement",
]

Masks = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStructure:
    """One structure of one patient: a user's mask against the annotation.

    Attributes
    ----------
    patient_id : str
    structure : str
        "whole liver", "tumour", "portal vein" or "aorta".
    file : pathlib.Path
        The user's file.
    scores : MaskScores
        The annotation is the true mask, the user's the predicted one.
    """

    patient_id: str
    structure: str
    file: Path
    scores: MaskScores


def structures(vocabulary: SegmentVocabulary) -> dict[str, tuple[str, ...]]:
    """Return name -> segment keys of the structures that are compared, the one that names the structure first.

    Readers drew tumours and vessels out of the liver, so livers are compared as a whole.

    Examples
    --------
    >>> from hcc_tace_data.facts.catalog import Catalog
    >>> list(structures(Catalog.load().vocabulary))
    ['whole liver', 'tumour', 'portal vein', 'aorta']
    """
    classes = vocabulary.label_sets["standard"]
    rest = {item.name: item.segments for item in classes if item.segments not in {("liver",), vocabulary.tumour}}
    return {"whole liver": vocabulary.whole_liver, "tumour": vocabulary.tumour, **rest}


def files_by_patient(place: Path, patients: Sequence[str]) -> dict[str, Path]:
    """Return PatientID -> label file, from a folder of files named ``<PatientID>.nii.gz``, or one such file.

    Other suffixes are those of :data:`hcc_tace_data.labels.files.LABEL_SUFFIXES`.

    Raises
    ------
    UsageError
        Nothing there is named after a patient, or several files are named after one.
    """
    files = [place] if place.is_file() else sorted(place.iterdir()) if place.is_dir() else []
    found: dict[str, Path] = {}
    for path in files:
        suffix = next((end for end in LABEL_SUFFIXES if path.name.endswith(end)), None)
        name = path.name.removesuffix(suffix) if suffix else ""
        if name not in patients:
            continue
        if name in found:
            raise UsageError(f"{found[name].name} and {path.name} in {place} are both of {name}; keep one of them.")
        found[name] = path
    if not found:
        raise UsageError(
            f"No label file at {place} is named after a patient of the collection; expected names such as "
            f"{next(iter(patients), 'PatientID')}.nii.gz."
        )
    return found


def compare_masks(
    study: Study, file: Path, *, annotations: str | Sequence[str] = "collection"
) -> list[ComparedStructure]:
    """Compare a user's label file with the annotation of a study.

    Parameters
    ----------
    study : Study
    file : pathlib.Path
        NIfTI, NRRD or DICOM-SEG; placed by patient coordinates. Drawn on another CT of the study, it is brought over
        through the registration of the two.
    annotations : str or sequence of str
        See :func:`hcc_tace_data.load_hcc_tace`.

    Returns
    -------
    list of ComparedStructure
        The structures that both have; a bare label map counts as having looked for all standard ones.

    Raises
    ------
    SegmentationError
        There is no such annotation, or the file cannot be read or placed.
    """
    return _compare(study, annotations, lambda: (place_file(study, file),))


def compare_reader(
    study: Study, reader: str, *, annotations: str | Sequence[str] = "collection"
) -> list[ComparedStructure]:
    """Compare one annotation of a study with another: "bamf", or the name of a reader, with the collection's.

    Parameters, results and errors as for :func:`compare_masks`.
    """

    def mine() -> tuple[Annotation, ...]:
        chosen, _, reason = choose_annotations(study.fact(find_annotations), reader)
        if not chosen:
            raise SegmentationError(f"{study.patient_id} has {reason}.")
        return chosen

    return _compare(study, annotations, mine)


def has_reader(study: Study, reader: str) -> bool:
    """Return whether a study has an annotation by `reader`."""
    return any(one.reader == reader for one in study.fact(find_annotations))


def _compare(
    study: Study, annotations: str | Sequence[str], find: Callable[[], tuple[Annotation, ...]]
) -> list[ComparedStructure]:
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    chosen, paths, reason = choose_annotations(study.fact(find_annotations), annotations)
    if not chosen:
        raise SegmentationError(f"{study.patient_id} has nothing to compare with: {reason}.")
    others = find()
    volume = read_ct(list(paths), on_gap="fill")
    true = read_annotations(chosen, volume, paths).masks
    mine = read_annotations(others, volume, paths).masks
    spacing = np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0)
    return [
        ComparedStructure(
            patient_id=study.patient_id,
            structure=name,
            file=others[0].path,
            scores=score_masks(_union(mine, keys), _union(true, keys), spacing),
        )
        for name, keys in structures(study.catalog.vocabulary).items()
        if keys[0] in mine and keys[0] in true
    ]


def volume_agreement(compared: Sequence[ComparedStructure]) -> dict[str, BlandAltman]:
    """Return the Bland-Altman limits of the volumes of each structure in ml: the user's less the annotation's.

    Structures of fewer than two patients have none.
    """
    found = {}
    for name in dict.fromkeys(one.structure for one in compared):
        own = [one.scores for one in compared if one.structure == name]
        if len(own) > 1:
            found[name] = bland_altman([one.predicted_ml for one in own], [one.volume_ml for one in own])
    return found


def plot_volumes(compared: Sequence[ComparedStructure], path: str | os.PathLike[str]) -> None:
    """Write a PNG file of Bland-Altman plots, one for each structure of at least two patients.

    Raises
    ------
    UsageError
        No structure was compared in two patients.
    """
    from matplotlib.figure import Figure

    limits = volume_agreement(compared)
    if not limits:
        raise UsageError("a Bland-Altman plot needs a structure that was compared in two patients.")
    figure = Figure(figsize=(4.2 * len(limits), 3.8), layout="constrained")
    for axes, (name, limit) in zip(figure.subplots(1, len(limits), squeeze=False)[0], limits.items(), strict=True):
        own = [one.scores for one in compared if one.structure == name]
        mine, true = (np.array([getattr(one, key) for one in own]) for key in ("predicted_ml", "volume_ml"))
        axes.scatter((mine + true) / 2, mine - true, s=16, color="#0072B2", alpha=0.7, linewidths=0)
        axes.axhline(limit.bias, color="#D55E00")
        for edge in (limit.lower, limit.upper):
            axes.axhline(edge, color="#D55E00", linestyle="dashed", linewidth=1)
        axes.set(
            title=f"{name} (n = {limit.cases})", xlabel="mean of both, ml", ylabel="difference to the annotation, ml"
        )
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _union(masks: Masks, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    united: npt.NDArray[np.bool_] = np.logical_or.reduce([masks[key] != 0 for key in keys if key in masks])
    return united
