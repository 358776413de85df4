"""Tables of measurements of a collection: one row per lesion, per patient or per pair of visits."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from hcc_tace_data.errors import HccTaceError, UsageError
from hcc_tace_data.loaders.cases import Case, CaseArrays, find_cases
from hcc_tace_data.loaders.channels import ANNOTATED, resolve_phases
from hcc_tace_data.loaders.store import StoreParameters
from hcc_tace_data.measure.distances import distances_to, distances_to_surface
from hcc_tace_data.measure.intensity import hu_statistics
from hcc_tace_data.measure.lesions import Lesion, find_lesions, split_lesions
from hcc_tace_data.measure.pairs import measure_pairs
from hcc_tace_data.open import Collection, open_collection
from hcc_tace_data.system.parallel import open_runner

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["By", "measure_lesions"]

logger = logging.getLogger(__name__)

By = Literal["lesion", "patient", "pair"]

#: Class numbers of what is measured; necrosis is kept apart from the rest of the tumour.
_CLASSES = {1: ("liver",), 2: ("portal_vein",), 3: ("aorta",), 4: ("tumour",), 5: ("necrosis",)}
_LIVER, _VEIN, _TUMOUR, _NECROSIS = 1, 2, 4, 5

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured of one case: a row per lesion and a row for the patient."""

    lesions: list[dict[str, Any]]
    patient: dict[str, Any]


def measure_lesions(
    source: str | os.PathLike[str] | Collection | None = None,
    *,
    by: By = "lesion",
    phases: str | Sequence[str] = "annotated",
    annotations: str | Sequence[str] = "collection",
    patients: Iterable[str] | None = None,
    workers: int = 1,
    dask: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure the annotated lesions of a collection.

    Parameters
    ----------
    source : path-like or Collection, optional
        A folder, or what :func:`hcc_tace_data.open_collection` gives; default as there.
    by : {"lesion", "patient", "pair"}
        What a row is: a lesion (connected part of tumour and necrosis), a patient's baseline visit, or both visits.
    phases : str or sequence of str
        Phases whose HU are reported, as for :func:`hcc_tace_data.load_hcc_tace`. Anything but the annotated phase is
        registered onto it. With ``by="pair"`` phases are read where they are named: each of them at both visits.
    annotations : str or sequence of str
        Whose masks, as for :func:`hcc_tace_data.load_hcc_tace`.
    patients : iterable of str, optional
        PatientIDs; default all.
    workers : int
        Processes that measure lesions and patients; pairs are measured in this process.
    dask : str, optional
        Address of a Dask scheduler whose workers see the same folders, instead of processes.
    progress : callable, optional
        Called with (patients done, patients in all).

    Returns
    -------
    pandas.DataFrame
        Units are in the names: ``_mm``, ``_ml``, ``_mm2``; ``hu_<phase>_mean``, ``_sd``, ``_p10``, ``_p50``, ``_p90``
        are HU and ``_share`` is the part of the mask within the phase's field of view. ``attrs["left_out"]`` maps the
        patients without a row to the reason.

    Raises
    ------
    UsageError
        Another `by`, phase or annotation.
    CollectionNotFoundError
        There is nothing at `source`.

    See Also
    --------
    hcc_tace_data.measure.lesions.Lesion : the columns of a lesion.
    """
    import pandas as pd

    if by not in get_args(By):
        raise UsageError(f"by is {by!r}; use 'lesion', 'patient' or 'pair'.")
    collection = source if isinstance(source, Collection) else open_collection(source)
    wanted = list(collection) if patients is None else list(patients)
    if by == "pair":
        named = () if phases == "annotated" else resolve_phases(phases)
        return measure_pairs(collection, wanted, annotations, phases=named, progress=progress)
    channels = resolve_phases(phases)
    channels = channels if ANNOTATED in channels else (ANNOTATED, *channels)
    cases, left_out = find_cases(collection, wanted, annotations, phases=channels, keep_incomplete=True)
    rows: list[dict[str, Any]] = []
    with open_runner(min(workers, len(cases)), dask) as runner:
        results = runner.ordered(_measure_one, [(case, channels) for case in cases])
        for done, (case, found) in enumerate(zip(cases, results, strict=True), start=1):
            if isinstance(found, str):
                logger.warning("%s is not measured: %s", case.patient_id, found)
                left_out[case.patient_id] = found
            else:
                rows += found.lesions if by == "lesion" else [found.patient]
                if by == "lesion" and not found.lesions:
                    left_out[case.patient_id] = "the masks hold no tumour"
            if progress is not None:
                progress(done, len(cases))
    table = pd.DataFrame(rows)
    table.attrs["left_out"] = left_out
    return table


def _measure_one(case: Case, channels: Sequence[str]) -> _Measured | str:
    """Measure one case; an error comes back as its text, so that one patient does not end the run."""
    try:
        return _measure(case, channels)
    except (HccTaceError, OSError) as error:
        return str(error)


def _measure(case: Case, channels: Sequence[str]) -> _Measured:
    from hcc_tace_data.loaders.prepare import build_arrays  # noqa: PLC0415 - its libraries are slow to import

    parameters = StoreParameters(phases=tuple(channels), classes=_CLASSES)
    arrays = build_arrays(case, parameters)
    names = ["annotated" if asked == ANNOTATED else asked for asked in channels]
    head = {
        "patient_id": case.patient_id,
        "study_uid": case.study_uid,
        "series_uid": case.series_uid,
        "annotated_phase": case.phases[list(channels).index(ANNOTATED)],
        "readers": case.readers,
    }
    tumour = arrays.label >= _TUMOUR
    lesions = find_lesions(tumour, arrays.affine)
    numbers, _ = split_lesions(tumour)
    whole = tumour | (arrays.label == _LIVER) | _within_liver(arrays.label)
    deep = distances_to_surface(numbers, whole, arrays.spacing)
    away = distances_to(numbers, arrays.label == _VEIN, arrays.spacing)
    rows = [
        head | _lesion_row(one, numbers == one.lesion, (float(to_surface), float(to_vein)), arrays, names)
        for one, to_surface, to_vein in zip(lesions, deep, away, strict=True)
    ]
    return _Measured(rows, head | _patient_row(lesions, tumour, whole, arrays, names))


def _within_liver(label: npt.NDArray[np.uint8]) -> _Mask:
    """Return the portal vein: readers drew it out of the liver."""
    return np.asarray(label == _VEIN)


def _hu(arrays: CaseArrays, names: Sequence[str], mask: _Mask, prefix: str) -> dict[str, float]:
    image = arrays.image if arrays.image.ndim == 4 else arrays.image[None]
    row: dict[str, float] = {}
    for channel, name in enumerate(names):
        valid = None if arrays.valid is None else arrays.valid[channel]
        row |= {f"{prefix}{name}_{key}": value for key, value in hu_statistics(image[channel], mask, valid).items()}
    return row


def _lesion_row(
    one: Lesion, mask: _Mask, distances: tuple[float, float], arrays: CaseArrays, names: Sequence[str]
) -> dict[str, Any]:
    necrosis = int((arrays.label[mask] == _NECROSIS).sum())
    return {
        **one.row(),
        "necrosis_share": necrosis / one.voxels,
        "to_surface_mm": distances[0],
        "to_portal_vein_mm": distances[1],
        **_hu(arrays, names, mask, "hu_"),
    }


def _patient_row(
    lesions: Sequence[Lesion], tumour: _Mask, whole: _Mask, arrays: CaseArrays, names: Sequence[str]
) -> dict[str, Any]:
    unit = float(abs(np.linalg.det(arrays.affine[:3, :3]))) / 1000
    liver_ml, tumour_ml = unit * int(whole.sum()), unit * int(tumour.sum())
    longest = sorted((one.diameter_mm for one in lesions), reverse=True)
    return {
        "lesions": len(lesions),
        "liver_ml": liver_ml,
        "tumour_ml": tumour_ml,
        "necrosis_ml": unit * int((arrays.label == _NECROSIS).sum()),
        "tumour_burden": tumour_ml / liver_ml if liver_ml else float("nan"),
        "diameter_mm": longest[0] if longest else 0.0,
        # RECIST 1.1 takes two target lesions of an organ at most
        "sum_of_two_diameters_mm": sum(longest[:2]),
        "diameter_3d_mm": max((one.diameter_3d_mm for one in lesions), default=0.0),
        **_hu(arrays, names, tumour, "tumour_hu_"),
        **_hu(arrays, names, arrays.label == _LIVER, "liver_hu_"),
    }
