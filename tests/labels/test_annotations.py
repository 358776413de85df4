"""Annotations of a study: which there are, on which CT they lie, and what comes out when they are read or fused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from hcc_tace_data import fuse_staple, load_hcc_tace, open_collection
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.errors import CollectionNotFoundError, HccTaceError, RegistrationError, SegmentationError, UsageError
from hcc_tace_data.labels.annotations import choose_annotations, read_annotations
from hcc_tace_data.labels.files import read_label_file

PATIENT = "HCC_004"
READERS = ["reader_1", "reader_2", "reader_3"]
MODEL = Algorithm(name="nnU-Net", version="1")


@pytest.fixture(scope="module")
def source(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("set") / "t", patients=[PATIENT])


@pytest.fixture
def root(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "root"))


def _study(root: Path) -> Any:
    return open_collection(root)[PATIENT].baseline


def _label(root: Path, annotations: Any) -> tuple[np.ndarray, int]:
    (sample,) = load_hcc_tace(root, annotations=annotations)
    return sample["label"].numpy(), sample["readers"]


def _drawn(root: Path, reader: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(root / "annotations" / reader / f"{PATIENT}.nii.gz")))


def _other_ct(root: Path) -> tuple[Path, ...]:
    """Return the files of a CT volume of the study on which the collection's SEG does not lie."""
    study = _study(root)
    own = study.annotations[0].series_uid
    return next(s.paths for s in study.series if s.modality == "CT" and s.series_uid != own)


def _bamf(root: Path, paths: Any, array: np.ndarray, name: str = "AI segmentation") -> Path:
    path = root / PATIENT / f"bamf{name.replace(' ', '')}.dcm"
    volume = {"liver": array == 1, "tumour": array == 2}
    return write_seg(path, volume, paths, algorithm=MODEL, series_description=f"AIMI liver-tumor {name}")


def test_what_exists_for_a_study(root: Path) -> None:
    study = _study(root)
    assert [(one.reader, one.kind, one.readers) for one in study.annotations] == [
        ("collection", "fusion", 3),
        *((name, "reader", 1) for name in READERS),
    ]
    assert len({one.paths for one in study.annotations}) == 1
    assert open_collection(root)[PATIENT].follow_up.annotations == ()
    assert pickle.loads(pickle.dumps(study.annotations)) == study.annotations


def test_one_reader_is_served_as_drawn(root: Path) -> None:
    for name in READERS:
        label, readers = _label(root, name)
        np.testing.assert_array_equal(label, _drawn(root, name))
        assert readers == 1
    assert _label(root, "collection")[1] == 3


def test_staple_is_what_fuse_staple_gives_and_leaves_the_collections_seg_out(root: Path) -> None:
    label, readers = _label(root, "staple")
    np.testing.assert_array_equal(label, fuse_staple([_drawn(root, name) for name in READERS]).label_map)
    assert readers == 3
    label, readers = _label(root, READERS[:2])
    np.testing.assert_array_equal(label, fuse_staple([_drawn(root, name) for name in READERS[:2]]).label_map)
    assert readers == 2
    assert _label(root, ["collection", "reader_1"])[1] == 4
    shutil.rmtree(root / "annotations")
    label, readers = _label(root, "staple")  # nobody else: the collection's fusion as it is
    np.testing.assert_array_equal(label, _label(root, "collection")[0])
    assert readers == 3
    with pytest.raises(UsageError, match="once"):
        load_hcc_tace(root, annotations=["collection", "collection"])


def test_names_that_nobody_has_and_patients_without(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="'reader_9'; here are 'bamf', 'collection', 'reader_1'"):
        load_hcc_tace(root, annotations="reader_9")
    with pytest.raises(CollectionNotFoundError):
        load_hcc_tace(root, annotations="bamf")
    assert "no annotation by 'bamf'" in caplog.text


def test_every_orientation_and_format_lands_in_the_same_place(root: Path) -> None:
    """The same mask saved with axes flipped or swapped, as NRRD, as 3D Slicer's NRRD and as SEG is the same mask."""
    expected, folder = _drawn(root, "reader_1"), root / "annotations" / "other"
    folder.mkdir()
    image = nibabel.load(root / "annotations" / "reader_1" / f"{PATIENT}.nii.gz")
    for code in (("L", "P", "S"), ("R", "A", "I"), ("A", "S", "L"), ("I", "R", "P")):
        start = nibabel.io_orientation(image.affine)
        turn = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(code))
        nibabel.save(image.as_reoriented(turn), folder / f"{PATIENT}.nii.gz")
        np.testing.assert_array_equal(_label(root, "other")[0], expected)
    (folder / f"{PATIENT}.nii.gz").unlink()
    plain = sitk.ReadImage(str(root / "annotations" / "reader_1" / f"{PATIENT}.nii.gz"))
    sitk.WriteImage(plain, str(folder / f"{PATIENT}.nrrd"), True)
    np.testing.assert_array_equal(_label(root, "other")[0], expected)
    (folder / f"{PATIENT}.nrrd").unlink()
    for number, (value, name) in enumerate(((4, "Tumor"), (1, "liver"), (2, "portal vein"), (9, "Aorta"))):
        plain.SetMetaData(f"Segment{number}_Name", name)
        plain.SetMetaData(f"Segment{number}_LabelValue", str(value))
    named = sitk.GetImageFromArray(np.choose(expected, [0, 1, 4, 2, 9]).astype(np.uint8))
    named.CopyInformation(plain)
    for key in plain.GetMetaDataKeys():
        named.SetMetaData(key, plain.GetMetaData(key))
    sitk.WriteImage(named, str(folder / f"{PATIENT}.seg.nrrd"), True)
    np.testing.assert_array_equal(_label(root, "other")[0], expected)
    (folder / f"{PATIENT}.seg.nrrd").unlink()
    write_seg(folder / f"{PATIENT}.dcm", expected, _study(root).annotations[0].paths, algorithm=MODEL)
    np.testing.assert_array_equal(_label(root, "other")[0], expected)


def test_a_sidecar_renames_numbers(root: Path) -> None:
    folder = root / "annotations" / "other"
    folder.mkdir()
    image = nibabel.load(root / "annotations" / "reader_1" / f"{PATIENT}.nii.gz")
    swapped = np.choose(np.asarray(image.dataobj), [0, 2, 1, 3, 4]).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(swapped, image.affine), folder / f"{PATIENT}.nii.gz")
    names = {"labels": {"1": "tumour", "2": "Liver", "3": "portal_vein", "4": "aorta"}}
    (folder / f"{PATIENT}.json").write_text(json.dumps(names))
    np.testing.assert_array_equal(_label(root, "other")[0], _drawn(root, "reader_1"))
    (folder / f"{PATIENT}.json").write_text(json.dumps({"labels": {"1": "tumour"}}))
    with pytest.raises(SegmentationError, match="does not name"):
        _label(root, "other")


def test_bamf_never_passes_for_the_collections(root: Path) -> None:
    study = _study(root)
    expected = _label(root, "collection")[0]
    drawn = _drawn(root, "reader_2")
    on, elsewhere = study.annotations[0].paths, _other_ct(root)
    shape = read_ct(list(elsewhere)).array.shape
    _bamf(root, elsewhere, np.ones(shape, np.uint8))
    _bamf(root, on, np.where(drawn > 2, 0, drawn))
    _bamf(root, on, np.where(drawn == 1, 1, 0), "radiologist 7 corrected segmentation")
    kinds = [one.kind for one in _study(root).annotations if one.reader == "bamf"]
    assert kinds == ["corrected", "model"]  # the second file took the name of the first
    np.testing.assert_array_equal(_label(root, "collection")[0], expected)
    label, readers = _label(root, "bamf")
    np.testing.assert_array_equal(label, drawn == 1)
    assert readers == 1
    label, readers = _label(root, "staple")
    assert readers == 4
    # BAMF drew no vessels: the three readers alone decide on them
    fused = fuse_staple([_drawn(root, name) for name in READERS])
    np.testing.assert_array_equal(label == 4, fused.label_map == 4)


def test_another_ct_is_registered_or_refused_never_taken_by_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = _other_ct(root)
    volume = read_ct(list(elsewhere), on_gap="fill")
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[3:9, 20:40, 18:45] = 1
    labels[5:7, 25:30, 22:30] = 2
    (root / "annotations" / "far").mkdir()
    write_seg(root / "annotations" / "far" / f"{PATIENT}.dcm", labels, elsewhere, algorithm=MODEL)
    study = _study(root)
    own = study.annotations[0]
    far = next(one for one in study.annotations if one.reader == "far")
    assert set(far.paths) == set(elsewhere)
    assert "far" not in [one.reader for one in choose_annotations(study.annotations, "staple")[0]]
    np.testing.assert_array_equal(_label(root, "far")[0], labels)  # alone it is served on its own CT
    like = read_ct(list(own.paths))

    class Found:
        plausible, reason = True, ""
        matrix = np.array([[1, 0, 0, 8.0], [0, 1, 0, -6.0], [0, 0, 1, 0], [0, 0, 0, 1]])

    monkeypatch.setattr("hcc_tace_data.labels.annotations.register", lambda fixed, moving, engine: Found)
    moved = read_annotations([far], like, own.paths).masks["liver"]
    where = np.argwhere(moved).mean(axis=0)
    there = like.affine @ [*where, 1]
    here = volume.affine @ [*np.argwhere(labels == 1).mean(axis=0), 1]
    # a point of this CT maps to one 8 mm to the left of it on the other
    np.testing.assert_allclose(Found.matrix @ there, here, atol=3.0)
    Found.plausible, Found.reason = False, "moved by 90 mm"
    with pytest.raises(RegistrationError, match="moved by 90 mm"):
        read_annotations([far], like, own.paths)


def test_a_grid_that_is_no_cts_is_refused(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = root / "annotations" / "shifted"
    folder.mkdir()
    image = nibabel.load(root / "annotations" / "reader_1" / f"{PATIENT}.nii.gz")
    affine = image.affine.copy()
    affine[2, 3] += 3.1
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), folder / f"{PATIENT}.nii.gz")
    with pytest.raises(CollectionNotFoundError):
        load_hcc_tace(root, annotations="shifted")
    assert "no CT volume of the study" in caplog.text
    assert _label(root, "staple")[1] == 3  # it is not among the readers of this CT


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii.gz", b"\x1f\x8b not really"),
        ("a.nii", b"\0" * 400),
        ("a.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 90000 90000 90000\nencoding: raw\n\n"),
        ("a.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\ndata file: /etc/passwd\nencoding: raw\n\n"),
        ("a.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 9 9 9\nencoding: gzip\n\n\x1f\x8b"),
        ("a.nrrd", b"\x89PNG"),
        ("a.dcm", b"<html>404</html>"),
        ("a.txt", b""),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SegmentationError):
        read_label_file(tmp_path / name)


def test_values_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    for array, message in (
        (np.full((2, 3, 4), 0.5, np.float32), "not label numbers"),
        (np.full((2, 3, 4), -1, np.int16), "0 and above"),
        (np.ones((2, 3, 4, 5), np.uint8), "three dimensions"),
    ):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
        with pytest.raises(SegmentationError, match=message):
            read_label_file(path)
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    (tmp_path / "b.nii").write_bytes(header.binaryblock + b"\0" * 100)
    with pytest.raises(SegmentationError, match="refused"):
        read_label_file(tmp_path / "b.nii")


def test_a_broken_reader_is_listed_with_the_reason(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "annotations" / "broken").mkdir()
    (root / "annotations" / "broken" / f"{PATIENT}.nii.gz").write_bytes(b"nothing")
    (one,) = [one for one in _study(root).annotations if one.reader == "broken"]
    assert one.paths == ()
    assert "not a readable NIfTI" in one.reason
    with pytest.raises(HccTaceError, match="not a readable NIfTI"):
        load_hcc_tace(root, annotations=["reader_1", "broken"])
    caplog.clear()
    assert _label(root, "staple")[1] == 3  # the others are fused, and it is said that one is not
    assert str(one.path) in caplog.text
    assert "not a readable NIfTI" in caplog.text


def test_a_number_in_the_place_of_a_name_is_that_number(root: Path) -> None:
    folder = root / "annotations" / "other"
    folder.mkdir()
    shutil.copy(root / "annotations" / "reader_1" / f"{PATIENT}.nii.gz", folder)
    (folder / f"{PATIENT}.json").write_text(json.dumps({"labels": {str(n): str(n) for n in range(1, 5)}}))
    np.testing.assert_array_equal(_label(root, "other")[0], _drawn(root, "reader_1"))
