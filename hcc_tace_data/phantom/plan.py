"""What each patient of the twin consists of: series, phase volumes, slice positions, quirks. No pixels here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.errors import PatientNotFoundError, UsageError
from hcc_tace_data.facts.published import PublishedSweep, published_phases, published_sweeps
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.phantom.person import Person, draw_person, slice_spacing
from hcc_tace_data.phantom.seeding import generator, twin_uid
from hcc_tace_data.phantom.sheet import days_to_baseline
from hcc_tace_data.phases.names import DYNAMIC

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BREATHING",
    "SIZES",
    "PatientPlan",
    "SegmentationPlan",
    "SeriesPlan",
    "Size",
    "VolumePlan",
    "load_table",
    "plan_patient",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much smaller than the real thing a twin is.

    Attributes
    ----------
    pixels : int
        Rows and columns of a slice.
    divisor : float
        The real number of slices of a volume is divided by this.
    minimum : int
        Fewest slices of a volume.
    """

    pixels: int
    divisor: float
    minimum: int


#: The sizes a twin can have; `full` has the exact numbers of the collection.
SIZES: Mapping[str, Size] = {
    "tiny": Size(pixels=64, divisor=5.0, minimum=12),
    "small": Size(pixels=128, divisor=2.0, minimum=12),
    "full": Size(pixels=512, divisor=1.0, minimum=1),
}

#: How organs move between sweeps: as a whole, or each in its own way.
BREATHING = ("affine", "deformable")

#: Patients whose segmentation was drawn on the arterial phase.
ARTERIAL_SEG = frozenset({"HCC_012", "HCC_023", "HCC_033", "HCC_036", "HCC_040"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePlan:
    """One phase volume.

    `positions` are mm along z, ascending; `spacing` is the nominal distance in mm; `acquisition` is the
    AcquisitionNumber, None where the files have none; the lowest `lower` slices are a region scanned after the rest,
    with the next number.
    """

    volume: int
    phase: str
    positions: tuple[float, ...]
    spacing: float
    acquisition: int | None = None
    lower: int = 0
    omitted: frozenset[int] = frozenset()  # indices of slices that exist but have no file

    def number(self, index: int) -> int | None:
        """Return the AcquisitionNumber of a slice."""
        return None if self.acquisition is None else self.acquisition + (index < self.lower)

    @property
    def files(self) -> int:
        """Number of slices that have a file."""
        return len(self.positions) - len(self.omitted)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPlan:
    """One CT series: which volumes it stacks and how they are separated ("number", "order" or "")."""

    series_uid: str
    real_series_uid: str
    study_uid: str
    study_date: str
    number: int
    description: str
    visit: int
    volumes: tuple[VolumePlan, ...]
    split: str
    frame_of_reference_uid: str
    shift: float  # of the table along z against the baseline, mm

    @property
    def files(self) -> int:
        """Number of files of the series."""
        return sum(volume.files for volume in self.volumes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationPlan:
    """The SEG: its UIDs and the volume it is drawn on; of a volume of two regions, the upper one."""

    series_uid: str
    study_uid: str
    study_date: str
    number: int
    description: str
    annotated_series: str
    annotated_volume: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientPlan:
    """All of one twin patient."""

    patient_id: str
    seed: int
    size: Size
    series: tuple[SeriesPlan, ...]
    segmentation: SegmentationPlan
    person: Person
    breathing: str
    interval: int  # days from the diagnosis to the first visit

    def days(self, study_date: str) -> int:
        """Return the days from the diagnosis to a study (YYYYMMDD), as headers and sheet have them."""
        first = min(one.study_date for one in self.series)
        return self.interval + (_date(study_date) - _date(first)).days

    def find(self, series_uid: str) -> SeriesPlan:
        """Return the series with `series_uid`."""
        return next(one for one in self.series if one.series_uid == series_uid)


def load_table() -> pd.DataFrame:
    """Return the real series table (CT and SEG of the collection itself, no third-party series)."""
    return load_series_table()


def _date(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _scaled(count: int, size: Size) -> int:
    return max(min(count, size.minimum), round(count / size.divisor))


@dataclass(frozen=True, slots=True)
class _Region:
    """Slices of one sweep at their real distance: how many, and the position of the highest in mm."""

    slices: int
    top: float
    step: float


def _sweeps(patient_id: str, number: int) -> list[PublishedSweep]:
    return [one for one in published_sweeps() if (one.patient_id, one.series_number) == (patient_id, number)]


def _regions(
    patient_id: str, row: Mapping[Any, Any], visit: int, phases: tuple[str, ...], step: float | None, top: float
) -> dict[str, list[_Region]]:
    """Return the regions of each phase of a series, from the head down; a second one lies below the first."""
    count, number = int(row["instances"]), int(row["series_number"])
    # One file of this series is missing.
    total = count + (1 if patient_id == "HCC_001" and visit == 0 and len(phases) == 2 else 0)
    own = [] if visit else _sweeps(patient_id, number)
    found: dict[str, list[_Region]] = {}
    if own:
        apart = step or slice_spacing(max(one.slices for one in own), phases[-1])
        slices = {id(one): one.slices for one in own}
        slices[id(own[-1])] += total - sum(slices.values())
        highest_known = max(one.z + apart * (one.slices - 1) for one in own if one.z is not None)
        # from the head down; what lies nowhere known comes last
        for one in sorted(own, key=lambda sweep: (phases.index(sweep.phase), sweep.z is None, -(sweep.z or 0.0))):
            above = found.get(one.phase)
            if one.z is not None:
                highest = one.z + apart * (one.slices - 1)
            else:
                highest = above[-1].top - apart * above[-1].slices if above else highest_known
            found.setdefault(one.phase, []).append(_Region(slices[id(one)], highest, apart))
        return found
    share = total // len(phases)
    last = total - (len(phases) - 1) * share  # so that the files add up to the real number
    apart = step or slice_spacing(last, phases[-1])
    return {phase: [_Region(last if phase == phases[-1] else share, top, apart)] for phase in phases}


def _series_volumes(
    patient_id: str, visit: int, regions: Mapping[str, list[_Region]], size: Size
) -> tuple[VolumePlan, ...]:
    """Slice positions of every volume of a series."""
    missing = patient_id == "HCC_001" and visit == 0 and len(regions) == 2
    # Volumes stacked in one series share one reconstruction: one spacing.
    longest = max(one.slices for parts in regions.values() for one in parts)
    step = next(iter(regions.values()))[0].step
    spacing = step if size.divisor == 1 else round(longest * step / _scaled(longest, size), 2)
    volumes = []
    for index, (phase, parts) in enumerate(regions.items()):
        heights: list[float] = []
        for place, part in enumerate(parts):
            slices = part.slices if size.divisor == 1 else max(2, round(part.slices * step / spacing))
            slices = slices if place else max(slices, min(part.slices, size.minimum))
            below = [round(part.top - spacing * k, 4) for k in range(slices)]
            heights += [z for z in below if not heights or z < heights[-1] - 0.5 * spacing]
        positions = heights[::-1]
        lower = sum(z <= parts[1].top + 0.25 * spacing for z in positions) if len(parts) > 1 else 0
        if patient_id == "HCC_011" and visit == 0:
            # Uneven spacing: twice the distance in the lowest fifth, below the liver.
            coarse = max(2, len(positions) // 5)
            steps = [2 * spacing] * coarse + [spacing] * (len(positions) - 1 - coarse)
            walk = np.concatenate([[0.0], np.cumsum(steps)])
            positions = [round(positions[-1] - float(walk[-1] - value), 4) for value in walk]
        omitted = frozenset({0}) if missing and index == len(regions) - 1 else frozenset()
        volumes.append(
            VolumePlan(
                volume=index, phase=phase, positions=tuple(positions), spacing=spacing, lower=lower, omitted=omitted
            )
        )
    return tuple(volumes)


def _split_mode(patient_id: str, visit: int, count: int) -> str:
    """How stacked phases are marked: most by AcquisitionNumber, a few by InstanceNumber alone."""
    draw = generator("split", patient_id, visit).random()
    known = {one.patient_id for one in published_sweeps()}  # their numbers were seen
    order = draw < 0.15 and count % 2 == 0 and (visit > 0 or patient_id not in known)
    return "order" if order else "number"


def _acquisition(patient_id: str, visit: int, phase: str, split: str, *, late: int) -> int | None:
    """Return AcquisitionNumber: it counts the sweeps of a visit, the porto-venous one is number `late`.

    Unenhanced series are a scan of their own, which begins at 1. In sweeps separated by order alone the number is
    that of the last.
    """
    if patient_id == "HCC_065" and visit == 0:
        return None
    if split == "order":
        return late
    return late + DYNAMIC.index(phase) - DYNAMIC.index("portal_venous") if phase in DYNAMIC else 1


def _late_sweep(scans: Sequence[Mapping[Any, Any]], phases: Mapping[str, tuple[str, ...]], *, visit_day: str) -> int:
    """Return the AcquisitionNumber of the porto-venous sweep of a day.

    It is 2 in a series 'Recon 3', 3 in one without prefix; stacked sweeps are 2 and 3 as well.
    """
    own = [
        row
        for row in scans
        if str(row["study_date"]) == visit_day and "portal_venous" in phases[str(row["series_uid"])]
    ]
    return 2 if any(str(row["series_description"]).startswith("Recon 3") for row in own) else 3


def plan_patient(
    table: pd.DataFrame, patient_id: str, *, size: str = "tiny", seed: int = 0, breathing: str = "affine"
) -> PatientPlan:
    """Plan the twin of one real patient.

    Parameters
    ----------
    table : pandas.DataFrame
        The series table (:func:`load_table`).
    patient_id : str
        PatientID, ``HCC_001`` to ``HCC_105``.
    size : {"tiny", "small", "full"}
        Key of :data:`SIZES`.
    seed : int
        Seed of the whole twin.
    breathing : {"affine", "deformable"}
        How organs move between sweeps.

    Raises
    ------
    UsageError
        No such size or breathing.
    PatientNotFoundError
        No such patient in the table.
    """
    if size not in SIZES:
        raise UsageError(f"There is no phantom size '{size}'. Choose one of {', '.join(SIZES)}.")
    if breathing not in BREATHING:
        raise UsageError(f"There is no breathing '{breathing}'. Choose one of {', '.join(BREATHING)}.")
    scale = SIZES[size]
    rows = table[(table["patient_id"] == patient_id) & (table["source"] == "collection")]
    if rows.empty:
        raise PatientNotFoundError(f"The series table holds no patient '{patient_id}' (HCC_001 to HCC_105).")
    records: list[dict[Any, Any]] = rows.astype(object).where(rows.notna(), "").to_dict("records")
    scans = [row for row in records if row["modality"] == "CT"]
    days = sorted({str(row["study_date"]) for row in scans})
    phases = {str(row["series_uid"]): published_phases()[str(row["series_uid"])].phases for row in scans}
    baseline = [row for row in scans if str(row["study_date"]) == days[0]]
    wanted = "arterial" if patient_id in ARTERIAL_SEG else "portal_venous"
    annotated = next(row for row in baseline if wanted in phases[str(row["series_uid"])])
    target = str(annotated["series_uid"])
    measured = _regions(patient_id, annotated, 0, phases[target], None, 0.0)[wanted][0]
    seen = any(one.z is not None for one in _sweeps(patient_id, int(annotated["series_number"])))
    bottom = measured.top - measured.step * (measured.slices - 1) if seen else None
    person = draw_person(seed, patient_id, measured.slices, bottom)
    top = person.bottom + person.step * (measured.slices - 1)
    regions = _regions(patient_id, annotated, 0, phases[target], person.step, top)
    top = regions[wanted][0].top
    moved = generator("table", seed, patient_id)
    shifts = [0.0, *(round(float(moved.normal(0, 60.0)), 2) for _ in days[1:])]
    series: list[SeriesPlan] = []
    for row in sorted(scans, key=lambda r: (str(r["study_date"]), int(r["series_number"]), str(r["series_uid"]))):
        uid, visit = str(row["series_uid"]), days.index(str(row["study_date"]))
        split = _split_mode(patient_id, visit, int(row["instances"])) if len(phases[uid]) > 1 else ""
        late = _late_sweep(scans, phases, visit_day=str(row["study_date"]))
        shift = shifts[visit]
        frame: tuple[object, ...] = ("frame", seed, str(row["study_uid"]))
        if patient_id == "HCC_089" and visit == 0 and phases[uid] == ("pre_contrast",):
            # The series that this patient's SEG refers to lies elsewhere: another table position and frame.
            shift, frame = 900.0, (*frame, "elsewhere")
        own = regions if uid == target else _regions(patient_id, row, visit, phases[uid], None, top + shift)
        volumes = tuple(
            replace(v, acquisition=_acquisition(patient_id, visit, v.phase, split, late=late))
            for v in _series_volumes(patient_id, visit, own, scale)
        )
        series.append(
            SeriesPlan(
                series_uid=twin_uid("series", seed, uid),
                real_series_uid=uid,
                study_uid=twin_uid("study", seed, str(row["study_uid"])),
                study_date=str(row["study_date"])[:10].replace("-", ""),
                number=int(row["series_number"]),
                description=str(row["series_description"]),
                visit=visit,
                volumes=volumes,
                split=split,
                frame_of_reference_uid=twin_uid(*frame),
                shift=shift,
            )
        )
    seg = next(row for row in records if row["modality"] == "SEG")
    return PatientPlan(
        patient_id=patient_id,
        seed=seed,
        size=scale,
        series=tuple(series),
        person=person,
        breathing=breathing,
        interval=days_to_baseline(seed, patient_id),
        segmentation=SegmentationPlan(
            series_uid=twin_uid("series", seed, str(seg["series_uid"])),
            study_uid=twin_uid("study", seed, str(seg["study_uid"])),
            study_date=str(seg["study_date"])[:10].replace("-", ""),
            number=int(seg["series_number"]),
            description=str(seg["series_description"]),
            annotated_series=twin_uid("series", seed, target),
            annotated_volume=phases[target].index(wanted),
        ),
    )
