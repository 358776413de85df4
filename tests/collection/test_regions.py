"""Two regions in one series: a volume of one phase whose slices lie on two grids, and a SEG of one region."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcc_tace_data import load_hcc_tace, open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.collection.model import Study
from hcc_tace_data.collection.regions import regions_of
from hcc_tace_data.errors import GapError, SegmentationError
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.labels.fuse import fuse_files
from hcc_tace_data.loaders import read_ct, read_seg
from hcc_tace_data.validators import validate

PATIENTS = ("HCC_082", "HCC_085")


@pytest.fixture(scope="module")
def twin(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("regions") / "t", patients=list(PATIENTS))


def study_of(root: Path, patient: str) -> Study:
    study = open_collection(root, cache=False)[patient].baseline
    assert study is not None
    return study


def table(places: np.ndarray, numbers: list[int | None]) -> pd.DataFrame:
    """Return what the index holds of axial slices."""
    rows = pd.DataFrame({f"orientation_{k}": float(k in (0, 4)) for k in range(6)}, index=range(len(places)))
    rows["position_x"], rows["position_y"], rows["position_z"] = -100.0, -90.0, places
    rows["acquisition_number"] = pd.array(numbers, dtype="Int64")
    return rows


@given(
    lower=st.integers(3, 40),
    upper=st.integers(3, 40),
    step=st.floats(0.6, 7.5),
    gap=st.floats(0.3, 4.0),
    numbered=st.booleans(),
    order=st.randoms(),
)
def test_regions_are_found_by_number_or_by_grid(
    lower: int, upper: int, step: float, gap: float, numbered: bool, order: object
) -> None:
    below, above = step * np.arange(lower) - 700, step * np.arange(upper)
    above += below[-1] + gap * step + 0 * above
    rows = table(np.concatenate([below, above]), [2 if numbered else 7] * lower + [3 if numbered else 7] * upper)
    mixed = rows.sample(frac=1, random_state=order.randrange(2**31))  # type: ignore[attr-defined]
    parts = regions_of(mixed)
    off_grid = abs(gap - round(gap)) > 0.25
    if numbered or off_grid:
        assert [part.index.tolist() for part in parts] == [list(range(lower)), list(range(lower, lower + upper))]
    elif abs(gap - round(gap)) < 0.15 and gap > 0.5:
        assert len(parts) == 1


def test_what_is_no_region() -> None:
    even = np.arange(20) * 2.5
    for places, numbers in (
        (even, [1, 2] * 10),  # numbers that alternate
        (np.delete(even, [7, 8]), [1] * 18),  # slices that are missing
        (even + 0.6 * (np.arange(20) == 9), [1] * 20),  # one slice out of place
        (even[:5], [1, 1, 2, 2, 2]),
        (even, [None] * 20),
    ):
        assert len(regions_of(table(places, numbers))) == 1


@pytest.mark.parametrize("patient", PATIENTS)
def test_the_annotated_region_is_what_is_loaded(twin: Path, patient: str) -> None:
    study = study_of(twin, patient)
    found = find_annotated(study)
    series = next(one for one in study.series if found.volume and one.series_uid == found.volume.series_uid)
    assert len(series.volumes) == 1
    lower, upper = regions_of(series.volumes[0])
    assert [path.name for path in found.paths] == [Path(name).name for name in upper["path"]]
    heights = [float(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]) for path in found.paths]
    assert min(heights) > lower["position_z"].max()
    assert "one of its 2 regions" in found.reason

    (sample,) = (one for one in load_hcc_tace(twin) if one["patient_id"] == patient)
    own = read_seg(study.segmentation.paths[0])  # by the frames alone, without a CT
    assert sample["image"].shape[1:] == own.shape
    np.testing.assert_array_equal(sample["label"].numpy() == 2, np.isin(own.label_map(), (2, 5)))
    assert (sample["label"].numpy() == 2).any()
    truth = np.asarray(nibabel.load(twin / "truth" / "labels" / f"{patient}.nii.gz").dataobj).transpose(2, 1, 0)
    assert truth.shape == own.shape
    for d, path in enumerate(found.paths):
        data = pydicom.dcmread(path)
        hu = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        np.testing.assert_array_equal(sample["image"][0, d].numpy(), hu)


def test_no_rule_objects_but_the_gap_is_told(twin: Path) -> None:
    report = validate(twin, select=["HT4", "HT5"])
    assert [one for one in report.findings if one.severity == "error" or one.code.startswith("HT4")] == []
    (told,) = (one for one in report.findings if one.patient_id == "HCC_082" and one.code == "HT501")
    assert told.severity == "warning"
    assert told.known
    assert "2 regions" in told.message


def test_readers_lie_on_the_annotated_region(twin: Path) -> None:
    for patient in PATIENTS:
        study = study_of(twin, patient)
        assert {one.paths for one in study.annotations} == {find_annotated(study).paths}
    fused = load_hcc_tace(twin, annotations="staple")
    assert {int(one["readers"]) for one in fused} == {3}


def test_the_whole_stretch_is_filled_at_the_spacing_of_most_slices(twin: Path) -> None:
    study = study_of(twin, "HCC_082")
    series = next(one for one in study.series if one.series_uid == find_annotated(study).volume.series_uid)
    with pytest.raises(GapError, match="mm apart, but"):
        read_ct(series)
    kept, filled = read_ct(series, on_gap="keep"), read_ct(series, on_gap="fill")
    lower, upper = regions_of(series.volumes[0])
    step = float(np.median(np.diff(upper["position_z"])))
    assert filled.spacing[0] == pytest.approx(step, abs=1e-3)
    np.testing.assert_array_equal(filled.array[: len(lower)], kept.array[: len(lower)])
    # numpy's own interpolation, voxel by voxel
    places = filled.positions[0] + filled.spacing[0] * np.arange(len(filled.array))
    for row, column in ((20, 20), (32, 40), (45, 25)):
        wanted = np.interp(places, kept.positions, kept.array[:, row, column])
        np.testing.assert_allclose(filled.array[:, row, column], wanted, atol=0.51)


@pytest.mark.parametrize("drawn", [False, True])
def test_frames_of_both_regions(twin: Path, tmp_path: Path, drawn: bool) -> None:
    """Empty frames of the other region do not matter; on two grids, drawn ones cannot make one array."""
    shutil.copytree(twin / "HCC_082", tmp_path / "HCC_082")
    study = study_of(tmp_path, "HCC_082")
    found = find_annotated(study)
    series = next(one for one in study.series if one.series_uid == found.volume.series_uid)
    lower, _ = regions_of(series.volumes[0])
    path = study.segmentation.paths[0]
    data = pydicom.dcmread(path)
    frames = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    frames = frames[: int(data.NumberOfFrames) * data.Rows * data.Columns].reshape(-1, data.Rows, data.Columns)
    groups = list(data.PerFrameFunctionalGroupsSequence)
    added = np.zeros((len(lower), data.Rows, data.Columns), np.uint8)
    added[:, 10:20, 10:20] = drawn
    for z in lower["position_z"]:
        group = pydicom.Dataset.from_json(groups[0].to_json())
        x, y, _ = groups[0].PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y, float(z)]
        del group.DerivationImageSequence
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    data.NumberOfFrames = len(groups)
    bits = np.packbits(np.concatenate([frames, added]).reshape(-1), bitorder="little").tobytes()
    data.PixelData = bits + b"\0" * (len(bits) % 2)
    data.save_as(path)
    if drawn:
        with pytest.raises(SegmentationError, match="off"):
            load_hcc_tace(tmp_path)[0]
    else:
        assert find_annotated(study_of(tmp_path, "HCC_082")).paths == found.paths
        (sample,) = load_hcc_tace(tmp_path)
        assert sample["label"].numpy().any()


def test_an_export_names_the_region_and_keeps_the_rest(twin: Path, tmp_path: Path) -> None:
    export_nifti(open_collection(twin), tmp_path / "out", patients=["HCC_085"], all_volumes=True)
    images = {one.name: nibabel.load(one).shape[2] for one in (tmp_path / "out").rglob("*_ct.nii.gz")}
    (region,) = (name for name in images if "_chunk-2_" in name)
    assert images[region.replace("_chunk-2", "")] > images[region]
    (labels,) = (tmp_path / "out").rglob("*_dseg.nii.gz")
    assert nibabel.load(labels).shape[2] == images[region]


def test_readers_of_a_region_are_fused_on_it(twin: Path, tmp_path: Path) -> None:
    found = find_annotated(study_of(twin, "HCC_082"))
    readers = sorted((twin / "annotations").glob("*/HCC_082.nii.gz"))
    fused = fuse_files(readers, tmp_path / "out", ct=found.paths[0].parent)
    assert len(fused.report["readers"]) == 3
    assert nibabel.load(tmp_path / "out" / "labels.nii.gz").shape[2] == len(found.paths)
    again = read_seg(tmp_path / "out" / "labels_seg.dcm", like=read_ct(found.paths))
    written = np.asarray(nibabel.load(tmp_path / "out" / "labels.nii.gz").dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(again.label_map() > 0, written > 0)
