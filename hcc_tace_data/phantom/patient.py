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
from hcc_tace_data.phantom.dicom_ct import PADDING, SeriesHeader, SliceWriter, slice_dataset
from hcc_tace_data.phantom.dicom_seg import write_segmentation
from hcc_tace_data.phantom.enhancement import Tissue, tissue_hu
from hcc_tace_data.phantom.nifti import write_labels
from hcc_tace_data.phantom.noise import render
from hcc_tace_data.phantom.plan import PatientPlan, SeriesPlan, VolumePlan
from hcc_tace_data.phantom.readers import fuse, simulate_readers
from hcc_tace_data.phantom.seeding import generator, twin_uid
from hcc_tace_data.phantom.sheet import Course, clinical_row, draw_course

__all__ = ["PatientResult", "write_patient"]

_DELAY = {"pre_contrast": 0, "arterial": 150, "portal_venous": 193, "delayed": 420}
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


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def _header(plan: PatientPlan, series: SeriesPlan, volume: VolumePlan, grid: _Grid) -> SeriesHeader:
    day = generator("clock", plan.seed, plan.patient_id, series.visit)
    start = int(day.integers(8 * 3600, 17 * 3600))
    kvp, agent = int(day.choice([120, 120, 140])), bool(day.random() < 0.5)
    export = _EXPORTS[int(day.integers(len(_EXPORTS)))]
    first = series.volumes[0].phase
    if series.split == "order":
        acquired, number = start + _DELAY[first], 1
    else:
        acquired = start + _DELAY[volume.phase]
        number = 1 + (volume.volume if series.split == "number" else 0)
    real = plan.patient_id == "HCC_065"
    return SeriesHeader(
        patient_id=plan.patient_id, study_uid=series.study_uid, series_uid=series.series_uid,
        frame_of_reference_uid=series.frame_of_reference_uid, study_date=series.study_date, study_time=_clock(start),
        series_time=_clock(start + _DELAY[first]), acquisition_time=_clock(acquired), content_time=_clock(acquired + 9),
        study_description=export, series_description=series.description, series_number=series.number,
        acquisition_number=None if real and series.visit == 0 else number,
        contrast_agent="OMNIPAQUE" if agent and first != "pre_contrast" else "",
        pixels=grid.pixels, pixel_spacing=grid.spacing, origin=grid.origin, kvp=kvp,
        thickness=min(volume.spacing, _THICKEST),
        signed=not (real and series.visit == 0), named=plan.patient_id == "HCC_017",
    )  # fmt: skip


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
    instance = 0
    outside = _outside(grid.pixels)
    sigma, blur = _QUALITY[grid.pixels]
    for volume in series.volumes:
        header = _header(plan, series, volume, grid)
        writer = SliceWriter(header)
        motion = _motion(plan, series, volume)
        table = tissue_hu(plan.seed, plan.patient_id, series.visit, volume.phase)
        heights = np.array(volume.positions, np.float32)
        uids = [twin_uid("slice", series.series_uid, volume.volume, k) for k in range(len(heights))]
        numbers = [instance + len(heights) - k for k in range(len(heights))]  # the scanner counts from the head down
        instance += len(heights)
        for start in range(0, len(heights), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(heights)))
            tissue, label = paint(
                body, grid.axis, grid.axis, heights[part], motion, necrosis=plan.patient_id == "HCC_017"
            )
            _add_table(tissue, grid, body)
            rng = generator("noise", plan.seed, series.real_series_uid, volume.volume, start)
            hu = render(tissue, table, rng, sigma=sigma, blur=blur)
            if header.signed:
                hu[:, outside] = PADDING - 1024
            for k in range(part.start, part.stop):
                if k not in volume.omitted:
                    data = writer.slice(hu[k - start], sop_uid=uids[k], instance=numbers[k], z=volume.positions[k])
                    (target / f"{uids[k]}.dcm").write_bytes(data)
            if wanted == volume.volume:
                kept.append(label)
        if wanted == volume.volume or (plan.patient_id == "HCC_089" and wanted is None and volume.volume == 0):
            headers = [
                _source(header, uid, number, z) for uid, number, z in zip(uids, numbers, volume.positions, strict=True)
            ]
        _note(plan, series, volume, uids, motion, result)
    return (np.concatenate(kept) if kept else None), headers


def _source(header: SeriesHeader, uid: str, number: int, z: float) -> Dataset:
    from pydicom.dataset import FileMetaDataset  # noqa: PLC0415 - slow to import
    from pydicom.uid import ExplicitVRLittleEndian  # noqa: PLC0415 - slow to import

    dataset = slice_dataset(header, sop_uid=uid, instance=number, z=z)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
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
