"""What a SEG says of itself and of the CT it was drawn on; its pixels are not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.dicom.inflate import for_pydicom
from hcc_tace_data.dicom.seg_file import open_seg
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.validators.context import Context

__all__ = ["SegFacts", "read_seg_facts", "seg_facts"]


_OTHER_STUDIES = "StudiesContainingOtherReferencedInstancesSequence"
#: Top-level sequences that name images besides ReferencedSeriesSequence.
_OTHER_IMAGES = ("SourceImageSequence", "ReferencedImageSequence")


@dataclass(frozen=True, slots=True)
class SegFacts:
    """The links of one SEG.

    Attributes
    ----------
    path : str
        Below the root.
    error : str
        Why its frames cannot be read; empty if they can. The rest of the header may be known all the same.
    frame_of_reference_uid : str
    segments : tuple of (int, str, str, str)
        Number, label, and codes of category and type ("SCT:10200004"), as described; not necessarily unique.
    series : tuple of (str, tuple of str)
        Items of ReferencedSeriesSequence, those of other studies included: series, and the instances named under it.
    classes : mapping of str to str
        The SOP class that these items give each instance.
    shared_sources : tuple of str
        Instances that all frames were derived from (SharedFunctionalGroupsSequence).
    other_images : tuple of str
        Instances that SourceImageSequence and ReferencedImageSequence name for the whole object.
    studies : tuple of str
        Studies that ReferencedStudySequence names, or that hold further cited instances.
    positions, orientations, spacings, frame_segments : ndarray
        (F, 3) mm, (F, 6), (F, 2) mm between rows and between columns, (F,).
    size : (int, int)
        Rows and columns of a frame.
    sources : tuple of tuple of str
        Every instance that each frame was derived from.
    """

    path: str
    error: str
    frame_of_reference_uid: str
    segments: tuple[tuple[int, str, str, str], ...] = ()
    series: tuple[tuple[str, tuple[str, ...]], ...] = ()
    classes: Mapping[str, str] = field(default_factory=dict)
    shared_sources: tuple[str, ...] = ()
    other_images: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    positions: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    orientations: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 6)))
    spacings: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    frame_segments: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    sources: tuple[tuple[str, ...], ...] = ()
    size: tuple[int, int] = (0, 0)

    @property
    def cited(self) -> tuple[str, ...]:
        """Every instance that is named anywhere, each once, in order."""
        return tuple(dict.fromkeys([*self.listed, *self.derived_from, *self.other_images]))

    @property
    def listed(self) -> tuple[str, ...]:
        """Every instance that ReferencedSeriesSequence names, in order."""
        return tuple(uid for _, uids in self.series for uid in uids)

    @property
    def derived_from(self) -> tuple[str, ...]:
        """Every instance that frames were derived from, each once, in order."""
        return tuple(dict.fromkeys([*self.shared_sources, *(uid for own in self.sources for uid in own)]))


_FIELDS = tuple(one.name for one in fields(SegFacts))
_KIND = Kind("seg facts", ("validators",), private=True)


def seg_facts(context: Context) -> list[tuple[int, SegFacts]]:
    """Return row of the instance table and links, of every SEG."""
    rows = [int(row) for row in (context.instances["modality"] == "SEG").to_numpy().nonzero()[0]]
    jobs = [(str(context.root), str(context.instances["path"].iloc[row])) for row in rows]
    files = [[path] for _, path in jobs]
    found = context.kept_map(_KIND, read_seg_facts, jobs, files, encode=_plain, decode=_from_plain)
    return list(zip(rows, found, strict=True))


def _plain(facts: SegFacts) -> Any:
    """Return JSON-ready values; None where the SEG could not be read whole."""
    if facts.error:
        return None
    values = {name: getattr(facts, name) for name in _FIELDS}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _from_plain(value: Any) -> SegFacts:
    """Return what :func:`_plain` was given.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is something else.
    """
    arrays: dict[str, Any] = {
        name: np.array(value[name], np.float64).reshape(-1, width)
        for name, width in (("positions", 3), ("orientations", 6), ("spacings", 2))
    }
    return SegFacts(
        **{name: _tuples(value[name]) for name in _FIELDS if name not in {*arrays, "frame_segments", "classes"}},
        **arrays,
        frame_segments=np.array(value["frame_segments"], np.int64),
        classes=dict(value["classes"]),
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_seg_facts(job: tuple[str, str]) -> SegFacts:
    """Read the links of the SEG at (root, path)."""
    import pydicom

    root, path = job
    file = Path(root) / path
    try:
        header = pydicom.dcmread(
            for_pydicom(file),
            stop_before_pixels=True,
            specific_tags=[
                "SegmentSequence", "ReferencedSeriesSequence", "FrameOfReferenceUID", _OTHER_STUDIES,
                "SharedFunctionalGroupsSequence", "ReferencedStudySequence", *_OTHER_IMAGES,
            ],
        )  # fmt: skip
        described = tuple(_segment(item) for item in header.get("SegmentSequence") or ())
        items = _series_items(header)
        links: dict[str, Any] = {
            "segments": described,
            "series": tuple(_series(item) for item in items),
            "classes": _classes(items),
            "shared_sources": _sources(header.get("SharedFunctionalGroupsSequence") or ()),
            "other_images": _instances(header, _OTHER_IMAGES),
            "studies": _studies(header),
        }
        frame = str(header.get("FrameOfReferenceUID", ""))
    except Exception as error:  # pydicom raises many kinds on broken files
        return SegFacts(
            path=path, error=f"the header cannot be read ({type(error).__name__})", frame_of_reference_uid=""
        )
    try:
        opened = open_seg(file, pixels=False, cited=True)
    except (HccTaceError, OSError) as error:
        reason = str(error).replace(f"{file}: ", "").replace(f"{file} ", "")
        return SegFacts(path=path, error=reason, frame_of_reference_uid=frame, **links)
    frames = opened.frames
    return SegFacts(
        path=path,
        error="",
        frame_of_reference_uid=frame,
        **links,
        positions=frames.positions,
        orientations=frames.orientations,
        spacings=frames.spacings,
        frame_segments=frames.segments,
        sources=frames.sources,
        size=(opened.rows, opened.columns),
    )


def _series_items(header: Any) -> list[Any]:
    """Return the items of ReferencedSeriesSequence, of the own study and of others."""
    others = header.get(_OTHER_STUDIES) or ()
    return [item for holder in (header, *others) for item in holder.get("ReferencedSeriesSequence") or ()]


def _classes(items: Sequence[Any]) -> dict[str, str]:
    return {
        str(one.get("ReferencedSOPInstanceUID", "")): str(one.get("ReferencedSOPClassUID", ""))
        for item in items
        for one in item.get("ReferencedInstanceSequence") or ()
    }


def _instances(header: Any, sequences: Sequence[str]) -> tuple[str, ...]:
    """Return the instances that sequences of references name."""
    named = (str(item.get("ReferencedSOPInstanceUID", "")) for name in sequences for item in header.get(name) or ())
    return tuple(uid for uid in named if uid)


def _studies(header: Any) -> tuple[str, ...]:
    """Return the studies that are named."""
    others = (str(item.get("StudyInstanceUID", "")) for item in header.get(_OTHER_STUDIES) or ())
    return tuple(uid for uid in (*_instances(header, ("ReferencedStudySequence",)), *others) if uid)


def _sources(groups: Sequence[Any]) -> tuple[str, ...]:
    """Return the instances that functional groups name as sources."""
    return tuple(
        str(source.get("ReferencedSOPInstanceUID", ""))
        for group in groups
        for derivation in group.get("DerivationImageSequence") or ()
        for source in derivation.get("SourceImageSequence") or ()
    )


def _series(item: Any) -> tuple[str, tuple[str, ...]]:
    instances = item.get("ReferencedInstanceSequence") or ()
    return str(item.get("SeriesInstanceUID", "")), tuple(
        str(one.get("ReferencedSOPInstanceUID", "")) for one in instances
    )


def _segment(item: Any) -> tuple[int, str, str, str]:
    def code(name: str) -> str:
        items = item.get(name)
        if not items:
            return ""
        return f"{items[0].get('CodingSchemeDesignator', '')}:{items[0].get('CodeValue', '')}"

    return (
        int(item.get("SegmentNumber") or 0),
        str(item.get("SegmentLabel", "")),
        code("SegmentedPropertyCategoryCodeSequence"),
        code("SegmentedPropertyTypeCodeSequence"),
    )
