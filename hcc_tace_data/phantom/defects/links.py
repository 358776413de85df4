"""Defects of linkage and geometry (HT4, HT5): for each rule a change to a twin that breaks it and no other."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.phantom.body import LABELS
from hcc_tace_data.phantom.defects.tools import Twin, change, plant, read, write
from hcc_tace_data.phantom.seeding import twin_uid
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__: list[str] = []

_LIVER, _MASS, _PORTAL, _AORTA = (LABELS[name] for name in ("liver", "mass", "portal_vein", "aorta"))
Frames = NDArray[np.uint8]


def _segment(frame: Dataset) -> int:
    return int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _height(frame: Dataset) -> float:
    return float(frame.PlanePositionSequence[0].ImagePositionPatient[2])


def _empty(dataset: Dataset, frames: Frames, count: int) -> list[int]:
    """Return the last `count` empty frames of one segment."""
    empty = np.asarray(~frames.any(axis=(1, 2)))
    groups = dataset.PerFrameFunctionalGroupsSequence
    found = [k for k in range(len(groups)) if empty[k] and _segment(groups[k]) == _MASS]
    return found[-count:]


@plant("HT401")
def _slice_gone(twin: Twin) -> str:
    twin.annotated[0].unlink()
    twin.count_again()
    return f"removed {twin.annotated[0].relative_to(twin.root)}, which the segmentation references"


def _in_seg(code: str, what: str, edit: Callable[[Dataset], Any]) -> None:
    @plant(code)
    def defect(twin: Twin) -> str:
        change([twin.seg], edit)
        return f"{what} in {twin.seg.relative_to(twin.root)}"


def _no_position(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence


def _no_series(dataset: Dataset) -> None:
    item = dataset.ReferencedSeriesSequence[0]
    item.SeriesInstanceUID = twin_uid("nowhere", item.SeriesInstanceUID)


def _spleen(dataset: Dataset) -> None:
    segment = next(one for one in dataset.SegmentSequence if one.SegmentNumber == _PORTAL)
    segment.SegmentLabel = "Spleen"
    segment.SegmentedPropertyTypeCodeSequence[0].CodeValue = "78961009"
    segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Spleen"


def _turn_sources(dataset: Dataset) -> None:
    """Give each frame the sources of the frame three slices on."""
    for number in {_segment(frame) for frame in dataset.PerFrameFunctionalGroupsSequence}:
        own = [frame for frame in dataset.PerFrameFunctionalGroupsSequence if _segment(frame) == number]
        own = sorted(own, key=_height)
        derived = [deepcopy(frame.DerivationImageSequence) for frame in own if "DerivationImageSequence" in frame]
        named = [frame for frame in own if "DerivationImageSequence" in frame]
        for place, frame in enumerate(named):
            frame.DerivationImageSequence = derived[(place + 3) % len(derived)]


_in_seg("HT402", "removed ReferencedSeriesSequence", lambda d: d.__delitem__("ReferencedSeriesSequence"))
_in_seg("HT407", "put another frame of reference",
        lambda d: setattr(d, "FrameOfReferenceUID", twin_uid("other frame", d.FrameOfReferenceUID)))  # fmt: skip
_in_seg("HT408", "called the portal vein a spleen", _spleen)
_in_seg("HT409", "turned the sources of the frames by three slices", _turn_sources)
_in_seg("HT411", "removed the position of a frame", _no_position)
_in_seg("HT412", "named a series that does not exist", _no_series)


@plant("HT403")
def _other_series(twin: Twin) -> str:
    from hcc_tace_data.phantom.dicom_seg import refer_elsewhere  # noqa: PLC0415 - its libraries are slow to import

    others = [read(path) for path in twin.slices]
    change([twin.seg], lambda d: refer_elsewhere(d, others))
    return f"pointed all references of {twin.seg.relative_to(twin.root)} at series {twin.plain.number}"


@plant("HT404")
def _off_slices(twin: Twin) -> str:
    dataset, frames = twin.masks()
    heights = sorted({_height(frame) for frame in dataset.PerFrameFunctionalGroupsSequence})
    moved = _empty(dataset, frames, 2)
    for number in moved:
        place = dataset.PerFrameFunctionalGroupsSequence[number].PlanePositionSequence[0]
        x, y, z = place.ImagePositionPatient
        place.ImagePositionPatient = [x, y, round(float(z) + 0.4 * (heights[1] - heights[0]), 4)]
    write(twin.seg, dataset)
    return f"moved {count(len(moved), 'empty frame')} between the slices"


@plant("HT405")
def _flipped(twin: Twin) -> str:
    from hcc_tace_data.phantom.dicom_seg import flip_frames  # noqa: PLC0415 - its libraries are slow to import

    dataset, frames = twin.masks()
    flip_frames(dataset, [read(twin.annotated[0])])
    twin.write_masks(dataset, frames[:, ::-1, ::-1])
    return "flipped rows and columns of all frames, positions with them"


@plant("HT406")
def _other_study(twin: Twin) -> str:
    from pydicom.dataset import Dataset

    other = twin.collection[twin.patient].studies[-1].series[0]
    item, instance = Dataset(), Dataset()
    instance.ReferencedSOPClassUID = str(other.instances["sop_class_uid"].iloc[0])
    instance.ReferencedSOPInstanceUID = str(other.instances["sop_uid"].iloc[0])
    item.SeriesInstanceUID, item.ReferencedInstanceSequence = other.series_uid, [instance]
    change([twin.seg], lambda d: d.ReferencedSeriesSequence.append(item))
    return "added a reference to a slice of the follow-up study"


@plant("HT410")
def _same_frame(twin: Twin) -> str:
    dataset, frames = twin.masks()
    one, other = _empty(dataset, frames, 2)
    groups = list(dataset.PerFrameFunctionalGroupsSequence)
    groups[other] = deepcopy(groups[one])
    dataset.PerFrameFunctionalGroupsSequence = groups
    write(twin.seg, dataset)
    return f"put the empty frame {other + 1} where frame {one + 1} is"


@plant("HT501")
def _gap(twin: Twin) -> str:
    path = twin.slices[len(twin.slices) // 2]
    path.unlink()
    twin.count_again()
    return f"removed {path.relative_to(twin.root)}, a slice amid the series"


@plant("HT502")
def _tilted(twin: Twin) -> str:
    def shear(dataset: Dataset) -> None:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, round(y + 0.2 * z, 6), z]

    change(twin.slices, shear)
    return f"sheared the {count(len(twin.slices), 'slice')} of series {twin.plain.number}"


@plant("HT503")
def _no_place(twin: Twin) -> str:
    change(twin.slices[-1:], lambda d: d.__delitem__("ImagePositionPatient"))
    return f"removed the position of {twin.slices[-1].relative_to(twin.root)}"


@plant("HT504")
def _same_place(twin: Twin) -> str:
    below = read(twin.slices[-2])

    def move(dataset: Dataset) -> None:
        dataset.ImagePositionPatient, dataset.SliceLocation = below.ImagePositionPatient, below.SliceLocation

    change(twin.slices[-1:], move)
    return f"put {twin.slices[-1].relative_to(twin.root)} where the slice below is"


@plant("HT505")
def _other_spacing(twin: Twin) -> str:
    change(twin.slices[-1:], lambda d: setattr(d, "PixelSpacing", ["1.000000", "1.000000"]))
    return f"changed the pixel spacing of {twin.slices[-1].relative_to(twin.root)}"


@plant("HT513")
def _low_voltage(twin: Twin) -> str:
    change(twin.slices, lambda d: setattr(d, "KVP", "80"))
    return f"set the tube voltage of series {twin.plain.number} to 80 kV"


class _Volume:
    """The masks of a twin's SEG as volumes on the annotated slices, and back into frames."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.dataset, self.frames = twin.masks()
        headers = [read(path) for path in twin.annotated]
        heights = {round(float(one.ImagePositionPatient[2]), 2): k for k, one in enumerate(headers)}
        groups = self.dataset.PerFrameFunctionalGroupsSequence
        self.places = [(_segment(frame), heights.get(round(_height(frame), 2))) for frame in groups]
        self.hu = np.stack([one.pixel_array.astype(np.int32) - 1024 for one in headers])
        first = headers[0]
        self.spacing = (
            float(headers[1].ImagePositionPatient[2]) - float(first.ImagePositionPatient[2]),
            *(float(value) for value in first.PixelSpacing),
        )
        self.masks = {number: np.zeros(self.hu.shape, np.bool_) for number, _ in self.places}
        for frame, (number, place) in zip(self.frames, self.places, strict=True):
            if place is not None:
                self.masks[number][place] = frame

    def save(self) -> None:
        for frame, (number, place) in zip(self.frames, self.places, strict=True):
            if place is not None:
                frame[...] = self.masks[number][place]
        self.twin.write_masks(self.dataset, self.frames)

    def distance(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return each voxel's distance from `mask`, mm."""
        from scipy import ndimage

        return np.asarray(ndimage.distance_transform_edt(~mask, sampling=self.spacing))

    @property
    def soft(self) -> NDArray[np.bool_]:
        """Soft tissue well inside the body."""
        from scipy import ndimage

        tissue = (self.hu > -150) & (self.hu < 500)
        tissue[:, -self.hu.shape[1] // 5 :] = False  # the table
        return np.asarray(ndimage.binary_erosion(tissue, np.ones((1, 5, 5))))

    def block(self, where: NDArray[np.bool_], rank: NDArray[np.float64], voxels: int) -> NDArray[np.bool_]:
        """Return a compact block of about `voxels` voxels of `where` around the one of highest `rank`."""
        peak = np.unravel_index(int(np.where(where, rank, -1.0).argmax()), where.shape)
        seed = np.zeros(where.shape, np.bool_)
        seed[peak] = True
        near = np.where(where, self.distance(seed), np.inf)
        return np.asarray(near <= np.partition(near, voxels, axis=None)[voxels])


@plant("HT506")
def _large_tumour(twin: Twin) -> str:
    volume = _Volume(twin)
    liver = volume.masks[_LIVER]
    far = volume.distance(volume.masks[_PORTAL])
    taken = liver & (far > np.quantile(far[liver], 0.3))
    volume.masks[_MASS] |= taken
    volume.masks[_LIVER] = liver & ~taken
    volume.save()
    return "called most of the liver tumour"


@plant("HT507")
def _stray_tumour(twin: Twin) -> str:
    volume = _Volume(twin)
    far = volume.distance(volume.masks[_LIVER] | volume.masks[_PORTAL] | volume.masks[_MASS])
    volume.masks[_MASS] |= volume.block(volume.soft & ~volume.masks[_AORTA], far, 30)
    volume.save()
    return "drew a tumour far from the liver"


@plant("HT508")
def _large_liver(twin: Twin) -> str:
    volume = _Volume(twin)
    liver = volume.masks[_LIVER]
    others = volume.masks[_MASS] | volume.masks[_PORTAL] | volume.masks[_AORTA]
    wanted = round(6_500_000.0 / float(np.prod(volume.spacing)))
    near = np.where(volume.soft & ~others & ~liver, volume.distance(liver), np.inf)
    voxels = min(max(wanted - int(liver.sum()), 1), int(np.isfinite(near).sum())) - 1
    liver |= near <= np.partition(near, voxels, axis=None)[voxels]
    volume.save()
    return "drew the liver over its neighbours"


@plant("HT509")
def _no_aorta(twin: Twin) -> str:
    volume = _Volume(twin)
    volume.masks[_AORTA][...] = False
    volume.save()
    return "emptied the mask of the aorta"


@plant("HT510")
def _aorta_aside(twin: Twin) -> str:
    volume = _Volume(twin)
    shift = round(95.0 / volume.spacing[-1])
    volume.masks[_AORTA] = np.roll(volume.masks[_AORTA], shift, axis=2)
    volume.save()
    return "moved the mask of the aorta 95 mm to the patient's left"


@plant("HT511")
def _vein_aside(twin: Twin) -> str:
    volume = _Volume(twin)
    far = volume.distance(volume.masks[_LIVER] | volume.masks[_MASS])
    voxels = int(volume.masks[_PORTAL].sum())
    volume.masks[_PORTAL] = volume.block(volume.soft & (far > 50) & ~volume.masks[_AORTA], far, min(voxels, 40))
    volume.save()
    return "moved the mask of the portal vein far from the liver"


@plant("HT512")
def _masks_in_air(twin: Twin) -> str:
    volume = _Volume(twin)
    liver = volume.masks[_LIVER]
    slices = np.flatnonzero(liver.any(axis=(1, 2)))
    middle = slices[len(slices) // 4 : -(len(slices) // 4) or None]
    _, rows, columns = volume.hu.shape
    liver[middle, 1 : 1 + rows // 16, 20 * columns // 64 : 30 * columns // 64] = True
    volume.save()
    return "drew liver in the air before the patient"


@plant("HT514")
def _mirrored(twin: Twin) -> str:
    from scipy import ndimage

    volume = _Volume(twin)
    soft = volume.soft
    for number in (_LIVER, _MASS, _PORTAL):
        volume.masks[number] = volume.masks[number][:, :, ::-1] & soft
    # what lies apart from the liver now would be another defect
    parts, _ = ndimage.label(volume.masks[_MASS])
    beside = np.unique(parts[volume.distance(volume.masks[_LIVER] | volume.masks[_PORTAL]) <= 3.0])
    volume.masks[_MASS] &= (parts > 0) & np.isin(parts, beside)
    if not volume.masks[_MASS].any():
        deep = volume.distance(~volume.masks[_LIVER])
        volume.masks[_MASS] = deep > 0.6 * deep.max()
        volume.masks[_LIVER] &= ~volume.masks[_MASS]
    volume.save()
    return "mirrored the masks of liver, tumour and portal vein from right to left, as far as there is soft tissue"
