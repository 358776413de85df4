"""A user's masks against the annotations of the collection, structure by structure on the CT they were drawn on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import SegmentationError, UsageError
from hcc_tace_data.labels.annotations import choose_annotations, find_annotations, place_file, read_annotations
from hcc_tace_data.labels.files import LABEL_SUFFIXES
from hcc_tace_data.labels.scores import MaskScores, score_masks

if TYPE_CHECKING:
    from hcc_tace_data.collection.model import Study
    from hcc_tace_data.facts.segments import SegmentVocabulary

__all__ = ["ComparedStructure", "compare_masks", "files_by_patient", "structures"]

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
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    chosen, paths, reason = choose_annotations(study.fact(find_annotations), annotations)
    if not chosen:
        raise SegmentationError(f"{study.patient_id} has nothing to compare with: {reason}.")
    volume = read_ct(list(paths), on_gap="fill")
    true = read_annotations(chosen, volume, paths).masks
    mine = read_annotations([place_file(study, file)], volume, paths).masks
    spacing = np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0)
    return [
        ComparedStructure(
            patient_id=study.patient_id,
            structure=name,
            file=file,
            scores=score_masks(_union(mine, keys), _union(true, keys), spacing),
        )
        for name, keys in structures(study.catalog.vocabulary).items()
        if keys[0] in mine and keys[0] in true
    ]


def _union(masks: Masks, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
    united: npt.NDArray[np.bool_] = np.logical_or.reduce([masks[key] != 0 for key in keys if key in masks])
    return united
