"""Every sample is what the readers give for its voxels, in the patient's coordinates."""

from __future__ import annotations

import functools
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch.utils.data import DataLoader

from hcc_tace_data import Patches, Slices, load_hcc_tace
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.errors import CollectionNotFoundError, StoreError, UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.splits import patients_of, split_table
from hcc_tace_data.loaders.datasets import CaseDataset, PatchDataset, SliceDataset
from hcc_tace_data.loaders.sample import read_labels
from hcc_tace_data.volumes.registration import Registration

#: A turn by some degrees, a shift and a stretch: where a point of the annotated image lies in another phase.
MOVED = np.array(
    [[0.998, -0.05, 0.0, 3.5], [0.05, 0.998, 0.01, -4.0], [0.0, -0.01, 0.985, 6.0], [0.0, 0.0, 0.0, 1.0]]
)  # fmt: skip
LOOK = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
Load = Callable[..., Any]


def known(fixed: Any, moving: Any, *, liver: Any, deformable: bool) -> Registration:
    """Stand in for a registration that takes seconds; it is judged by the liver as it was drawn on the fixed volume."""
    assert not deformable
    assert liver.shape == fixed.array.shape
    assert 0.005 < liver.mean() < 0.3
    return Registration(
        matrix=MOVED, engine="known", similarity_before=0.1, similarity_after=0.9, plausible=True, reason=""
    )


@pytest.fixture(scope="module")
def root(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients: one whose SEG runs against the CT's rows, one drawn on the arterial phase."""
    return make_twin(tmp_path_factory.mktemp("pair") / "t", patients=["HCC_003", "HCC_012"])


@pytest.fixture(scope="module")
def load(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """`load_hcc_tace` on them, each combination of arguments once."""
    cache = tmp_path_factory.mktemp("stores")

    @functools.cache
    def once(**arguments: Any) -> Any:
        return load_hcc_tace(root, cache=cache, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hcc_tace_data.loaders.prepare.register", known)
        yield once


@functools.cache
def read(paths: tuple[Path, ...]) -> Any:
    """The CT reader's volume."""
    return read_ct(list(paths), on_gap="fill")


@functools.cache
def drawn(dataset: CaseDataset, number: int) -> Any:
    """The labels on the annotated CT's grid."""
    case = dataset.cases[number]
    return read_labels(case, dataset.classes, read(case.paths))[0]


def at(volume: Any, points: Any, order: int = 1) -> Any:
    """Values of a volume at LPS points (N, 3); NaN outside its voxel centres."""
    array = volume[0] if isinstance(volume, tuple) else volume.array
    affine = volume[1] if isinstance(volume, tuple) else volume.affine
    index = np.linalg.inv(affine) @ np.c_[points, np.ones(len(points))].T
    values = map_coordinates(array.astype(np.float64), index[:3], order=order, mode="nearest")
    # a rounding error beyond the edge is no outside
    inside = ((index[:3].T > -1e-3) & (np.array(array.shape) - 1 + 1e-3 > index[:3].T)).all(axis=1)
    return np.where(inside, values, np.nan)


@given(
    unit=st.sampled_from(["volume", "slice", "patch"]),
    spacing=st.sampled_from([None, (7.0, 9.0, 8.0)]),
    margin=st.sampled_from([None, 12.0]),
    phases=st.sampled_from([("annotated",), ("portal_venous", "arterial", "pre_contrast")]),
    data=st.data(),
)
@LOOK
def test_every_voxel_is_what_the_readers_give_at_its_place(
    load: Load, unit: str, spacing: Any, margin: Any, phases: tuple[str, ...], data: st.DataObject
) -> None:
    served: Any = Patches(size=(5, 24, 20), per_volume=3) if unit == "patch" else unit
    if unit == "slice" and data.draw(st.booleans(), label="cut or padded"):
        served = Slices(size=(50, 70))
    dataset = load(unit=served, spacing=spacing, margin=margin, phases=phases)
    sample = dataset[data.draw(st.integers(0, len(dataset) - 1), label="sample")]
    number = dataset.patient_ids.index(sample["patient_id"])
    case = dataset.cases[number]
    image, label = sample["image"].numpy(), sample["label"].numpy()
    if unit == "slice":
        image, label = image[:, None], label[None]
    rng = np.random.default_rng(data.draw(st.integers(0, 99), label="voxels"))
    where = np.stack([rng.integers(0, n, 300) for n in label.shape], axis=1)
    index = where + np.array([sample.get("slice", 0), 0, 0])
    points = (sample["affine"].numpy() @ np.c_[index, np.ones(300)].T)[:3].T
    # a patch or a padded slice may reach beyond what the (cropped) case holds
    source = dataset.sources[number]
    inside = ~np.isnan(at((np.zeros(source.shape[1:]), source.affine), points))
    assert inside.any()
    got = label[tuple(where.T)]
    fixed = read(case.paths)
    want = at((drawn(dataset, number), fixed.affine), points, order=0)
    if spacing is None:
        np.testing.assert_array_equal(got[inside], want[inside])
    else:  # a point halfway between two voxels may go to either
        assert np.mean(got[inside] == want[inside]) > 0.97
    assert not got[~inside].any()
    for channel, files in enumerate(case.channels):
        hu = image[channel][tuple(where.T)]
        mask = sample["valid"].numpy() if "valid" in sample else np.ones(image.shape, np.uint8)
        valid = (mask[:, None] if mask.ndim < image.ndim else mask)[channel][tuple(where.T)]
        assert not valid[~inside].any() or "valid" not in sample
        own = files == case.paths
        if own and spacing is None:
            np.testing.assert_allclose(hu[inside], at(read(files), points)[inside], atol=1e-6)
            assert valid[inside].all()
            continue
        there = points if own else (MOVED @ np.c_[points, np.ones(300)].T)[:3].T
        values, has_data, clear = interpolated(read(files), there)
        use = clear & inside
        np.testing.assert_allclose(hu[use], np.where(has_data, values, -1024)[use], atol=0.51)
        np.testing.assert_array_equal(valid[use], np.ones(use.sum()) if own else has_data[use])


def interpolated(volume: Any, points: Any) -> tuple[Any, Any, Any]:
    """Linear interpolation, whether all of it is data, and whether rounding cannot decide that.

    Data reach half a voxel beyond the outermost centres; what the scanner fills in outside its circle is not.
    """
    array, last = volume.array, np.array(volume.array.shape) - 1
    index = (np.linalg.inv(volume.affine) @ np.c_[points, np.ones(len(points))].T)[:3]
    filling = array < -1200
    values = map_coordinates(np.where(filling, -1024.0, array), index, order=1, mode="nearest")
    reached = map_coordinates(filling.astype(float), index, order=1, mode="nearest")
    beyond = np.maximum(-index.T, index.T - last).max(axis=1)
    clear = (np.abs(beyond - 0.5) > 0.01) & ((reached < 1e-9) | (reached > 0.01))
    return values, (beyond < 0.5) & (reached < 1e-3), clear


def test_channels_keep_their_order(load: Load) -> None:
    one, two = load(phases=("arterial", "portal_venous"))[1], load(phases=("portal_venous", "arterial"))[1]
    assert one["phases"] == ["arterial", "portal_venous"] == two["phases"][::-1]
    assert torch.equal(one["image"], two["image"].flip(0))
    assert torch.equal(one["valid"], two["valid"].flip(0))
    assert one["series_uids"] == two["series_uids"][::-1]
    # HCC_012 was drawn on the arterial phase, its portal-venous channel is another series
    assert one["series_uids"][0] == one["series_uid"] != one["series_uids"][1]
    table = load(phases=("arterial", "portal_venous")).cases[1]
    for uid, files in zip(one["series_uids"], table.channels, strict=True):
        assert {str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID) for path in files} == {uid}
    # HCC_012 was drawn on the arterial phase: there the reader's own voxels are served
    arterial = read(load(phases=("arterial",)).cases[1].paths)
    assert torch.equal(one["image"][0], torch.from_numpy(arterial.array.astype(np.float32)))
    assert not torch.equal(one["image"][0], one["image"][1])


def test_store_and_files_serve_the_same(load: Load) -> None:
    plain = load(unit="slice", phases=("annotated",))
    assert all(source.stored is None for source in plain.sources)
    stored = plain.prepared()
    assert all(source.stored is not None for source in stored.sources)
    assert len(stored) == len(plain)
    for one, two in zip(plain, stored, strict=True):
        assert one.keys() == two.keys()
        for name in ("image", "label", "affine", "spacing"):
            assert torch.equal(one[name], two[name]), name
        assert one["slice"] == two["slice"]


@pytest.mark.parametrize("unit", ["slice", "patch"])
def test_batches_are_the_samples(load: Load, unit: str) -> None:
    served = Patches(size=(4, 30, 90), per_volume=5) if unit == "patch" else unit
    dataset = load(unit=served, phases=("portal_venous", "arterial"))
    samples = list(dataset)
    at_place = "slice" if unit == "slice" else "corner"
    # all are held: memory of a batch that is held must not be used again
    kept = list(dataset.batches(4, seed=3, threads=2, prefetch=2))
    assert sum(len(batch["image"]) for batch in kept) == len(dataset)
    for batch in kept:
        for row, patient in enumerate(batch["patient_id"]):
            place = torch.as_tensor(batch[at_place][row])
            match = [
                s for s in samples if s["patient_id"] == patient and torch.equal(torch.as_tensor(s[at_place]), place)
            ]
            assert match
            for name in ("image", "label", "valid"):
                assert torch.equal(batch[name][row], match[0][name]), name


def test_default_collation_and_shuffling_with_a_generator(load: Load) -> None:
    dataset = load(unit=Patches((4, 16, 16)), phases=("annotated",))

    def run(seed: int) -> list[torch.Tensor]:
        loader = DataLoader(dataset, 3, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return [batch["image"] for batch in loader]

    one, same, other = run(1), run(1), run(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert one[0].shape == (3, 1, 4, 16, 16)
    first = dataset[0]["corner"]
    dataset.set_epoch(1)
    assert not torch.equal(first, dataset[0]["corner"]) or not torch.equal(dataset[1]["corner"], first)
    dataset.set_epoch(0)


def test_monai_and_torchio_transforms(root: Path) -> None:
    import torchio as tio
    from monai.transforms import Compose, EnsureChannelFirstd, RandFlipd, ScaleIntensityRanged

    plain = load_hcc_tace(root, phases="annotated", unit=Patches((4, 32, 32)))
    flip = Compose(
        [
            EnsureChannelFirstd("label", channel_dim="no_channel"),
            ScaleIntensityRanged("image", -100, 100, 0, 1, clip=True),
            RandFlipd(["image", "label"], prob=1, spatial_axis=2),
        ]
    )
    monai = load_hcc_tace(root, phases="annotated", unit=Patches((4, 32, 32)), transform=flip)[0]
    assert torch.equal(torch.as_tensor(monai["label"])[0], plain[0]["label"].flip(2))
    want = ((plain[0]["image"] + 100) / 200).clamp(0, 1).flip(3)
    torch.testing.assert_close(torch.as_tensor(monai["image"]), want)
    assert monai["patient_id"] == plain[0]["patient_id"]

    turn = tio.Flip(axes=2, include=["image"])
    torchio = load_hcc_tace(root, phases="annotated", unit=Patches((4, 32, 32)), transform=turn)[0]
    assert torch.equal(torchio["image"], plain[0]["image"].flip(3))
    assert torch.equal(torchio["label"], plain[0]["label"])


def test_an_implausible_registration_is_not_served(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[bool] = []

    def bad(fixed: Any, moving: Any, *, liver: Any, deformable: bool) -> Registration:
        asked.append(deformable)
        return Registration(
            matrix=np.diag([2.0, 2, 2, 1]), engine="known", similarity_before=0.9, similarity_after=0.1,
            plausible=False, reason="scale 2.00",
        )  # fmt: skip

    monkeypatch.setattr("hcc_tace_data.loaders.prepare.register", bad)
    with caplog.at_level(logging.WARNING):
        served = load_hcc_tace(root, phases="arterial", cache=tmp_path, deformable=True)
    assert asked == [True]
    assert served.patient_ids == ("HCC_012",)  # drawn on it, nothing to register
    assert "1 of 2 patients left out: HCC_003: arterial registration is implausible: scale 2.00" in caplog.text
    with pytest.raises(CollectionNotFoundError, match="HCC_003"):
        load_hcc_tace(root, phases="arterial", cache=tmp_path, missing="raise")
    marked = load_hcc_tace(root, phases=("annotated", "arterial"), cache=tmp_path, missing="nan")
    sample = marked.subset(["HCC_003"])[0]
    assert sample["image"][1].isnan().all()
    assert not sample["valid"][1].any()
    assert not sample["image"][0].isnan().any()
    with pytest.raises(UsageError, match="int16"):
        load_hcc_tace(root, phases=("annotated", "arterial"), cache=tmp_path, missing="nan", unit="slice").batches(
            2, dtype=torch.int16
        )
    batch = next(
        iter(
            load_hcc_tace(root, phases=("annotated", "arterial"), cache=tmp_path, missing="nan", unit="slice")
            .subset("HCC_003")
            .batches(2)
        )
    )
    assert batch["image"][:, 1].isnan().all()


def test_transforms_are_stored_as_itk_reads_them(load: Load) -> None:
    stored = load(phases=("portal_venous", "arterial")).sources[0].stored
    assert stored.registrations["arterial"]["similarity_after"] == 0.9
    transform = sitk.ReadTransform(str(stored.folder / "transforms" / "arterial.tfm"))
    point = [12.0, -30.0, 44.0]
    np.testing.assert_allclose(transform.TransformPoint(point), (MOVED @ [*point, 1])[:3], atol=1e-4)


def test_what_does_not_make_batches_is_refused(load: Load) -> None:
    cropped = load(unit="slice", margin=12.0, phases=("annotated",))
    if len({source.shape[2:] for source in cropped.sources}) > 1:
        with pytest.raises(StoreError, match="size="):
            cropped.batches(2)
    changed = SliceDataset(cropped.sources, cropped.serving, cropped.ranges, (40, 40))
    assert next(iter(changed.batches(2)))["image"].shape == (2, 1, 40, 40)


def test_pickles_are_small_and_equal(load: Load) -> None:
    for unit in ("volume", "slice", "patch"):
        dataset = load(unit=unit, phases=("annotated",), margin=20.0)
        _ = dataset[0]
        copied = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(copied[0]["image"], dataset[0]["image"])
        assert len(pickle.dumps(dataset)) < 100_000


def test_helpers(load: Load, tmp_path: Path) -> None:
    dataset = load(unit="slice", phases=("annotated",))
    info = dataset.info()
    labels = torch.stack([sample["label"] for sample in dataset])
    assert (info["patients"], info["samples"], info["unit"]) == (2, len(dataset), "slice")
    for number, label in info["labels"].items():
        assert label["voxels"] == int((labels == number).sum())
    assert sum(label["share"] for label in info["labels"].values()) == pytest.approx(1)
    weights = dataset.class_weights()
    counts = torch.bincount(labels.flatten().long(), minlength=5)
    present = counts > 0
    assert weights[present].mean() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(
        weights[present] * counts[present], (weights * counts)[0].expand(int(present.sum())), rtol=1e-4
    )
    assert "slices of 2 patients" in repr(dataset)
    assert dataset.subset(["HCC_012"]).patient_ids == ("HCC_012",)
    figure = dataset.plot(3, path=tmp_path / "slice.png")
    drawn = {line.get_label(): line.get_color() for line in figure.legends[0].get_lines()}
    assert drawn["liver"] == next(one.colour for one in load_catalog().segments if one.key == "liver")
    assert (tmp_path / "slice.png").stat().st_size > 5000
    assert isinstance(load(unit=Patches((4, 16, 16)), phases=("annotated",)), PatchDataset)


def test_no_patient_leaks_between_splits() -> None:
    table = split_table()
    assert len(table) == 105
    tests = {tuple(patients_of("test", fold)) for fold in range(5)}
    assert len(tests) == 1
    validated: list[str] = []
    for fold in range(5):
        parts = [set(patients_of(split, fold)) for split in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 105
        validated += patients_of("validation", fold)
    assert len(validated) == len(set(validated)) == 105 - len(next(iter(tests)))
