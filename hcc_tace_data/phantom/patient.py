"""One twin patient: bodies, motions, CT files, readers, SEG. Runs in a worker process and writes one folder."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from hcc_tace_data.phantom.anatomy import Painted, paint
from hcc_tace_data.phantom.body import LABELS, Body, draw_bodies
from hcc_tace_data.phantom.breathing import Motion, volume_motion
from hcc_tace_data.phantom.canvas import Array, Canvas
from hcc_tace_data.phantom.dicom_ct import SeriesHeader, SliceHeader, SliceWriter, file_meta, slice_dataset
from hcc_tace_data.phantom.dicom_seg import write_segmentation
from hcc_tace_data.phantom.enhancement import Tissue, tissue_hu
from hcc_tace_data.phantom.nifti import write_labels
from hcc_tace_data.phantom.noise import Grain, Texture, grain, render
from hcc_tace_data.phantom.plan import PatientPlan, SeriesPlan, VolumePlan
from hcc_tace_data.phantom.readers import fuse, simulate_readers
from hcc_tace_data.phantom.seeding import generator, twin_uid
from hcc_tace_data.phantom.sheet import clinical_row, draw_course

__all__ = ["PatientResult", "write_patient"]

#: Seconds from the start of an examination to the reconstruction of a sweep, and for one slice.
_RECONSTRUCTED = {"pre_contrast": 95, "arterial": 262, "portal_venous": 331, "delayed": 590}
_PER_SLICE = 0.225
#: Noise against that of the real images, and blur (weight of a neighbour), by number of pixels: coarse pixels average
#: noise and hide the blur.
_QUALITY = {64: (0.3, 0.02), 128: (0.45, 0.06), 512: (1.0, 0.25)}
#: Share of the spread of HU within an organ that is uneven tissue and not noise: liver; tumour.
_UNEVEN = (0.3, 0.45)
_LANDMARKS = 300
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
    """In-plane grid of one visit: pixel spacing and first pixel centre (x, y), mm."""

    pixels: int
    spacing: float
    origin: tuple[float, float]

    def axis(self, which: int) -> NDArray[np.float32]:
        """Return the coordinates of columns (0) or rows (1)."""
        return (self.origin[which] + self.spacing * np.arange(self.pixels)).astype(np.float32)


def _grid(plan: PatientPlan, visit: int) -> _Grid:
    """Return the grid of a visit; a smaller twin has larger pixels over the same field of view."""
    person = plan.person
    g = generator("grid", plan.seed, plan.patient_id, visit)
    factor = 512 / plan.size.pixels
    wider = float(g.uniform(0.96, 1.08)) if visit else 1.0
    own = person.pixel * wider
    spacing = round(own * factor, 6)
    middle = [start + person.pixel * 255.5 + (float(g.normal(0, 6.0)) if visit else 0.0) for start in person.origin]
    x, y = (round(at - spacing * (plan.size.pixels - 1) / 2, 6) for at in middle)
    return _Grid(plan.size.pixels, spacing, (x, y))


@dataclass(frozen=True, slots=True)
class _Look:
    """How a patient's images look: noise, uneven tissue of liver and tumour, and the strength of each in HU."""

    noise: Grain
    liver: Texture
    tumour: Texture
    sigma: float
    uneven: tuple[float, float]


def _look(plan: PatientPlan) -> _Look:
    person = plan.person
    g = generator("look", plan.seed, plan.patient_id)
    liver = _UNEVEN[0] * person.liver_sd
    sigma = math.sqrt(person.liver_sd**2 - liver**2)
    tumour = max(math.sqrt(max(person.tumour_sd**2 - sigma**2, 0.0)), _UNEVEN[1] * person.tumour_sd)
    return _Look(
        grain(g, plan.size.pixels), Texture(g, float(g.uniform(5, 12))),
        Texture(g, float(g.uniform(8, 24)), mosaic=float(g.uniform(0, 0.9))), sigma, (liver, tumour),
    )  # fmt: skip


def _uneven(painted: Painted, look: _Look) -> tuple[NDArray[np.int64], Array]:
    """Return the flat indices of liver and tumour, and what their texture adds, HU."""
    flat = painted.tissue.ravel()
    parts, values = [], []
    for codes, texture, strength in (
        ((Tissue.LIVER,), look.liver, look.uneven[0]),
        ((Tissue.TUMOUR, Tissue.CAPSULE), look.tumour, look.uneven[1]),
    ):
        at = np.flatnonzero(flat == codes[0]) if len(codes) == 1 else np.flatnonzero(np.isin(flat, codes))
        parts.append(at)
        values.append(texture.at(*painted.canvas.at(at)) * np.float32(strength))
    return np.concatenate(parts), np.concatenate(values)


def _add_table(tissue: NDArray[np.uint8], grid: _Grid, body: Body) -> None:
    """Put the scanner's table, a shallow cradle that does not breathe, under the body."""
    x, y = grid.axis(0) - body.origin[0], grid.axis(1) - body.origin[1]
    back = body.cavity[1] + body.muscle + body.fat + 2.5
    depth = y[:, None] - (back + 5.0 - 30.0 * (x / 200.0) ** 2)[None, :]
    place = (depth > 0) & (depth < 34) & (np.abs(x) < 205)[None, :]
    rows = slice(int(place.any(axis=1).argmax()), None) if place.any() else slice(0, 0)
    part, place, depth = tissue[:, rows], place[rows], depth[rows]
    air = part == Tissue.AIR
    part[air & place] = Tissue.TABLE_FOAM
    part[air & place & ((depth < 4) | (depth > 30))] = Tissue.TABLE_SHELL


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
        outside=plan.person.outside,
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
    above = plan.person.liver.low[2] + 0.85 * plan.person.liver.size[2]
    headers = []
    for k, z in enumerate(volume.positions):
        # The tube current follows the body: little for the lungs, most for the liver.
        share = lungs + (1.0 - lungs) / (1.0 + math.exp((z - series.shift - above) / 14.0))
        number = before + count - k  # the scanner counts from the head down
        headers.append(
            SliceHeader(
                sop_uid=twin_uid("slice", series.series_uid, volume.volume, k), instance=number,
                acquisition=volume.number(k), z=z, made=_clock(begun + _PER_SLICE * (number - 1)),
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
    bodies = draw_bodies(plan.person, shrink=course.shrink, viable=course.viable)
    grids = tuple(_grid(plan, visit) for visit in (0, 1))
    look = _look(plan)
    result = PatientResult(patient_id=plan.patient_id)
    folder = out / f".{plan.patient_id}.{uuid4().hex[:8]}.part"
    folder.mkdir(parents=True)
    try:
        truth: NDArray[np.uint8] | None = None
        sources: list[Dataset] = []
        elsewhere: list[Dataset] = []
        for series in plan.series:
            scene = _Scene(bodies[series.visit], grids[series.visit], look)
            labels, headers = _write_series(plan, series, scene, folder, result)
            if series.series_uid == plan.segmentation.annotated_series:
                lower = series.volumes[plan.segmentation.annotated_volume].lower
                truth, sources = None if labels is None else labels[lower:], headers[lower:]
            elif plan.patient_id == "HCC_089" and series.visit == 0 and series.volumes[0].phase == "pre_contrast":
                elsewhere = headers
            size = sum(path.stat().st_size for path in _series_folder(folder, series).iterdir())
            result.series_rows.append(_table_row(plan, series, series.files, size, table_rows))
        if truth is None:
            raise RuntimeError(f"the plan of {plan.patient_id} annotates no volume")
        _write_annotations(plan, truth, sources, elsewhere, grids[0], folder, out, result, table_rows)
        visits = sorted({one.study_date for one in plan.series})
        course = replace(course, tumour_mm=_longest_diameter(truth, grids[0].spacing) or course.tumour_mm)
        result.clinical = clinical_row(plan.seed, plan.patient_id, course, visits)
        final = out / plan.patient_id
        if final.exists():
            shutil.rmtree(final)
        folder.rename(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


@dataclass(frozen=True, slots=True)
class _Scene:
    """What the images of a visit show."""

    body: Body
    grid: _Grid
    look: _Look


def _longest_diameter(labels: NDArray[np.uint8], spacing: float) -> float:
    """Return the longest diameter of the mass within one slice, mm, edges of pixels included; 0 without a mass."""
    longest = 0.0
    for one in labels:
        rows, columns = np.nonzero(np.isin(one, (LABELS["mass"], LABELS["necrosis"])))
        if not rows.size:
            continue
        # the ends of a diameter are ends of their rows
        first = np.unique(rows, return_index=True)[1]
        ends = np.concatenate([first, np.append(first[1:], rows.size) - 1])
        points = np.stack([rows[ends], columns[ends]], axis=1).astype(np.float32)
        apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max()
        longest = max(longest, (float(apart) + 1.0) * spacing)
    return round(longest, 1)


def _series_folder(folder: Path, series: SeriesPlan) -> Path:
    return folder / series.study_uid / f"CT_{series.series_uid}"


def _write_series(
    plan: PatientPlan, series: SeriesPlan, scene: _Scene, folder: Path, result: PatientResult
) -> tuple[NDArray[np.uint8] | None, list[Dataset]]:
    """Write one CT series; return labels and headers of its annotated (or else first) volume, feet to head."""
    target = _series_folder(folder, series)
    target.mkdir(parents=True)
    seg = plan.segmentation
    wanted = seg.annotated_volume if series.series_uid == seg.annotated_series else None
    kept: list[NDArray[np.uint8]] = []
    headers: list[Dataset] = []
    grid, body, look = scene.grid, scene.body, scene.look
    outside = _outside(grid.pixels)
    share, blur = _QUALITY[grid.pixels]
    shares = body.lesions.shares
    before = 0
    for volume in series.volumes:
        header = _header(plan, series, volume, grid)
        writer = SliceWriter(header)
        motion = volume_motion(plan, series, volume, body.origin)
        table = tissue_hu(plan.person, series.visit, volume.phase, shares=shares, drink=body.oral)
        heights = np.array(volume.positions, np.float32)
        own = _slice_headers(plan, series, volume, before)
        before += len(own)
        for start in range(0, len(heights), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(heights)))
            canvas = Canvas(grid.axis(0), grid.axis(1), heights[part], motion.affine, motion.bend)
            painted = paint(body, canvas, necrosis=plan.patient_id == "HCC_017")
            _add_table(painted.tissue, grid, body)
            rng = generator("noise", plan.seed, series.real_series_uid, volume.volume, start)
            noise = look.noise.slices(rng, len(painted.tissue))
            hu = render(painted.tissue, table, _uneven(painted, look), noise, sigma=share * look.sigma, blur=blur)
            if header.signed:
                hu[:, outside] = plan.person.outside
            for k in range(part.start, part.stop):
                if k not in volume.omitted:
                    (target / f"{own[k].sop_uid}.dcm").write_bytes(writer.slice(hu[k - start], own[k]))
            if wanted == volume.volume:
                kept.append(painted.label)
        if wanted == volume.volume or (plan.patient_id == "HCC_089" and wanted is None and volume.volume == 0):
            headers = [_source(header, one) for one in own]
        _note(plan, series, volume, [one.sop_uid for one in own], motion, body, result)
    return (np.concatenate(kept) if kept else None), headers


def _source(header: SeriesHeader, one: SliceHeader) -> Dataset:
    dataset = slice_dataset(header, one)
    dataset.file_meta = file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID)
    return dataset


def _note(
    plan: PatientPlan, series: SeriesPlan, volume: VolumePlan, uids: list[str], motion: Motion, body: Body,
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
        {
            **place,
            "volume": volume.volume,
            "phase": volume.phase,
            "annotated_to_volume": motion.from_annotated.tolist(),
            **_landmarks(body, motion),
        }
    )
    seg = plan.segmentation
    if series.series_uid == seg.annotated_series and volume.volume == seg.annotated_volume:
        result.annotated = {
            "patient_id": plan.patient_id, "series_uid": series.series_uid, "volume": volume.volume,
            "phase": volume.phase,
        }  # fmt: skip


def _landmarks(body: Body, motion: Motion) -> dict[str, Any]:
    """Return points of the liver in the annotated volume and in this one, mm, where breathing is not affine."""
    if motion.bend is None:
        return {}
    z, y, x = np.nonzero(body.liver.values > 0)
    chosen = slice(None, None, max(1, z.size // _LANDMARKS))
    on = body.liver.on
    points = np.stack([on.x[x[chosen]], on.y[y[chosen]], on.z[z[chosen]]], axis=1, dtype=np.float64)
    annotated, here = points + body.origin, motion.of(points)
    return {"annotated": np.round(annotated, 3).tolist(), "here": np.round(here, 3).tolist()}


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
    affine[:3, 3] = (-grid.origin[0], -grid.origin[1], heights[0])
    return affine
