"""`load_hcc_tace`: samples in the patient's coordinates, by split, with labels as asked for."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_overloads

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch.utils.data import DataLoader

from hcc_tace_data import Slices, load_hcc_tace, open_collection
from hcc_tace_data.errors import CollectionNotFoundError, DicomReadError, PatientNotFoundError, UsageError
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.loaders.datasets import SliceDataset, VolumeDataset
from hcc_tace_data.loaders.load import make_parameters


@pytest.fixture(scope="module")
def volumes(twin: Path) -> VolumeDataset:
    dataset = load_hcc_tace(twin, phases="annotated")
    assert isinstance(dataset, VolumeDataset)
    return dataset


@pytest.fixture(scope="module")
def slices(twin: Path) -> SliceDataset:
    dataset = load_hcc_tace(twin, unit="slice", phases="annotated")
    assert isinstance(dataset, SliceDataset)
    return dataset


def test_a_sample_is_what_it_should_be(volumes: VolumeDataset) -> None:
    sample = volumes[4]
    channels, depth, height, width = sample["image"].shape
    assert (channels, sample["image"].dtype) == (1, torch.float32)
    assert sample["label"].shape == (depth, height, width)
    assert sample["label"].dtype == torch.uint8
    assert sample["spacing"].shape == (3,)
    assert sample["affine"].shape == (4, 4)
    # air, and what the scanner pads outside its circle with
    assert -3100 < sample["image"].min() < -900
    assert 100 < sample["image"].max() < 3100
    assert set(sample["label"].unique().tolist()) <= {0, 1, 2, 3, 4}
    assert sample["clinical"]["patient_id"] == sample["patient_id"]
    # nothing that was not known before treatment
    assert sample["clinical"]["afp_ng_ml"] > 0
    assert not {"died", "os_weeks", "tace_response", "chemotherapy", "reader1_recist_fu_mm"} & set(sample["clinical"])


def test_labels_are_where_the_truth_is(twin: Path, volumes: VolumeDataset) -> None:
    """Compare in patient coordinates with what another library reads of the planted labels."""
    for sample in volumes:
        if sample["patient_id"] == "HCC_011":
            continue  # filled slices have no truth
        truth = sitk.ReadImage(str(twin / "truth" / "labels" / f"{sample['patient_id']}.nii.gz"))
        label = sample["label"].numpy()
        affine = sample["affine"].numpy()
        agree = total = 0
        for d, h, w in np.argwhere(label == 1)[::23]:
            point = affine @ [d, h, w, 1]
            index = truth.TransformPhysicalPointToIndex(point[:3].tolist())
            agree += truth[index] == 1
            total += 1
        assert total > 5
        # the SEG is the fusion of three imperfect readers
        assert agree / total > 0.85, sample["patient_id"]


def test_hu_is_what_another_reader_gives(twin: Path, volumes: VolumeDataset) -> None:
    for case, sample in zip(volumes.cases[:5], volumes, strict=False):
        files = sorted(case.paths, key=lambda p: float(sitk_position(p)[2]))
        stack = sitk.ReadImage([str(path) for path in files])
        if sample["image"].shape[1] == len(files):
            np.testing.assert_array_equal(sample["image"][0].numpy(), sitk.GetArrayFromImage(stack))


def sitk_position(path: Path) -> tuple[float, float, float]:
    """Position of a slice, by SimpleITK."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    origin: tuple[float, float, float] = reader.GetOrigin()
    return origin


def test_splits_are_by_patient(twin: Path) -> None:
    parts = {}
    present = set(open_collection(twin))
    for split in ("train", "validation", "test"):
        expected = [patient for patient in patients_of(split, 1) if patient in present]
        if not expected:
            with pytest.raises(CollectionNotFoundError, match=split):
                load_hcc_tace(twin, split=split, fold=1, phases="annotated")
            continue
        parts[split] = load_hcc_tace(twin, split=split, fold=1, phases="annotated").patient_ids
        assert list(parts[split]) == expected
    everyone = [patient for part in parts.values() for patient in part]
    assert sorted(everyone) == sorted(load_hcc_tace(twin, phases="annotated").patient_ids)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [("lesion", {0, 1, 2}), ("liver", {0, 1}), ({"aorta": 7, "tumour": 3}, {0, 3, 7})],
)
def test_label_sets(twin: Path, volumes: VolumeDataset, labels: object, classes: set[int]) -> None:
    mapped = load_hcc_tace(twin, labels=labels, phases="annotated").subset(["HCC_012"])[0]["label"]
    standard = volumes.subset(["HCC_012"])[0]["label"]
    assert set(mapped.unique().tolist()) == classes
    if labels == "lesion":
        assert torch.equal(mapped == 2, standard == 2)
        assert torch.equal(mapped > 0, (standard > 0) & (standard < 4))
    if labels == "liver":
        assert torch.equal(mapped == 1, (standard > 0) & (standard < 4))
    if isinstance(labels, dict):
        assert torch.equal(mapped == 7, standard == 4)
        assert torch.equal(mapped == 3, standard == 2)


def test_slices_are_the_livers_and_equal_the_volumes(volumes: VolumeDataset, slices: SliceDataset) -> None:
    whole = {sample["patient_id"]: sample for sample in volumes}
    seen: dict[str, list[int]] = {}
    for sample in slices:
        volume, d = whole[sample["patient_id"]], sample["slice"]
        assert torch.equal(sample["image"], volume["image"][:, d])
        assert torch.equal(sample["label"], volume["label"][d])
        seen.setdefault(sample["patient_id"], []).append(d)
    for patient, numbers in seen.items():
        liver = torch.isin(whole[patient]["label"], torch.tensor([1, 2])).any(dim=2).any(dim=1).nonzero().ravel()
        assert numbers == list(range(int(liver[0]), int(liver[-1]) + 1))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_batches_from_worker_processes(slices: SliceDataset, method: str) -> None:
    loader = DataLoader(
        slices.subset(["HCC_012", "HCC_017"]), batch_size=4, num_workers=1, multiprocessing_context=method
    )
    batches = list(loader)
    plain = list(slices.subset(["HCC_012", "HCC_017"]))
    assert torch.equal(torch.cat([batch["image"] for batch in batches]), torch.stack([s["image"] for s in plain]))
    assert batches[0]["clinical"]["age_years"].dtype == torch.float64


def test_a_data_set_can_be_pickled(volumes: VolumeDataset) -> None:
    _ = volumes[0]
    copy = pickle.loads(pickle.dumps(volumes))
    assert torch.equal(copy[0]["image"], volumes[0]["image"])
    assert len(pickle.dumps(volumes)) < 500_000


def test_transform_is_called_with_the_sample(twin: Path) -> None:
    dataset = load_hcc_tace(twin, phases="annotated", transform=lambda sample: sample["patient_id"])
    assert dataset[0] == dataset.patient_ids[0]


def test_a_sample_can_be_changed_without_harm(volumes: VolumeDataset) -> None:
    first = volumes[0]
    first["image"] += 1000
    first["label"][:] = 9
    again = volumes[0]
    assert not torch.equal(first["image"], again["image"])
    assert again["label"].max() < 9


def test_no_data_names_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CollectionNotFoundError, match=r"hcc-tace download.*hcc-tace phantom"):
        load_hcc_tace(tmp_path)
    monkeypatch.setenv("HCC_TACE_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(CollectionNotFoundError, match="nowhere"):
        load_hcc_tace()
    (tmp_path / "note.txt").write_text("no DICOM here")
    with pytest.raises(CollectionNotFoundError, match="No DICOM files"):
        load_hcc_tace(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": "val"},
        {"fold": 7, "split": "train"},
        {"unit": "voxel"},
        {"labels": "organs"},
        {"labels": {"spleen": 1}},
        {"labels": {"liver": 300}},
        {"missing": "ignore"},
        {"format": "numpy"},
        {"phases": "venous"},
        {"annotations": "mine"},
        {"spacing": (1, 1)},
    ],
)
def test_arguments_that_make_no_sense(twin: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        load_hcc_tace(twin, **wrong)  # type: ignore[arg-type]  # the point of the test


def test_a_patient_who_cannot_be_served(twin: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "copy"
    for patient in ("HCC_012", "HCC_017"):
        shutil.copytree(twin / patient, root / patient, copy_function=os.link)
    (seg,) = (root / "HCC_017").glob("*/SEG_*/*.dcm")
    seg.unlink()
    with caplog.at_level(logging.WARNING):
        assert load_hcc_tace(root, phases="annotated").patient_ids == ("HCC_012",)
    assert "1 of 2 patients left out: HCC_017" in caplog.text
    with pytest.raises(CollectionNotFoundError, match="HCC_017"):
        load_hcc_tace(root, phases="annotated", missing="raise")
    with pytest.raises(PatientNotFoundError, match="HCC_003"):
        load_hcc_tace(root, phases="annotated").subset(["HCC_003"])


def test_index_out_of_range(volumes: VolumeDataset) -> None:
    assert volumes[-1]["patient_id"] == volumes.patient_ids[-1]
    with pytest.raises(IndexError):
        _ = volumes[len(volumes)]


@pytest.mark.parametrize("side", [40, (40, 40)])
def test_one_number_of_a_size_or_spacing_counts_for_all_axes(twin: Path, tmp_path: Path, side: object) -> None:
    spacing = 8.0 if isinstance(side, int) else (8.0, 8.0, 8.0)
    one = load_hcc_tace(twin, unit=Slices("tumour", side), phases="annotated", spacing=spacing, cache=tmp_path)
    assert one.serving.store.parameters.spacing == (8.0, 8.0, 8.0)
    assert one[0]["image"].shape == (1, 40, 40)
    np.testing.assert_allclose(one[0]["spacing"], 8.0)


@pytest.mark.parametrize("spacing", [0.0, -1, "fine", True, (1, 1), (1, 1, "x"), (1, 1, float("nan")), {1, 2, 3}])
def test_other_spacings_are_refused(spacing: object) -> None:
    with pytest.raises(UsageError, match="spacing"):
        make_parameters(spacing=spacing)


def test_the_type_that_is_promised_comes_back(twin: Path, tmp_path: Path) -> None:
    """The overloads of `load_hcc_tace`, as an editor reads them, against what it returns."""
    overloads = get_overloads(load_hcc_tace)
    assert len(overloads) == 8
    for promise in overloads:
        annotations = {name: one.annotation for name, one in inspect.signature(promise).parameters.items()}
        arguments = {
            "unit": re.findall(r"'(\w+)'", annotations["unit"])[0],
            "format": re.findall(r"'(\w+)'", annotations["format"])[0],
            "split": "train" if annotations["split"] == "Split" else None,
            "streaming": "True" in annotations["streaming"],
        }
        if arguments["unit"] == "pair":  # needs registration: tests/loaders/test_pairs.py
            continue
        given_name = promise.__annotations__["return"].rpartition(".")[2]
        result = load_hcc_tace(twin, phases="annotated", cache=tmp_path, **arguments)
        assert type(result).__name__ == given_name, arguments
        if "Slices" in annotations["unit"]:
            arguments["unit"] = Slices("tumour", 32)
            assert type(load_hcc_tace(twin, phases="annotated", cache=tmp_path, **arguments)) is (
                SliceDataset if arguments["format"] == "torch" else type(result)
            )


@pytest.mark.parametrize("unit", ["slice", "patch"])
def test_an_open_data_set_serves_no_pixels_of_a_changed_file(
    make_twin: Callable[..., Path], tmp_path: Path, unit: str
) -> None:
    """Slices are read by the offsets of headers read before: in a changed file these are other pixels."""
    root = make_twin(tmp_path / "twin", patients=1)
    data = load_hcc_tace(root, unit=unit, phases="annotated")
    assert data[0]["image"].numel()
    for path in data.sources[0].case.paths:
        status, whole = path.stat(), path.read_bytes()
        path.write_bytes(whole[:-400] + whole[-402:-2])  # the same size, other pixels
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DicomReadError, match="changed since"):
        data[0]
    for path in data.sources[0].case.paths:
        path.unlink()
    with pytest.raises(DicomReadError, match="Load the data set again"):
        data[0]
