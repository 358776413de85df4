"""Defects that no planter of the phantom knows: edited with pydicom, each told by its rule and by no other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from hcc_tace_data.phantom.defects.tools import Twin, change
from hcc_tace_data.validators import validate


@pytest.fixture(scope="module")
def clean(make_twin, tmp_path_factory) -> Path:
    return make_twin(tmp_path_factory.mktemp("other") / "twin", patients=["HCC_061"], seed=11)


@pytest.fixture
def twin(clean, tmp_path) -> Twin:
    return Twin(Path(shutil.copytree(clean, tmp_path / "copy", copy_function=os.link)), "by hand")


def found(twin, *select, depth="headers"):
    report = validate(twin.root, select=select or None, ignore=["HT212", "HT312", "HT105"], depth=depth)
    return {finding.code: finding for finding in report.findings if not finding.known}, report


@pytest.mark.parametrize(
    ("labels", "severity", "told"),
    [
        ({0: "Livver"}, "warning", "segment 1 is called 'Livver', and its code says liver"),
        ({0: "Abdominal aorta", 3: "Liver"}, "error", "segment 1 is aorta by its label and liver by its code"),
        ({1: "Homer Simpson"}, "warning", "segment 2 is called 'H************', and its code says tumour"),
    ],
)
def test_labels_that_are_not_the_collections(twin, labels, severity, told):
    def rename(dataset):
        for number, label in labels.items():
            dataset.SegmentSequence[number].SegmentLabel = label

    change([twin.seg], rename)
    findings, _ = found(twin, "HT4")
    assert list(findings) == ["HT408"]
    assert (findings["HT408"].severity, told in findings["HT408"].message) == (severity, True)


@pytest.mark.parametrize("who", ["SEG", "CT"])
def test_pixel_spacing_of_frames_and_slices(twin, who):
    """Frames of another pixel size are off the grid, and their masks are not called empty."""

    def scale(dataset):
        shared = dataset.get("SharedFunctionalGroupsSequence")
        holder = shared[0].PixelMeasuresSequence[0] if shared else dataset
        holder.PixelSpacing = [float(value) * 1.01 for value in holder.PixelSpacing]

    change([twin.seg] if who == "SEG" else twin.annotated, scale)
    findings, report = found(twin, "HT4", "HT5", depth="pixels")
    assert list(findings) == ["HT404"]
    assert "pixel spacing is" in findings["HT404"].hint
    assert "off its CT's grid" in next(rule.reason for rule in report.rules if rule.code == "HT509")


def test_digits_that_move_no_frame_by_a_tenth_of_a_voxel_are_a_warning(twin):
    """The readers place such frames, so nothing is lost; beyond the tenth they drop them."""
    draw = np.random.default_rng(3)
    heights = np.sort([pydicom.dcmread(path).ImagePositionPatient[2] for path in twin.annotated])
    step = float(np.median(np.diff(heights)))

    def move(dataset, share, count):
        for frame in dataset.PerFrameFunctionalGroupsSequence[:count]:
            x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
            up = round(float(z) + share * step * draw.uniform(0.8, 1), 6)
            frame.PlanePositionSequence[0].ImagePositionPatient = [x, y, up]

    change([twin.seg], lambda dataset: move(dataset, 0.09, None))
    findings, _ = found(twin, "HT4", "HT5", depth="pixels")
    assert {code: one.severity for code, one in findings.items()} == {"HT404": "warning"}
    change([twin.seg], lambda dataset: move(dataset, 0.04, 3))
    findings, _ = found(twin, "HT404")
    assert findings["HT404"].severity == "error"
    assert "3 by more than a tenth" in findings["HT404"].message


@pytest.mark.parametrize(
    ("turn", "codes"),
    [
        (lambda frames, order: frames[:, :, ::-1], {"HT512", "HT514"}),
        (lambda frames, order: frames[:, ::-1], {"HT510", "HT512"}),
        (lambda frames, order: frames[order], {"HT512"}),
    ],
    ids=["right to left", "front to back", "feet to head"],
)
def test_masks_that_were_flipped(twin, turn, codes):
    dataset, frames = twin.masks()
    groups = dataset.PerFrameFunctionalGroupsSequence
    keys = [
        (int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
         float(one.PlanePositionSequence[0].ImagePositionPatient[2]))
        for one in groups
    ]  # fmt: skip
    order = np.arange(len(keys))
    for number in {segment for segment, _ in keys}:
        own = sorted((k for k in order if keys[k][0] == number), key=lambda k: keys[k][1])
        order[own] = own[::-1]
    twin.write_masks(dataset, turn(frames, order))
    findings, _ = found(twin, "HT4", "HT5", depth="pixels")
    assert set(findings) == codes


def test_foreign_files_in_a_whole_series_are_no_files_too_many(twin):
    folder = twin.slices[0].parent
    (folder / "x.dcm").write_text("<html>502 Bad Gateway</html>")
    (folder / "y.dcm").write_bytes(b"")
    (folder / "loop").symlink_to("..")
    findings, report = found(twin, "HT1", "HT2", "HT5")
    assert set(findings) == {"HT201"}
    told = {finding.path.rsplit("/", 1)[-1]: finding.message for finding in report.findings}
    assert told == {
        "x.dcm": "The file is not a DICOM file (no DICM prefix).",
        "y.dcm": "The file is empty (0 bytes).",
        "loop": "The file cannot be read: link to a folder: not followed.",
    }


def test_a_damaged_segmentation_is_not_missing_as_well(twin):
    data = twin.seg.read_bytes()
    twin.seg.unlink()
    twin.seg.write_bytes(data[: len(data) // 2])
    assert set(found(twin)[0]) == {"HT201"}


def _first_item(dataset):
    return dataset.ReferencedSeriesSequence[0]


def _derivation(uid, kind="1.2.840.10008.5.1.4.1.1.2"):
    source, derivation = Dataset(), Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = kind, uid
    derivation.SourceImageSequence = [source]
    return [derivation]


def _elsewhere(dataset):
    """List the references as those of another study, which the standard has a sequence for."""
    other = Dataset()
    other.StudyInstanceUID = "2.25.99"
    other.ReferencedSeriesSequence = dataset.ReferencedSeriesSequence
    other.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.98"
    del dataset.ReferencedSeriesSequence
    dataset.StudiesContainingOtherReferencedInstancesSequence = [other]


def _name(sequence):
    def spoil(dataset):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "2.25.96"
        setattr(dataset, sequence, [item])

    return spoil


def _share(dataset):
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.DerivationImageSequence = _derivation("2.25.97")


@pytest.mark.parametrize(
    ("spoil", "code", "told"),
    [
        (lambda d: setattr(_first_item(d), "SeriesInstanceUID", "2.25.99"), "HT412", "series 2.25.99 is not here, but"),
        (lambda d: setattr(_first_item(d), "SeriesInstanceUID", ""), "HT412", "a series without UID is not here"),
        (_elsewhere, "HT412", "series 2.25.98 is not here, but"),
        (
            lambda d: setattr(
                _first_item(d).ReferencedInstanceSequence[0], "ReferencedSOPClassUID", "1.2.840.10008.1.1"
            ),
            "HT412",
            "1 image is cited with the wrong SOP class",
        ),
        (
            lambda d: _first_item(d).ReferencedInstanceSequence.pop(),
            "HT412",
            "1 source of frames is not listed in ReferencedSeriesSequence",
        ),
        (_share, "HT401", "images that the segmentation cites is not here"),
        (_name("SourceImageSequence"), "HT401", "images that the segmentation cites is not here"),
        (_name("ReferencedImageSequence"), "HT401", "images that the segmentation cites is not here"),
        (_name("ReferencedStudySequence"), "HT412", "study 2.25.96 is not here"),
    ],
    ids=[
        "series nowhere",
        "series unnamed",
        "other study",
        "SOP class",
        "source unlisted",
        "shared source nowhere",
        "source image nowhere",
        "image nowhere",
        "study nowhere",
    ],
)
def test_whatever_a_segmentation_cites_is_looked_up(twin, spoil, code, told):
    change([twin.seg], spoil)
    findings, _ = found(twin, "HT4")
    assert set(findings) == {code}
    assert told in findings[code].message


def test_a_cited_series_without_images_is_looked_up_too(twin):
    """The series of another study, named without images of its own."""
    other = twin.collection[twin.patient].studies[-1].series[0]

    def add(dataset):
        item = Dataset()
        item.SeriesInstanceUID = other.series_uid
        dataset.ReferencedSeriesSequence.append(item)

    change([twin.seg], add)
    findings, _ = found(twin, "HT4")
    assert set(findings) == {"HT406", "HT412"}
    assert f"series {other.series_uid} is named without its images" in findings["HT412"].message


def test_images_listed_under_another_series_of_the_study(twin):
    change([twin.seg], lambda d: setattr(_first_item(d), "SeriesInstanceUID", twin.plain.series_uid))
    findings, _ = found(twin, "HT4")
    assert "HT412" in findings
    assert "are listed under series" in findings["HT412"].message


def test_pixels_that_cannot_be_decoded_are_said(twin):
    def spoil(dataset):
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xc3junk\xff\xd9"])
        dataset["PixelData"].is_undefined_length = True

    change(twin.slices[:1], spoil)
    findings, report = found(twin, "HT2", "HT802", depth="pixels")
    assert set(findings) == {"HT202"}
    reasons = {rule.code: rule.reason for rule in report.rules}
    assert reasons["HT207"] == reasons["HT802"] == "the pixels of 1 file cannot be decoded"


def test_slices_at_one_height_are_not_tilted(twin):
    change(twin.slices, lambda d: setattr(d, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]))
    assert set(found(twin, "HT5")[0]) == {"HT503", "HT504"}


def test_sentences_name_the_entity_and_the_root(twin):
    def spoil(dataset):
        dataset.ProtocolName = "OTHER"
        dataset.IrradiationEventUID = "1.2.840.113619.2.55.3.1"
        dataset.private_block(0x0013, "CTP", create=True).add_new(0x10, "LO", "Jan Kowalski")

    change(twin.slices[:1], spoil)
    findings, report = found(twin, "HT2", "HT3")
    assert set(findings) == {"HT204", "HT303", "HT306"}
    assert findings["HT204"].message.endswith("files of one series.")
    assert "1.3.6.1.4.1.14519.5.2.1," in findings["HT306"].hint
    assert "Kowalski" not in str(report.as_dict())


def _every_other(paths, edit):
    change(paths[::2], edit)


@pytest.mark.parametrize(
    ("name", "values", "other"),
    [
        ("ImageOrientationPatient", [1, 0.000499, 0, -0.000499, 1, 0], [1, 0.000501, 0, -0.000501, 1, 0]),
        ("PixelSpacing", [0.742185, 0.742185], [0.7421849, 0.7421849]),
    ],
)
def test_decimals_on_both_sides_of_a_rounding_boundary_are_one_number(twin, name, values, other):
    change(twin.slices, lambda d: setattr(d, name, values))
    _every_other(twin.slices, lambda d: setattr(d, name, other))
    assert not set(found(twin, "HT5")[0]) & {"HT502", "HT503", "HT505"}


def test_directions_that_move_voxels_are_told_apart(twin):
    turned = [1, 0.01, 0, -0.01, 1, 0]
    _every_other(twin.slices, lambda d: setattr(d, "ImageOrientationPatient", turned))
    assert set(found(twin, "HT503", "HT505")[0]) == {"HT503"}


@pytest.mark.parametrize("apart", [0.00049, 0.00051])
def test_two_frames_at_one_place_whatever_the_last_digit(twin, apart):
    """0.0005 mm is where positions rounded to three decimals change."""

    def double(dataset):
        groups = list(dataset.PerFrameFunctionalGroupsSequence)
        number = [int(one.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for one in groups]
        first, second = [k for k, own in enumerate(number) if own == number[0]][:2]
        place = groups[first].PlanePositionSequence[0].ImagePositionPatient
        groups[second].PlanePositionSequence[0].ImagePositionPatient = [*place[:2], float(place[2]) + apart]

    change([twin.seg], double)
    assert "HT410" in found(twin, "HT410")[0]


@pytest.mark.parametrize(
    ("name", "value", "severity"),
    [
        ("RescaleSlope", None, "error"),
        ("RescaleSlope", "0", "error"),
        ("RescaleIntercept", None, "error"),
        ("RescaleType", "OD", "error"),
        ("RescaleType", "US", "warning"),
        ("HighBit", 14, "error"),
        ("ModalityLUTSequence", [Dataset()], "error"),
    ],
)
def test_one_slice_without_known_hu_is_named(twin, name, value, severity):
    """In the middle of a series: the first file says nothing of it."""
    path = twin.slices[len(twin.slices) // 2]
    change([path], lambda d: setattr(d, name, value))
    findings, report = found(twin, "HT2", "HT5", depth="index")
    assert set(findings) == {"HT213"}
    assert [(one.path, one.severity) for one in report.findings] == [(str(path.relative_to(twin.root)), severity)]


def test_parameters_of_a_scan_are_named_with_their_units(twin):
    change(twin.slices, lambda d: setattr(d, "KVP", "80"))
    findings, _ = found(twin, "HT513")
    assert findings["HT513"].message.startswith("Tube voltage is 80 kV in ")
    assert findings["HT513"].message.endswith("the paper gives 120 to 140 kV.")
