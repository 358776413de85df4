"""A patient's two visits side by side: the phase that both have, the days between, and what changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.clinical import find_sheet, load_clinical
from hcc_tace_data.collection.visits import days_between
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.labels.annotations import choose_annotations, read_annotations
from hcc_tace_data.loaders.cases import Case, find_cases
from hcc_tace_data.loaders.channels import both_visits
from hcc_tace_data.loaders.store import StoreParameters
from hcc_tace_data.measure.intensity import hu_statistics
from hcc_tace_data.measure.lesions import find_lesions
from hcc_tace_data.open import Collection, Study
from hcc_tace_data.phases.names import DYNAMIC, KNOWN

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SHEET_COLUMNS", "common_phase", "measure_pairs"]

logger = logging.getLogger(__name__)

#: The order in which a common phase is looked for: the annotated one first.
_PREFERRED = tuple(dict.fromkeys(("portal_venous", *DYNAMIC, *KNOWN)))
#: What the readers of the clinical sheet measured, as the mean of the readers who did.
SHEET_COLUMNS = ("recist_bl_mm", "recist_fu_mm", "mrecist_bl_mm", "mrecist_fu_mm")
_READERS = (1, 2, 3)
#: The median category of the readers; "" where not all three read.
_CONSENSUS = ("recist_consensus", "mrecist_consensus")


def common_phase(first: Sequence[str], second: Sequence[str]) -> str:
    """Return the phase that both visits have, portal venous before others; "" where they share none."""
    return next((phase for phase in _PREFERRED if phase in first and phase in second), "")


def measure_pairs(
    collection: Collection,
    patients: Sequence[str],
    annotations: str | Sequence[str] = "collection",
    *,
    phases: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Measure both visits of each patient.

    Days are counted between the dates of the studies, not taken from the sheet, whose interval contradicts them in
    some rows. The masks of a follow-up are those of BAMF's models or of a user's readers: the collection has none. With
    `phases` each of them at both visits is registered onto the annotated CT, and HU are measured in the baseline's
    tumour there.

    Returns
    -------
    pandas.DataFrame
        One row per patient with two visits. ``attrs["left_out"]`` maps the others to the reason.
    """
    import pandas as pd

    volumes = collection.subset(patients).phase_volumes
    sheet = _sheet(collection)
    cases = _registered(collection, patients, annotations, phases)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for done, name in enumerate(patients, start=1):
        if name not in collection:
            left_out[name] = "not in this folder"
        else:
            baseline, follow_up = collection[name].baseline, collection[name].follow_up
            if baseline is None or follow_up is None:
                left_out[name] = "only one visit"
            else:
                here = [_phases_of(volumes, study) for study in (baseline, follow_up)]
                row = _row(name, baseline, follow_up, here, annotations) | _hu(cases.get(name), phases)
                rows.append(row | sheet.get(name, {}))
        if progress is not None:
            progress(done, len(patients))
    table = pd.DataFrame(rows)
    table.attrs["left_out"] = left_out
    return table


def _registered(
    collection: Collection, patients: Sequence[str], annotations: str | Sequence[str], phases: Sequence[str]
) -> dict[str, Case]:
    """Return PatientID -> the case whose channels are `phases` at both visits."""
    if not phases:
        return {}
    cases, _ = find_cases(collection, patients, annotations, phases=both_visits(phases), keep_incomplete=True)
    return {case.patient_id: case for case in cases}


def _hu(case: Case | None, phases: Sequence[str]) -> dict[str, float]:
    """Return the mean HU of the baseline's tumour at both visits in each phase, and the change; NaN where it lacks."""
    names = [(f"tumour_hu_baseline_{one}", f"tumour_hu_follow_up_{one}", f"change_tumour_hu_{one}") for one in phases]
    row = dict.fromkeys((name for three in names for name in three), float("nan"))
    if case is None:
        return row
    from hcc_tace_data.loaders.prepare import build_arrays  # noqa: PLC0415 - its libraries are slow to import

    tumour = load_catalog().vocabulary.tumour
    try:
        arrays = build_arrays(case, StoreParameters(phases=case.phases, classes={1: tuple(tumour)}))
    except (HccTaceError, OSError) as error:
        logger.warning("HU of %s are not measured: %s", case.patient_id, error)
        return row
    for number, three in enumerate(names):
        means = [
            hu_statistics(
                arrays.image[channel], arrays.label == 1, None if arrays.valid is None else arrays.valid[channel]
            )["mean"]
            for channel in (2 * number, 2 * number + 1)
        ]
        row |= dict(zip(three, [*means, means[1] - means[0]], strict=True))
    return row


def _phases_of(volumes: pd.DataFrame, study: Study) -> list[str]:
    # a visit may be spread over several studies of one day
    own = volumes[(volumes["patient_id"] == study.patient_id) & (volumes["study_date"] == study.date)]
    return sorted(set(own["phase"]))


def _row(
    name: str, baseline: Study, follow_up: Study, here: Sequence[list[str]], annotations: str | Sequence[str]
) -> dict[str, Any]:
    before, after = _sizes(baseline, annotations), _sizes(follow_up, annotations)
    if after["reason"] and annotations == "collection":
        after = _sizes(follow_up, "bamf")
    row = {
        "patient_id": name,
        "baseline_study_uid": baseline.study_uid,
        "follow_up_study_uid": follow_up.study_uid,
        "days": days_between(baseline.date, follow_up.date),
        "common_phase": common_phase(*here),
        "baseline_phases": ", ".join(here[0]),
        "follow_up_phases": ", ".join(here[1]),
        **{f"baseline_{key}": value for key, value in before.items() if key != "reason"},
        **{f"follow_up_{key}": value for key, value in after.items() if key != "reason"},
        "not_measured": "; ".join(
            f"{visit}: {found['reason']}"
            for visit, found in (("baseline", before), ("follow-up", after))
            if found["reason"]
        ),
    }
    for key in ("tumour_ml", "diameter_mm"):
        first, second = row[f"baseline_{key}"], row[f"follow_up_{key}"]
        row[f"change_{key}"] = second - first
        row[f"change_{key.rpartition('_')[0]}_percent"] = 100 * (second - first) / first if first else float("nan")
    return row


def _sizes(study: Study, annotations: str | Sequence[str]) -> dict[str, Any]:
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    nothing = {"tumour_ml": float("nan"), "diameter_mm": float("nan"), "lesions": None, "masks_by": ""}
    try:
        chosen, paths, reason = choose_annotations(study.annotations, annotations)
        if not chosen:
            return {**nothing, "reason": reason}
        volume = read_ct(list(paths), on_gap="fill")
        masks = read_annotations(chosen, volume, paths)
    except (HccTaceError, OSError) as error:
        return {**nothing, "reason": str(error)}
    parts = [mask for key, mask in masks.masks.items() if key in load_catalog().vocabulary.tumour]
    tumour = np.any([np.asarray(part) > 0 for part in parts], axis=0) if parts else np.zeros(volume.shape, dtype=bool)
    lesions = find_lesions(tumour, volume.affine)
    return {
        "tumour_ml": sum(one.volume_ml for one in lesions),
        "diameter_mm": max((one.diameter_mm for one in lesions), default=0.0),
        "lesions": len(lesions),
        "masks_by": "+".join(one.reader for one in chosen),
        "reason": "",
    }


def _sheet(collection: Collection) -> dict[str, dict[str, Any]]:
    """Return the readers' measurements of both visits by patient; empty without a sheet."""
    try:
        table = load_clinical(find_sheet(collection.root))
    except HccTaceError as error:
        logger.info("no clinical sheet beside the pairs: %s", error)
        return {}
    means = {
        f"sheet_{column}": table[[f"reader{reader}_{column}" for reader in _READERS]].astype("Float64").mean(axis=1)
        for column in SHEET_COLUMNS
    }
    consensus = {f"sheet_{name}": table[name].astype("string").fillna("") for name in _CONSENSUS}
    return {
        str(name): {column: _number(values.iloc[place]) for column, values in means.items()}
        | {column: str(values.iloc[place]) for column, values in consensus.items()}
        for place, name in enumerate(table["patient_id"])
    }


def _number(value: Any) -> float:
    import pandas as pd

    return float("nan") if pd.isna(value) else float(value)
