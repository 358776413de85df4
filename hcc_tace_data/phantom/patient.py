"""One twin patient: bodies, motions, CT files, readers, SEG. Runs in a worker process and writes one folder."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from hcc_tace_data.phantom.anatomy import paint
from hcc_tace_data.phantom.body import Body, make_body
from hcc_tace_data.phantom.dicom_ct import (
    OUTSIDE_HU,
    SeriesHeader,
    SliceHeader,
    SliceWriter,
    file_meta,
    slice_dataset,
)
from hcc_tace_data.phantom.dicom_seg import write_segmentation
from hcc_tace_data.phantom.enhancement import Tissue, tissue_hu
from hcc_tace_data.phantom.nifti import write_labels
from hcc_tace_data.phantom.noise import render
from hcc_tace_data.phantom.plan import PatientPlan, SeriesPlan, VolumePlan
from hcc_tace_data.phantom.readers import fuse, simulate_readers
from hcc_tace_data.phantom.seeding import generator, twin_uid
from hcc_tace_data.phantom.sheet import Course, clinical_row, draw_course

__all__ = ["PatientResult", "write_patient"]

#: Seconds from the start of an examination to the reconstruction of a sweep, and for one slice.
_RECONSTRUCTED = {"pre_contrast": 95, "arterial": 262, "portal_venous": 331, "delayed": 590}
_PER_SLICE = 0.225
#: Noise (HU) and blur (weight of a neighbour) by number of pixels: coarse pixels average noise and hide the blur.
_QUALITY = {64: (5.0, 0.02), 128: (7.0, 0.06), 512: (9.0, 0.25)}
_CHUNK = 8  # slices held at a time
#: Thickest slice in mm that the collection's paper knows; a small twin has fewer slices, not thicker ones.
_THICKEST = 5.0
_EXPORTS = ("CT C/A/P LIVER", "CT ABD/PEL LIVER", "CT ABD (LIVER)", "ABD/PELVIS", "LIVER PROTOCOL")


@dataclass(slots=True, kw_only=True)
class PatientResult:
    """What the parent process needs to write the tables of the whole twin."""

    patient_id: str
    series_rows: list[dict[str, Any]] = field(default_factory=list)
    phase_rows: list[dict[str, Any]] = field(default_factory=list)
    transforms: list[dict[str, Any]] = field(default_factory=list)
    readers: dict[str, Any] = field(default_factory=dict)
    clinical: dict[str, Any] = field(default_factory=dict)
    annotated: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Grid:
    """In-plane grid of one visit: pixel spacing and first pixel centre (both axes), mm."""

    pixels: int
    spacing: float
    origin: float

    @property
    def axis(self) -> NDArray[np.float32]:
        return (self.origin + self.spacing * np.arange(self.pixels)).astype(np.float32)


def _grid(plan: PatientPlan, body: Body, visit: int) -> _Grid:
    g = generator("grid", plan.seed, plan.patient_id, visit)
    view = float(np.clip(2 * body.width * g.uniform(1.08, 1.2), 360.0, 460.0))
    spacing = round(view / plan.size.pixels, 6)
    return _Grid(plan.size.pixels, spacing, round(-spacing * (plan.size.pixels - 1) / 2, 6))


def _motion(plan: PatientPlan, series: SeriesPlan, volume: VolumePlan) -> NDArray[np.float64]:
    """Affine from reference coordinates to this volume: lying down again, breathing, table position."""
    matrix = np.eye(4)
    if series.visit:
        g = generator("setup", plan.seed, plan.patient_id, series.visit)
        matrix = _affine(g.uniform(-1, 1, 3) * (4.0, 2.0, 5.0), g.uniform(-1.5, 1.5), 1.0)
    annotated = plan.find(plan.segmentation.annotated_series).volumes[plan.segmentation.annotated_volume]
    if series.visit or volume.phase != annotated.phase:
        g = generator("breath", plan.seed, plan.patient_id, series.visit, volume.phase)
        breath = _affine(g.uniform(-1, 1, 3) * (1.5, 2.5, 7.0), g.uniform(-0.8, 0.8), 1.0 + g.uniform(-0.025, 0.025))
        matrix = breath @ matrix
    if volume.positions[0] > 500:  # another table position
        matrix = _affine(np.array([0.0, 0.0, 900.0]), 0.0, 1.0) @ matrix
    return np.round(matrix, 8)


def _affine(shift: NDArray[np.float64], degrees: float, stretch: float) -> NDArray[np.float64]:
    """Rotation about z by `degrees`, stretch along z, then `shift` (mm)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, stretch, 0], [0, 0, 0, 1.0]])
    matrix[:3, 3] = shift
    return matrix


def _bodies(plan: PatientPlan, course: Course) -> tuple[Body, Body]:
    before, after = (
        make_body(
            plan.seed,
            plan.patient_id,
            liver_height=plan.liver_height,
            tumour_mm=course.tumour_mm,
            viable=viable,
            scale=scale,
        )
        for viable, scale in ((course.viable[0], 1.0), (course.viable[1], course.shrink))
    )
    return before, after


def _add_table(tissue: NDArray[np.uint8], grid: _Grid, body: Body) -> None:
    """Put the scanner's table, a shallow cradle that does not breathe, under the body."""
    axis = grid.axis
    surface = body.depth + 5.0 - 30.0 * (axis / 200.0) ** 2
    depth = axis[:, None] - surface[None, :]
    air = tissue == Tissue.AIR
    wide = (np.abs(axis) < 205)[None, :]
    tissue[air & ((depth > 0) & (depth < 34) & wide)] = Tissue.TABLE_FOAM
    shell = wide & (depth > 0) & (depth < 34) & ((depth < 4) | (depth > 30))
    tissue[air & shell] = Tissue.TABLE_SHELL


def _outside(pixels: int) -> NDArray[np.bool_]:
    at = np.arange(pixels) - (pixels - 1) / 2
    return np.asarray(np.hypot(at[:, None], at[None, :]) > pixels / 2)


def _clock(seconds: float) -> str:
    whole = int(seconds) % 86400
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}"


def _start(plan: PatientPlan, visit: int) -> int:
    """Return when an examination began, seconds of the day."""
    return int(generator("clock", plan.seed, plan.patient_id, visit).integers(7 * 3600, 22 * 3600))


def _header(plan: PatientPlan, series: SeriesPlan, volume: VolumePlan, grid: _Grid) -> SeriesHeader:
    day = generator("scanner", plan.seed, plan.patient_id, series.visit)
    kvp, oral = int(day.choice([120, 120, 140])), bool(day.random() < 0.7)
    export = _EXPORTS[int(day.integers(len(_EXPORTS)))]
    table = round(float(day.uniform(135.0, 170.0)), 1)
    enhanced = series.volumes[0].phase != "pre_contrast"
    return SeriesHeader(
        patient_id=plan.patient_id, study_uid=series.study_uid, series_uid=series.series_uid,
        frame_of_reference_uid=series.frame_of_reference_uid, study_date=series.study_date,
        step_time=_clock(_start(plan, series.visit)), days=plan.days(series.study_date),
        study_description=export, series_description=series.description, series_number=series.number,
        contrast_route="Oral & IV" if oral and enhanced else "IV" if enhanced else "Oral" if oral else "",
        pixels=grid.pixels, pixel_spacing=grid.spacing, origin=grid.origin, kvp=kvp, table_height=table,
        thickness=min(volume.spacing, _THICKEST),
        signed=not (plan.patient_id == "HCC_065" and series.visit == 0), named=plan.patient_id == "HCC_017",
    )  # fmt: skip


def _slice_headers(plan: PatientPlan, series: SeriesPlan, volume: VolumePlan, before: int) -> list[SliceHeader]:
    """Return what differs between the slices of a volume, feet to head; `before` files of the series come first."""
    # All images of a series are reconstructed in one go, when its last sweep is over.
    begun = _start(plan, series.visit) + _RECONSTRUCTED[series.volumes[-1].phase]
    g = generator("dose", plan.seed, plan.patient_id, series.visit)
    base, lungs, swing = g.uniform(310, 590), g.uniform(0.58, 0.75), g.uniform(0.02, 0.05)
    if plan.patient_id == "HCC_048":  # below the paper's range, as its real files are
        base, lungs = 180.0, 0.6
    count = len(volume.positions)
    headers = []
    for k, z in enumerate(volume.positions):
        # The tube current follows the body: little for the lungs, most for the liver.
        share = lungs + (1.0 - lungs) / (1.0 + math.exp((z - 0.35 * plan.liver_height) / 14.0))
        number = before + count - k  # the scanner counts from the head down
        headers.append(
            SliceHeader(
                sop_uid=twin_uid("slice", series.series_uid, volume.volume, k), instance=number,
                acquisition=volume.acquisition, z=z, made=_clock(begun + _PER_SLICE * (number - 1)),
                current=round(base * (share + swing * math.sin(z / 31.0))),
            )
        )  # fmt: skip
    return headers


def write_patient(plan: PatientPlan, out: Path, table_rows: dict[str, dict[str, Any]]) -> PatientResult:
    """Write all files of one patient under `out`, the folder of the patient appearing only when it is whole.

    Parameters
    ----------
    plan : PatientPlan
        What to write.
    out : Path
        Root of the twin.
    table_rows : dict
        Address (`bucket`, `prefix`) of each series by its UID in the twin.
    """
    course = draw_course(plan.seed, plan.patient_id)
    bodies = _bodies(plan, course)
    grids = tuple(_grid(plan, bodies[0], visit) for visit in (0, 1))
    result = PatientResult(patient_id=plan.patient_id)
    folder = out / f".{plan.patient_id}.{uuid4().hex[:8]}.part"
    folder.mkdir(parents=True)
    try:
        truth: NDArray[np.uint8] | None = None
        sources: list[Dataset] = []
        elsewhere: list[Dataset] = []
        for series in plan.series:
            labels, headers = _write_series(plan, series, bodies[series.visit], grids[series.visit], folder, result)
            if series.series_uid == plan.segmentation.annotated_series:
                truth, sources = labels, headers
            elif plan.patient_id == "HCC_089" and series.visit == 0 and series.volumes[0].phase == "pre_contrast":
                elsewhere = headers
            size = sum(path.stat().st_size for path in _series_folder(folder, series).iterdir())
            result.series_rows.append(_table_row(plan, series, series.files, size, table_rows))
        if truth is None:
            raise RuntimeError(f"the plan of {plan.patient_id} annotates no volume")
        _write_annotations(plan, truth, sources, elsewhere, grids[0], folder, out, result, table_rows)
        visits = sorted({one.study_date for one in plan.series})
        result.clinical = clinical_row(plan.seed, plan.patient_id, course, visits)
        final = out / plan.patient_id
        if final.exists():
            shutil.rmtree(final)
        folder.rename(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _series_folder(folder: Path, series: SeriesPlan) -> Path:
    return folder / series.study_uid / f"CT_{series.series_uid}"


def _write_series(
    plan: PatientPlan, series: SeriesPlan, body: Body, grid: _Grid, folder: Path, result: PatientResult
) -> tuple[NDArray[np.uint8] | None, list[Dataset]]:
    """Write one CT series; return labels and headers of its annotated (or else first) volume, feet to head."""
    target = _series_folder(folder, series)
    target.mkdir(parents=True)
    seg = plan.segmentation
    wanted = seg.annotated_volume if series.series_uid == seg.annotated_series else None
    kept: list[NDArray[np.uint8]] = []
    headers: list[Dataset] = []
    outside = _outside(grid.pixels)
    sigma, blur = _QUALITY[grid.pixels]
    before = 0
    for volume in series.volumes:
        header = _header(plan, series, volume, grid)
        writer = SliceWriter(header)
        motion = _motion(plan, series, volume)
        table = tissue_hu(plan.seed, plan.patient_id, series.visit, volume.phase)
        heights = np.array(volume.positions, np.float32)
        own = _slice_headers(plan, series, volume, before)
        before += len(own)
        for start in range(0, len(heights), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(heights)))
            tissue, label = paint(
                body, grid.axis, grid.axis, heights[part], motion, necrosis=plan.patient_id == "HCC_017"
            )
            _add_table(tissue, grid, body)
            rng = generator("noise", plan.seed, series.real_series_uid, volume.volume, start)
            hu = render(tissue, table, rng, sigma=sigma, blur=blur)
            if header.signed:
                hu[:, outside] = OUTSIDE_HU
            for k in range(part.start, part.stop):
                if k not in volume.omitted:
                    (target / f"{own[k].sop_uid}.dcm").write_bytes(writer.slice(hu[k - start], own[k]))
            if wanted == volume.volume:
                kept.append(label)
        if wanted == volume.volume or (plan.patient_id == "HCC_089" and wanted is None and volume.volume == 0):
            headers = [_source(header, one) for one in own]
        _note(plan, series, volume, [one.sop_uid for one in own], motion, result)
    return (np.concatenate(kept) if kept else None), headers


def _source(header: SeriesHeader, one: SliceHeader) -> Dataset:
    dataset = slice_dataset(header, one)
    dataset.file_meta = file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID)
    return dataset


def _note(
    plan: PatientPlan, series: SeriesPlan, volume: VolumePlan, uids: list[str], motion: NDArray[np.float64],
    result: PatientResult,
) -> None:  # fmt: skip
    """Record the ground truth of one volume."""
    place = {"patient_id": plan.patient_id, "study_uid": series.study_uid, "series_uid": series.series_uid}
    result.phase_rows += [
        {**place, "sop_uid": uid, "volume": volume.volume, "phase": volume.phase}
        for k, uid in enumerate(uids)
        if k not in volume.omitted
    ]
    result.transforms.append(
        {**place, "volume": volume.volume, "phase": volume.phase, "annotated_to_volume": motion.tolist()}
    )
    seg = plan.segmentation
    if series.series_uid == seg.annotated_series and volume.volume == seg.annotated_volume:
        result.annotated = {
            "patient_id": plan.patient_id, "series_uid": series.series_uid, "volume": volume.volume,
            "phase": volume.phase,
        }  # fmt: skip


def _table_row(
    plan: PatientPlan, series: Any, instances: int, size: int, table_rows: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    day = series.study_date
    return {
        "patient_id": plan.patient_id, "study_uid": series.study_uid, "study_date": f"{day[:4]}-{day[4:6]}-{day[6:]}",
        "series_uid": series.series_uid, "modality": "CT" if isinstance(series, SeriesPlan) else "SEG",
        "series_number": series.number, "series_description": series.description, "instances": instances,
        "bytes": size, **table_rows[series.series_uid], "source": "collection",
    }  # fmt: skip


def _write_annotations(
    plan: PatientPlan, truth: NDArray[np.uint8], sources: list[Dataset], elsewhere: list[Dataset], grid: _Grid,
    folder: Path, out: Path, result: PatientResult, table_rows: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    """Write readers, their fusion as SEG, and the true labels."""
    heights = [float(one.ImagePositionPatient[2]) for one in sources]
    step = abs(heights[1] - heights[0]) if len(heights) > 1 else 1.0
    affine = _ras_affine(grid, heights)
    readings = simulate_readers(truth, (step, grid.spacing, grid.spacing), seed=plan.seed, patient_id=plan.patient_id)
    for reading in readings:
        write_labels(out / "annotations" / reading.name / f"{plan.patient_id}.nii.gz", reading.labels, affine)
    write_labels(out / "truth" / "labels" / f"{plan.patient_id}.nii.gz", truth, affine)
    result.readers = {
        reading.name: {
            str(label): {"sensitivity": reading.sensitivity[label], "specificity": reading.specificity[label]}
            for label in reading.sensitivity
        }
        for reading in readings
    }
    seg = plan.segmentation
    target = folder / seg.study_uid / f"SEG_{seg.series_uid}"
    target.mkdir(parents=True)
    path = target / f"{twin_uid('seg', plan.seed, plan.patient_id)}.dcm"
    write_segmentation(path, plan, fuse([reading.labels for reading in readings]), sources, elsewhere)
    result.series_rows.append(_table_row(plan, seg, 1, path.stat().st_size, table_rows))


def _ras_affine(grid: _Grid, heights: list[float]) -> NDArray[np.float64]:
    """Affine of a NIfTI image indexed (column, row, slice); NIfTI's axes are right, anterior, superior."""
    step = (heights[-1] - heights[0]) / (len(heights) - 1)
    affine = np.diag([-grid.spacing, -grid.spacing, step, 1.0])
    affine[:3, 3] = (-grid.origin, -grid.origin, heights[0])
    return affine
