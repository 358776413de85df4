"""Defects of published tables, phases, clinical sheet and splits (HT515, HT6 to HT8): each breaks one rule only."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.collection.split import split_series
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.published import MASKS_FILE
from hcc_tace_data.phantom.defects.tools import Twin, change, plant, read
from hcc_tace_data.phases.label import PUBLISHED_FILE
from hcc_tace_data.system.files import atomic_write_text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from hcc_tace_data.open import Series

__all__: list[str] = []


@plant("HT601")
def _wrong_name(twin: Twin) -> str:
    change(twin.slices, lambda d: setattr(d, "SeriesDescription", "DELAYED"))
    return f"called the pre-contrast series {twin.plain.number} DELAYED"


@plant("HT602")
def _no_pre_contrast(twin: Twin) -> str:
    shutil.rmtree(twin.slices[0].parent)
    twin.count_again()
    return f"removed the pre-contrast series {twin.plain.number} from files and table"


@plant("HT603")
def _on_arterial(twin: Twin) -> str:
    """Point every reference at the arterial slice of the same height."""
    table = twin.collection.phase_volumes
    drawn = table[(table["patient_id"] == twin.patient) & (table["annotated"].astype(object) == True)]  # noqa: E712
    visit = table[table["study_uid"].isin(drawn["study_uid"])]
    arterial = visit[visit["phase"] == "arterial"]
    if not len(arterial):
        raise UsageError(f"{twin.patient} has no arterial volume in its baseline; make a twin of another patient.")
    rows = _rows_of(twin, str(arterial["series_uid"].iloc[0]), int(arterial["volume"].iloc[0]))
    by_height = {round(float(z), 2): (uid, series) for uid, series, z in rows}
    named = {str(d.SOPInstanceUID): round(float(d.ImagePositionPatient[2]), 2) for d in map(read, twin.annotated)}
    if not set(named.values()) <= set(by_height):
        raise UsageError(f"The arterial slices of {twin.patient} lie elsewhere; make a twin of another patient.")

    def point(dataset: Dataset) -> None:
        sources = [
            source
            for frame in dataset.PerFrameFunctionalGroupsSequence
            for derivation in frame.get("DerivationImageSequence", [])
            for source in derivation.SourceImageSequence
        ]
        for series in dataset.get("ReferencedSeriesSequence", []):
            series.SeriesInstanceUID = next(iter(by_height.values()))[1]
            sources += list(series.ReferencedInstanceSequence)
        for source in sources:
            if str(source.ReferencedSOPInstanceUID) in named:
                source.ReferencedSOPInstanceUID = by_height[named[str(source.ReferencedSOPInstanceUID)]][0]

    change([twin.seg], point)
    return "pointed the references of the segmentation at the arterial volume"


def _rows_of(twin: Twin, series_uid: str, volume: int) -> list[tuple[str, str, float]]:
    instances = twin.collection.instances
    part = split_series(instances[instances["series_uid"] == series_uid])[volume]
    return list(part[["sop_uid", "series_uid", "position_z"]].itertuples(index=False, name=None))


@plant("HT604")
def _stack(twin: Twin) -> str:
    """Put the last series of a visit of three into the one before, as the export error did."""
    for patient in reversed(twin.patients):
        for study in reversed(twin.collection[patient].studies):
            scans = [one for one in study.series if one.modality == "CT"]
            if len(scans) == 3 and study.segmentation is None:
                return _merge(twin, scans[1], scans[2])
    raise UsageError("No follow-up of three series to stack two of; make a twin of HCC_001.")


def _merge(twin: Twin, kept: Series, moved: Series) -> str:
    first = read(kept.paths[0])
    target, count = kept.paths[0].parent, len(kept.instances)

    def join(dataset: Dataset) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = first.SeriesInstanceUID, first.SeriesNumber
        if "SeriesDescription" in first:
            dataset.SeriesDescription = first.SeriesDescription
        else:
            dataset.pop("SeriesDescription", None)
        dataset.AcquisitionNumber = int(first.get("AcquisitionNumber") or 1) + 1
        dataset.InstanceNumber = int(dataset.InstanceNumber) + count

    change(moved.paths, join)
    for path in moved.paths:
        path.rename(target / path.name)
    moved.paths[0].parent.rmdir()
    twin.count_again()
    return f"stacked series {moved.number} of {kept.patient_id} in series {kept.number}"


@plant("HT605")
def _split_otherwise(twin: Twin) -> str:
    _publish(twin, {twin.plain.series_uid: "arterial+portal_venous"})
    return f"published two phases for series {twin.plain.number}, which holds one"


@plant("HT606")
def _swapped_phases(twin: Twin) -> str:
    """Publish the pre-contrast series as arterial, and the other way round: each visit still has all phases."""
    table = twin.collection.phase_volumes
    single = table[~table["series_uid"].duplicated(keep=False)]
    for _, visit in single.groupby("study_uid"):
        found = visit.set_index("phase")["series_uid"]
        if {"pre_contrast", "arterial"} <= set(found.index):
            _publish(twin, {found["pre_contrast"]: "arterial", found["arterial"]: "pre_contrast"})
            return "published the pre-contrast series as arterial, and the arterial one as pre-contrast"
    raise UsageError("No visit has both phases in series of their own; make a twin of HCC_001.")


def _publish(twin: Twin, phases: dict[str, str]) -> None:
    lines = ["series_uid,phases", *(f"{uid},{names}" for uid, names in phases.items())]
    atomic_write_text(twin.root / PUBLISHED_FILE, "\n".join(lines) + "\n")


@plant("HT515")
def _counted_otherwise(twin: Twin) -> str:
    """Publish the counts of the last patient with ten voxels of tumour more."""
    dataset, frames = twin.masks()
    number = {one.SegmentLabel: one.SegmentNumber for one in dataset.SegmentSequence}
    of_frame = np.array(
        [
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            for group in dataset.PerFrameFunctionalGroupsSequence
        ]
    )
    liver, tumour = (int(frames[of_frame == number[label]].sum()) for label in ("Liver", "Mass"))
    columns = "patient_id,slices,liver_voxels,tumour_voxels,liver_sources,tumour_sources"
    row = f"{twin.patient},{len(twin.annotated)},{liver},{tumour + 10},2,2"
    atomic_write_text(twin.root / MASKS_FILE, f"{columns}\n{row}\n")
    return f"published ten voxels of tumour more than {twin.patient} has"


def _in_sheet(code: str, what: str, edit: Any) -> None:
    @plant(code)
    def defect(twin: Twin) -> str:
        twin.edit_sheet(edit)
        return f"{what} of {twin.patient} in the clinical sheet"


def _add(name: str, amount: float) -> Any:
    return lambda row: row.update({name: float(row[name] or 0) + amount})


def _other_group(row: dict[str, Any]) -> None:
    row["agegp"] = "<=40" if row["agegp"] != "<=40" else ">70"


def _other_response(row: dict[str, Any]) -> None:
    reader = next(number for number in (1, 2, 3) if row[f"{number}_RECIST"])
    row[f"{reader}_RECIST"] = 1 if row[f"{reader}_RECIST"] != 1 else 4


_in_sheet("HT701", "added two weeks to Interval_FU", _add("Interval_FU", 2.0))
_in_sheet("HT702", "put an impossible sex", lambda row: row.update(Sex=7))
_in_sheet("HT703", "changed the age group", _other_group)
_in_sheet("HT704", "changed a RECIST category", _other_response)
_in_sheet("HT705", "let OS end before TTP", lambda row: row.update(OS=float(row["TTP"]) - 0.5))
_in_sheet("HT707", "removed the row", lambda row: False)


@plant("HT706")
def _other_sex(twin: Twin) -> str:
    row: dict[str, Any] = {}
    twin.edit_sheet(row.update)
    sex = "F" if row["Sex"] == 1 else "M"
    rows = twin.collection[twin.patient].instances
    change([twin.root / path for path in rows["path"]], lambda d: setattr(d, "PatientSex", sex))
    return f"wrote sex {sex} into all headers of {twin.patient}"


@plant("HT801")
def _two_parts(twin: Twin) -> str:
    def edit(rows: list[dict[str, str]]) -> None:
        own = next(row for row in rows if row["patient_id"] == twin.patient)
        test = own["split"] == "test"
        rows.append({**own, "split": "train" if test else "test", "fold": "0" if test else ""})

    twin.write_splits(edit)
    return f"wrote splits.csv with {twin.patient} in two parts"


@plant("HT804")
def _no_part(twin: Twin) -> str:
    twin.write_splits(lambda rows: rows.remove(next(row for row in rows if row["patient_id"] == twin.patient)))
    return f"wrote splits.csv without {twin.patient}"


@plant("HT802")
def _shared_pixels(twin: Twin) -> str:
    other, _ = twin.two()
    rows = twin.collection[other].instances
    source = twin.root / str(rows.loc[rows["modality"] == "CT", "path"].iloc[0])
    pixels, signed = read(source).PixelData, read(source).PixelRepresentation

    def copy(dataset: Dataset) -> None:
        dataset.PixelData, dataset.PixelRepresentation = pixels, signed

    change(twin.slices[-1:], copy)
    return f"gave a slice of {twin.patient} the pixels of one of {other}"


@plant("HT803")
def _shared_frame(twin: Twin) -> str:
    other, _ = twin.two()
    uid = str(twin.collection[other].studies[-1].instances["frame_of_reference_uid"].iloc[0])
    rows = twin.collection[twin.patient].studies[-1].instances
    change([twin.root / path for path in rows["path"]], lambda d: setattr(d, "FrameOfReferenceUID", uid))
    return f"gave the follow-up of {twin.patient} the frame of reference of {other}"
