"""Samples keep their place in the patient under MONAI and torchio, and train under Lightning."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from hcc_tace_data import Patches, Slices, load_hcc_tace
from hcc_tace_data.errors import CollectionNotFoundError, UsageError
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.loaders import HccTaceDataModule, VolumeDataset

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient to train on, one to validate on, nobody to test on."""
    chosen = [patients_of("train")[0], patients_of("validation")[0]]
    return make_twin(tmp_path_factory.mktemp("bridges") / "t", patients=sorted(chosen))


@pytest.fixture(scope="module")
def volumes(root: Path) -> VolumeDataset:
    return load_hcc_tace(root, phases="annotated")


def _resampled(sample: dict[str, Any], like: Any, affine: Any) -> Any:
    """SimpleITK's resampling of a sample onto another grid: shape, and affine from (d, h, w) to LPS."""

    def place(image: Any, matrix: Any) -> Any:
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        image.SetOrigin(matrix[:3, 3].tolist())
        image.SetSpacing(spacing[::-1].tolist())
        image.SetDirection((matrix[:3, :3] / spacing)[:, ::-1].ravel().tolist())
        return image

    grid = place(sitk.Image([int(n) for n in like[::-1]], sitk.sitkFloat32), affine)
    image = place(sitk.GetImageFromArray(sample["image"][0].numpy()), sample["affine"].numpy())
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, float("nan")))


def test_monai_resamples_in_the_patients_coordinates(root: Path, volumes: VolumeDataset) -> None:
    from monai.transforms import Compose, EnsureChannelFirstd, Spacingd

    wanted = (6.0, 5.0, 4.0)
    both = ["image", "label"]
    change = Compose([EnsureChannelFirstd(both), Spacingd(both, pixdim=wanted, mode=("bilinear", "nearest"))])
    moved = load_hcc_tace(root, phases="annotated", transform=change)
    for plain, sample in zip(volumes, moved, strict=True):
        affine = RAS @ sample["image"].affine.numpy()
        np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), wanted, rtol=1e-5)
        extent = np.array(plain["label"].shape) * plain["spacing"].numpy() / wanted
        assert np.abs(np.array(sample["label"].shape[1:]) - extent).max() <= 1.5
        assert sample["image"].shape[1:] == sample["label"].shape[1:]
        want = _resampled(plain, sample["image"].shape[1:], affine)
        inside = ~np.isnan(want)
        assert inside.mean() > 0.7
        assert np.abs(sample["image"][0].numpy() - want)[inside].max() < 1
        # the label's volume in ml is kept
        voxels = [
            int((s["label"] > 0).sum()) * np.prod(step)
            for s, step in ((plain, plain["spacing"].numpy()), (sample, wanted))
        ]
        assert voxels[1] == pytest.approx(voxels[0], rel=0.15)


def test_monai_sees_slices_as_two_dimensional(root: Path) -> None:
    from monai.transforms import Compose, EnsureChannelFirstd, Spacingd

    change = Compose([EnsureChannelFirstd(["image"]), Spacingd(["image"], pixdim=(5.0, 4.0))])
    plain = load_hcc_tace(root, phases="annotated", unit=Slices("tumour"))
    moved = load_hcc_tace(root, phases="annotated", unit=Slices("tumour"), transform=change)
    height, width = np.array(plain[0]["label"].shape) * plain[0]["spacing"].numpy()[1:] / (5, 4)
    assert np.abs(np.array(moved[0]["image"].shape[1:]) - (height, width)).max() <= 1.5
    np.testing.assert_allclose(np.diag(moved[0]["image"].affine.numpy())[:2], (5, 4), rtol=1e-5)


def test_other_transforms_get_plain_tensors(root: Path) -> None:
    kinds = load_hcc_tace(root, phases="annotated", transform=lambda sample: type(sample["image"]))
    assert kinds[0] is torch.Tensor


def test_torchio_subjects_lie_where_they_should(volumes: VolumeDataset) -> None:
    import torchio as tio

    subjects = volumes.to_torchio()
    assert len(subjects) == len(volumes)
    assert len(pickle.dumps(subjects)) < 500_000
    for sample, subject in zip(volumes, subjects, strict=True):
        assert (subject["patient_id"], subject.image.data.dtype) == (sample["patient_id"], torch.float32)
        rng = np.random.default_rng(0)
        canonical = tio.ToCanonical()(subject)
        finer = tio.Resample(tuple(2 * step for step in subject.spacing))(subject)
        assert canonical.image.orientation == ("R", "A", "S")
        for one, tolerance in ((subject, 0), (canonical, 0), (finer, None)):
            inverse = np.linalg.inv(one.image.affine)
            for index in np.stack([rng.integers(0, n, 20) for n in sample["label"].shape], axis=1):
                there = inverse @ RAS @ sample["affine"].numpy() @ [*index, 1]
                i, j, k = np.rint(there[:3]).astype(int)
                if tolerance == 0:
                    assert one.image.data[0, i, j, k] == sample["image"][(0, *index)]
                    assert one.label.data[0, i, j, k] == sample["label"][tuple(index)]
        extent = np.array(subject.spatial_shape) / 2
        assert np.abs(np.array(finer.spatial_shape) - extent).max() <= 1
        corners = [one.image.get_bounds() for one in (subject, finer)]
        np.testing.assert_allclose(corners[1], corners[0], atol=2 * max(subject.spacing))


def test_a_lightning_training(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    from lightning.pytorch import LightningModule, Trainer

    class Linear(LightningModule):
        """Grey value to class, by one weight."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(1, 5, 1)
            self.seen: dict[str, set[str]] = {"train": set(), "validation": set()}

        def _loss(self, batch: dict[str, Any], part: str) -> torch.Tensor:
            self.seen[part] |= set(batch["patient_id"])
            return torch.nn.functional.cross_entropy(self.layer(batch["image"] / 1000), batch["label"].long())

        def training_step(self, batch: dict[str, Any], number: int) -> torch.Tensor:
            return self._loss(batch, "train")

        def validation_step(self, batch: dict[str, Any], number: int) -> None:
            self._loss(batch, "validation")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    module, model = HccTaceDataModule(root, batch_size=2, unit=Slices(size=48), phases="annotated"), Linear()
    with caplog.at_level(logging.WARNING):
        trainer = Trainer(
            max_steps=10, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(model, datamodule=module)
    assert trainer.global_step == 10
    assert model.seen == {"train": {patients_of("train")[0]}, "validation": {patients_of("validation")[0]}}
    with pytest.raises(UsageError, match="split"):
        HccTaceDataModule(root, split="train")
    with pytest.raises(CollectionNotFoundError, match="'test'"):
        module.setup("test")


@pytest.mark.parametrize("unit", ["volume", "slice", Patches(8)])
def test_an_empty_split_names_the_others(root: Path, unit: Any) -> None:
    with pytest.raises(CollectionNotFoundError, match=r"'test' of fold 0; 'train' has 1, 'validation' has 1\."):
        load_hcc_tace(root, split="test", unit=unit)
    with pytest.raises(CollectionNotFoundError, match="'train' has 1"):
        load_hcc_tace(root, split="test", unit="clinical", format="hf")


def test_what_is_left_out_is_listed_and_said(root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING):
        some = load_hcc_tace(root, phases=("annotated", "follow_up_delayed"), missing="nan", cache=tmp_path)
        assert re.search(r"storing 2 cases, up to 0\.\d MB, in ", caplog.text)
        assert str(some.store_folder) in caplog.text
    assert len(some.left_out) == 0
    everyone = load_hcc_tace(root, phases="annotated", labels={"aorta": 1, "liver": 3, "tumour": 2})
    assert "labels 1 aorta, 2 tumour, 3 liver" in repr(everyone)
    assert "2 tumour" in everyone._repr_html_()


def test_only_cases_that_need_it_are_stored(
    make_twin: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_twin(tmp_path / "t", patients=["HCC_003", "HCC_012"])
    with caplog.at_level(logging.WARNING):
        volumes = load_hcc_tace(root)
    # HCC_012 was drawn on the arterial phase, HCC_003 on the portal-venous one
    assert [source.stored is not None for source in volumes.sources] == [False, True]
    assert "storing 1 case, up to" in caplog.text
    assert len([one for one in volumes.store_folder.iterdir() if one.is_dir()]) == 1
    assert volumes[0].keys() == volumes[1].keys()
