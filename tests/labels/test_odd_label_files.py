"""Readers' masks as other software writes them: in the place that the file states, or refused by name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hcc_tace_data.errors import SegmentationError
from hcc_tace_data.labels.files import read_label_file, read_label_grid

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCANNER = np.array([[-0.7, 0, 0, 100], [0, -0.8, 0, 90], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])
MOVED = SCANNER + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 5.0], [0, 0, 0, 0]])


def _mask() -> np.ndarray:
    mask = np.zeros((9, 8, 7), np.uint8)
    mask[2:5, 3:6, 1:4] = 1
    return mask


@pytest.mark.parametrize("sform", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("qform", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("agree", [True, False])
def test_the_scanner_space_is_the_patients(tmp_path: Path, sform: int, qform: int, agree: bool) -> None:
    """Either form may be the scanner's; two of one code that disagree are refused, as is an atlas."""
    image: Any = nibabel.Nifti1Image(_mask(), SCANNER)
    image.set_sform(SCANNER if sform == 1 or agree else MOVED, code=sform)
    image.set_qform(SCANNER if (qform == 1 and sform != 1) or agree else MOVED, code=qform)
    file = tmp_path / "a.nii.gz"
    nibabel.save(image, file)
    codes = {sform, qform}
    refused = not codes & {1, 2} or (not agree and sform == qform == 1)
    if refused:
        for read in (read_label_file, read_label_grid):
            with pytest.raises(SegmentationError, match=r"a\.nii\.gz"):
                read(file)
        return
    affine = read_label_file(file).affine
    wanted = SCANNER if agree or 1 in codes else MOVED
    lps = np.diag([-1.0, -1, 1, 1]) @ wanted
    np.testing.assert_allclose(affine, lps[:, [2, 1, 0, 3]], atol=1e-3)
    np.testing.assert_allclose(read_label_grid(file)[0], affine)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000), ("meter", 0.001), ("mm", 1), ("unknown", 1)])
def test_units_of_length(tmp_path: Path, unit: str, factor: float) -> None:
    image: Any = nibabel.Nifti1Image(_mask(), np.diag([factor, factor, factor, 1]) @ SCANNER)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    found = read_label_file(tmp_path / "a.nii").affine
    np.testing.assert_allclose(np.linalg.norm(found[:3, :3], axis=0), [2.5, 0.8, 0.7], rtol=1e-4)


def _nrrd(path: Path, layers: int, fields: dict[str, str], array: np.ndarray | None = None) -> Path:
    voxels = np.zeros((layers, 7, 8, 9), np.uint8)
    for layer in range(layers):
        voxels[layer, 1 + layer : 4 + layer, 3:6, 2:5] = 1
    if array is not None:
        voxels = array
    image = sitk.GetImageFromArray(np.moveaxis(voxels, 0, -1) if layers > 1 else voxels[0], isVector=layers > 1)
    image.SetSpacing((0.7, 0.8, 2.5))
    for key, text in fields.items():
        image.SetMetaData(key, text)
    sitk.WriteImage(image, str(path))
    return path


def test_layers_without_their_numbers_are_the_segments_own(tmp_path: Path) -> None:
    names = {f"Segment{i}_Name": name for i, name in enumerate(("liver", "tumor", "aorta"))}
    file = _nrrd(tmp_path / "a.seg.nrrd", 3, names)
    labels = read_label_file(file)
    for layer, key in enumerate(("liver", "tumour", "aorta")):
        mask = labels.by_label[key]
        assert mask.sum() == 27
        assert mask[1 + layer : 4 + layer, 3:6, 2:5].all()


@pytest.mark.parametrize(
    ("layers", "fields"),
    [
        (1, {"Segment0_Name": "liver", "Segment1_Name": "tumor"}),  # both would be value 1
        (1, {"Segment0_Name": "liver", "Segment0_LabelValue": "1", "Segment1_Name": "x", "Segment1_LabelValue": "1"}),
        (2, {"Segment0_Name": "liver", "Segment0_Layer": "7"}),
        (1, {"Segment0_Name": "liver", "Segment0_LabelValue": "one"}),
        (1, {"Segment0_Name": "liver", "Segment0_LabelValue": "5", "Segment0_Layer": "0"}),  # 1 is not described
        (2, {}),
    ],
)
def test_segments_that_contradict_their_voxels(tmp_path: Path, layers: int, fields: dict[str, str]) -> None:
    file = _nrrd(tmp_path / "a.seg.nrrd", layers, fields)
    with pytest.raises(SegmentationError, match=r"a\.seg\.nrrd"):
        read_label_file(file)


@given(data=st.data(), kind=st.sampled_from(["nrrd", "nii", "nii.gz"]))
@QUICK
def test_damage_is_one_kind_of_error(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    if kind == "nrrd":
        _nrrd(file, 1, {"Segment0_Name": "liver"})
    else:
        nibabel.save(nibabel.Nifti1Image(_mask(), SCANNER), file)
    whole = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del whole[data.draw(st.integers(0, len(whole))) :]
    file.write_bytes(bytes(whole))
    for read in (read_label_file, read_label_grid):
        try:
            read(file)
        except SegmentationError as error:
            assert file.name in str(error)  # noqa: PT017 - undamaged parts may still read


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_arrays_of_a_file_live_on_when_others_are_read(tmp_path: Path, kind: type) -> None:
    """No array shows memory of a library's image, which is used again for the next one."""
    masks = [np.roll(_mask().transpose(2, 1, 0), shift, axis=0).astype(kind) for shift in range(4)]
    files = []
    for number, mask in enumerate(masks):
        files.append(tmp_path / f"{number}.nrrd")
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(files[-1]))
    found = [read_label_file(file) for file in files]
    for labels, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(labels.layers[0], mask)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"space origin:", b"# no origin:", "origin"),
        (b"space directions: (", b"space directions: none (", None),  # one more than there are axes
        (b"space directions:", b"# no directions:", "0 space directions"),
        (b"space: left-posterior-superior", b"space: scanner-xyz", "scanner-xyz"),
        (b"encoding:", b'space units: "cm" "cm" "cm"\nencoding:', "cm"),
        (b"encoding:", b'space units: "mm" "mm" "mm"\nencoding:', ""),
    ],
)  # fmt: skip
def test_a_nrrd_file_that_leaves_its_place_open(tmp_path: Path, old: bytes, new: bytes, said: str | None) -> None:
    """The library would take spacings of 1 mm and an origin of 0."""
    file = _nrrd(tmp_path / "a.nrrd", 1, {})
    data = file.read_bytes()
    assert data.count(old) == 1
    file.write_bytes(data.replace(old, new))
    for read in (read_label_file, read_label_grid):
        if said == "":
            read(file)
            continue
        with pytest.raises(SegmentationError, match=said or r"a\.nrrd"):
            read(file)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_without_direction_is_refused(tmp_path: Path, axis: int) -> None:
    file = _nrrd(tmp_path / "a.nrrd", 1, {})
    head, _, voxels = file.read_bytes().partition(b"\n\n")
    lines = head.split(b"\n")
    place = next(i for i, line in enumerate(lines) if line.startswith(b"space directions:"))
    vectors = lines[place].partition(b":")[2].split()
    vectors[axis] = b"none"
    lines[place] = b"space directions: " + b" ".join(vectors)
    file.write_bytes(b"\n".join(lines) + b"\n\n" + voxels)
    with pytest.raises(SegmentationError, match="2 space directions"):
        read_label_file(file)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@given(offset=st.floats(width=32))
@QUICK
def test_an_offset_that_no_file_has_is_refused(tmp_path: Path, suffix: str, offset: float) -> None:
    """The system answers some with "Invalid argument": that is the file's fault, not the disk's."""
    nibabel.save(nibabel.Nifti1Image(_mask(), SCANNER), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<f", data, 108, offset)
    file = tmp_path / f"b{suffix}"
    file.write_bytes(gzip.compress(bytes(data)) if suffix == ".nii.gz" else bytes(data))
    if 0 <= offset < 353:
        assume(False)
    with pytest.raises(SegmentationError, match="b\\.nii"):
        read_label_file(file)
