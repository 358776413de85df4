"""Label maps, masks and probabilities as DICOM Segmentation objects, made by highdicom."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.geometry import base_step, check_shear, even_step, filled_places, place_bound, slice_axes
from hcc_tace_data.dicom.headers import HeaderReader
from hcc_tace_data.dicom.inflate import for_pydicom
from hcc_tace_data.errors import NotAVolumeError, SegmentationError, TiltError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.version import __version__

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from hcc_tace_data.facts.catalog import Catalog, Segment

__all__ = ["Algorithm", "write_seg"]

# DCM codes of CID 7162 "Surface Processing Algorithm Family", as far as labels are made here.
_FAMILIES = {
    "AUTOMATIC": ("123110", "Artificial Intelligence"),
    "SEMIAUTOMATIC": ("123109", "Manual Processing"),
    "MANUAL": ("123109", "Manual Processing"),
}
# Type 2 attributes of patient and study that a de-identified file may lack altogether.
_MAY_LACK = (
    "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
    "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """Who or what made a segmentation, as stated in the file.

    Attributes
    ----------
    name, version : str
    kind : {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}
        SegmentAlgorithmType: a model; a fusion of people's masks; one person.
    parameters : mapping of str to str
        With which the algorithm ran.
    """

    name: str
    version: str
    kind: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"] = "AUTOMATIC"
    parameters: Mapping[str, str] = field(default_factory=dict)


def write_seg(
    path: str | os.PathLike[str],
    labels: npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]],
    source_paths: Iterable[str | os.PathLike[str]],
    *,
    algorithm: Algorithm,
    segments: Mapping[int, str] | str | None = None,
    on_tilt: Literal["raise", "keep"] = "raise",
    series_description: str = "Segmentation",
    series_number: int = 301,
    series_uid: str | None = None,
    catalog: Catalog | None = None,
) -> Path:
    """Write labels of a CT volume as one DICOM Segmentation.

    Parameters
    ----------
    path : path-like
        File to write; under its name only when it is whole.
    labels : ndarray of integer, shape (D, H, W); or mapping of str to ndarray, shape (D, H, W)
        A label map, or segment key of ``catalog.yaml`` -> mask (bool or integer, non-zero is inside; masks may overlap)
        or probabilities (float, 0 to 1; the file is then FRACTIONAL, in steps of 1/255). On the grid that
        :func:`~hcc_tace_data.dicom.ct.read_ct` gives of the sources: slices along +normal, with or without filled
        ones.
    source_paths : iterable of path-like
        Every file of the CT volume, in any order. Each is referenced, those with a frame also from the frame.
    algorithm : Algorithm
    segments : mapping of int to str, or str, optional
        What the numbers of a label map mean: number -> segment key, or the name of a label set of ``catalog.yaml`` such
        as "standard". Default: the numbers that the catalogue's segments have. All are described in the file, also
        those that do not occur; by default not those beyond the standard ones (necrosis).
    on_tilt : {"raise", "keep"}
        What to do where the gantry was tilted. "keep": the labels lie on the slices as they were acquired, as
        ``read_ct(on_tilt="keep")`` gives them; each frame is put where its slice is. Labels on a straightened volume
        lie on no source image and cannot be written.
    series_description : str
    series_number : int
    series_uid : str, optional
        Default: a new one, as the SOP Instance UID always is.
    catalog : Catalog, optional
        Where segments and their codes come from; default: the catalogue of HCC-TACE-Seg.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    UsageError
        Labels of another shape than the volume, or with numbers or keys that mean nothing.
    NotAVolumeError, DicomReadError
        The sources are not the slices of one CT volume.
    TiltError
        The gantry was tilted, and `on_tilt` is "raise".

    Notes
    -----
    DICOM numbers segments 1, 2, 3 ... without gaps, so segments are renumbered in ascending order of their labels;
    their labels and SNOMED CT codes say what they are. All described segments are written, also empty ones; frames
    without any voxel are left out, unless there is no other.
    """
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    if on_tilt not in {"raise", "keep"}:
        raise UsageError(f"on_tilt is {on_tilt!r}; use 'raise' or 'keep'.")
    masks, described = _masks(labels, segments, load_catalog() if catalog is None else catalog)
    sources, places = _sources([Path(source) for source in source_paths], keep_tilt=on_tilt == "keep")
    depths = {len(sources), len(places)}
    shape = next(iter(masks.values())).shape
    size = (int(sources[0].Rows), int(sources[0].Columns))
    if shape[0] not in depths or shape[1:] != size:
        raise UsageError(
            f"the labels have shape {shape}, but the CT volume has {' or '.join(map(str, sorted(depths)))} slices of "
            f"{size}; resample them onto its grid first."
        )
    fractional = any(mask.dtype.kind == "f" for mask in masks.values())
    stacked = np.stack([_voxels(key, mask, fractional) for key, mask in masks.items()], axis=-1)
    code, meaning = _FAMILIES[algorithm.kind]
    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        version=algorithm.version,
        family=CodedConcept(code, "DCM", meaning),
        parameters=dict(algorithm.parameters) or None,
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.name,
            segmented_property_category=CodedConcept(*_code(segment.category)),
            segmented_property_type=CodedConcept(*_code(segment.type)),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues(algorithm.kind),
            algorithm_identification=identification if algorithm.kind != "MANUAL" else None,
            display_color=hd.color.CIELabColor.from_rgb(*bytes.fromhex(segment.colour[1:])),
        )
        for number, segment in enumerate(described, start=1)
    ]
    filled = shape[0] != len(sources)
    with warnings.catch_warnings():
        # the collection's names have one component (the PatientID), which is legal and which highdicom warns of
        warnings.filterwarnings("ignore", message=".*name.*component.*", category=UserWarning)
        result = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=stacked,
            segmentation_type="FRACTIONAL" if fractional else "BINARY",
            segment_descriptions=descriptions,
            series_instance_uid=series_uid or hd.UID(),
            series_number=series_number,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="hcc-tace-data",
            manufacturer_model_name="hcc-tace-data",
            software_versions=__version__,
            device_serial_number="1",
            series_description=series_description,
            content_label="SEGMENTATION",
            plane_positions=[hd.PlanePositionSequence("PATIENT", list(p)) for p in places] if filled else None,
            omit_empty_frames=bool(stacked.any()),
        )
    with atomic_path(path) as temporary:
        result.save_as(temporary)
    return Path(path)


def _masks(
    labels: npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]],
    segments: Mapping[int, str] | str | None,
    catalog: Catalog,
) -> tuple[dict[str, npt.NDArray[Any]], list[Segment]]:
    """Return segment key -> mask, and the segments, in order of their numbers."""
    known = {segment.key: segment for segment in catalog.segments}
    if isinstance(labels, Mapping):
        if segments is not None:
            raise UsageError("segments says what numbers mean; masks by key need none.")
        if not labels or not set(labels) <= set(known):
            raise UsageError(f"masks of {sorted(labels)}; use keys of the catalogue: {', '.join(known)}.")
        masks = {key: np.asarray(labels[key]) for key in known if key in labels}
    else:
        always = set(known)
        if segments is None:
            segments = {number: key for key, number in catalog.vocabulary.numbers.items()}
            always = {keys[0] for keys in catalog.classes("standard").values()}
        elif isinstance(segments, str):
            # a class of several segments is named after the first
            segments = {number: keys[0] for number, keys in sorted(catalog.classes(segments).items())}
        if not set(segments.values()) <= set(known) or len(set(segments.values())) != len(segments):
            raise UsageError(f"segments is {dict(segments)}; name each of {', '.join(known)} at most once.")
        array = np.asarray(labels)
        if array.dtype.kind not in "biu":
            raise UsageError(f"the label map has values of type {array.dtype}; labels are whole numbers.")
        unknown = sorted(set(np.unique(array).tolist()) - {0} - set(segments))
        if unknown:
            raise UsageError(f"the label map holds {unknown}, which mean nothing; pass segments={{number: key}}.")
        used = {number: key for number, key in segments.items() if key in always or (array == number).any()}
        masks = {key: array == number for number, key in sorted(used.items())}
    shapes = {mask.shape for mask in masks.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise UsageError(f"the masks have shapes {sorted(shapes)}; each must be (D, H, W), all alike.")
    return masks, [known[key] for key in masks]


def _voxels(key: str, mask: npt.NDArray[Any], fractional: bool) -> npt.NDArray[Any]:
    if mask.dtype.kind not in "biuf":
        raise UsageError(f"the mask of {key} has values of type {mask.dtype}.")
    if not fractional:
        return np.asarray(mask != 0).view(np.uint8)
    values = mask.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise UsageError(f"the probabilities of {key} are not all between 0 and 1.")
    return values


def _code(concept: Any) -> tuple[str, str, str]:
    return concept.value, concept.scheme, concept.meaning


def _sources(paths: list[Path], *, keep_tilt: bool) -> tuple[list[Dataset], npt.NDArray[np.float64]]:
    """Return the headers of the slices along +normal, and the positions (N, 3) of the even grid they lie on.

    Of a tilted gantry's slices it is their own positions.
    """
    import pydicom

    if not paths:
        raise UsageError("no source files; a segmentation refers to the images it was drawn on.")
    reader = HeaderReader()
    rows = [reader.read(str(path)) for path in paths]
    for name in ("study_uid", "series_uid", "frame_of_reference_uid", "patient_id", "rows", "columns"):
        if len({row[name] for row in rows}) > 1:
            raise NotAVolumeError(f"the source files differ in {name}; pass the slices of one CT volume.")
    if rows[0]["modality"] != "CT" or not rows[0]["frame_of_reference_uid"]:
        raise NotAVolumeError(f"{paths[0]} is no CT slice with a frame of reference; a SEG cannot refer to it.")
    _, _, normal, position = slice_axes(rows)
    tilted = False
    try:
        check_shear(position, normal, 2 * place_bound(rows))
    except TiltError as error:
        if not keep_tilt:
            raise TiltError(
                f"{paths[0].parent}: the gantry was tilted, so the slices are sheared. For labels on the slices as "
                "they were acquired, pass on_tilt='keep'."
            ) from error
        tilted = True
    along = position @ normal
    order = np.argsort(along, kind="stable")
    along, position = along[order], position[order]
    if len(along) > 1 and np.diff(along).min() <= place_bound(rows):
        raise NotAVolumeError("several source files lie at one position; pass the slices of one phase.")
    if not tilted and even_step(along) is None and len(along) > 1:
        # the grid that read_ct(on_gap="fill") makes
        position = position[0] + np.outer(filled_places(along, base_step(along)) - along[0], normal)
    headers: list[Dataset] = []
    for index in order:
        try:
            header = pydicom.dcmread(for_pydicom(paths[index]), stop_before_pixels=True)
        except Exception as error:  # pydicom raises many types on broken files
            raise SegmentationError(f"{paths[index]}: its header cannot be read: {error}.") from error
        for name in _MAY_LACK:
            if name not in header:
                setattr(header, name, "")
        if not header.get("SpecificCharacterSet"):  # there, and empty: highdicom takes it for a character set
            header.SpecificCharacterSet = "ISO_IR 100"
        headers.append(header)
    grid: npt.NDArray[np.float64] = position
    return headers, grid
