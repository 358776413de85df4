"""HT4: does every SEG lead to the CT that it was drawn on?

All from headers: what the SEG cites, and where its frames lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.tolerance import SHARE, cluster_rows, direction_bound, position_bound, same_spacing
from hcc_tace_data.system.masking import mask
from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.deid.free_text import suspicions
from hcc_tace_data.validators.facts.annotated import annotated_volumes
from hcc_tace_data.validators.facts.masks import segment_key
from hcc_tace_data.validators.facts.segs import seg_facts
from hcc_tace_data.validators.facts.slices import row_of_instance
from hcc_tace_data.validators.rule import Draft, Partly, Rule

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.annotated import AnnotatedVolume
    from hcc_tace_data.validators.facts.segs import SegFacts

__all__ = ["RULES"]

#: Frames nearer to a slice than this (mm) lie on it: decimal strings are rounded.
_EXACT_MM = 0.005
Found = Iterator[Draft | Partly]
Floats = npt.NDArray[np.float64]


def _each(context: Context) -> Iterator[tuple[int, SegFacts, AnnotatedVolume | None]]:
    for (row, facts), found in zip(context.fact(seg_facts), context.fact(annotated_volumes), strict=True):
        yield row, facts, found


def _missing(context: Context) -> Found:
    held = context.fact(row_of_instance)
    for row, facts in context.fact(seg_facts):
        gone = [uid for uid in facts.cited if uid not in held]
        if gone:
            yield Draft(
                message=f"{len(gone)} of {count(len(facts.cited), 'image')} that the segmentation cites "
                f"{verb(len(gone), 'is')} not here.",
                hint="Download the CT series again; masks on absent slices cannot be used.",
                at=context.place(row),
                evidence={"cited": len(facts.cited), "missing": gone[:20]},
            )


def _no_reference(context: Context) -> Found:
    for row, facts in context.fact(seg_facts):
        if not facts.series:
            yield Draft(
                message="The segmentation has no ReferencedSeriesSequence.",
                hint="Find the CT by its per-frame sources, or by geometry (find_annotated does both).",
                tag="00081115",
                at=context.place(row),
                evidence={"frames_with_sources": sum(bool(own) for own in facts.sources)},
            )


def _wrong_series(context: Context) -> Found:
    """The series that is cited must be the one that the masks fit."""
    table = context.instances
    held = context.fact(row_of_instance)
    studies = table.groupby("study_uid").indices
    series = table["series_uid"].tolist()
    for row, facts, found in _each(context):
        if found is None:
            continue
        # references out of the study are HT406, out of the frame of reference HT407
        study = studies[table["study_uid"].iloc[row]]
        own = {series[one] for one in study}
        cited = Counter(series[held[uid]] for uid in facts.cited if uid in held)
        cited.update({uid: 0 for uid, _ in facts.series if uid})
        cited = Counter({uid: count for uid, count in cited.items() if uid in own})
        if found.volume is None:
            rows = table.iloc[study]
            frames = set(rows.loc[rows["modality"] == "CT", "frame_of_reference_uid"])
            if cited and facts.frame_of_reference_uid in frames:
                yield Draft(
                    message=f"The CT volume of the segmentation cannot be determined: {found.reason}.",
                    hint="Compare frame positions with the slices of each series of the study.",
                    at=context.place(row),
                )
            continue
        wrong = [uid for uid in cited if uid != found.volume.series_uid]
        if wrong:
            yield Draft(
                message=f"The segmentation references series {wrong[0]}, but its frames lie on series "
                f"{found.volume.series_uid}.",
                hint="Use the series that its frames lie on; the reference is wrong.",
                tag="00081115",
                at=context.place(row),
                evidence={"referenced": wrong, "fits": found.volume.series_uid, "reason": found.reason},
            )


def _volume_rows(context: Context, found: AnnotatedVolume) -> pd.DataFrame:
    uids = found.volume.sop_uids if found.volume is not None else ()
    held = context.fact(row_of_instance)
    return context.instances.iloc[[held[uid] for uid in uids]]


def _axes(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return row and column direction, and slice positions (N, 3)."""
    first = rows[[f"orientation_{i}" for i in range(6)]].to_numpy(float)[0]
    return first, rows[["position_x", "position_y", "position_z"]].to_numpy(float)


def _off_grid(context: Context) -> Found:
    held = context.fact(row_of_instance)
    for row, facts, found in _each(context):
        if found is None or found.volume is None:
            yield Partly(f"the CT of SEG {context.place(row).sop_uid} cannot be determined")
            continue
        rows = _volume_rows(context, found)
        along, across = _distances(facts, rows)
        step, pixel = _near(rows)
        worst = np.maximum(along, np.where(across > pixel, across, 0.0))
        # a frame whose own slice is not here (HT401) has no slice to lie on
        absent = np.array([bool(own) and not any(uid in held for uid in own) for own in facts.sources], dtype=bool)
        off = (worst > _EXACT_MM) & ~(absent if len(absent) == len(worst) else False)
        if off.any():
            lost = int(off.sum())
            beyond = int((off & ((along > step) | (across > pixel))).sum())
            segments = sorted(set(facts.frame_segments[off].tolist()))
            yield Draft(
                severity="error" if beyond else "warning",
                message=f"{lost} of {count(len(off), 'frame')} {verb(lost, 'does')} not lie on the CT's slices and "
                f"pixels: by up to {float(worst[off].max()):.3g} mm, {beyond} by more than a tenth of a voxel.",
                hint=_scaled(facts, rows)
                or "Place frames by position, with a tolerance; leave out those beyond it if they are empty."
                if beyond
                else "Place frames by position, with a tolerance: rounding, harmless to readers that have one.",
                at=context.place(row),
                evidence={
                    "frames": int(off.sum()),
                    "beyond": beyond,
                    "largest_mm": round(float(worst[off].max()), 4),
                    "segments": segments,
                },
            )


def _scaled(facts: SegFacts, rows: pd.DataFrame) -> str:
    """Return what to do where frames have another pixel spacing than the CT; empty where they have not."""
    own = facts.spacings[0]
    ct = rows[["spacing_row", "spacing_column"]].to_numpy(float)[0]
    if all(same_spacing(a, b, max(facts.size)) for a, b in zip(np.sort(own), np.sort(ct), strict=True)):
        return ""
    return (
        f"Its pixel spacing is {own[0]:.4g} x {own[1]:.4g} mm, the CT's {ct[0]:.4g} x {ct[1]:.4g} mm: find out which "
        "of the two is wrong, or resample the masks."
    )


def _near(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the bounds, mm along the normal and in the plane, beyond which frames are dropped when they are read."""
    orientation, slices = _axes(rows)
    along = np.sort(slices @ np.cross(orientation[:3], orientation[3:]))
    pixels = rows[["spacing_row", "spacing_column"]].to_numpy(float)[0]
    pixels = pixels[pixels > 0]  # HT505 tells of others
    step = float(np.median(np.diff(along))) if len(along) > 1 else 1.0
    return SHARE * step, SHARE * float(pixels.min() if len(pixels) else 1.0)


def _distances(facts: SegFacts, rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return how far (mm) each frame lies from the nearest slice, and how far in its plane from the pixels of the CT.

    In the plane, two opposite corners of the frame count: its position, and its size and pixel spacing. A frame may
    cover a part of the slice, and run the other way.
    """
    orientation, slices = _axes(rows)
    first = rows.iloc[0]
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    nearest = np.abs((facts.positions @ normal)[:, None] - (slices @ normal)[None, :]).argmin(axis=1)
    reach = facts.spacings * (np.array(facts.size) - 1)
    opposite = facts.positions + facts.orientations[:, 3:] * reach[:, :1] + facts.orientations[:, :3] * reach[:, 1:]
    corners = np.stack([facts.positions, opposite]) - slices[nearest]
    along = np.abs(corners @ normal).max(axis=0)
    across = np.zeros(len(along))
    for direction, spacing, extent in (
        (row, float(first["spacing_column"]), int(first["columns"])),
        (column, float(first["spacing_row"]), int(first["rows"])),
    ):
        if not spacing > 0:  # HT505 tells
            continue
        index = corners @ direction / spacing
        outside = np.maximum(-index, index - (extent - 1))
        off = np.maximum(np.abs(index - np.rint(index)), outside).max(axis=0)
        across = np.maximum(across, off * spacing)
    return along, across


def _orientation(context: Context) -> Found:
    for row, facts, found in _each(context):
        if found is None or found.volume is None or not len(facts.orientations):
            continue
        orientation, _ = _axes(_volume_rows(context, found))
        bound = direction_bound(max(facts.size))
        off = np.abs(facts.orientations - orientation).max(axis=1) > bound
        if off.any():
            apart = int(off.sum())
            turned = np.abs(np.abs(facts.orientations[off]) - np.abs(orientation)).max() <= bound
            yield Draft(
                message=f"{count(apart, 'frame')} {verb(apart, 'has')} another orientation than the CT: "
                + ("rows or columns run the other way." if turned else "rotated against it."),
                hint="Place frames by PlaneOrientationSequence, never by their order in the array.",
                tag="00209116",
                at=context.place(row),
                evidence={"frames": int(off.sum()), "flipped_only": bool(turned)},
            )


def _other_patient(context: Context) -> Found:
    table, held = context.instances, context.fact(row_of_instance)
    series = table["series_uid"].drop_duplicates()
    first = {uid: int(row) for row, uid in zip(np.flatnonzero(~table["series_uid"].duplicated()), series, strict=True)}
    for row, facts in context.fact(seg_facts):
        own = context.place(row)
        rows = [held[uid] for uid in facts.cited if uid in held]
        rows += [first[uid] for uid, _ in facts.series if uid in first]
        for column, what in (("patient_id", "other patient"), ("study_uid", "other study")):
            others = {str(value) for value in table[column].iloc[rows] if value != getattr(own, column)}
            if others:
                yield Draft(
                    message=f"The segmentation references images of {count(len(others), what)}.",
                    hint="Do not use the masks before it is known whose liver they show.",
                    at=own,
                    evidence={"attribute": column, "others": len(others)},
                )
                break


def _frame_of_reference(context: Context) -> Found:
    table, held = context.instances, context.fact(row_of_instance)
    frame, patient, series = (table[name].tolist() for name in ("frame_of_reference_uid", "patient_id", "series_uid"))
    for row, facts, found in _each(context):
        own = context.place(row)
        # where the reference itself is wrong (HT403), its frame of reference says nothing
        target = None if found is None or found.volume is None else found.volume.series_uid
        frames = {
            str(frame[held[uid]])
            for uid in facts.cited
            if uid in held and patient[held[uid]] == own.patient_id and target in (None, series[held[uid]])
        }
        others = {uid for uid in frames if uid and uid != facts.frame_of_reference_uid}
        if not facts.frame_of_reference_uid or others:
            yield Draft(
                message="The segmentation has no frame of reference."
                if not facts.frame_of_reference_uid
                else f"The segmentation and the images it references have {1 + len(others)} frames of reference.",
                hint="Positions of different frames of reference cannot be compared: find out which series it was "
                "drawn on.",
                tag="00200052",
                at=own,
            )


def _citations(context: Context) -> Found:
    """What ReferencedSeriesSequence says of a series and of its instances must be so."""
    table, held = context.instances, context.fact(row_of_instance)
    series, classes = table["series_uid"], table["sop_class_uid"]
    here, studies = set(series), set(table["study_uid"])
    for row, facts in context.fact(seg_facts):
        told: list[str] = []
        strangers, listed = 0, set(facts.listed)
        for uid, instances in facts.series:
            found = [held[one] for one in instances if one in held]
            apart = [one for one in found if series.iloc[one] != uid]
            if uid not in here and (found or not instances):
                name = f"series {uid}" if uid else "a series without UID"
                told.append(
                    f"{name} is not here"
                    + (f", but {len(found)} of its images {verb(len(found), 'is')}" if found else "")
                )
            elif apart:
                told.append(
                    f"{count(len(apart), 'image')} {verb(len(apart), 'is')} listed under series {uid} but "
                    f"{verb(len(apart), 'belongs')} to {series.iloc[apart[0]]}"
                )
            elif not instances:
                told.append(f"series {uid} is named without its images")
            strangers += len(apart)
        other = [uid for uid, kind in facts.classes.items() if uid in held and classes.iloc[held[uid]] != kind]
        if other:
            told.append(f"{count(len(other), 'image')} {verb(len(other), 'is')} cited with the wrong SOP class")
        unlisted = [uid for uid in facts.derived_from if uid in held and uid not in listed] if facts.series else []
        if unlisted:
            told.append(
                f"{count(len(unlisted), 'source')} of frames {verb(len(unlisted), 'is')} not listed in "
                "ReferencedSeriesSequence"
            )
        told += [f"study {uid} is not here" for uid in dict.fromkeys(facts.studies) if uid not in studies]
        if told:
            yield Draft(
                message=f"What the segmentation cites does not hold together: {'; '.join(told)}.",
                hint="Follow the per-frame sources and positions, not ReferencedSeriesSequence.",
                tag="00081115",
                at=context.place(row),
                evidence={
                    "series": [uid for uid, _ in facts.series],
                    "of_another_series": strangers,
                    "of_another_class": len(other),
                    "unlisted_sources": len(unlisted),
                },
            )


def _words(key: str) -> str:
    return key.replace("_", " ")


def _segments(context: Context) -> Found:
    known = {one.key for one in context.catalog.segments}
    for row, facts in context.fact(seg_facts):
        numbers = [number for number, *_ in facts.segments]
        wrong = []
        if not numbers:
            wrong.append("no segment is described")
        twice = sorted(number for number, uses in Counter(numbers).items() if uses > 1)
        if twice:
            wrong.append(f"segment number {twice[0]} is given {numbers.count(twice[0])} times")
        used = set(facts.frame_segments.tolist()) - set(numbers)
        if used:
            wrong.append(f"frames are of segments {sorted(used)}, which are not described")
        strange = [number for number, label, _, kind in facts.segments if segment_key(label, kind) not in known]
        if strange:
            wrong.append(f"segments {strange} have labels and codes that are not among {', '.join(sorted(known))}")
        for number, label, _, kind in facts.segments:
            said, coded = segment_key(label, ""), segment_key("", kind)
            if said and coded and said != coded:
                wrong.append(f"segment {number} is {_words(said)} by its label and {_words(coded)} by its code")
        by_key = Counter(segment_key(label, kind) for _, label, _, kind in facts.segments)
        doubled = sorted(key for key, count in by_key.items() if key and count > 1)
        if doubled and not twice:
            wrong.append(f"several segments are called {_words(doubled[0])}")
        odd = [
            f"segment {number} is called {mask(label) if suspicions(label) else label!r}, and its code says "
            f"{_words(segment_key('', kind))}"
            for number, label, _, kind in facts.segments
            if not segment_key(label, "") and segment_key("", kind)
        ]
        if wrong or odd:
            yield Draft(
                severity="error" if wrong else "warning",
                message=f"Segments: {'; '.join([*wrong, *odd])}.",
                hint="Map segments by label and code; do not rely on their numbers here."
                if wrong
                else "Map segments by their codes here: software that goes by labels misses these.",
                tag="00620002",
                at=context.place(row),
                evidence={"segments": len(numbers)},
            )


def _source_position(context: Context) -> Found:
    """A frame must lie on the very slices that it names as its sources."""
    table, held = context.instances, context.fact(row_of_instance)
    places = table[["position_x", "position_y", "position_z"]].to_numpy(float)
    for row, facts, found in _each(context):
        if found is None or found.volume is None:
            continue
        inside = set(found.volume.sop_uids)
        orientation, slices = _axes(_volume_rows(context, found))
        normal = np.cross(orientation[:3], orientation[3:])
        step = float(np.median(np.diff(np.sort(slices @ normal)))) if len(slices) > 1 else 1.0
        wrong = 0
        distances = np.abs((facts.positions @ normal)[:, None] - (slices @ normal)[None, :]).min(axis=1)
        on_slice = distances <= SHARE * step
        for place, lies, own in zip(facts.positions @ normal, on_slice, facts.sources, strict=False):
            rows = [held[uid] for uid in own if uid in inside]
            # frames off the slices are HT404
            if lies and rows and min(abs(float(places[one] @ normal) - float(place)) for one in rows) > step / 2:
                wrong += 1
        if wrong:
            yield Draft(
                message=f"{count(wrong, 'frame')} {verb(wrong, 'lies')} on another slice than the one named as source.",
                hint="Place frames by position; and look at the contours of these slices (--overlays).",
                tag="00089124",
                at=context.place(row),
                evidence={"frames": wrong},
            )


def _double_frames(context: Context) -> Found:
    for row, facts in context.fact(seg_facts):
        if not len(facts.positions):
            continue
        bound = position_bound(float(facts.spacings.min()))
        groups = cluster_rows([facts.frame_segments, *facts.positions.T], [0.0, bound, bound, bound])
        twice = len(groups) - len(set(groups.tolist()))
        if twice:
            yield Draft(
                message=f"{count(twice, 'frame')} {verb(twice, 'lies')} where another frame of the same segment does.",
                hint="Take the union, and look at the contours of these slices (--overlays).",
                at=context.place(row),
                evidence={"frames": twice},
            )


def _unreadable(context: Context) -> Found:
    for row, facts in context.fact(seg_facts):
        numbers = [number for number, *_ in facts.segments]
        if facts.error and len(set(numbers)) == len(numbers):  # doubled numbers are HT408
            yield Draft(
                message=f"The frames of the segmentation cannot be read: {facts.error}",
                hint="Fetch the file again.",
                at=context.place(row),
            )


_PAPER = "10.1038/s41597-023-01928-3"
_SEG_IOD = "DICOM PS3.3, A.51 and C.8.20"
RULES: tuple[Rule, ...] = (
    Rule(
        code="HT401", name="references-present", severity="error", scope="instance", depth="headers",
        summary="Every image that a segmentation references, by series or by frame, is here.",
        why="Masks on absent slices are lost, and a reader that goes by references misplaces the rest.",
        fix="Download the CT series again. One file of HCC_001 is missing from the collection itself.",
        source=_PAPER, check=_missing,
    ),
    Rule(
        code="HT402", name="series-referenced", severity="error", scope="instance", depth="headers",
        summary="A segmentation names the series it was drawn on (ReferencedSeriesSequence).",
        why="Without it software has to guess the CT.", fix="Find the CT by per-frame sources or geometry.",
        source=_SEG_IOD, check=_no_reference,
    ),
    Rule(
        code="HT403", name="reference-fits", severity="error", scope="instance", depth="headers",
        summary="The series that a segmentation references is the one whose slices its frames lie on.",
        why="Software that follows the reference shows a liver's masks on another phase, or beside the patient.",
        fix="Use the series that the frames lie on.", source=_SEG_IOD, check=_wrong_series,
    ),
    Rule(
        code="HT404", name="frames-on-slices", severity="error", scope="instance", depth="headers",
        summary="Each frame lies on a slice of its CT, pixel on pixel (a warning up to a tenth of a voxel).",
        why="A frame off the grid is dropped by readers or lands on the wrong slice.",
        fix="Place frames by position with a tolerance; check that frames beyond it are empty.",
        source="DICOM PS3.3, C.7.6.16.2.3", check=_off_grid,
    ),
    Rule(
        code="HT405", name="frame-orientation", severity="warning", scope="instance", depth="headers",
        summary="Frames have the orientation of their CT.",
        why="Readers that ignore PlaneOrientationSequence show such masks mirrored.",
        fix="Place frames by their orientation.", source="DICOM PS3.3, C.7.6.16.2.4", check=_orientation,
    ),
    Rule(
        code="HT406", name="same-patient", severity="error", scope="instance", depth="headers",
        summary="Every referenced image belongs to the patient and study of the segmentation.",
        why="Masks of one patient on the CT of another are the worst label error there is.",
        fix="Leave the segmentation out until it is known whose it is.", source=_SEG_IOD, check=_other_patient,
    ),
    Rule(
        code="HT407", name="same-frame-of-reference", severity="error", scope="instance", depth="headers",
        summary="A segmentation shares the frame of reference of the images it references.",
        why="Positions in different frames of reference cannot be compared.",
        fix="Find out which series it was drawn on.", source="DICOM PS3.3, C.7.4.1", check=_frame_of_reference,
    ),
    Rule(
        code="HT408", name="segments-described", severity="error", scope="instance", depth="headers",
        summary="Segments have unique numbers, and labels that the collection uses; labels and codes say the same.",
        why="A segment of unknown meaning cannot become a class; two of one number cannot be distinguished.",
        fix="Map the segments by hand, and report the file to the archive.", source=_SEG_IOD, check=_segments,
    ),
    Rule(
        code="HT409", name="sources-fit-frames", severity="error", scope="instance", depth="headers",
        summary="Each frame lies on a slice that it names as its source; all sources of a frame are looked at.",
        why="Software that follows the per-frame sources shows masks on the wrong slices.",
        fix="Place frames by position.", source="DICOM PS3.3, C.7.6.16.2.6", check=_source_position,
    ),
    Rule(
        code="HT410", name="frames-once", severity="warning", scope="instance", depth="headers",
        summary="No two frames of a segment lie at one position.",
        why="One hides the other, or their union is taken: what was meant is unknown.",
        fix="Look at both, and keep the right one.", source=_SEG_IOD, check=_double_frames,
    ),
    Rule(
        code="HT411", name="frames-readable", severity="error", scope="instance", depth="headers",
        summary="Every frame of a segmentation says where it lies and what it shows.",
        why="A frame without position, orientation, spacing or segment cannot be placed.",
        fix="Fetch the file again.", source=_SEG_IOD, check=_unreadable,
    ),
    Rule(
        code="HT412", name="citations-agree", severity="error", scope="instance", depth="headers",
        summary="Each study and series that a segmentation cites is here, and holds the images listed under it.",
        why="Viewers load the series that is cited: one that is nowhere, or holds other images, leaves the masks "
            "without a CT. Images that are not here themselves are reported by HT401.",
        fix="Find the CT by the positions of the frames.",
        source="DICOM PS3.3, C.12.2 (Common Instance Reference)", check=_citations,
    ),
)  # fmt: skip
