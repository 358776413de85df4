"""Hugging Face data sets: the same voxels, typed, stable, saved and loaded unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import nibabel as nib
import numpy as np
import pytest
import torch

from hcc_tace_data import Slices, load_clinical, load_hcc_tace
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.loaders.hf import dataset_card, volume_tensors


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    datasets.disable_progress_bars()
    chosen = [patients_of("train")[0], patients_of("validation")[0], patients_of("test")[0]]
    return make_twin(tmp_path_factory.mktemp("hf") / "t", patients=sorted(chosen))


@pytest.fixture(scope="module")
def slices(root: Path) -> Any:
    return load_hcc_tace(root, unit="slice", phases="annotated", format="hf")


def plain_slices(root: Path) -> dict[tuple[str, int], Any]:
    dataset = load_hcc_tace(root, unit="slice", phases="annotated")
    return {(sample["patient_id"], sample["slice"]): sample for sample in dataset}


def test_slices_are_those_of_pytorch(root: Path, slices: Any) -> None:
    assert list(slices) == ["train", "validation", "test"]
    wanted = plain_slices(root)
    for name, part in slices.items():
        assert part.features["image"].dtype == "int16"
        assert part.features["label"].dtype == "uint8"
        assert set(part["patient_id"]) <= set(patients_of(name))
        for row in part.with_format("torch"):
            sample = wanted.pop((row["patient_id"], int(row["slice"])))
            assert torch.equal(row["image"].float(), sample["image"][0])
            assert torch.equal(row["label"].to(torch.uint8), sample["label"])
            torch.testing.assert_close(row["affine"].double(), sample["affine"], atol=1e-3, rtol=1e-6)
    assert not wanted


def test_fingerprints_are_the_same_in_every_run(root: Path, slices: Any) -> None:
    again = load_hcc_tace(root, unit="slice", phases="annotated", format="hf")
    assert {name: part._fingerprint for name, part in again.items()} == {
        name: part._fingerprint for name, part in slices.items()
    }
    other = load_hcc_tace(root, unit=Slices("all"), phases="annotated", format="hf", split="train")
    assert other._fingerprint != slices["train"]._fingerprint
    assert len(other) > len(slices["train"])
    # nothing was written outside the store
    files = {Path(file["filename"]).resolve() for file in slices["train"].cache_files}
    assert all((root / ".hcc-tace").resolve() in file.parents for file in files)


def test_map_in_two_processes_and_a_round_trip_to_disk(slices: Any, tmp_path: Path) -> None:
    part = slices["train"]
    counted = part.map(count_voxels, num_proc=2)
    assert counted["voxels"] == [int((np.array(row["label"]) > 0).sum()) for row in part]
    slices.save_to_disk(tmp_path / "saved")
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    assert loaded["train"].features == part.features
    assert loaded["test"][0] == slices["test"][0]
    assert "CC BY" in part.info.license


def count_voxels(row: dict[str, Any]) -> dict[str, int]:
    """For `map`."""
    return {"voxels": int((np.array(row["label"]) > 0).sum())}


def test_volumes_lie_where_they_should(root: Path) -> None:
    volumes = load_hcc_tace(root, phases="annotated", format="hf", split="train")
    (sample,) = load_hcc_tace(root, phases="annotated", split="train")
    row = volumes[0]
    assert isinstance(row["image"], nib.nifti1.Nifti1Image)
    d, h, w = 3, 20, 31
    lps = sample["affine"].numpy() @ [d, h, w, 1]
    x, y, z = np.rint(np.linalg.inv(row["image"].affine) @ (lps * [-1, -1, 1, 1]))[:3].astype(int)
    assert (x, y, z) == (w, h, d)
    image = np.asarray(row["image"].dataobj)
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image.transpose(2, 1, 0), sample["image"][0].numpy())
    tensors = volumes.with_transform(volume_tensors)[0]
    assert torch.equal(tensors["image"].float(), sample["image"])
    assert torch.equal(tensors["label"], sample["label"])


def test_streaming_writes_nothing(root: Path, slices: Any) -> None:
    before = set(root.rglob("*"))
    stream = load_hcc_tace(root, unit="slice", phases="annotated", format="hf", split="train", streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    for row, want in zip(stream, slices["train"], strict=True):
        np.testing.assert_array_equal(row["image"], want["image"])
        assert row["slice"] == want["slice"]
    assert set(root.rglob("*")) == before


def test_clinical_rows(root: Path) -> None:
    parts = load_hcc_tace(root, unit="clinical", format="hf")
    table = load_clinical(root).set_index("patient_id")
    for name, part in parts.items():
        for row in part:
            assert row["patient_id"] in patients_of(name)
            assert row["age_years"] == table.loc[row["patient_id"], "age_years"]
            assert isinstance(row["died"], bool)


def test_card_and_refusals(root: Path, slices: Any) -> None:
    card = str(dataset_card(slices))
    assert "license: cc-by-4.0" in card
    assert f"| train | {len(slices['train'])} |" in card
    assert "10.7937/TCIA.5FNA-0924" in card
    for wrong in ({"unit": "patch"}, {"transform": dict}, {"unit": "voxel"}):
        with pytest.raises(UsageError):
            load_hcc_tace(root, format="hf", **wrong)
    with pytest.raises(UsageError, match="streaming"):
        load_hcc_tace(root, streaming=True)
    with pytest.raises(UsageError, match="clinical"):
        load_hcc_tace(root, unit="clinical")
