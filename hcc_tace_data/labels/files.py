"""Readers' masks from NIfTI, NRRD or DICOM-SEG files, with numbers, names and place in the patient.

Such files come from anybody: sizes are checked before memory is taken, files that point at other files are refused, and
values that are not labels are never rounded.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.dicom.seg_file import open_seg
from hcc_tace_data.errors import DicomReadError, SegmentationError
from hcc_tace_data.facts.catalog import Catalog, load_catalog
from hcc_tace_data.facts.segments import SegmentVocabulary
from hcc_tace_data.system.boundary import foreign_errors
from hcc_tace_data.system.documents import read_json_object
from hcc_tace_data.system.words import count
from hcc_tace_data.volumes.nifti import SAVE_IN_PLACE, check_nifti_claims, patient_affine

__all__ = ["LABEL_SUFFIXES", "LabelFile", "read_label_file", "read_label_grid"]

#: Suffixes of label files, longest first.
LABEL_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".dcm")

_MAX_VOXELS = 4_000_000_000
_MAX_HEADER = 1 << 20
#: Spaces that ITK turns to LPS.
_SPACES = {"left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las"}
#: Memory that the voxels of one reader's file may take: 1,600 slices of 512 x 512 as uint8, 200 as float64.
_MAX_BYTES = 400 << 20
#: More different values than this are no labels; every label costs a mask.
_MAX_LABELS = 256
#: Bytes that one byte of a gzip stream can stand for, at most.
_MOST_PACKED = 1100
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

_VECTOR = re.compile(r"\([^()]*,[^()]*,[^()]*\)")
_NRRD_BYTES = {"char": 1, "signed char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "float": 4,
               "double": 8}  # fmt: skip

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """One reader's labels.

    Attributes
    ----------
    path : pathlib.Path
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    shape : tuple of int
        (D, H, W).
    names : dict of int to str
        Label number -> name; of files that name nothing (NIfTI without a sidecar), numbers that occur -> "".
    says_all : bool
        Whether `names` lists every label the reader looked for, so that one not listed was not looked for.
    frame_of_reference_uid : str
        Empty where the file has none.
    layers : ndarray, shape (L, D, H, W), of integer
        Label numbers; more than one layer where labels overlap.
    codes : dict of int to str
        Label number -> SNOMED CT code of its type, where the file has one.
    vocabulary : SegmentVocabulary
        What labels may be called.
    """

    path: Path
    affine: Affine
    shape: tuple[int, int, int]
    names: dict[int, str]
    says_all: bool
    layers: npt.NDArray[Any]
    layer_of: dict[int, int]
    value_of: dict[int, int]
    codes: dict[int, str]
    vocabulary: SegmentVocabulary
    frame_of_reference_uid: str = ""

    def mask(self, number: int) -> npt.NDArray[np.bool_]:
        """Return where a label is, bool (D, H, W); nowhere if the file does not have it."""
        layer = self.layers[self.layer_of.get(number, 0)]
        return np.asarray(layer == self.value_of.get(number, number))

    @cached_property
    def by_label(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Label -> mask: keys of ``catalog.yaml``; other names as they are, without case; numbers where none is."""
        found: dict[str, npt.NDArray[np.bool_]] = {}
        for number, name in self.names.items():
            key = self.vocabulary.key_of(name, self.codes.get(number, ""), number=number)
            if key is None:
                text = name.strip().casefold() or str(number)
                key = str(int(text)) if text.isascii() and text.isdigit() else text
            found[key] = self.mask(number) if key not in found else found[key] | self.mask(number)
        return found

    @cached_property
    def by_key(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Segment key of ``catalog.yaml`` -> mask; other labels are left out."""
        found = {key: mask for key, mask in self.by_label.items() if key in self.vocabulary.keys}
        if not self.says_all:  # a bare label map: what it does not show was looked for and not seen
            for keys in self.vocabulary.classes("standard").values():
                found.setdefault(keys[0], np.zeros(self.shape, bool))
        return found


def read_label_grid(path: str | os.PathLike[str]) -> tuple[Affine, tuple[int, int, int]]:
    """Return affine (index -> LPS mm) and shape (D, H, W) of a NIfTI or NRRD file from its header alone."""
    file = Path(path)
    if file.name.endswith(".nrrd"):
        image = _nrrd_reader(file)
        with foreign_errors(file, SegmentationError, "is not a readable NRRD file"):
            image.ReadImageInformation()
        return _itk_grid(file, image)
    return _nifti_grid(file, _open_nifti(file))


def read_label_file(path: str | os.PathLike[str], *, catalog: Catalog | None = None) -> LabelFile:
    """Read one reader's labels.

    Parameters
    ----------
    path : path-like
        ``.nii``, ``.nii.gz`` (names from a JSON file beside it, ``{"labels": {"1": "liver"}}`` or as
        :mod:`hcc_tace_data.export.nifti` writes), ``.nrrd``, ``.seg.nrrd`` (3D Slicer's), or a DICOM-SEG of any suffix.
    catalog : Catalog, optional
        Where the names of labels come from; default: the catalogue of HCC-TACE-Seg.

    Raises
    ------
    SegmentationError
        Not such a file, damaged, of other than three dimensions, too large, or with values that are not label numbers.
    """
    file = Path(path)
    vocabulary = (load_catalog() if catalog is None else catalog).vocabulary
    if not file.is_file():
        raise SegmentationError(f"no file {file}.")
    if file.name.endswith(".nrrd"):
        return _read_nrrd(file, vocabulary)
    if file.name.endswith((".nii", ".nii.gz")):
        return _read_nifti(file, vocabulary)
    try:
        return _read_seg(file, vocabulary)
    except DicomReadError as error:
        raise SegmentationError(f"{file} is not NIfTI, NRRD or DICOM-SEG: {error}") from error


def _open_nifti(file: Path) -> Any:
    import nibabel

    library: Any = nibabel
    try:
        image = library.load(file)
        shape = image.shape
    except Exception as error:  # nibabel and zlib raise many types on broken files
        raise SegmentationError(f"{file} is not a readable NIfTI file: {error}.") from error
    if not isinstance(image, library.Nifti1Image):
        raise SegmentationError(f"{file} is not a NIfTI file.")
    if len(shape) > 3 and set(shape[3:]) == {1}:
        shape = shape[:3]
    _check_shape(file, shape)
    return image


def _nifti_grid(file: Path, image: Any) -> tuple[Affine, tuple[int, int, int]]:
    affine = _RAS_TO_LPS @ patient_affine(file, image, SegmentationError)
    width, height, depth = (int(n) for n in image.shape[:3])
    return _checked(file, affine[:, [2, 1, 0, 3]]), (depth, height, width)


def _read_nifti(file: Path, vocabulary: SegmentVocabulary) -> LabelFile:
    image = _open_nifti(file)
    affine, shape = _nifti_grid(file, image)
    needed = check_nifti_claims(file, image, SegmentationError)
    if needed > _MAX_BYTES:
        raise SegmentationError(
            f"{file} would take {needed:,} bytes of memory, {_MAX_BYTES:,} allowed; save it as integers, unscaled."
        )
    with foreign_errors(file, SegmentationError, "is damaged or cut short"):
        values = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    array = _whole_numbers(file, values).transpose(2, 1, 0)
    names, has_names = _sidecar(file)
    return _label_map(file, affine, shape, array, vocabulary, names if has_names else None)


def _sidecar(file: Path) -> tuple[dict[int, str], bool]:
    """Return number -> name from the JSON file beside a NIfTI file, and whether there is one that names labels."""
    beside = file.with_name(re.sub(r"\.nii(\.gz)?$", ".json", file.name))
    if not beside.is_file() or beside.stat().st_size > _MAX_HEADER:
        return {}, False
    with foreign_errors(beside, SegmentationError, f"does not name the labels of {file.name}"):
        document = read_json_object(beside)
        if "Segments" in document:
            return {int(item["Number"]): str(item["Label"]) for item in document["Segments"]}, True
        if "labels" in document:
            return {int(number): str(name) for number, name in document["labels"].items() if int(number) > 0}, True
    return {}, False


def _nrrd_reader(file: Path) -> Any:
    """Return ITK's reader of a NRRD file whose header was looked at: all in one file, within the size limit."""
    import SimpleITK

    sitk: Any = SimpleITK  # untyped
    with file.open("rb") as handle:
        head = handle.read(_MAX_HEADER).split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0].decode("latin-1")
    if not head.startswith("NRRD000"):
        raise SegmentationError(f"{file} is not a NRRD file.")
    fields = dict(re.findall(r"^([^:#\n]+): ?(.*)$", head, flags=re.MULTILINE))
    if {"data file", "datafile"} & {name.strip().lower() for name in fields}:
        raise SegmentationError(f"{file} keeps its voxels in another file; save it as one .nrrd file.")
    _check_nrrd_place(file, {name.strip().lower(): text.strip() for name, text in fields.items()})
    try:
        sizes = [int(n) for n in fields["sizes"].split()]
    except (KeyError, ValueError) as error:
        raise SegmentationError(f"{file} does not tell its size.") from error
    _check_shape(file, sizes[-3:], math.prod(sizes))
    kind = fields.get("type", "").strip()
    bits = re.search(r"(\d+)(?:_t)?$", kind)
    width = int(bits[1]) // 8 if bits else _NRRD_BYTES.get(kind.removeprefix("unsigned "), 0)
    voxels = math.prod(sizes)
    packed = {"raw": 1, "gzip": _MOST_PACKED, "gz": _MOST_PACKED}.get(fields.get("encoding", "").strip().lower(), 0)
    if packed and voxels * max(1, width) > packed * (file.stat().st_size + 4096):
        raise SegmentationError(f"{file} claims {voxels:,} voxels, more than it can hold; fetch it again.")
    if voxels * (width or 8) > _MAX_BYTES:
        raise SegmentationError(f"{file} would take {voxels * (width or 8):,} bytes of memory; labels take less.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("NrrdImageIO")
    return reader


def _check_nrrd_place(file: Path, fields: dict[str, str]) -> None:
    """Refuse a header that leaves the place open: the library would take 1 mm, and the origin of the scanner."""
    vectors = _VECTOR.findall(fields.get("space directions", ""))
    units = set(re.findall(r'"([^"]*)"', fields.get("space units", "")))
    problem = ""
    if fields.get("space", "").lower() not in _SPACES:
        problem = f"space {fields.get('space', '')!r}"
    elif len(vectors) != 3:
        problem = f"{count(len(vectors), 'space direction')} in place of 3"
    elif not _VECTOR.fullmatch(fields.get("space origin", "")):
        problem = "no space origin"
    elif not units <= {"mm", ""}:
        problem = f"space units {', '.join(sorted(units))}, not mm"
    if problem:
        raise SegmentationError(f"{file} does not say where it is in the patient ({problem}). {SAVE_IN_PLACE}")


def _itk_grid(file: Path, image: Any) -> tuple[Affine, tuple[int, int, int]]:
    if image.GetDimension() != 3:
        raise SegmentationError(f"{file} has {count(image.GetDimension(), 'dimension')}, not 3.")
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    width, height, depth = image.GetSize()
    return _checked(file, affine[:, [2, 1, 0, 3]]), (depth, height, width)


def _read_nrrd(file: Path, vocabulary: SegmentVocabulary) -> LabelFile:
    import SimpleITK

    sitk: Any = SimpleITK  # untyped
    reader = _nrrd_reader(file)
    with foreign_errors(file, SegmentationError, "is damaged or cut short"):
        image = reader.Execute()
    affine, shape = _itk_grid(file, image)
    # a copy: a view would outlive the image whose memory it shows
    array = _whole_numbers(file, sitk.GetArrayFromImage(image))
    layers = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
    names: dict[int, str] = {}
    layer_of: dict[int, int] = {}
    value_of: dict[int, int] = {}
    for place, own in sorted(_slicer_segments(image).items()):
        value = _field(file, own, "LabelValue", 1)
        # layers that are not named are the segments' own, as before Slicer shared them
        layer = _field(file, own, "Layer", 0 if len(layers) == 1 and "LabelValue" in own else place)
        number = place + 1 if len(layers) > 1 else value
        name = own.get("Name") or own.get("ID", "")
        if not 0 <= layer < len(layers):
            raise SegmentationError(f"{file}: segment {name!r} is in layer {layer}; the file has {len(layers)}.")
        if (layer, value) in {(layer_of[one], value_of[one]) for one in names}:
            raise SegmentationError(f"{file}: segment {name!r} and another are both value {value} of layer {layer}.")
        names[number], value_of[number], layer_of[number] = name, value, layer
    for layer, values in enumerate(layers if names else ()):
        described = {value_of[number] for number in names if layer_of[number] == layer}
        unknown = set(_values_in(file, values)) - described - {0}
        if unknown:
            raise SegmentationError(
                f"{file} holds the value {min(unknown)} in layer {layer}, which no segment describes."
            )
    if not names:
        if len(layers) != 1:
            raise SegmentationError(
                f"{file} has {count(len(layers), 'component')} per voxel and no segments that explain them."
            )
        return _label_map(file, affine, shape, layers[0], vocabulary, None)
    return LabelFile(
        path=file, affine=affine, shape=shape, names=names, says_all=True, layers=layers, layer_of=layer_of,
        value_of=value_of, codes={}, vocabulary=vocabulary,
    )  # fmt: skip


def _slicer_segments(image: Any) -> dict[int, dict[str, str]]:
    """Return what 3D Slicer says of Segment0, Segment1 ...: number -> field -> text."""
    found: dict[int, dict[str, str]] = {}
    for key in image.GetMetaDataKeys():
        match = re.fullmatch(r"Segment([0-9]{1,6})_(Name|ID|LabelValue|Layer)", key)
        if match is not None:
            found.setdefault(int(match.group(1)), {})[match.group(2)] = image.GetMetaData(key).strip()
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _field(file: Path, own: dict[str, str], field: str, default: int) -> int:
    text = own.get(field, "")
    if text and not (_is_number(text) and len(text) < 10):
        raise SegmentationError(f"{file}: {field} of segment {own.get('Name', '')!r} is {text[:20]!r}, not a number.")
    return int(text) if text else default


def _read_seg(file: Path, vocabulary: SegmentVocabulary) -> LabelFile:
    seg = read_seg(file)
    if seg.fractional:
        layers = (seg.array >= 0.5).view(np.uint8)
    else:
        layers = seg.array
    numbers = [segment.number for segment in seg.segments]
    return LabelFile(
        path=file,
        affine=seg.affine,
        shape=seg.shape,
        names={segment.number: segment.label for segment in seg.segments},
        says_all=True,
        layers=layers,
        layer_of={number: place for place, number in enumerate(numbers)},
        value_of=dict.fromkeys(numbers, 1),
        codes={segment.number: segment.type[0] for segment in seg.segments if segment.type[1] == "SCT"},
        vocabulary=vocabulary,
        frame_of_reference_uid=open_seg(file, pixels=False).frame_of_reference_uid,
    )


def _label_map(
    file: Path,
    affine: Affine,
    shape: tuple[int, int, int],
    array: npt.NDArray[Any],
    vocabulary: SegmentVocabulary,
    names: dict[int, str] | None,
) -> LabelFile:
    """Return labels of one array; `names` is None if the file has no names."""
    found = _values_in(file, array)
    if found and found[0] < 0:
        raise SegmentationError(f"{file} holds the value {found[0]}; labels are 0 and above.")
    occurring = {number: "" for number in found if number > 0}
    undescribed = [] if names is None else sorted(set(occurring) - set(names))
    if undescribed:
        raise SegmentationError(f"{file} holds {undescribed[:5]}, which the JSON file beside it does not name.")
    return LabelFile(
        path=file, affine=affine, shape=shape, names=occurring if names is None else names, says_all=names is not None,
        layers=array[None], layer_of={}, value_of={}, codes={}, vocabulary=vocabulary,
    )  # fmt: skip


def _whole_numbers(file: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values as integers, slice by slice: copies of a whole volume would multiply the memory it takes."""
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "f":
        whole = np.empty(values.shape, np.int32)
        for part, plane in zip(whole, values, strict=True):
            if not (np.isfinite(plane).all() and (np.abs(plane) < 2**31).all() and (np.rint(plane) == plane).all()):
                break
            part[...] = plane
        else:
            return whole
    raise SegmentationError(f"{file} holds values of type {values.dtype} that are not label numbers (probabilities?).")


def _values_in(file: Path, array: npt.NDArray[Any]) -> list[int]:
    """Return the values that occur, ascending; refuse more than any reader has labels."""
    found: set[int] = set()
    for plane in array:
        found.update(np.unique(plane).tolist())
        if len(found) > _MAX_LABELS:
            raise SegmentationError(f"{file} holds more than {_MAX_LABELS} different values; they are not labels.")
    return sorted(found)


def _check_shape(file: Path, shape: Any, voxels: int | None = None) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise SegmentationError(f"{file} has the shape {tuple(shape)}; labels have three dimensions.")
    if (voxels or math.prod(shape)) > _MAX_VOXELS:
        raise SegmentationError(f"{file} claims {math.prod(shape)} voxels; refused.")


def _checked(file: Path, affine: Affine) -> Affine:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise SegmentationError(f"{file} has an affine that places voxels nowhere.")
    return affine
