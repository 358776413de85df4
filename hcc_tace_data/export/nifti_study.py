"""One study as NIfTI: its segmentations, and the CT volumes they were drawn on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.collection.annotated import AnnotatedVolume, find_annotated
from hcc_tace_data.collection.regions import regions_of
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import HccTaceError, OutputError
from hcc_tace_data.export.output_folder import ExportRecord, begin_record, write_record
from hcc_tace_data.labels.annotations import LOST_FILE
from hcc_tace_data.open import Series
from hcc_tace_data.system.files import write_json
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.nifti import write_nifti

if TYPE_CHECKING:
    from hcc_tace_data.dicom.seg import SegmentationOnGrid
    from hcc_tace_data.open import Collection, Series, Study

__all__ = ["Phases", "VolumePhase", "export_study", "phases_in", "phases_of", "record_name", "study_digest"]

#: SeriesInstanceUID and number of the volume in it -> its phase.
Phases = dict[tuple[str, int], "VolumePhase"]


@dataclass(frozen=True, slots=True)
class VolumePhase:
    """The contrast phase of a CT volume and its probability."""

    phase: str = "unknown"
    confidence: float = 0.0


def phases_of(collection: Collection) -> Phases:
    """Return the phase of every CT volume of a collection, from headers and tables."""
    return {
        (str(row["series_uid"]), int(row["volume"])): VolumePhase(str(row["phase"]), round(float(row["confidence"]), 4))
        for row in collection.phase_volumes.to_dict("records")
    }


def phases_in(study: Study, phases: Phases) -> Phases:
    """Return the phases of the volumes of one study."""
    own = {series.series_uid for series in study.series}
    return {key: phase for key, phase in phases.items() if key[0] in own}


def record_name(study: Study) -> str:
    """Return what the record of a study is called."""
    return f"{safe_name(study.patient_id)}-{_digest(study.study_uid, 12)}"


def study_digest(study: Study, phases: Phases) -> str:
    """Return digits that change when a phase or a file of the study does: in name, size or time of change."""
    files = study.instances[["path", "size", "mtime_ns"]].sort_values("path").to_csv(index=False)
    return _digest(files + str(sorted(phases_in(study, phases).items(), key=lambda item: item[0])), 16)


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


@dataclass(kw_only=True)
class _Work:
    """What has been written of a study, and what was left out."""

    out: Path
    stem: Path
    name: str
    patient_id: str
    phases: Phases
    files: list[Path] = field(default_factory=list)
    scans: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)

    def begin(self, *paths: Path) -> None:
        """Note files before they are written."""
        self.files += paths
        begin_record(self.out, self.name, self.patient_id, self.files)

    def volume_name(self, series: Series, volume: int, region: int = 0) -> str:
        """Return the path of a volume's files without their suffix; series of one number differ by their UIDs.

        `region` counts from 1; 0 is the whole volume.
        """
        number = "x" if series.number is None else str(series.number)
        phase = self.phase(series, volume).phase
        contrast = "" if phase == "unknown" else f"_ce-{phase.replace('_', '')}"
        chunk = f"_chunk-{region}" if region else ""
        return f"{self.stem}_acq-{number}x{_digest(series.series_uid, 6)}{contrast}_run-{volume + 1}{chunk}"

    def phase(self, series: Series, volume: int) -> VolumePhase:
        """Return the phase of a volume."""
        return self.phases.get((series.series_uid, volume), VolumePhase())

    def note(self, path: Path, kind: str, series: Series, volume: int) -> None:
        """Note what a file is, for the table of the session."""
        found = self.phase(series, volume)
        self.scans.append(
            {
                "filename": path.relative_to(self.out).as_posix(),
                "kind": kind,
                "phase": found.phase,
                "phase_confidence": found.confidence,
                "series_uid": series.series_uid,
                "volume": volume,
            }
        )


def export_study(study: Study, out: Path, subject: str, phases: Phases, all_volumes: bool) -> ExportRecord:
    """Write one study; `subject` is the patient's name in file names."""
    session = re.sub(r"[^0-9A-Za-z]", "", study.date) or "unknown"
    stem = out / f"sub-{subject}" / f"ses-{session}" / f"sub-{subject}_ses-{session}"
    work = _Work(out=out, stem=stem, name=record_name(study), patient_id=study.patient_id, phases=phases)
    written: set[tuple[str, int, int]] = set()
    for series in study.series:
        if series.modality == "SEG":
            for number in range(len(series.instances)):
                _export_seg(study, series, number, work, written)
    for series in study.series if all_volumes else ():
        if series.modality != "CT":
            continue
        for volume, part in enumerate(series.volumes):
            if (series.series_uid, volume, 0) not in written:
                _export_ct(series, volume, [series.root / path for path in part["path"]], work, written)
    record = ExportRecord(
        name=work.name,
        patient_id=study.patient_id,
        digest=study_digest(study, phases),
        files={path.relative_to(out).as_posix(): path.stat().st_size for path in work.files},
        sources={
            "study_uid": study.study_uid, "study_date": study.date, "skipped": work.skipped, "known": work.known,
            "scans": work.scans,
        },
    )  # fmt: skip
    write_record(out, record)
    return record


def _export_seg(study: Study, series: Series, number: int, work: _Work, written: set[tuple[str, int, int]]) -> None:
    """Write one SEG file and, once, the CT it was drawn on."""
    one = Series(series.root, series.instances.iloc[number : number + 1], catalog=series.catalog)
    named = f"SEG {one.instances['sop_uid'].iloc[0]}"
    try:
        found = find_annotated(study, one)
        if found.volume is None:
            work.skipped.append(f"{named}: cannot tell which CT was annotated: {found.reason}")
            return
        ct = next(item for item in study.series if item.series_uid == found.volume.series_uid)
        region = _region(ct, found)
        volume = _export_ct(ct, found.volume.volume, list(found.paths), work, written, region)
        if volume is None:
            work.skipped.append(f"{named}: its CT cannot be written")
            return
        seg = read_seg(one.paths[0], like=volume, on_off_grid="drop")
    except OutputError:  # a full disk stops the export
        raise
    except HccTaceError as error:
        work.skipped.append(f"{named}: {error}")
        return
    if seg.lost:
        # of a missing CT file every segment has a frame, no more
        expected = study.catalog.has_known_issue(LOST_FILE, study.patient_id) and len(seg.lost) <= len(seg.segments)
        message = f"{named}: {count(len(seg.lost), 'frame')} with voxels set off the CT"
        (work.known if expected else work.skipped).append(message)
    base = f"{work.volume_name(ct, found.volume.volume, region)}_desc-{_seg_name(study, series, number)}"
    work.note(_write_segments(base, seg, one, work), "segmentation", ct, found.volume.volume)


def _region(ct: Series, found: AnnotatedVolume) -> int:
    """Return which region of its volume, from 1, was annotated; 0 for a whole volume."""
    regions = regions_of(ct.volumes[found.volume.volume]) if found.volume is not None else []
    names = [{str(ct.root / path) for path in region["path"]} for region in regions]
    own = {str(path) for path in found.paths}
    return names.index(own) + 1 if len(names) > 1 and own in names else 0


def _write_segments(base: str, seg: SegmentationOnGrid, series: Series, work: _Work) -> Path:
    """Write label map, masks where segments overlap or are fractional, and what the numbers mean; return the first."""
    overlapping = len(seg.segments) > 1 and bool((np.count_nonzero(seg.array, axis=0) > 1).any())
    sidecar = {
        "SOPInstanceUID": str(series.instances["sop_uid"].iloc[0]),
        "SeriesInstanceUID": series.series_uid,
        "Overlapping": overlapping,
        "LostFrames": len(seg.lost),
        "Segments": [
            {
                "Number": item.number,
                "Label": item.label,
                "Category": dict(zip(("Value", "Scheme", "Meaning"), item.category, strict=True)),
                "Type": dict(zip(("Value", "Scheme", "Meaning"), item.type, strict=True)),
                "Algorithm": item.algorithm,
            }
            for item in seg.segments
        ],
    }
    suffix = "probseg" if seg.fractional else "mask"
    masks = [
        (Path(f"{base}_label-{item.number}_{suffix}.nii.gz"), mask)
        for item, mask in zip(seg.segments, seg.array, strict=True)
        if overlapping or seg.fractional
    ]
    arrays = [(Path(f"{base}_dseg.nii.gz"), seg.label_map()), *masks]
    work.begin(*(path for path, _ in arrays), Path(f"{base}_dseg.json"))
    for path, array in arrays:
        write_nifti(path, array, seg.affine)
    write_json(Path(f"{base}_dseg.json"), sidecar)
    return arrays[0][0]


def _export_ct(
    series: Series, number: int, paths: list[Path], work: _Work, written: set[tuple[str, int, int]], region: int = 0
) -> Any:
    """Write one CT volume unless it was written; return it, or None with the reason among what was left out."""
    from hcc_tace_data.dicom.ct import read_ct  # noqa: PLC0415 - its libraries are slow to import

    try:
        volume = read_ct(paths, on_gap="fill")
    except HccTaceError as error:
        work.skipped.append(f"CT series {series.number}: {error}")
        return None
    if (series.series_uid, number, region) in written:
        return volume
    base = work.volume_name(series, number, region)
    image, details = Path(f"{base}_ct.nii.gz"), Path(f"{base}_ct.json")
    work.begin(image, details)
    write_nifti(image, volume.array, np.asarray(volume.affine))
    sidecar = {
        "SeriesInstanceUID": series.series_uid,
        "SeriesDescription": series.description,
        "Volume": number,
        **({"Region": region} if region else {}),
        "SlicesRead": len(volume.positions),
        "SlicesFilled": len(volume.array) - len(volume.positions),
        "Units": "HU",
        "Phase": work.phase(series, number).phase,
        "PhaseConfidence": work.phase(series, number).confidence,
    }
    write_json(details, sidecar)
    work.note(image, "image", series, number)
    written.add((series.series_uid, number, region))
    return volume


def _seg_name(study: Study, series: Series, number: int) -> str:
    segs = [item.series_uid for item in study.series if item.modality == "SEG"]
    return f"seg{segs.index(series.series_uid) + 1}" + (f"file{number + 1}" if len(series.instances) > 1 else "")
