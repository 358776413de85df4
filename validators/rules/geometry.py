"""HT5: do slices make volumes, and masks make livers? Geometry from headers, masks and bodies from pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.collection.regions import regions_of
from hcc_tace_data.collection.split import positions_along_normal
from hcc_tace_data.dicom.geometry import check_shear, even_step, place_bound, size_groups, slice_axes
from hcc_tace_data.dicom.tolerance import cluster_rows, direction_bound
from hcc_tace_data.errors import CatalogError, NotAVolumeError, TiltError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.published import MASKS_FILE, published_masks, published_phases
from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.context import Context, series_place
from hcc_tace_data.validators.facts.annotated import annotated_series
from hcc_tace_data.validators.facts.extra_headers import extra_headers
from hcc_tace_data.validators.facts.masks import mask_facts
from hcc_tace_data.validators.facts.slices import ct_slices, ct_volumes
from hcc_tace_data.validators.rule import Draft, Partly, Rule, Skip

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.facts.published import PublishedMask
    from hcc_tace_data.validators.facts.masks import MaskFacts

__all__ = ["RULES"]

#: Plausible volume of a liver with its tumours and vessels, ml: from a small cirrhotic to a polycystic or stuffed one.
_LIVER_ML = (500.0, 6000.0)
#: Largest share of a mask outside the patient that partial volumes at the skin can explain.
_OUTSIDE = 0.01
#: Largest share of the liver in lung that breathing between drawing and scanning, and partial volumes, can explain.
_IN_AIR = 0.015
#: A part of the tumour farther from the liver than this (mm) is not part of it.
_TOUCHES_MM = 6.0
#: The portal vein enters the liver; the drawn part may end this far (mm) below it.
_PORTAL_MM = 30.0
#: The liver lies on the right: its centre may be this far (mm) left of the body's middle, after the right lobe is gone.
_LIVER_LEFT = 20.0
#: The abdominal aorta lies before the spine, a little left of the middle: mm to the left, and depth from front to back.
_AORTA_LEFT = (-40.0, 70.0)
_AORTA_DEPTH = (0.45, 0.85)
#: Slices nearer than this (mm) are at one place, where the pixel spacing is not known.
_SAME_MM = 0.01
#: Pixels along a side, where the size is not known.
_SIDE = 512
#: Parameters of a scan as catalog.yaml calls them: in words, and their unit.
_PARAMETERS = {
    "kvp": ("Tube voltage", " kV"), "tube_current_ma": ("Tube current", " mA"), "pitch": ("Pitch", ""),
    "slice_thickness_mm": ("Slice thickness", " mm"), "revolution_time_s": ("Rotation time", " s"),
    "field_of_view_mm": ("Field of view", " mm"),
}  # fmt: skip
_PAPER = "10.1038/s41597-023-01928-3"
_COLLECTION = "10.7937/TCIA.5FNA-0924"

Found = Iterator[Draft | Partly]


_ORIENTATION = [f"orientation_{i}" for i in range(6)]
_PLACE = [*_ORIENTATION, "position_x", "position_y", "position_z", "rows", "columns", "spacing_row", "spacing_column"]


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return place and size of each slice, as the functions of :mod:`hcc_tace_data.dicom.geometry` take them."""
    return [dict(zip(_PLACE, values, strict=True)) for values in rows[_PLACE].to_numpy(float, na_value=np.nan).tolist()]


def _same_place(rows: pd.DataFrame) -> float:
    """Return how near (mm) two slices are that are at one place."""
    bound = place_bound(_records(rows))
    return bound if bound > 0 else _SAME_MM


def _even(context: Context) -> Found:
    for rows in context.fact(ct_volumes):
        parts = regions_of(rows)
        if len({_sweep(part) for part in parts}) < len(parts):
            parts = [rows]  # one acquisition does not jump
        found = [draft for part in parts for draft in _uneven(part)]
        yield from found or (_joint(rows, parts) if len(parts) > 1 else ())


def _sweep(rows: pd.DataFrame) -> int | None:
    numbers = rows["acquisition_number"]
    return None if numbers.isna().iloc[0] else int(numbers.iloc[0])


def _uneven(rows: pd.DataFrame) -> Iterator[Draft]:
    """Report slices of one region that lie unevenly."""
    along = np.sort(positions_along_normal(rows))
    if len(along) < 3 or np.isnan(along).any() or even_step(along) is not None:
        return
    steps = np.diff(along)
    if float(steps.min()) <= _same_place(rows):
        return  # two slices at one place: HT504
    common = float(np.median(steps))
    wide = [(float(along[i]), float(along[i + 1])) for i in np.flatnonzero(steps > 1.5 * steps.min())]
    yield Draft(
        message=f"Uneven slice spacing: {steps.min():.2f} to {steps.max():.2f} mm (median {common:.2f}), "
        f"{count(len(wide), 'step')} wider than the smallest.",
        hint="A missing slice is downloaded again; where the scanner changed its spacing, read with "
        "on_gap='fill', or leave the coarse part out.",
        at=series_place(rows),
        evidence={
            "smallest_mm": round(float(steps.min()), 3),
            "largest_mm": round(float(steps.max()), 3),
            "gaps": wide[:10],
        },
    )


def _joint(rows: pd.DataFrame, regions: list[pd.DataFrame]) -> Iterator[Draft]:
    """Report regions that are even in themselves, and do not follow each other at their spacing."""
    along = [np.sort(positions_along_normal(part)) for part in regions]
    if even_step(np.concatenate(along)) is not None:
        return
    gaps = [round(float(upper[0] - lower[-1]), 3) for lower, upper in pairwise(along)]
    held = " and ".join(str(len(part)) for part in regions)
    yield Draft(
        severity="warning",
        message=f"{count(len(regions), 'region')}, scanned one after the other ({held} slices, "
        f"{float(np.median(np.diff(along[0]))):.2f} mm apart), lie "
        f"{' and '.join(f'{gap:.2f}' for gap in gaps)} mm from each other.",
        hint="The region that a segmentation covers is read alone; read both with on_gap='fill'.",
        at=series_place(rows),
        evidence={"slices": [len(part) for part in regions], "gaps_mm": gaps},
    )


def _tilt(context: Context) -> Found:
    for rows in context.fact(ct_volumes):
        if len(rows) < 2:
            continue
        try:
            _, _, normal, position = slice_axes(_records(rows))
            bound = _same_place(rows)
            if float(np.ptp(position @ normal)) > bound:  # all at one height: HT504
                check_shear(position, normal, 2 * bound)
        except TiltError as error:
            yield Draft(
                message=str(error).split(" on_tilt")[0],
                hint="Read with on_tilt='resample', which shifts slices onto a rectangular grid.",
                tag="00181120",
                at=series_place(rows),
            )
        except NotAVolumeError as error:
            if "sideways" in str(error):
                yield Draft(
                    message=str(error),
                    hint="Read the parts alone; they are different reconstructions.",
                    at=series_place(rows),
                )


def _axial(context: Context) -> Found:
    for _, rows in context.fact(ct_slices).groupby("series_uid", sort=True):
        orientation = rows[_ORIENTATION].to_numpy(float)
        position = rows[["position_x", "position_y", "position_z"]].to_numpy(float)
        absent = int((np.isnan(orientation).any(axis=1) | np.isnan(position).any(axis=1)).sum())
        if absent:
            yield Draft(
                message=f"{count(absent, 'slice')} {verb(absent, 'has')} no ImagePositionPatient or "
                "ImageOrientationPatient.",
                hint="Leave them out, or fetch the series again.",
                at=series_place(rows),
            )
            continue
        side = np.nanmax(rows[["rows", "columns"]].to_numpy(float, na_value=np.nan), initial=0) or _SIDE
        distinct = len(set(cluster_rows(list(orientation.T), [direction_bound(int(side))] * 6).tolist()))
        if distinct > 1:
            yield Draft(
                message=f"{distinct} orientations in one series.",
                hint="Scouts or reformats are mixed in: read each orientation alone.",
                tag="00200037",
                at=series_place(rows),
            )
            continue
        if abs(float(np.cross(orientation[0, :3], orientation[0, 3:])[2])) < 0.95:
            yield Draft(
                message="The slices are not axial.",
                hint="Leave the series out, or resample it.",
                tag="00200037",
                at=series_place(rows),
            )


def _one_place(context: Context) -> Found:
    for rows in context.fact(ct_volumes):
        rows = rows.drop_duplicates("sop_uid")
        along = np.sort(positions_along_normal(rows))
        same = int((np.diff(along) <= _same_place(rows)).sum()) if not np.isnan(along).any() else 0
        if same:
            yield Draft(
                message=f"{count(same, 'slice')} {verb(same, 'lies')} where another of the same volume does, and "
                "nothing tells them apart.",
                hint="Read with on_duplicate='split', and look which volume is which.",
                at=series_place(rows),
                evidence={"slices": same},
            )


def _one_grid(context: Context) -> Found:
    for rows in context.fact(ct_volumes):
        kinds = set(size_groups(_records(rows)).tolist())
        spacing = rows[["spacing_row", "spacing_column"]].to_numpy(float)
        wrong = bool((~(spacing > 0)).any())
        if len(kinds) > 1 or wrong:
            yield Draft(
                message="Slices without a usable PixelSpacing."
                if wrong
                else f"{len(kinds)} sizes or pixel spacings in one volume.",
                hint="Another reconstruction is mixed in: read the common size, leave the others out.",
                tag="00280030",
                at=series_place(rows),
            )


def _over_masks(
    test: Callable[[MaskFacts], tuple[str, str, Mapping[str, Any]] | None],
) -> Callable[[Context], Found]:
    """Return a check that runs `test`, which gives message, hint and evidence, over the measures of every SEG."""

    def check(context: Context) -> Found:
        if not context.fact(mask_facts):
            raise Skip("no segmentation here")
        for row, facts in context.fact(mask_facts):
            if facts.error:
                yield Partly(f"SEG {context.place(row).sop_uid}: {facts.error}")
                continue
            told = test(facts)
            if told is not None:
                yield Draft(
                    message=told[0],
                    hint=told[1],
                    at=context.place(row),
                    evidence=dict(told[2]),
                )

    return check


def _rounded(values: Mapping[str, float], digits: int = 2) -> dict[str, float]:
    return {key: round(value, digits) for key, value in values.items()}


def _inside_body(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    off = {key: share for key, share in facts.outside_body.items() if share > _OUTSIDE}
    parts = [f"{share:.1%} of {key.replace('_', ' ')} outside the patient" for key, share in off.items()]
    if facts.liver_in_air > _IN_AIR:
        parts.append(f"{facts.liver_in_air:.1%} of the whole liver in air or lung")
    if not parts:
        return None
    return (
        f"Masks lie where there is nothing: {', '.join(parts)}.",
        "Look at the contours (--overlays); the SEG may belong to another series, or be flipped.",
        {"outside": _rounded(off, 4), "liver_in_air": round(facts.liver_in_air, 4)},
    )


def _tumour_smaller(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    tumour = facts.volume_ml.get("tumour", 0.0) + facts.volume_ml.get("necrosis", 0.0)
    liver = facts.volume_ml.get("liver", 0.0)
    if not 0 < liver < tumour:
        return None
    return (
        f"The tumour ({tumour:.0f} ml) is larger than the rest of the liver ({liver:.0f} ml).",
        "Check that labels are not swapped; it does happen.",
        {"tumour_ml": round(tumour, 1), "liver_ml": round(liver, 1)},
    )


def _tumour_touches(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    mm = facts.from_liver_mm.get("tumour")
    if mm is None or mm <= _TOUCHES_MM:
        return None
    return (
        f"A part of the tumour lies {mm:.0f} mm from the liver.",
        "Look at the contours (--overlays): a metastasis, a stray frame, or a mask on the wrong slice.",
        {"from_liver_mm": round(mm, 1)},
    )


def _liver_volume(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    whole = sum(facts.volume_ml.get(key, 0.0) for key in load_catalog().vocabulary.whole_liver)
    if not facts.volume_ml.get("liver") or _LIVER_ML[0] <= whole <= _LIVER_ML[1]:
        return None
    return (
        f"The whole liver has {whole:.0f} ml; {_LIVER_ML[0]:.0f} to {_LIVER_ML[1]:.0f} ml are plausible.",
        "Check the spacing that the volume is computed with, and whether slices are missing.",
        {"whole_liver_ml": round(whole, 1), "parts_ml": _rounded(facts.volume_ml, 1)},
    )


def _not_empty(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    empty = sorted(key for key, ml in facts.volume_ml.items() if not ml > 0)
    absent = sorted({"liver", "tumour"} - set(facts.volume_ml))
    if not empty and not absent:
        return None
    parts = [
        f"{', '.join(names)} {what}" for names, what in ((empty, "described but empty"), (absent, "absent")) if names
    ]
    return (
        f"Segments without voxels: {'; '.join(parts)}.",
        "Leave the class out for this patient, or the model learns that it does not exist.",
        {"empty": empty, "absent": absent},
    )


def _aorta(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    left, depth = facts.off_midline_mm.get("aorta"), facts.depth_share.get("aorta")
    if left is None or depth is None or left != left:
        return None
    if _AORTA_LEFT[0] <= left <= _AORTA_LEFT[1] and _AORTA_DEPTH[0] <= depth <= _AORTA_DEPTH[1]:
        return None
    return (
        f"The abdominal aorta lies {abs(left):.0f} mm to the patient's {'left' if left > 0 else 'right'} of the body's "
        f"middle, at {depth:.0%} of its depth: not before the spine.",
        "Look at the contours (--overlays): labels may be swapped, or masks flipped.",
        {"left_mm": round(left, 1), "depth": round(depth, 3)},
    )


def _liver_side(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    left = facts.off_midline_mm.get("whole_liver")
    if left is None or not left > _LIVER_LEFT:
        return None
    return (
        f"The liver's centre lies {left:.0f} mm to the patient's left of the body's middle.",
        "Look at the contours (--overlays): the masks may be mirrored. Where the organs are mirrored too, the patient "
        "has situs inversus.",
        {"left_mm": round(left, 1)},
    )


def _portal_vein(facts: MaskFacts) -> tuple[str, str, Mapping[str, Any]] | None:
    mm = facts.from_liver_mm.get("portal_vein")
    if mm is None or mm <= _PORTAL_MM:
        return None
    return (
        f"The portal vein lies {mm:.0f} mm from the liver.",
        "Look at the contours (--overlays): labels may be swapped, or the mask lies on the wrong slice.",
        {"from_liver_mm": round(mm, 1)},
    )


def _counts_as_published(context: Context) -> Found:
    """Compare each patient's slices and voxels with what others counted in the original files."""
    published = _published_here(context)
    judged: dict[str, list[tuple[int, MaskFacts]]] = {}
    for row, facts in context.fact(mask_facts):
        patient = context.place(row).patient_id
        if patient not in published:
            yield Partly(f"no count is published for {patient}")
        elif facts.error:
            yield Partly(f"SEG {context.place(row).sop_uid}: {facts.error}")
        else:
            judged.setdefault(patient, []).append((row, facts))
    for patient, own in judged.items():
        told = [(row, _compared(context, row, facts, published[patient])) for row, facts in own]
        equal = [one for one in told if not one[1].differs]
        for row, counts in equal or told:  # beside the published masks, others of the patient are not judged
            yield Draft(
                message=counts.message,
                hint=_COUNTS_DIFFER if counts.differs else "",
                severity="warning" if counts.differs else "info",
                at=context.place(row),
                evidence=counts.evidence,
            )


_COUNTS_DIFFER = (
    "The CT or the masks are not those that were counted, or are read otherwise: check the files with 'hcc-tace "
    "verify', and look at the contours (--overlays)."
)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The counts of one SEG beside the published ones."""

    differs: bool
    message: str
    evidence: Mapping[str, Any]


def _published_here(context: Context) -> Mapping[str, PublishedMask]:
    """Return the counts that hold for these files.

    A folder's own table holds for all its patients; the shipped one for those of whom an original series is here, for
    a twin bears the same names.
    """
    own = context.root / MASKS_FILE
    try:
        if own.is_file():
            return published_masks(own)
    except CatalogError as error:
        raise Skip(str(error)) from error
    table = context.instances
    original = set(table.loc[table["series_uid"].isin(published_phases()), "patient_id"])
    if not original:
        raise Skip(f"no published counts for these files (a folder may bring its own {MASKS_FILE})")
    return {patient: counts for patient, counts in published_masks().items() if patient in original}


def _compared(context: Context, row: int, facts: MaskFacts, published: PublishedMask) -> _Counts:
    series = context.fact(annotated_series).get(row, "")
    stacked = int((context.instances["series_uid"] == series).sum())  # a source may have counted the whole stack
    whole = {stacked} if stacked else set()
    same, differ = [], []
    for name, unit, here, others, told, sources, second in (
        ("", "slices", facts.slices, whole, published.slices, 1, None),
        ("liver ", "voxels", facts.voxels.get("liver", 0), set(), published.liver_voxels,
         published.liver_sources, published.liver_other),
        ("tumour ", "voxels", facts.voxels.get("tumour", 0), set(), published.tumour_voxels,
         published.tumour_sources, published.tumour_other),
    ):  # fmt: skip
        agree = "1 source" if sources == 1 else f"{sources} independent sources agree"
        agree += f", another counted {second}" if second is not None else ""
        if {here, *others} & {told, second}:
            same.append(f"{name}{here} {unit} ({agree})")
        else:
            differ.append(f"{name}{here} {unit} here, {told} published ({agree})")
    off = (
        f"; {count(facts.off_grid, 'frame')} off the CT's grid {verb(facts.off_grid, 'is')} not counted"
        if facts.off_grid
        else ""
    )
    message = (
        f"Other counts than published: {'; '.join(differ)}{off}."
        if differ
        else f"Slices and voxels are as published: {'; '.join(same)}."
    )
    evidence = {
        "slices": facts.slices,
        "slices_of_series": stacked,
        "liver_voxels": facts.voxels.get("liver", 0),
        "tumour_voxels": facts.voxels.get("tumour", 0),
        "published": {name: value for name, value in asdict(published).items() if value is not None},
    }
    return _Counts(bool(differ), message, evidence)


def _acquisition(context: Context) -> Found:
    """One finding per series and parameter; what a header does not say is not reported."""
    from pandas import to_numeric

    ranges = context.catalog.acquisition
    kernel = context.fact(ct_slices)[["kvp", "slice_thickness"]].copy()
    extra = context.fact(extra_headers).loc[context.fact(ct_slices).index]
    for name, column in (("tube_current_ma", "tube_current"), ("pitch", "pitch"),
                         ("revolution_time_s", "revolution_time"),
                         ("field_of_view_mm", "reconstruction_diameter")):  # fmt: skip
        kernel[name] = to_numeric(extra[column], errors="coerce")
    kernel = kernel.rename(columns={"slice_thickness": "slice_thickness_mm"})
    for _, rows in context.fact(ct_slices).groupby("series_uid", sort=True):
        own = kernel.loc[rows.index]
        for name, (low, high) in ranges.items():
            values = own[name].dropna() if name in own else own["kvp"][:0]
            off = values[(values < low - 1e-6) | (values > high + 1e-6)]
            if len(off):
                what, unit = _PARAMETERS.get(name, (name, ""))
                yield Draft(
                    message=f"{what} is {off.min():g}"
                    + (f" to {off.max():g}" if off.max() > off.min() else "")
                    + f"{unit} in {len(off)} of {count(len(rows), 'slice')}; "
                    + f"the paper gives {low:g} to {high:g}{unit}.",
                    hint="Information: say so where acquisition matters to your study.",
                    at=series_place(rows),
                    evidence={"attribute": name, "lowest": float(off.min()), "highest": float(off.max())},
                )


RULES: tuple[Rule, ...] = (
    Rule(
        code="HT501", name="even-spacing", severity="error", scope="series", depth="index",
        summary="The slices of a volume lie at even distances.",
        why="An array has one spacing: a gap bends every organ below it and shortens it.",
        fix="Download missing slices; or read with on_gap='fill'.",
        source="DICOM PS3.3, C.7.6.2", check=_even, local=True,
    ),
    Rule(
        code="HT502", name="no-tilt", severity="error", scope="series", depth="index",
        summary="Slices lie straight above one another: no gantry tilt, no jumps.",
        why="A sheared volume is not the box that arrays and most software assume.",
        fix="Read with on_tilt='resample'.", source="DICOM PS3.3, C.8.2.1 and C.7.6.2", check=_tilt, local=True,
    ),
    Rule(
        code="HT503", name="axial", severity="error", scope="series", depth="index",
        summary="Slices have a position, and one axial orientation.",
        why="Slices of several orientations, or without a place, make no volume.",
        fix="Leave scouts and reformats out.", source="DICOM PS3.3, C.7.6.2", check=_axial, local=True,
    ),
    Rule(
        code="HT504", name="one-slice-a-place", severity="error", scope="series", depth="index",
        summary="No two slices of a phase volume lie at one place.",
        why="Two phases stacked in one series that cannot be distinguished become one volume of alternating slices.",
        fix="Read with on_duplicate='split'.", source="DICOM PS3.3, C.7.6.2", check=_one_place, local=True,
    ),
    Rule(
        code="HT505", name="one-grid", severity="error", scope="series", depth="index",
        summary="The slices of a volume have one size and one pixel spacing.",
        why="Otherwise they do not fit into one array.", fix="Leave the foreign slices out.",
        source="DICOM PS3.3, C.7.6.2 and C.7.6.3", check=_one_grid, local=True,
    ),
    Rule(
        code="HT506", name="tumour-below-liver", severity="warning", scope="instance", depth="pixels",
        summary="The tumour is smaller than the rest of the liver.",
        why="It is rare, and swapped labels look just so.", fix="Look at the contours (--overlays).",
        source=_PAPER, check=_over_masks(_tumour_smaller),
    ),
    Rule(
        code="HT507", name="tumour-in-liver", severity="error", scope="instance", depth="pixels",
        summary="Every part of the tumour of 1 ml or more lies within or next to the liver (6 mm).",
        why="Tumour outside the liver is a stray frame, a mask on the wrong slice, or a metastasis.",
        fix="Look at the contours (--overlays).", source=_PAPER, check=_over_masks(_tumour_touches),
    ),
    Rule(
        code="HT508", name="liver-volume", severity="error", scope="instance", depth="pixels",
        summary="The whole liver (liver, tumour, portal vein) has 500 to 6000 ml.",
        why="Other volumes mean a wrong spacing, missing slices or swapped labels.",
        fix="Check spacing and labels.", source="usual values for adults", check=_over_masks(_liver_volume),
    ),
    Rule(
        code="HT509", name="masks-not-empty", severity="error", scope="instance", depth="pixels",
        summary="Liver and tumour are there, and every described segment has voxels.",
        why="An empty class teaches a model that it does not exist.", fix="Leave the class out for this patient.",
        source=_PAPER, check=_over_masks(_not_empty),
    ),
    Rule(
        code="HT510", name="aorta-place", severity="error", scope="instance", depth="pixels",
        summary="The abdominal aorta lies before the spine: 40 mm right to 70 mm left of the middle, in the back half.",
        why="Elsewhere it is another structure: labels are swapped or masks flipped.",
        fix="Look at the contours (--overlays).", source="anatomy", check=_over_masks(_aorta),
    ),
    Rule(
        code="HT511", name="portal-vein-place", severity="error", scope="instance", depth="pixels",
        summary="The portal vein reaches to within 30 mm of the liver.",
        why="It enters the liver; elsewhere it is another structure.",
        fix="Look at the contours (--overlays).", source="anatomy", check=_over_masks(_portal_vein),
    ),
    Rule(
        code="HT512", name="masks-in-body", severity="error", scope="instance", depth="pixels",
        summary="Masks lie inside the patient (99 % of their voxels), the liver not in lung or bowel gas (98.5 %).",
        why="Masks in air belong to another series, or are flipped or shifted. HT404 reports frames off the CT.",
        fix="Look at the contours (--overlays).", source=_PAPER, check=_over_masks(_inside_body),
    ),
    Rule(
        code="HT513", name="acquisition", severity="info", scope="series", depth="headers",
        summary="Tube voltage and current, thickness, pitch, rotation and field of view lie in the paper's ranges.",
        why="What a study says of its scans should be true of all of them. What headers do not say is not reported.",
        fix="None needed: it is information.", source=_PAPER, check=_acquisition, local=True,
    ),
    Rule(
        code="HT514", name="liver-side", severity="error", scope="instance", depth="pixels",
        summary="The liver lies on the patient's right: its centre (tumour included) at most 20 mm left of the middle.",
        why="Masks that were mirrored look like masks, and train a model on the spleen.",
        fix="Look at the contours (--overlays); mirror the masks back, never the CT.",
        source="anatomy", check=_over_masks(_liver_side),
    ),
    Rule(
        code="HT515", name="counts-as-published", severity="warning", scope="instance", depth="pixels",
        summary="Slices of the annotated CT, and voxels of liver and mass, are as many as others counted.",
        why="Two other groups counted the voxels of the original files. Equal counts (an info) show that the files are "
            "whole and read as others read them.",
        fix="Compare the files with the published digests (hcc-tace verify).", source=_COLLECTION,
        check=_counts_as_published,
    ),
)  # fmt: skip
